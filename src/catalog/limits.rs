//! The prefix of our names, and the bounds of a replicated table.

/// The prefix of all our names in a database.
pub const PREFIX: &str = "driftless_";

/// The most columns of a replicated table. Each adds a line to every trigger, and a few more would
/// reach SQLite's default limit on an expression's depth (1,000).
pub const MAX_COLUMNS: usize = 200;

/// The most columns of a replicated key. A note keeps the key's values unchanged, so that the row
/// can be found for any values.
pub const MAX_KEY_COLUMNS: usize = 16;
