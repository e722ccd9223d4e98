//! The triggers of the remote: they judge what is pushed, materialize what is applied, and capture
//! what the web application and the remote's own triggers write.
//!
//! A push is one `INSERT INTO driftless_inbox SELECT … FROM json_each(…)`. For each event the
//! inbox's BEFORE INSERT triggers
//!
//! 1. decode the event's tagged values into `driftless_values`;
//! 2. judge the event;
//! 3. if it is applied, name it in `driftless_meta`, append it to the log, write it to the table,
//!    and look whether the write took place;
//! 4. if not, log a row that is here from before the log, should the event have met one, and append
//!    the event with its verdict;
//! 5. end in `RAISE(IGNORE)`, so that the inbox stays empty.
//!
//! Judging stands in the trigger and not in the pushing SELECT, since SQLite evaluates the whole of
//! a SELECT before the first row goes in: a verdict could not see what an earlier event of the same
//! push did. No trigger stands on the log itself, since the Turso engine compiles nested triggers
//! at a cost that explodes.
//!
//! While an event is being materialized, capture keeps silent **once**: for that row going from the
//! image recorded before the write to the event's values. What the remote's own triggers and
//! foreign keys do in consequence is captured, with the event as its cause and the event's origin.
//! To see whether a write is that one, the JSON texts are compared first, which is quick and nearly
//! always enough, and the values only where the texts differ.
//!
//! The verdict is in `judge.rs`, the inbox's triggers are in
//! `inbox.rs`; here is the capture of what happens in the remote's own tables.

use std::fmt::Write as _;

use super::cell::{Cell, and};
use super::inbox;
use super::judge::{Judge, Replicated};
use super::replica::{NOW_MS, fingerprint};
use super::triggers::{Capture, Generator, Named, Picture, Side, Trigger, Write as Kind};
use super::ulid::ulid;
use crate::catalog::quote::literal;
use crate::catalog::sql::{any_row_json, changes_json, differs, folded, key_json, of, row_json};
use crate::catalog::table::{Column, Table};

struct Remote;

impl Side for Remote {
    fn append(&self, table: &Table, capture: &Capture<'_>) -> String {
        let mut condition = match capture.silent() {
            // Both halves ask, and the silence ends after them.
            Some(Kind::Move) => format!("NOT coalesce({}, 0)", expected(table, Kind::Move)),
            // The statement before this one ended the silence, or there was none.
            Some(_) => "changes() = 0".to_owned(),
            None => "1".to_owned(),
        };
        if !capture.condition().is_empty() {
            let _ = write!(condition, " AND {}", capture.condition());
        }
        format!(
            "INSERT INTO driftless_events (id, origin, unit, tbl, pk, op, \"before\", \"after\", base, \
             cause, verdict, received_at) SELECT {id}, coalesce(driftless_meta.corigin, 'web'), \
             driftless_meta.cunit, {tbl}, \
             {key}, {op}, {before}, {after}, 0, driftless_meta.cid, 'applied', {NOW_MS} \
             FROM driftless_meta{from} WHERE {condition};",
            id = ulid(),
            tbl = literal(&table.name),
            key = match capture.key() {
                Named::Row(alias) => key_json(table, alias),
                Named::Noted => "driftless_notes.pk".to_owned(),
            },
            op = match capture.silent() {
                Some(Kind::Insert) =>
                    "CASE WHEN driftless_notes.img IS NULL THEN 'insert' ELSE 'update' END"
                        .to_owned(),
                _ => format!("'{}'", capture.op()),
            },
            before = image(table, capture.before()),
            after = image(table, capture.after()),
            from = capture.from(),
        )
    }

    fn calm(&self, table: &Table, kind: Kind) -> String {
        format!("UPDATE driftless_meta SET hush = 0 WHERE one = 1 AND {};", expected(table, kind))
    }

    fn note(&self, table: &Table, alias: &str) -> (Vec<String>, Vec<String>) {
        let mut columns = vec!["pk".to_owned(), "img".to_owned()];
        let mut values = vec![key_json(table, alias), row_json(table, alias)];
        for (part, column) in table.key_columns().enumerate() {
            columns.push(self.noted_part(table, part));
            values.push(folded(table, part, &of(alias, &column.name)));
        }
        (columns, values)
    }

    fn forgets_updated(&self) -> bool {
        true
    }

    fn noted_key(&self, table: &Table, prefix: &str, value: &dyn Fn(&Column) -> String) -> String {
        let parts = table.key_columns().enumerate().map(|(part, column)| {
            let value = folded(table, part, &value(column));
            format!("{prefix}{} = {value}", self.noted_part(table, part))
        });
        parts.collect::<Vec<_>>().join(" AND ")
    }

    fn noted_part(&self, _table: &Table, part: usize) -> String {
        format!("k{}", part + 1)
    }

    fn maker(&self, table: &Table, alias: &str) -> String {
        key_json(table, alias)
    }

    fn unknown_rowid(&self) -> &'static str {
        "'[-1]'"
    }

    fn is_news(&self, table: &Table) -> String {
        format!(
            "CASE WHEN driftless_notes.img IS NULL THEN 1 ELSE driftless_notes.img <> {} END",
            any_row_json(table, "driftless_row")
        )
    }

    fn one_row(&self, _table: &Table) -> String {
        "driftless_other.k1 = driftless_notes.k1 AND driftless_other.pk = driftless_notes.pk"
            .to_owned()
    }
}

