//! The capture triggers, which are alike on both sides.
//!
//! For each table there are
//!
//! * two *note* triggers, BEFORE INSERT and BEFORE UPDATE: a row that shares the key or a UNIQUE
//!   value with the one that is coming may be about to go without any delete trigger (`INSERT OR
//!   REPLACE` and its kin), so its image is noted in `driftless_notes`;
//! * *evict* triggers, which run after a write while there are such notes of other rows: a noted row
//!   that is gone was evicted, and gets its delete;
//! * AFTER INSERT, UPDATE and DELETE triggers that append the event of the row itself. An inserted
//!   row that was noted itself was replaced, and its event is an update;
//! * one for a change of the key.
//!
//! What the two sides do differently is a [`Side`]: where an event is appended, and when capture
//! keeps silent.
//!
//! An application pays for these triggers twice: when it writes, and when it prepares a statement,
//! for SQLite compiles all of a table's triggers into it, and clears every register that a trigger
//! could need whenever it only looks at its WHEN. So what is rare stands in triggers of its own, and
//! a row's image is spelled out as seldom as can be.
//!
//! Each odd-looking rule here has a history that fails without it:
//!
//! * An event's values are read from the table and not from `new`: a trigger of the application's
//!   that is newer than ours, or a foreign key's action on the row itself, has run before.
//! * A delete is logged only if the row is gone, for the same reason.
//! * A note of another row (`own = 0`) belongs to the row whose statement made it (`by`), and only
//!   that row's AFTER trigger looks for it. The exception is AFTER DELETE: an UPDATE OR REPLACE may
//!   evict the parent of the very row that it updates, whose AFTER UPDATE then never fires.
//! * A note of the row itself (`own = 1`) may stay behind (after an INSERT OR IGNORE, say) and does
//!   no harm as long as the row is there: it is made anew before the next insert. When the row is
//!   updated, as by an upsert, or deleted, it goes.
//! * `INSERT OR REPLACE` into the notes would be wrong: an outer statement's OR clause overrides
//!   the inner one.
//!
//! # Caveats
//!
//! * Where the key is no INTEGER PRIMARY KEY, a REPLACE that evicts a row by nothing but its hidden
//!   rowid (`INSERT OR REPLACE INTO t (rowid, …)`) is not seen.
//! * A generated column is seen by the BEFORE triggers as it is for a NULL, also where ON CONFLICT
//!   REPLACE then puts a NOT NULL column's default in the NULL's place.
//! * A row that refers to itself with ON UPDATE and changes its key has an event of that consequence,
//!   under the new key, before the pair that brings it there; its `via` names the pair's delete.
//! * Text in a key that is not UTF-8 leaves with its bytes as they are: SQL cannot tell it from other
//!   text, so it is the reader who spells it in hex. In a UTF-16 database `hex` gives other bytes for
//!   a key with a NUL.

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

/// An event to append: SQL expressions over `old`, `new`, `w` (the row as it is in the table now)
/// and `note`.
pub(super) struct Capture<'a> {
    pub(super) key: &'a str,
    pub(super) op: crate::event::Op,
    pub(super) before: &'a str,
    pub(super) after: &'a str,
    /// For an update, both at once: an object with `[old, new]` for each changed column.
    pub(super) changes: Option<&'a str>,
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

/// The alias of a table whose rows stand in the way: it may itself be called `new` or `old`.
const THERE: &str = "there";

/// Of the notes of one row by several others, the one that has its image as it was at last.
const NEWEST: &str = " AND n.rowid = (SELECT max(o.rowid) FROM driftless_notes AS o \
     WHERE o.tbl = n.tbl AND o.own = 0 AND o.pk = n.pk)";

/// Makes one table's capture triggers.
pub(super) struct Generator<'a, S> {
    pub(super) side: &'a S,
    pub(super) table: &'a Table,
    /// All replicated tables: a consequence is told only of a parent among them.
    pub(super) replicated: &'a [&'a Table],
}

