//! The capture triggers, which are alike on both sides.
//!
//! For each table there are
//!
//! * two *note* triggers, BEFORE INSERT and BEFORE UPDATE: a row that shares the key or a UNIQUE
//!   value with the one that is coming may be about to go without any delete trigger (`INSERT OR
//!   REPLACE` and its kin), so its image is noted in `driftless_notes`;
//! * AFTER INSERT, UPDATE and DELETE triggers, each in two editions: a quick one that runs while
//!   there are no notes at all, which is nearly always, and a careful one that looks through them:
//!   a noted row that is gone was evicted, and gets its delete; an inserted row that was noted
//!   itself was replaced, and gets an update. The quick one is the newer of the two, so that it
//!   fires first: the careful one takes the last note away, and a quick one behind it would see no
//!   notes and append the same event again;
//! * one for a change of the key.
//!
//! What the two sides do differently is a [`Side`]: where an event is appended, and when capture
//! keeps silent.
//!
//! Each odd-looking rule here has a history that fails without it:
//!
//! * An event's values are read from the table and not from `new`: a trigger of the application's
//!   that is newer than ours, or a foreign key's action on the row itself, has run before.
//! * A delete is logged only if the row is gone, for the same reason.
//! * A note belongs to the row whose statement made it (`by`), and only that row's AFTER trigger
//!   looks for it. The exception is AFTER DELETE: an UPDATE OR REPLACE may evict the parent of the
//!   very row that it updates, whose AFTER UPDATE then never fires.
//! * `INSERT OR REPLACE` into the notes would be wrong: an outer statement's OR clause overrides
//!   the inner one.

use std::fmt::Write as _;

use super::sql::*;
use super::table::*;

/// A trigger: its name and the statement that makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// The name, which begins with [`PREFIX`].
    pub name: String,
    /// The CREATE TRIGGER statement.
    pub sql: String,
}

/// What kind of write a trigger saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Write {
    Insert,
    Update,
    Delete,
    Move,
}

/// An event to append: SQL expressions over `old`, `new`, `driftless_row` (the row as it is in the
/// table now)
/// and `driftless_notes`.
pub(super) struct Capture<'a> {
    pub(super) key: &'a str,
    pub(super) op: crate::event::Op,
    pub(super) before: &'a str,
    pub(super) after: &'a str,
    /// Tables to join, each with its comma.
    pub(super) from: &'a str,
    /// Further conditions, joined by AND; empty for none.
    pub(super) condition: &'a str,
    /// 1 for the delete of a key change, 2 for its insert, or NULL.
    pub(super) pair: &'a str,
    /// The parent of which this is a foreign key's consequence, or NULL.
    pub(super) via: &'a str,
    /// The write to keep silent about, if it is the replicator's own; `None` never is.
    pub(super) silent: Option<Write>,
}

/// A database that captures.
pub(super) trait Side {
    /// The statement, with its semicolon, that appends an event.
    fn append(&self, table: &Table, capture: &Capture<'_>) -> String;

    /// The statement that ends the silence about the write that a trigger saw; empty where silence
    /// has no end of its own.
    fn calm(&self, table: &Table, write: Write) -> String;
}

/// The most columns that a replicated key may have: a note keeps the key's values raw, so that the
/// row can be looked up whatever the values are.
pub const MAX_KEY_COLUMNS: usize = 16;

const NO_NOTES: &str = "NOT EXISTS (SELECT 1 FROM driftless_notes)";
const NOTES: &str = "EXISTS (SELECT 1 FROM driftless_notes)";

/// Makes one table's capture triggers.
pub(super) struct Generator<'a, S> {
    pub(super) side: &'a S,
    pub(super) table: &'a Table,
    /// All replicated tables: a consequence is told only of a parent among them.
    pub(super) replicated: &'a [&'a Table],
}

