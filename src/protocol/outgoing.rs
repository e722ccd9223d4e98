//! The events to push, as the store prepares them and the remote receives them.

#[cfg(doc)]
use crate::event::verdict::{KEY_NOT_UTF8, KEY_TOO_LARGE};
use crate::event::{EventId, Image, Op, RowKey, Seq};

/// The next unsent events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// In the order in which the remote will judge them.
    pub events: Vec<Outgoing>,
    /// The places in `events` where a unit ends and the next one begins. They rise, and each is
    /// between two transactions.
    pub units: Vec<usize>,
    /// The highest outbox number among them. It is given to `Store::sent` when the verdicts are
    /// here.
    pub last_n: i64,
    /// How many of the events the shortest valid push has: it begins with the same event, and has
    /// the later events that its deferred foreign keys need. If no later events were examined, it
    /// is the number of all events.
    pub self_contained: usize,
    /// The bytes of the events' keys and images.
    pub bytes: usize,
    /// The tables of these events, by name, with the names of their local columns.
    pub tables: Vec<(String, Vec<String>)>,
}

/// An event on its way to the remote. A flat record: each field except `n` and `made` is a column
/// of `driftless_inbox`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Its number in the outbox.
    pub n: i64,
    /// Its id.
    pub id: EventId,
    /// Who made it.
    pub actor: Option<String>,
    /// Its table.
    pub table: String,
    /// Its row.
    pub key: RowKey,
    /// What it does.
    pub op: Op,
    /// The old values, as canonical JSON.
    pub before: Option<String>,
    /// The new values, as canonical JSON.
    pub after: Option<String>,
    /// The newest seq that its writer had seen.
    pub base: Seq,
    /// The other half of a key change.
    pub pair: Option<EventId>,
    /// The event whose consequence this is, by a foreign key's action. It comes before this one.
    pub via: Option<EventId>,
    /// The key of the other half of a key change.
    pub other: Option<RowKey>,
    /// On the delete of a key change: the row with its new key.
    pub image: Option<String>,
    /// Whether a later event of this push may supply the rows that its foreign keys miss.
    pub defer_fk: bool,
    /// Why it is to be recorded as rejected: the remote's message when this event alone was pushed,
    /// [`KEY_NOT_UTF8`] or [`KEY_TOO_LARGE`].
    pub refuse: Option<String>,
    /// Whether no value in it has a tag.
    pub plain: bool,
    /// Old and new values of generated columns that foreign keys lead from or to. They are not
    /// sent.
    pub made: [Image; 2],
}

impl Outgoing {
    /// An event without images, at the beginning of the log, that hangs together with no other.
    pub fn new(n: i64, id: EventId, table: String, key: RowKey, op: Op) -> Outgoing {
        Outgoing {
            n,
            id,
            actor: None,
            table,
            key,
            op,
            before: None,
            after: None,
            base: Seq(0),
            pair: None,
            via: None,
            other: None,
            image: None,
            defer_fk: false,
            refuse: None,
            plain: true,
            made: Default::default(),
        }
    }

    /// The bytes of its key and images.
    pub fn weight(&self) -> usize {
        let images = [&self.before, &self.after, &self.image];
        self.key.0.len() + images.into_iter().flatten().map(String::len).sum::<usize>()
    }
}
