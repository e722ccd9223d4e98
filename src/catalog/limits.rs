//! The prefix of our names, and the bounds of a replicated table.

/// The prefix of all our names in a database.
pub const PREFIX: &str = "driftless_";

/// The most columns of a replicated table. Each column adds a line to every trigger. A few more
/// would reach SQLite's default limit on an expression's depth (1,000).
pub const MAX_COLUMNS: usize = 200;

/// The most columns of a replicated key. A before-image has a column for each, with the value
/// unchanged, so that it can be found by any value.
pub const MAX_KEY_COLUMNS: usize = 16;
