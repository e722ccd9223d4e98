//! The capture triggers of a replica: they append to the outbox.
//!
//! Values go into the outbox as they are, each in a column of its own; [`Layout`] says which. That
//! is exact whatever the value, and costs a fraction of what JSON does, when a row is written as
//! well as when an application prepares a statement and SQLite compiles the triggers into it. The
//! key is among the values. The store spells them when it reads the outbox.

use super::layout::Layout;
use super::sql::*;
use super::table::{Column, Table};
use super::triggers::{Capture, Generator, Named, Picture, Side, Trigger, Write};
use crate::event::EventId;

/// Milliseconds since 1970, in SQL that SQLite 3.35 knows: 1970 began at the Julian day 2440587.5,
/// and half a millisecond rounds.
pub(super) const NOW_MS: &str = "CAST(julianday() * 86400000.0 - 210866759999999.5 AS INTEGER)";

struct Replica;

impl Side for Replica {
    /// One read of the state row answers whether a replay is under way, what the base is, and who
    /// is at work. The id's parts are stored, not its text: a ULID's text built in SQL would double
    /// the cost of a captured insert. A look at the newest row's time would too (SQLite puts the
    /// whole SELECT into a temporary table when it reads the table that it inserts into), so it is
    /// the store that raises `clock` when it sees that the machine's clock went back.
    fn append(&self, table: &Table, capture: &Capture<'_>) -> String {
        let mask = EventId::TAIL_MASK;
        let (mut columns, mut values) = (Vec::new(), Vec::new());
        let mut put = |column: &str, value: String| {
            columns.push(column.to_owned());
            values.push(value);
        };
        put("ms", format!("max(s.clock, {NOW_MS})"));
        put("tail", format!("random() & {mask}"));
        put("layout", Layout::of(table).id().to_string());
        let op = match capture.silent {
            // An insert that finds a note of its row has replaced it.
            Some(Write::Insert) => "driftless_notes.own IS NOT NULL".to_owned(),
            _ => (capture.op as u8).to_string(),
        };
        put("op", op);
        put("base", "s.cursor".to_owned());
        put("actor", "s.actor".to_owned());
        for (column, value) in [("pair", capture.pair), ("via", capture.via)] {
            if value != "NULL" {
                put(column, value.to_owned());
            }
        }
        for (column, value) in images(table, capture) {
            put(&column, value);
        }
        let condition = match capture.condition {
            "" => String::new(),
            condition => format!(" AND {condition}"),
        };
        format!(
            "INSERT INTO driftless_outbox ({}) SELECT {} \
             FROM driftless_state AS s{} WHERE NOT s.replaying{condition};",
            columns.join(", "),
            values.join(", "),
            capture.from,
        )
    }

    fn calm(&self, _table: &Table, _write: Write) -> String {
        String::new()
    }

    fn note(&self, table: &Table, alias: &str) -> (Vec<String>, Vec<String>) {
        let (mut columns, mut values) = (vec!["k".to_owned()], vec![self.maker(table, alias)]);
        for (at, column) in table.columns.iter().enumerate() {
            columns.push(Layout::noted(at));
            values.push(of(alias, &column.name));
        }
        (columns, values)
    }

    fn forgets_updated(&self) -> bool {
        false
    }

    fn noted_key(&self, table: &Table, prefix: &str, value: &dyn Fn(&Column) -> String) -> String {
        format!("{prefix}k = {}", identity(table, value))
    }

    fn noted_part(&self, table: &Table, part: usize) -> String {
        Layout::noted(table.key[part])
    }

    fn maker(&self, table: &Table, alias: &str) -> String {
        identity(table, &|column| of(alias, &column.name))
    }

    fn unknown_rowid(&self) -> &'static str {
        "-1"
    }

    fn is_news(&self, table: &Table) -> String {
        let differ: Vec<_> = table
            .columns
            .iter()
            .enumerate()
            .map(|(at, column)| {
                let noted = format!("driftless_notes.{}", Layout::noted(at));
                differs(column, &of("driftless_row", &column.name), &noted)
            })
            .collect();
        format!("(driftless_notes.own IS NULL OR {})", any_of(&differ))
    }

    fn one_row(&self, _table: &Table) -> String {
        "driftless_other.k = driftless_notes.k".to_owned()
    }
}

/// What tells a row from others of its table, in a note: the key's value as it is, but for its case
/// and its spaces, or, of a key with more columns, its canonical JSON.
fn identity(table: &Table, value: &dyn Fn(&Column) -> String) -> String {
    let mut key = table.key_columns();
    if let (Some(column), None) = (key.next(), key.next()) {
        return folded(table, 0, &value(column));
    }
    let parts: Vec<_> = table
        .key_columns()
        .enumerate()
        .map(|(part, column)| key_value_json(table, part, &value(column)))
        .collect();
    format!("json_array({})", parts.join(", "))
}

/// Where the images of an event go, and what they are.
fn images(table: &Table, capture: &Capture<'_>) -> Vec<(String, String)> {
    let mut places = Vec::new();
    for (picture, place) in
        [(capture.before, Layout::before as fn(usize) -> String), (capture.after, Layout::after)]
    {
        for (at, column) in table.columns.iter().enumerate() {
            let value = match picture {
                Picture::None => continue,
                Picture::Whole(Named::Row(alias)) => of(alias, &column.name),
                Picture::Whole(Named::Noted) => format!("driftless_notes.{}", Layout::noted(at)),
                // The old key is what the event's row is known by.
                Picture::Changed("old") if table.key.contains(&at) => of("old", &column.name),
                Picture::Changed(alias) => {
                    let (new, old) = (of("new", &column.name), of("old", &column.name));
                    let value = of(alias, &column.name);
                    format!("CASE WHEN {} THEN {value} END", may_differ(column, &new, &old))
                }
            };
            places.push((place(at), value));
        }
    }
    places
}

/// The capture triggers of `table` on a replica, in the order in which they are to be made.
/// `replicated` is all tables that are replicated, this one among them.
pub fn triggers(table: &Table, replicated: &[&Table]) -> Vec<Trigger> {
    Generator { side: &Replica, table, replicated }.triggers()
}

/// A short text that changes when any of the triggers does.
pub fn fingerprint<'t>(triggers: impl IntoIterator<Item = &'t Trigger>) -> String {
    let mut hasher = blake3::Hasher::new();
    for trigger in triggers {
        hasher.update(trigger.sql.as_bytes());
        hasher.update(b"\0");
    }
    hasher.finalize().to_hex()[..16].to_owned()
}