impl<S: Side> Generator<'_, S> {
    /// The newest fires first, so an eviction is logged before the event that made it.
    pub(super) fn triggers(&self) -> Vec<Trigger> {
        let mut triggers = vec![self.note_insert(), self.note_update()];
        triggers.extend([self.insert(), self.update(), self.delete(), self.key_change()]);
        if !self.table.uniques.is_empty() {
            triggers.extend([self.evict_insert(), self.evict_update()]);
        }
        triggers.extend([self.evict_delete(), self.forget_updated()]);
        triggers
    }

    fn trigger(&self, what: &str, event: &str, when: &str, body: &[String]) -> Trigger {
        let name = format!("{PREFIX}{what}_{}", self.table.name);
        let when = if when.is_empty() { String::new() } else { format!(" WHEN {when}") };
        let mut sql = format!(
            "CREATE TRIGGER {} {event} ON {}{when}\nBEGIN\n",
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
        let from = format!(" CROSS JOIN {} AS w", ident(&self.table.name));
        (from, same_key(self.table, "w", of))
    }

    fn gone(&self, of: &str) -> String {
        let same = same_key(self.table, "w", of);
        format!("NOT EXISTS (SELECT 1 FROM {} AS w WHERE {same})", ident(&self.table.name))
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
        let this = THERE;
        let key: Vec<_> = table
            .key_columns()
            .zip(&table.key_collations)
            .map(|(column, collation)| equals(column, this, &coming(column), collation))
            .collect();
        let mut obstacles = vec![key.join(" AND ")];
        for unique in &table.uniques {
            let mut parts: Vec<_> = unique
                .terms
                .iter()
                .map(|term| match term {
                    Term::Column(name, collation) => match table.column(name) {
                        Some(column) => equals(column, this, &coming(column), collation),
                        None => format!(
                            "{this}.{0} = new.{0} COLLATE {1}",
                            ident(name),
                            collation.name()
                        ),
                    },
                    Term::Expression(text) => {
                        format!("({text}) = (SELECT {text} FROM ({}) AS coming)", self.new_row())
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
        let mut columns: Vec<_> = self
            .table
            .columns
            .iter()
            .map(|column| format!("{} AS {}", coming(column), ident(&column.name)))
            .collect();
        columns
            .extend(self.table.generated.iter().map(|name| format!("new.{0} AS {0}", ident(name))));
        format!("SELECT {}", columns.join(", "))
    }

    /// That the note `n` is of the row `alias`.
    fn is_noted(&self, alias: &str) -> String {
        self.has_noted_key("n.", &|column| of(alias, &column.name))
    }

    /// That the note is of the row whose key has these values.
    fn has_noted_key(&self, note: &str, value: &dyn Fn(&Column) -> String) -> String {
        let parts: Vec<_> = self
            .table
            .key_columns()
            .enumerate()
            .map(|(part, column)| {
                let value = folded(self.table, part, &value(column));
                format!("{note}k{} = {value}", part + 1)
            })
            .collect();
        parts.join(" AND ")
    }

    /// Notes the rows for which `condition` is true; `own` says whether they have the key of the row
    /// that is coming, whose key is `by`.
    fn take_note(&self, own: u8, by: &str, condition: &str) -> String {
        let this = THERE;
        let columns: Vec<_> =
            (1..=self.table.key.len()).map(|number| format!("k{number}")).collect();
        let values: Vec<_> = self
            .table
            .key_columns()
            .enumerate()
            .map(|(part, column)| folded(self.table, part, &of(this, &column.name)))
            .collect();
        let has_key = match self.has_key(this) {
            has_key if has_key.is_empty() => has_key,
            has_key => format!(" AND {has_key}"),
        };
        format!(
            "INSERT INTO driftless_notes (tbl, own, by, pk, img, {}) \
             SELECT {}, {own}, {by}, {}, {}, {} FROM {table} AS {this} WHERE {condition}{has_key};",
            columns.join(", "),
            self.name(),
            self.key(this),
            row_json(self.table, this),
            values.join(", "),
            table = ident(&self.table.name),
        )
    }

    fn forget_by(&self, by: &str) -> String {
        format!(
            "DELETE FROM driftless_notes WHERE tbl = {} AND own = 0 AND by = {by};",
            self.name()
        )
    }

    /// Takes away the notes of the row `alias`.
    fn forget(&self, alias: &str) -> String {
        self.forget_where(&self.has_noted_key("", &|column| of(alias, &column.name)))
    }

    fn forget_where(&self, is_noted: &str) -> String {
        format!("DELETE FROM driftless_notes WHERE tbl = {} AND {is_noted};", self.name())
    }

    fn note_insert(&self) -> Trigger {
        let this = ident(&self.table.name);
        let obstacles = self.obstacles();
        let when: Vec<_> = obstacles
            .iter()
            .map(|obstacle| format!("EXISTS (SELECT 1 FROM {this} AS {THERE} WHERE {obstacle})"))
            .collect();
        let (same, others) = obstacles.split_first().expect("the key is one");
        let by = self.key("new");
        let old_notes = self.forget_where(&self.has_noted_key("", &coming));
        let mut body = vec![old_notes, self.take_note(1, &by, same)];
        if !others.is_empty() {
            body.push(self.forget_by(&by));
            let conditions = each_once(others).into_iter();
            body.extend(conditions.map(|another| {
                self.take_note(0, &by, &format!("{another} AND ({same}) IS NOT 1"))
            }));
        }
        self.trigger("note_insert", "BEFORE INSERT", &when.join("\n  OR "), &body)
    }

    /// The columns that an UPDATE must name to be able to run into another row; `None` when that
    /// cannot be told: the condition or the expression of an index may look at any column, and
    /// `SET rowid = …` changes an INTEGER PRIMARY KEY without naming it.
    fn update_of(&self) -> Option<Vec<String>> {
        if self.table.rowid_key {
            return None;
        }
        let mut columns: Vec<_> =
            self.table.key_columns().map(|column| column.name.clone()).collect();
        for unique in &self.table.uniques {
            columns.extend(plain_columns(unique, self.table)?.into_iter().map(|(c, _)| c.clone()));
        }
        columns.dedup();
        Some(columns)
    }

    fn note_update(&self) -> Trigger {
        let table = self.table;
        let this = ident(&table.name);
        // Another row than the one that is updated.
        let other = format!(" AND ({}) IS NOT 1", same_key(table, THERE, "old"));
        let (mut when, mut any) = (Vec::new(), Vec::new());
        for (index, obstacle) in self.obstacles().iter().enumerate() {
            // By the index's own collation: the column's may find no difference where it does.
            let touched: Option<Vec<_>> = match index.checked_sub(1).map(|i| &table.uniques[i]) {
                None => {
                    let columns = table.key_columns().map(|column| &column.name);
                    Some(columns.zip(&table.key_collations).collect())
                }
                Some(unique) => plain_columns(unique, table),
            };
            let touched = match touched {
                Some(columns) => {
                    let parts: Vec<_> = columns
                        .iter()
                        .map(|(column, collation)| {
                            format!(
                                "new.{0} IS NOT old.{0} COLLATE {1}",
                                ident(column),
                                collation.name()
                            )
                        })
                        .collect();
                    format!("({}) AND ", parts.join(" OR "))
                }
                None => String::new(),
            };
            when.push(format!(
                "({touched}EXISTS (SELECT 1 FROM {this} AS {THERE} WHERE {obstacle}{other}))"
            ));
            any.push(obstacle.clone());
        }
        let by = self.key("old");
        let mut body = vec![self.forget_by(&by)];
        let conditions = each_once(&any).into_iter();
        body.extend(conditions.map(|row| self.take_note(0, &by, &format!("{row}{other}"))));
        let event = update_event("BEFORE UPDATE", self.update_of());
        self.trigger("note_update", &event, &when.join("\n  OR "), &body)
    }

    /// Appends a delete for each note of `whose` whose row is gone, and takes every note of that row
    /// away: others may stand there, left by statements that were refused.
    fn evict(&self, whose: &str, or_else: &str) -> Vec<String> {
        let this = ident(&self.table.name);
        let same: Vec<_> = self
            .table
            .key_columns()
            .zip(&self.table.key_collations)
            .enumerate()
            .map(|(part, (column, collation))| {
                format!("w.{} = n.k{} COLLATE {}", ident(&column.name), part + 1, collation.name())
            })
            .collect();
        let gone = format!(
            "n.tbl = {} AND n.own = 0{whose} AND (NOT EXISTS (SELECT 1 FROM {this} AS w WHERE {}){or_else})",
            self.name(),
            same.join(" AND ")
        );
        let append = self.side.append(
            self.table,
            &Capture {
                key: "n.pk",
                op: crate::event::Op::Delete,
                before: "n.img",
                after: "NULL",
                changes: None,
                from: " CROSS JOIN driftless_notes AS n",
                condition: &gone,
                pair: "NULL",
                via: "NULL",
                silent: None,
            },
        );
        let forget = format!(
            "DELETE FROM driftless_notes WHERE rowid IN (SELECT o.rowid FROM driftless_notes AS n \
             JOIN driftless_notes AS o ON o.tbl = n.tbl AND o.k1 = n.k1 AND o.pk = n.pk WHERE {gone});"
        );
        vec![append, forget]
    }

    fn others_noted(&self) -> String {
        format!(
            "EXISTS (SELECT 1 FROM driftless_notes AS n WHERE n.tbl = {} AND n.own = 0)",
            self.name()
        )
    }

    fn evict_insert(&self) -> Trigger {
        let key = self.key("new");
        // A rowid that SQLite is yet to choose is -1 in a BEFORE trigger.
        let by = if self.table.rowid_key {
            format!(" AND n.by IN ({key}, '[-1]')")
        } else if self.table.key_columns().any(has_replacement) {
            // The BEFORE trigger saw NULL, and not the default.
            NEWEST.to_owned()
        } else {
            format!(" AND n.by = {key}")
        };
        self.trigger("evict_insert", "AFTER INSERT", &self.others_noted(), &self.evict(&by, ""))
    }

    fn evict_update(&self) -> Trigger {
        // A row with NULL in its key, which has no events of its own, may evict another.
        let same = same_key(self.table, "new", "old");
        let when = format!("{} AND ({same}) IS NOT 0", self.others_noted());
        let body = self.evict(&format!(" AND n.by = {}", self.key("old")), "");
        let event = update_event("AFTER UPDATE", self.update_of());
        self.trigger("evict_update", &event, &when, &body)
    }

    /// The newest of all. A row's own delete is logged by its own trigger, so its notes go first.
    fn evict_delete(&self) -> Trigger {
        let when = format!(
            "{} OR EXISTS (SELECT 1 FROM driftless_notes AS n WHERE n.tbl = {} AND {})",
            self.others_noted(),
            self.name(),
            self.is_noted("old")
        );
        let mut body = vec![self.forget("old")];
        body.extend(self.evict(NEWEST, ""));
        self.trigger("evict_delete", "AFTER DELETE", &when, &body)
    }

    /// An upsert noted its own row, and then turned into an update.
    fn forget_updated(&self) -> Trigger {
        let own = format!("tbl = {} AND own = 1 AND", self.name());
        let when = format!(
            "EXISTS (SELECT 1 FROM driftless_notes AS n WHERE n.{own} {})",
            self.is_noted("old")
        );
        let is_noted = self.has_noted_key("", &|column| of("old", &column.name));
        let forget = format!("DELETE FROM driftless_notes WHERE {own} {is_noted};");
        self.trigger("upserted", "AFTER UPDATE", &when, &[forget])
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
                .map(|(child, column)| format!("p.{} = old.{}", ident(column), ident(child)))
                .collect();
            conditions.push(format!(
                "NOT EXISTS (SELECT 1 FROM {} AS p WHERE {})",
                ident(&parent.name),
                same.join(" AND ")
            ));
            // A row that refers to itself is nobody's consequence when it goes.
            if !updated && parent.name.eq_ignore_ascii_case(&self.table.name) {
                let itself: Vec<_> = foreign
                    .columns
                    .iter()
                    .map(|(child, column)| format!("old.{} = old.{}", ident(column), ident(child)))
                    .collect();
                conditions.push(format!("({}) IS NOT 1", itself.join(" AND ")));
            }
            let parent_row = parent_json(self.table, parent, foreign);
            arms.push(format!(
                "WHEN {} THEN json_array({}, {parent_row})",
                conditions.join(" AND "),
                literal(&parent.name)
            ));
        }
        if arms.is_empty() { "NULL".to_owned() } else { format!("CASE {} END", arms.join(" ")) }
    }

    fn insert(&self) -> Trigger {
        let table = self.table;
        let (from, same) = self.current("new");
        let row = row_json(table, "w");
        let append = self.side.append(
            table,
            &Capture {
                key: &self.key("new"),
                op: crate::event::Op::Insert,
                before: "n.img",
                after: &row,
                changes: None,
                from: &format!(
                    "{from} LEFT JOIN driftless_notes AS n ON n.tbl = {} AND n.own = 1 AND {}",
                    self.name(),
                    self.is_noted("new")
                ),
                condition: &format!(
                    "{same} AND CASE WHEN n.img IS NULL THEN 1 ELSE n.img <> {} END",
                    any_row_json(table, "w")
                ),
                pair: "NULL",
                via: "NULL",
                silent: Some(Write::Insert),
            },
        );
        let calm = self.side.calm(table, Write::Insert);
        self.trigger("insert", "AFTER INSERT", "", &[append, calm])
    }

    fn update(&self) -> Trigger {
        let table = self.table;
        let (from, same) = self.current("new");
        let changed: Vec<_> = table
            .columns
            .iter()
            .map(|c| differs(c, &of("new", &c.name), &of("old", &c.name)))
            .collect();
        let when = format!("{} AND ({})", same_key(table, "new", "old"), changed.join(" OR "));
        let append = self.side.append(
            table,
            &Capture {
                key: &self.key("old"),
                op: crate::event::Op::Update,
                before: &changes_json(table, "old", "new", "old"),
                after: &changes_json(table, "old", "new", "w"),
                changes: Some(&both_json(table, "old", "new", "w")),
                from: &from,
                condition: &same,
                pair: "NULL",
                via: &self.via(true),
                silent: Some(Write::Update),
            },
        );
        let calm = self.side.calm(table, Write::Update);
        self.trigger("update", "AFTER UPDATE", &when, &[append, calm])
    }

    fn key_change(&self) -> Trigger {
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
        let by_this = format!(" AND n.by = {old_key}");
        let mut body = vec![self.forget("old")];
        body.extend(self.evict(&by_this, &format!(" OR n.pk = {new_key}")));
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
                changes: None,
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
                after: &row_json(table, "w"),
                changes: None,
                from: &from,
                condition: &same,
                pair: &half("old", 2),
                via: &self.via(true),
                silent: Some(Write::Move),
            },
        ));
        body.push(self.side.calm(table, Write::Move));
        let names = table.key_columns().map(|column| column.name.clone()).collect();
        let event = update_event("AFTER UPDATE", (!table.rowid_key).then_some(names));
        self.trigger("move", &event, &moved.join(" OR "), &body)
    }

    fn delete(&self) -> Trigger {
        let table = self.table;
        let mut gone = self.gone("old");
        let has_key = self.has_key("old");
        if !has_key.is_empty() {
            let _ = write!(gone, " AND {has_key}");
        }
        let append = self.side.append(
            table,
            &Capture {
                key: &self.key("old"),
                op: crate::event::Op::Delete,
                before: &row_json(table, "old"),
                after: "NULL",
                changes: None,
                from: "",
                condition: &gone,
                pair: "NULL",
                via: &self.via(false),
                silent: Some(Write::Delete),
            },
        );
        let calm = self.side.calm(table, Write::Delete);
        self.trigger("delete", "AFTER DELETE", "", &[append, calm])
    }
}

