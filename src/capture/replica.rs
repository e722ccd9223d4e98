//! The capture triggers of a replica: they append to the outbox.

use super::sql::literal;
use super::table::Table;
use super::triggers::{Capture, Generator, Side, Trigger, Write};

/// Milliseconds since 1970, in SQL that SQLite 3.35 knows.
pub(super) const NOW_MS: &str =
    "CAST((julianday('now') - 2440587.5) * 86400000.0 + 0.5 AS INTEGER)";

/// The bits of an id that are random; above them stands the outbox's own row number.
pub const TAIL_BITS: u32 = 40;

struct Replica;

impl Side for Replica {
    /// One read of the state row answers whether a replay is under way, what the base is, and who
    /// is at work. The id's parts are stored, not its text: a ULID's text built in SQL would double
    /// the cost of a captured insert. A look at the newest row's time would too (SQLite puts the
    /// whole SELECT into a temporary table when it reads the table that it inserts into), so it is
    /// the store that raises `clock` when it sees that the machine's clock went back.
    fn append(&self, table: &Table, capture: &Capture<'_>) -> String {
        let condition = if capture.condition.is_empty() {
            String::new()
        } else {
            format!(" AND {}", capture.condition)
        };
        let mask = (1_i64 << TAIL_BITS) - 1;
        format!(
            "INSERT INTO driftless_outbox (ms, tail, tbl, pk, op, before, after, changes, base, actor, pair, via) \
             SELECT max(s.clock, {NOW_MS}), random() & {mask}, {table}, {key}, {op}, {before}, \
             {after}, {changes}, s.cursor, s.actor, {pair}, {via} \
             FROM driftless_state AS s{from} WHERE NOT s.replaying{condition};",
            table = literal(&table.name),
            key = capture.key,
            // An insert that finds a note of its row has replaced it.
            op = match capture.silent {
                Some(Write::Insert) => "driftless_notes.img IS NOT NULL".to_owned(),
                _ => (capture.op as u8).to_string(),
            },
            before = if capture.changes.is_some() { "NULL" } else { capture.before },
            after = if capture.changes.is_some() { "NULL" } else { capture.after },
            changes = capture.changes.unwrap_or("NULL"),
            pair = capture.pair,
            via = capture.via,
            from = capture.from,
        )
    }

    fn calm(&self, _table: &Table, _write: Write) -> String {
        String::new()
    }
}

/// The capture triggers of `table` on a replica, in the order in which they are to be made.
/// `replicated` is all tables that are replicated, this one among them.
pub fn triggers(table: &Table, replicated: &[&Table]) -> Vec<Trigger> {
    Generator { side: &Replica, table, replicated }.triggers()
}

/// A short text that changes when any of the triggers does.
pub fn fingerprint(triggers: &[Trigger]) -> String {
    let mut hasher = blake3::Hasher::new();
    for trigger in triggers {
        hasher.update(trigger.sql.as_bytes());
        hasher.update(b"\0");
    }
    hasher.finalize().to_hex()[..16].to_owned()
}
