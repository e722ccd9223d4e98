//! The prefix of our names, and the bounds of a replicated table.

/// The prefix of everything that is ours in a database.
pub const PREFIX: &str = "driftless_";

/// The most columns that a replicated table may have: each costs a line in every trigger, and
/// SQLite's default limit on an expression's depth (1,000) is reached not far above.
pub const MAX_COLUMNS: usize = 200;

/// The most columns that a replicated key may have: a note keeps the key's values raw, so that the
/// row can be looked up whatever the values are.
pub const MAX_KEY_COLUMNS: usize = 16;