/// Conditions of which at most one is true of a row, and one is if any of `obstacles` is: as few as
/// can be without one that SQLite 3.54 would read the whole table for (see [`equals`]).
fn each_once(obstacles: &[String]) -> Vec<String> {
    let (special, plain): (Vec<_>, Vec<_>) =
        obstacles.iter().partition(|obstacle| obstacle.contains(" COLLATE "));
    let plain: Vec<_> = plain.into_iter().map(|obstacle| format!("({obstacle})")).collect();
    let mut groups = Vec::new();
    if !plain.is_empty() {
        groups.push(format!("({})", plain.join(" OR ")));
    }
    groups.extend(special.into_iter().map(|obstacle| format!("({obstacle})")));
    let but = |earlier: &String| format!(" AND {earlier} IS NOT 1");
    (0..groups.len())
        .map(|index| groups[index].clone() + &groups[..index].iter().map(but).collect::<String>())
        .collect()
}

/// Whether ON CONFLICT REPLACE would put the default in the place of a NULL.
fn has_replacement(column: &Column) -> bool {
    column.not_null && column.default.is_some()
}

/// A column's value in the row that a BEFORE trigger sees coming.
fn coming(column: &Column) -> String {
    let new = of("new", &column.name);
    match &column.default {
        Some(default) if column.not_null => format!("coalesce({new}, ({default}))"),
        _ => new,
    }
}