/// An image as JSON.
fn image(table: &Table, picture: Picture) -> String {
    match picture {
        Picture::None => "NULL".to_owned(),
        Picture::Whole(Named::Row(alias)) => row_json(table, alias),
        Picture::Whole(Named::Noted) => "driftless_notes.img".to_owned(),
        Picture::Changed(values) => changes_json(table, "old", "new", values),
    }
}

/// Whether the write that a trigger sees is the one that is being materialized: over `old`, `new`
/// and the row of `driftless_meta`, which is named in full everywhere: an alias could be the name
/// of a table that is replicated. It may be NULL for no.
fn expected(table: &Table, kind: Kind) -> String {
    let (row, word) = match kind {
        Kind::Insert => ("new", "insert"),
        Kind::Update => ("new", "update"),
        Kind::Delete => ("old", "delete"),
        Kind::Move => ("new", "move"),
    };
    let this = format!(
        "driftless_meta.hush = 1 AND driftless_meta.ctbl = {} AND driftless_meta.cop = '{word}' AND driftless_meta.cpk = {}",
        literal(&table.name),
        key_json(table, row)
    );
    let equal = |column: &Column| {
        let new = of("new", &column.name);
        format!(
            "NOT ({})",
            differs(column, &new, &Cell::stored("driftless_meta.cafter", column).value())
        )
    };
    let rest = match kind {
        Kind::Delete => return format!("CASE WHEN {this} THEN 1 ELSE 0 END"),
        Kind::Insert | Kind::Move => {
            let all: Vec<_> = table.columns.iter().map(equal).collect();
            format!(
                "CASE WHEN driftless_meta.cafter = {} THEN 1 ELSE {} END",
                row_json(table, "new"),
                and(&all)
            )
        }
        Kind::Update => {
            let each: Vec<_> = table
                .columns
                .iter()
                .map(|column| {
                    let (new, old) = (of("new", &column.name), of("old", &column.name));
                    format!(
                        "(NOT ({}) OR ({} IS NOT NULL AND {}))",
                        differs(column, &new, &old),
                        Cell::stored("driftless_meta.cafter", column).kind(),
                        equal(column)
                    )
                })
                .collect();
            format!(
                "CASE WHEN driftless_meta.cold IS NOT {} THEN 0 WHEN driftless_meta.cafter = {} THEN 1 ELSE {} END",
                row_json(table, "old"),
                changes_json(table, "old", "new", "new"),
                and(&each)
            )
        }
    };
    format!("CASE WHEN {this} THEN {rest} ELSE 0 END")
}

/// The triggers of the remote, table by table. A trigger that is made later fires earlier: so those
/// of the application are to be older than `capture`, `rare` older than `common`, and both older
/// than `first`. The order among tables does not matter.
pub struct RemoteTriggers {
    /// What the log says of a table that is not replicated.
    pub unknown: Trigger,
    /// Each table's, in the order of the tables.
    pub tables: Vec<TableTriggers>,
    /// What looks at each event first.
    pub first: Vec<Trigger>,
}

/// The triggers of one table.
pub struct TableTriggers {
    /// On the table itself: what captures its changes.
    pub capture: Vec<Trigger>,
    /// On the inbox: what is rare.
    pub rare: Vec<Trigger>,
    /// On the inbox: what is common.
    pub common: Vec<Trigger>,
}

impl RemoteTriggers {
    /// Those for these tables.
    pub fn of(all: &[Replicated<'_>]) -> RemoteTriggers {
        let tables: Vec<_> = all.iter().map(|replicated| replicated.table).collect();
        let names: Vec<_> = tables.iter().map(|table| literal(&table.name)).collect();
        let of_table = |&Replicated { table, rule }: &Replicated<'_>| {
            let judge = Judge::new(table, rule, all);
            TableTriggers {
                capture: Generator::new(&Remote, table, &tables).triggers(),
                rare: judge.rare_triggers(),
                common: judge.common_triggers(),
            }
        };
        RemoteTriggers {
            unknown: inbox::unknown_table(&names),
            tables: all.iter().map(of_table).collect(),
            first: vec![inbox::decode_values(), inbox::again()],
        }
    }

    /// A short text that changes when any of them does.
    pub fn fingerprint(&self) -> String {
        let (mut capture, mut rare, mut common) = (Vec::new(), Vec::new(), Vec::new());
        for table in &self.tables {
            capture.extend(&table.capture);
            rare.extend(&table.rare);
            common.extend(&table.common);
        }
        let inbox = std::iter::once(&self.unknown).chain(rare).chain(common).chain(&self.first);
        fingerprint(capture.into_iter().chain(inbox))
    }

    /// All of them, in an order in which they may be made.
    #[cfg(feature = "internals")]
    pub fn all(self) -> Vec<Trigger> {
        let (mut triggers, mut rare, mut common) = (Vec::new(), Vec::new(), Vec::new());
        for table in self.tables {
            triggers.extend(table.capture);
            rare.extend(table.rare);
            common.extend(table.common);
        }
        triggers.push(self.unknown);
        triggers.extend(rare.into_iter().chain(common).chain(self.first));
        triggers
    }
}

/// All triggers of the remote, in the order in which they are to be made: those of the tables, so
/// that capture is newer than the application's own, and those of the inbox.
#[cfg(feature = "internals")]
pub fn remote_triggers(all: &[Replicated<'_>]) -> Vec<Trigger> {
    RemoteTriggers::of(all).all()
}
