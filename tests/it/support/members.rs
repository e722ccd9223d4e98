//! Members and payments, the tables of most tests: a remote that has them, and many rows at once.

use std::sync::Arc;

use super::desk::SCHEMA;
use super::local_remote::LocalRemote;

/// The tables of [`SCHEMA`] that people write.
pub(crate) const TABLES: [&str; 2] = ["members", "payments"];

/// A remote with [`SCHEMA`].
pub(crate) fn remote() -> Arc<LocalRemote> {
    Arc::new(LocalRemote::new(SCHEMA))
}

/// Inserts so many members, whose ids begin with `prefix`.
pub(crate) fn many(count: usize, prefix: &str) -> String {
    format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
         INSERT INTO members (id, name) SELECT '{prefix}' || i, 'name ' || i FROM n WHERE {count} > 0"
    )
}

/// How many events the log has.
pub(crate) fn events(remote: &LocalRemote) -> i64 {
    remote.read("SELECT count(*) FROM driftless_events").parse().unwrap()
}