fn update_event(event: &str, columns: Option<Vec<String>>) -> String {
    match columns {
        Some(columns) => {
            let columns: Vec<_> = columns.iter().map(|column| ident(column)).collect();
            format!("{event} OF {}", columns.join(", "))
        }
        None => event.to_owned(),
    }
}

/// The columns of an index, with its collations, if it has no expressions, no condition and no
/// generated columns.
fn plain_columns<'a>(
    unique: &'a Unique,
    table: &'a Table,
) -> Option<Vec<(&'a String, &'a Collation)>> {
    if unique.predicate.is_some() {
        return None;
    }
    let column = |term: &'a Term| match term {
        Term::Column(column, collation) => {
            table.column(column).map(|column| (&column.name, collation))
        }
        Term::Expression(_) => None,
    };
    unique.terms.iter().map(column).collect()
}

/// How a consequence names its parent: by the key, or, where the foreign key refers to other
/// columns, by these as an object.
fn parent_json(table: &Table, parent: &Table, foreign: &ForeignKey) -> String {
    let child_of = |column: &str| {
        foreign
            .columns
            .iter()
            .find(|(_, to)| to.eq_ignore_ascii_case(column))
            .map(|(child, to)| as_parents(table.column(child), parent.column(to), child))
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
                    let old = as_parents(table.column(child), Some(column), child);
                    let value = value_json(parent, column, &old);
                    Some(format!("{}, {value}", literal(&column.name)))
                })
                .collect();
            format!("json_object({})", pairs.join(", "))
        }
    }
}

/// The old value of a child's column as the parent's column has it: '1' refers to the integer 1.
fn as_parents(child: Option<&Column>, parent: Option<&Column>, name: &str) -> String {
    let old = of("old", name);
    let affinity = |column: Option<&Column>| column.map(|column| column.affinity);
    let number = |kind| {
        format!(
            "(CASE WHEN CAST({old} AS {kind}) = {old} THEN CAST({old} AS {kind}) ELSE {old} END)"
        )
    };
    match (affinity(child), affinity(parent)) {
        (Some(Affinity::Text | Affinity::Blob), Some(Affinity::Integer | Affinity::Numeric)) => {
            number("NUMERIC")
        }
        (Some(child), Some(Affinity::Real)) if child != Affinity::Real => number("REAL"),
        (Some(child), Some(Affinity::Text)) if child != Affinity::Text => {
            format!("(CASE typeof({old}) WHEN 'blob' THEN {old} ELSE CAST({old} AS TEXT) END)")
        }
        _ => old,
    }
}