impl<S: Side> Generator<'_, S> {
    pub(super) fn triggers(&self) -> Vec<Trigger> {
        let mut triggers = vec![self.note_insert(), self.note_update()];
        triggers.extend(self.after_insert());
        triggers.extend(self.after_update());
        triggers.push(self.after_move());
        triggers.extend(self.after_delete());
        triggers
    }

    fn trigger(&self, what: &str, event: &str, when: &str, body: &[String]) -> Trigger {
        let name = format!("{PREFIX}{what}_{}", self.table.name);
        let mut sql = format!(
            "CREATE TRIGGER {} {event} ON {} WHEN {when}\nBEGIN\n",
            ident(&name),
            ident(&self.table.name)
        );
        for statement in body.iter().filter(|statement| !statement.is_empty()) {
            let _ = writeln!(sql, "  {statement}");
        }
        sql.push_str("END");
        Trigger { name, sql }
    }

    fn name(&self) -> String {
        literal(&self.table.name)
    }

    fn key(&self, alias: &str) -> String {
        key_json(self.table, alias)
    }

    /// The row that stands in the table now, beside `of`, which is `new` or `old`.
    fn current(&self, of: &str) -> (String, String) {
        let from = format!(" CROSS JOIN {} AS driftless_row", ident(&self.table.name));
        (from, same_key(self.table, "driftless_row", of))
    }

    fn gone(&self, of: &str) -> String {
        let same = same_key(self.table, "driftless_row", of);
        format!(
            "NOT EXISTS (SELECT 1 FROM {} AS driftless_row WHERE {same})",
            ident(&self.table.name)
        )
    }

    /// That no key column is NULL, where SQLite allows it: such a row has no identity.
    fn has_key(&self, alias: &str) -> String {
        let table = self.table;
        if table.rowid_key || table.without_rowid {
            return String::new();
        }
        let nullable: Vec<_> = table
            .key_columns()
            .filter(|column| !column.not_null)
            .map(|column| format!("{} IS NOT NULL", of(alias, &column.name)))
            .collect();
        nullable.join(" AND ")
    }

    // ---- notes

    /// Conditions, one for each way in which a row of the table may stand in the way of `new`.
    fn obstacles(&self) -> Vec<String> {
        let table = self.table;
        let this = ident(&table.name);
        let mut obstacles = vec![same_key(table, &this, "new")];
        for unique in &table.uniques {
            let mut parts: Vec<_> = unique
                .terms
                .iter()
                .map(|term| match term {
                    Term::Column(column, collation) => {
                        format!("{this}.{0} = new.{0} COLLATE {1}", ident(column), collation.name())
                    }
                    Term::Expression(text) => {
                        format!("({text}) = (SELECT {text} FROM ({}) AS {this})", self.new_row())
                    }
                })
                .collect();
            // Without its condition a partial index would not be found, and the table be scanned.
            parts.extend(unique.predicate.as_ref().map(|predicate| format!("({predicate})")));
            obstacles.push(parts.join(" AND "));
        }
        obstacles
    }

    /// `new` as a row of a subquery, for expressions that name columns plainly.
    fn new_row(&self) -> String {
        let columns: Vec<_> = self
            .table
            .column_names()
            .chain(self.table.generated.iter().map(String::as_str))
            .map(|name| format!("new.{0} AS {0}", ident(name)))
            .collect();
        format!("SELECT {}", columns.join(", "))
    }

    /// Notes each obstacle, under the key `by`.
    fn take_notes(&self, by: &str, obstacles: &[String], other: &str) -> Vec<String> {
        let this = ident(&self.table.name);
        let raw = |form: &dyn Fn(usize, &Column) -> String| {
            let parts: Vec<_> =
                self.table.key_columns().enumerate().map(|(part, c)| form(part, c)).collect();
            parts.join(", ")
        };
        let mut statements = vec![format!(
            "DELETE FROM driftless_notes WHERE tbl = {} AND own IN (0, 1) AND by = {by};",
            self.name()
        )];
        for obstacle in obstacles {
            let mut condition = format!("{obstacle}{other}");
            let has_key = self.has_key(&this);
            if !has_key.is_empty() {
                let _ = write!(condition, " AND {has_key}");
            }
            statements.push(format!(
                "INSERT INTO driftless_notes (tbl, own, by, pk, img, {names}) \
                 SELECT {tbl}, {by} = {pk}, {by}, {pk}, {img}, {values} FROM {this} WHERE {condition} \
                 AND NOT EXISTS (SELECT 1 FROM driftless_notes WHERE driftless_notes.tbl = {tbl} \
                 AND driftless_notes.own = ({by} = {pk}) AND driftless_notes.by = {by} \
                 AND driftless_notes.pk = {pk});",
                names = raw(&|part, _| format!("k{}", part + 1)),
                values = raw(&|_, column| of(&this, &column.name)),
                tbl = self.name(),
                pk = self.key(&this),
                img = row_json(self.table, &this),
            ));
        }
        statements
    }

    fn note_insert(&self) -> Trigger {
        let this = ident(&self.table.name);
        let obstacles = self.obstacles();
        let when: Vec<_> = obstacles
            .iter()
            .map(|obstacle| format!("EXISTS (SELECT 1 FROM {this} WHERE {obstacle})"))
            .collect();
        let body = self.take_notes(&self.key("new"), &obstacles, "");
        self.trigger("note_insert", "BEFORE INSERT", &when.join("\n  OR "), &body)
    }

    fn note_update(&self) -> Trigger {
        let table = self.table;
        let this = ident(&table.name);
        let mut obstacles = self.obstacles();
        // Another row than the one that is updated, which may itself be told apart by its key.
        let other = format!(" AND ({}) IS NOT 1", same_key(table, &this, "old"));
        let mut when = Vec::new();
        for (index, obstacle) in obstacles.iter_mut().enumerate() {
            let touched = match index.checked_sub(1).map(|index| &table.uniques[index]) {
                None => Some(table.key_columns().map(|column| column.name.clone()).collect()),
                // What an expression or a condition looks at is not known; it is always asked.
                Some(unique) => plain_columns(unique),
            };
            let touched: Option<Vec<String>> = touched;
            let touched = match touched {
                Some(columns) => {
                    let parts: Vec<_> = columns
                        .iter()
                        .map(|column| format!("new.{0} IS NOT old.{0}", ident(column)))
                        .collect();
                    format!("({}) AND ", parts.join(" OR "))
                }
                None => String::new(),
            };
            when.push(format!("({touched}EXISTS (SELECT 1 FROM {this} WHERE {obstacle}{other}))"));
        }
        let body = self.take_notes(&self.key("old"), &obstacles, &other);
        self.trigger("note_update", "BEFORE UPDATE", &when.join("\n  OR "), &body)
    }

    /// Appends a delete for each note of `whose` whose row is gone, and takes the note away.
    fn evict(&self, whose: &str, or_else: &str) -> Vec<String> {
        let this = ident(&self.table.name);
        let same: Vec<_> = self
            .table
            .key_columns()
            .zip(&self.table.key_collations)
            .enumerate()
            .map(|(part, (column, collation))| {
                format!(
                    "driftless_row.{} = driftless_notes.k{} COLLATE {}",
                    ident(&column.name),
                    part + 1,
                    collation.name()
                )
            })
            .collect();
        let gone = format!(
            "driftless_notes.tbl = {} AND driftless_notes.own = 0 AND {whose} AND (NOT EXISTS (SELECT 1 FROM {this} AS driftless_row WHERE {}){or_else})",
            self.name(),
            same.join(" AND ")
        );
        let append = self.side.append(
            self.table,
            &Capture {
                key: "driftless_notes.pk",
                op: crate::event::Op::Delete,
                before: "driftless_notes.img",
                after: "NULL",
                from: " CROSS JOIN driftless_notes",
                condition: &gone,
                pair: "NULL",
                via: "NULL",
                silent: None,
            },
        );
        let forget = format!(
            "DELETE FROM driftless_notes WHERE (tbl, own, by, pk) IN \
             (SELECT driftless_notes.tbl, driftless_notes.own, driftless_notes.by, driftless_notes.pk FROM driftless_notes WHERE {gone});"
        );
        vec![append, forget]
    }

    /// Takes away the note of a row that was made by its own statement.
    fn forget_own(&self, key: &str) -> String {
        format!(
            "DELETE FROM driftless_notes WHERE tbl = {} AND own = 1 AND by = {key} AND pk = {key};",
            self.name()
        )
    }

    /// Takes away every note of a row.
    fn forget(&self, key: &str) -> [String; 2] {
        let of_others = format!(
            "DELETE FROM driftless_notes WHERE tbl = {} AND own = 0 AND pk = {key};",
            self.name()
        );
        [self.forget_own(key), of_others]
    }

    // ---- events

    /// The parent that is gone and whose foreign key's action this change is, or NULL.
    fn via(&self, updated: bool) -> String {
        let mut arms = Vec::new();
        for foreign in &self.table.foreign_keys {
            let parent = self
                .replicated
                .iter()
                .find(|parent| parent.name.eq_ignore_ascii_case(&foreign.parent));
            let Some(parent) = parent else { continue };
            let mut conditions: Vec<_> = foreign
                .columns
                .iter()
                .map(|(child, _)| format!("old.{} IS NOT NULL", ident(child)))
                .collect();
            if updated {
                let changed: Vec<_> = foreign
                    .columns
                    .iter()
                    .map(|(child, _)| format!("new.{0} IS NOT old.{0}", ident(child)))
                    .collect();
                conditions.push(format!("({})", changed.join(" OR ")));
            }
            let same: Vec<_> = foreign
                .columns
                .iter()
                .map(|(child, column)| {
                    format!("driftless_parent.{} = old.{}", ident(column), ident(child))
                })
                .collect();
            conditions.push(format!(
                "NOT EXISTS (SELECT 1 FROM {} AS driftless_parent WHERE {})",
                ident(&parent.name),
                same.join(" AND ")
            ));
            let parent_row = parent_json(parent, foreign);
            arms.push(format!(
                "WHEN {} THEN json_array({}, {parent_row})",
                conditions.join(" AND "),
                literal(&parent.name)
            ));
        }
        if arms.is_empty() { "NULL".to_owned() } else { format!("CASE {} END", arms.join(" ")) }
    }

    fn after_insert(&self) -> [Trigger; 2] {
        let table = self.table;
        let (from, same) = self.current("new");
        let row = row_json(table, "driftless_row");
        let key = self.key("new");
        let insert = |condition: &str| {
            self.side.append(
                table,
                &Capture {
                    key: &key,
                    op: crate::event::Op::Insert,
                    before: "NULL",
                    after: &row,
                    from: &from,
                    condition,
                    pair: "NULL",
                    via: "NULL",
                    silent: Some(Write::Insert),
                },
            )
        };
        let calm = self.side.calm(table, Write::Insert);
        let quick = [insert(&same), calm.clone()];
        // A rowid that SQLite is yet to choose is -1 in a BEFORE trigger.
        let by = if table.rowid_key {
            format!("driftless_notes.by IN ({key}, '[-1]')")
        } else {
            format!("driftless_notes.by = {key}")
        };
        let noted = format!(
            "driftless_notes.tbl = {} AND driftless_notes.own = 1 AND driftless_notes.by = {key} AND driftless_notes.pk = {key}",
            self.name()
        );
        let update = self.side.append(
            table,
            &Capture {
                key: &key,
                op: crate::event::Op::Update,
                before: "driftless_notes.img",
                after: &row,
                from: &format!("{from} CROSS JOIN driftless_notes"),
                condition: &format!("{same} AND {noted} AND driftless_notes.img <> {row}"),
                pair: "NULL",
                via: "NULL",
                silent: None,
            },
        );
        let fresh = format!("{same} AND NOT EXISTS (SELECT 1 FROM driftless_notes WHERE {noted})");
        let mut careful = self.evict(&by, "");
        careful.extend([insert(&fresh), update, self.forget_own(&key), calm]);
        [
            self.trigger("insert_noted", "AFTER INSERT", NOTES, &careful),
            self.trigger("insert", "AFTER INSERT", NO_NOTES, &quick),
        ]
    }

    fn after_update(&self) -> [Trigger; 2] {
        let table = self.table;
        let (from, same) = self.current("new");
        let key = self.key("old");
        let changed: Vec<_> = table
            .columns
            .iter()
            .map(|c| differs(c, &of("new", &c.name), &of("old", &c.name)))
            .collect();
        let when = format!("{} AND ({})", same_key(table, "new", "old"), changed.join(" OR "));
        let append = self.side.append(
            table,
            &Capture {
                key: &key,
                op: crate::event::Op::Update,
                before: &changes_json(table, "old", "new", "old"),
                after: &changes_json(table, "old", "new", "driftless_row"),
                from: &from,
                condition: &same,
                pair: "NULL",
                via: &self.via(true),
                silent: Some(Write::Update),
            },
        );
        let calm = self.side.calm(table, Write::Update);
        // Without a UNIQUE index an update that leaves the key alone cannot evict anything. What an
        // upsert noted before it turned into an update is of no more use.
        let mut careful = if table.uniques.is_empty() {
            Vec::new()
        } else {
            self.evict(&format!("driftless_notes.by = {key}"), "")
        };
        careful.extend([self.forget_own(&key), append.clone(), calm.clone()]);
        [
            self.trigger("update_noted", "AFTER UPDATE", &format!("{NOTES} AND {when}"), &careful),
            self.trigger(
                "update",
                "AFTER UPDATE",
                &format!("{NO_NOTES} AND {when}"),
                &[append, calm],
            ),
        ]
    }

    fn after_move(&self) -> Trigger {
        let table = self.table;
        let (from, same) = self.current("new");
        let (old_key, new_key) = (self.key("old"), self.key("new"));
        let moved: Vec<_> = table
            .key_columns()
            .zip(&table.key_collations)
            .map(|(column, collation)| {
                format!("new.{0} IS NOT old.{0} COLLATE {1}", ident(&column.name), collation.name())
            })
            .collect();
        let half = |side: &str, number: u8| match self.has_key(side) {
            has_key if has_key.is_empty() => number.to_string(),
            has_key => format!("CASE WHEN {has_key} THEN {number} END"),
        };
        let mut body = self.forget(&old_key).to_vec();
        body.extend(self.evict(
            &format!("driftless_notes.by = {old_key}"),
            &format!(" OR driftless_notes.pk = {new_key}"),
        ));
        let mut gone = self.gone("old");
        let has_old = self.has_key("old");
        if !has_old.is_empty() {
            let _ = write!(gone, " AND {has_old}");
        }
        body.push(self.side.append(
            table,
            &Capture {
                key: &old_key,
                op: crate::event::Op::Delete,
                before: &row_json(table, "old"),
                after: "NULL",
                from: "",
                condition: &gone,
                pair: &half("new", 1),
                via: "NULL",
                silent: Some(Write::Move),
            },
        ));
        body.push(self.side.append(
            table,
            &Capture {
                key: &new_key,
                op: crate::event::Op::Insert,
                before: "NULL",
                after: &row_json(table, "driftless_row"),
                from: &from,
                condition: &same,
                pair: &half("old", 2),
                via: &self.via(true),
                silent: Some(Write::Move),
            },
        ));
        body.push(self.side.calm(table, Write::Move));
        self.trigger("move", "AFTER UPDATE", &moved.join(" OR "), &body)
    }

    fn after_delete(&self) -> [Trigger; 2] {
        let table = self.table;
        let key = self.key("old");
        let mut gone = self.gone("old");
        let has_key = self.has_key("old");
        if !has_key.is_empty() {
            let _ = write!(gone, " AND {has_key}");
        }
        let append = self.side.append(
            table,
            &Capture {
                key: &key,
                op: crate::event::Op::Delete,
                before: &row_json(table, "old"),
                after: "NULL",
                from: "",
                condition: &gone,
                pair: "NULL",
                via: &self.via(false),
                silent: Some(Write::Delete),
            },
        );
        let calm = self.side.calm(table, Write::Delete);
        let mut careful = self.forget(&key).to_vec();
        careful.extend(self.evict("driftless_notes.by IS NOT NULL", ""));
        careful.extend([append.clone(), calm.clone()]);
        [
            self.trigger("delete_noted", "AFTER DELETE", NOTES, &careful),
            self.trigger("delete", "AFTER DELETE", NO_NOTES, &[append, calm]),
        ]
    }
}

