//! Names that a push's statements share.

/// The alias of the event in every statement: a row of `driftless_inbox`, with values from its
/// JSON.
pub(super) const E: &str = "driftless_e";

/// The kinds of event that are judged and written differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It inserts a row.
    Insert,
    /// It changes columns.
    Update,
    /// It deletes a row.
    Delete,
    /// The delete of a key change: it is judged for both keys.
    Move,
    /// The insert of a key change: it brings the row from the old key to the new one.
    Arrive,
}