/// The columns of an index that has no expressions and no condition.
fn plain_columns(unique: &Unique) -> Option<Vec<String>> {
    if unique.predicate.is_some() {
        return None;
    }
    let column = |term: &Term| match term {
        Term::Column(column, _) => Some(column.clone()),
        Term::Expression(_) => None,
    };
    unique.terms.iter().map(column).collect()
}

/// How a consequence names its parent: by the key, or, where the foreign key refers to other
/// columns, by these as an object.
fn parent_json(parent: &Table, foreign: &ForeignKey) -> String {
    let child_of = |column: &str| {
        foreign
            .columns
            .iter()
            .find(|(_, to)| to.eq_ignore_ascii_case(column))
            .map(|(child, _)| format!("old.{}", ident(child)))
    };
    let by_key: Option<Vec<_>> = parent
        .key_columns()
        .enumerate()
        .map(|(part, column)| child_of(&column.name).map(|x| key_value_json(parent, part, &x)))
        .collect();
    match by_key {
        Some(parts) if parts.len() == foreign.columns.len() => {
            format!("json_array({})", parts.join(", "))
        }
        _ => {
            let pairs: Vec<_> = foreign
                .columns
                .iter()
                .filter_map(|(child, to)| {
                    let column = parent.column(to)?;
                    let value = value_json(parent, column, &format!("old.{}", ident(child)));
                    Some(format!("{}, {value}", literal(&column.name)))
                })
                .collect();
            format!("json_object({})", pairs.join(", "))
        }
    }
}
