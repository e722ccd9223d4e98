//! The capture triggers of a replica, and their rules. [`Dialect`] separates the rules from the SQL
//! of the outbox. The remote's triggers follow other rules (`remote.rs`).
//!
//! For each table there are
//!
//! * two *before-image* triggers, BEFORE INSERT and BEFORE UPDATE. `INSERT OR REPLACE` and similar
//!   statements delete rows without firing a delete trigger. So the image of each row that shares
//!   the key or a UNIQUE value with the new row is saved in `driftless_notes`;
//! * *evict* triggers, which run after a write while there are before-images of other rows. A saved
//!   row that is gone was evicted, and its delete is appended;
//! * AFTER INSERT, UPDATE and DELETE triggers that append the event of the row itself. If an
//!   inserted row has a before-image of its own, it was replaced, and its event is an update;
//! * one for a change of the key;
//! * in a table that others refer to, triggers that mark a row that is about to go (`leaving.rs`).
//!
//! No trigger names a table of the application's but its own, so that the application can rebuild
//! any other.
//!
//! An application pays for these triggers twice: when it writes, and when it prepares a statement.
//! SQLite compiles all triggers of a table into the statement. It clears all registers of a trigger
//! even if it evaluates only its WHEN. So rare cases have triggers of their own, and a row's image
//! is written out as rarely as possible.
//!
//! Each unusual rule here has a history that fails without it:
//!
//! * A trigger of the application that is newer than ours, or a TEMP trigger, runs before ours. If
//!   it writes the same row again, its write is appended first. An event has the values of its own
//!   write, `old` and `new`, so the events of a row form a chain, and the store restores their
//!   order (`capture/chain/`).
//! * A before-image of another row (`own = 0`) belongs to the row whose statement made it (`by`),
//!   and only that row's AFTER trigger looks for it. The exception is AFTER DELETE: an UPDATE OR
//!   REPLACE may evict the parent of the row that it updates, and then no AFTER UPDATE fires for
//!   that row.
//! * A before-image of the row itself (`own = 1`) may remain, for example after an INSERT OR
//!   IGNORE. It is harmless while the row exists. The next insert of the row renews it, or removes
//!   it if the row is gone: a newer trigger of the application may insert a row that was just
//!   deleted. A delete and a change of the key remove every before-image of the row, before the row
//!   is written: a TEMP trigger may delete another row before any AFTER trigger of ours runs. The
//!   store empties the before-images, which saves a trigger for each update.
//! * `INSERT OR REPLACE` into the before-images would be wrong: an outer statement's OR clause
//!   overrides the inner one.
//!
//! # Caveats
//!
//! * If the key is not an INTEGER PRIMARY KEY, a REPLACE may evict a row by its hidden rowid alone
//!   (`INSERT OR REPLACE INTO t (rowid, …)`). This is not captured.
//! * BEFORE triggers see a generated column computed from NULL, even where ON CONFLICT REPLACE then
//!   puts the default of a NOT NULL column in the NULL's place.
//! * TEMP triggers run before ours. If one fails in a statement with OR FAIL, the row was written
//!   but its capture trigger never ran. Before-images do not know nested statements, so two cases
//!   are captured wrongly: a row that the TEMP trigger fired by its own insert inserts once more
//!   (OR IGNORE, an upsert); and a row that a TEMP trigger inserts anew, or gives its old values,
//!   after the same statement replaced it.
//! * In a STRICT table SQLite checks the types of a row's values before BEFORE triggers run. A row
//!   that has a wrong type and also breaks another constraint fails for its type. Without triggers,
//!   the other constraint would be checked first. OR IGNORE does not ignore a wrong type.
//! * In a table that refers to itself, SQLite lets a REPLACE leave a child without its parent. With
//!   any AFTER UPDATE trigger, it refuses the statement. An upsert of several rows may leave such a
//!   child too, if it sets the key of a row that refers to itself to the same value. The remote
//!   rejects such a row.
//! * An UPDATE OR REPLACE may evict the parent of the row that it updates. If ON DELETE CASCADE
//!   then deletes that row and a trigger of the application inserts it anew, SQLite loses the new
//!   row without firing a trigger: the row is in the log, and not in the table. If ON DELETE SET
//!   NULL changes that row first, the old values of the row's own event are those from before that
//!   change.
//! * A row may refer to itself with an ON UPDATE action and change its key. Its event has the
//!   values from after the action. The action has an event of its own under the new key, which
//!   comes before the pair that moves the row there; its `via` names the pair's delete. The store
//!   skips that event while the pair's insert, which has all its values, is pending.
//! * Text in a key that is not UTF-8 is stored with its bytes unchanged. SQL cannot distinguish it
//!   from other text, so the reader spells it in hex. In a UTF-16 database `hex` gives other bytes
//!   for a key with a NUL.

use std::fmt::Write as _;

use super::layout::foreign_keys;
use super::leaving::is_leaving;
use crate::catalog::limits::PREFIX;
use crate::catalog::quote::{ident, literal};
use crate::catalog::sql::{differs, of, same_key};
use crate::catalog::table::{Action, Column, Table};
use crate::event::Op;

/// A trigger: its name and the statement that makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// The name, which begins with [`PREFIX`].
    pub name: String,
    /// The CREATE TRIGGER statement.
    pub sql: String,
}

/// The kind of write that fired a trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Write {
    Update,
    Delete,
    Move,
}

/// A row that a trigger can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// By `old`, `new` or `driftless_row`, which is the row as it is now.
    Row(&'static str),
    /// The row of a before-image in `driftless_notes`.
    BeforeImage,
}

/// An image of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Picture {
    /// There is none.
    None,
    /// The whole row.
    Whole(Named),
    /// The columns in which `old` and `new` differ, with the values of this row.
    Changed(&'static str),
}

/// An event to append.
pub(super) struct Capture<'a> {
    op: Op,
    before: Picture,
    after: Picture,
    /// Tables to join, each with its comma.
    from: &'a str,
    /// Further conditions, joined by AND; empty for none.
    condition: &'a str,
    /// 1 for the delete of a key change, 2 for its insert, or NULL.
    pair: &'a str,
    /// The number of the foreign key of which this is a consequence, or NULL.
    via: &'a str,
    /// Whether it is the insert of a row. If that replaced a row, the event is an update.
    is_insert: bool,
}

impl<'a> Capture<'a> {
    /// The delete of a row that a REPLACE evicted, read from its before-image. `from` joins the
    /// before-images.
    pub(super) fn eviction(from: &'a str, condition: &'a str) -> Capture<'a> {
        Capture {
            op: Op::Delete,
            before: Picture::Whole(Named::BeforeImage),
            after: Picture::None,
            from,
            condition,
            pair: "NULL",
            via: "NULL",
            is_insert: false,
        }
    }

    /// Whether the event needs values of the trigger's row `alias`.
    pub(super) fn names(&self, alias: &str) -> bool {
        let is = |picture: Picture| match picture {
            Picture::Whole(Named::Row(row)) => (row == "old") == (alias == "old"),
            Picture::Changed(_) => true,
            Picture::Whole(Named::BeforeImage) | Picture::None => false,
        };
        is(self.before) || is(self.after)
    }

    pub(super) fn op(&self) -> Op {
        self.op
    }

    pub(super) fn before(&self) -> Picture {
        self.before
    }

    pub(super) fn after(&self) -> Picture {
        self.after
    }

    /// Tables to join, each with its comma.
    pub(super) fn from(&self) -> &'a str {
        self.from
    }

    /// Further conditions, joined by AND; empty for none.
    pub(super) fn condition(&self) -> &'a str {
        self.condition
    }

    /// 1 for the delete of a key change, 2 for its insert, or NULL.
    pub(super) fn pair(&self) -> &'a str {
        self.pair
    }

    /// The number of the foreign key of which this is a consequence, or NULL.
    pub(super) fn via(&self) -> &'a str {
        self.via
    }

    /// Whether it is the insert of a row. If that replaced a row, the event is an update.
    pub(super) fn is_insert(&self) -> bool {
        self.is_insert
    }
}

/// A database that captures: the SQL that the generator's rules are written in.
pub(super) trait Dialect {
    /// The statement, with its semicolon, that appends an event.
    fn append(&self, table: &Table, capture: &Capture<'_>) -> String;

    /// The table with the before-images of a table's rows.
    fn before_images(&self, _table: &Table) -> &'static str {
        "driftless_notes"
    }

    /// The value of a column of the trigger's row `alias`, within the FROM of [`Dialect::append`].
    fn value(&self, table: &Table, alias: &str, column: &Column) -> String;

    /// Whether a table has columns that the application may drop.
    fn has_droppable(&self, table: &Table) -> bool;

    /// The FROM over which the expressions of [`Dialect::before_image`] are.
    fn before_image_from(&self, table: &Table, alias: &str) -> String;

    /// The columns of a before-image, and their expressions over the saved row `alias`.
    fn before_image(&self, table: &Table, alias: &str) -> (Vec<String>, Vec<String>);

    /// SQL condition: a before-image is of the row whose key has these values. `prefix` is before
    /// the before-image's columns.
    fn before_image_key(
        &self,
        table: &Table,
        prefix: &str,
        value: &dyn Fn(&Column) -> String,
    ) -> String;

    /// The column of a before-image with one value of the saved row's key.
    fn before_image_part(&self, table: &Table, part: usize) -> String;

    /// The key of the row `alias`, by which a before-image names the row whose statement made it.
    fn maker(&self, table: &Table, alias: &str) -> String;

    /// The maker of a row whose rowid SQLite has not chosen yet: a BEFORE trigger sees -1.
    fn unknown_rowid(&self) -> &'static str;

    /// SQL condition: the inserted row differs from its before-image, or has none.
    fn is_news(&self, table: &Table) -> String;

    /// SQL condition: the before-image `driftless_other` is of the same row as the current
    /// before-image.
    fn one_row(&self, table: &Table) -> String;

    /// The rowid of the newest of the before-images `driftless_other` for which `condition` is
    /// true.
    fn newest(&self, before_images: &str, condition: &str) -> String {
        format!(
            "(SELECT max(driftless_other.rowid) FROM {before_images} AS driftless_other WHERE {condition})"
        )
    }

    /// SQL condition: two values of a column differ in their bytes or their type.
    fn differs(&self, column: &Column, a: &str, b: &str) -> String {
        differs(column, a, b)
    }

    /// `x`, or `other` where `x` is NULL.
    fn or_else(x: &str, other: &str) -> String {
        format!("coalesce({x}, {other})")
    }

    /// SQL condition: a value is a number.
    fn is_number(x: &str) -> String {
        format!("typeof({x}) IN ('integer', 'real')")
    }
}

/// The alias of a table whose rows may be replaced. The table itself may be called `new` or `old`.
pub(super) const THERE: &str = "driftless_there";

/// Makes one table's capture triggers.
pub(super) struct Generator<'a, S> {
    dialect: &'a S,
    table: &'a Table,
    /// All replicated tables. A consequence names only a parent among them.
    replicated: &'a [&'a Table],
}

impl<'a, S: Dialect> Generator<'a, S> {
    /// For the triggers of `table` in the database of `dialect`.
    pub(super) fn new(dialect: &'a S, table: &'a Table, replicated: &'a [&'a Table]) -> Self {
        Generator { dialect, table, replicated }
    }

    /// The database that captures.
    pub(super) fn dialect(&self) -> &'a S {
        self.dialect
    }

    /// The table.
    pub(super) fn table(&self) -> &'a Table {
        self.table
    }

    /// All replicated tables.
    pub(super) fn replicated(&self) -> &'a [&'a Table] {
        self.replicated
    }

    /// All triggers, in the order in which they are created. The newest fires first, so an eviction
    /// is logged before the event that caused it, and a mark stays until all other triggers have
    /// run.
    pub(super) fn triggers(&self) -> Vec<Trigger> {
        let mut triggers = self.leaving();
        triggers.extend([self.save_on_insert(), self.save_on_update()]);
        triggers.extend([self.insert(), self.update(), self.delete(), self.key_change()]);
        if !self.table.uniques.is_empty() {
            triggers.extend([self.evict_insert(), self.evict_update()]);
        }
        triggers.extend([self.forget_deleted(), self.evict_delete()]);
        triggers
    }

    pub(super) fn trigger(&self, what: &str, event: &str, when: &str, body: &[String]) -> Trigger {
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

    pub(super) fn name(&self) -> String {
        literal(&self.table.name)
    }

    /// A further condition: the before-image was made by the row `alias`.
    pub(super) fn made_by(&self, alias: &str) -> String {
        format!(" AND {}.by IS {}", self.before_images(), self.dialect.maker(self.table, alias))
    }

    /// A further condition: the before-image is the newest of the before-images of its row by other
    /// rows, so it has the last image.
    pub(super) fn newest(&self) -> String {
        let before_images = self.before_images();
        let condition = format!(
            "driftless_other.tbl = {before_images}.tbl AND driftless_other.own = 0 AND {}",
            self.dialect.one_row(self.table)
        );
        format!(" AND {before_images}.rowid = {}", self.dialect.newest(before_images, &condition))
    }

    /// The table of before-images.
    pub(super) fn before_images(&self) -> &'static str {
        self.dialect.before_images(self.table)
    }

    /// SQL condition: no key column is NULL. A row with NULL in its key has no identity.
    pub(super) fn has_key(&self, alias: &str) -> String {
        let table = self.table;
        if table.rowid_key || table.without_rowid {
            return String::new();
        }
        let nullable: Vec<_> = table
            .key_columns()
            .filter(|column| !column.not_null)
            .map(|column| format!("{} IS NOT NULL", of(alias, &column.present)))
            .collect();
        nullable.join(" AND ")
    }

    /// The number of the foreign key whose action made this change, or NULL. The action made it if
    /// the parent has a mark. A foreign key without an action makes no change.
    fn via(&self, kind: Write) -> String {
        let present = |name: &str| ident(self.table.present(name));
        let mut arms = Vec::new();
        for (number, (foreign, parent)) in foreign_keys(self.table, self.replicated).enumerate() {
            let has_action = match kind {
                Write::Delete => foreign.on_delete == Action::Cascade,
                _ => {
                    matches!(foreign.on_delete, Action::SetNull | Action::SetDefault)
                        || !foreign.on_update.refuses()
                }
            };
            if !has_action {
                continue;
            }
            let mut conditions: Vec<_> = foreign
                .columns
                .iter()
                .map(|(child, _)| format!("old.{} IS NOT NULL", present(child)))
                .collect();
            if kind != Write::Delete {
                let changed: Vec<_> = foreign
                    .columns
                    .iter()
                    .map(|(child, _)| format!("new.{0} IS NOT old.{0}", present(child)))
                    .collect();
                conditions.push(format!("({})", changed.join(" OR ")));
            }
            conditions.push(is_leaving(self.table, foreign, parent));
            // A row that refers to itself is not a consequence, unless its own key changes.
            if kind != Write::Move && parent.name.eq_ignore_ascii_case(&self.table.name) {
                let itself: Vec<_> = foreign
                    .columns
                    .iter()
                    .map(|(child, column)| {
                        format!("old.{} = old.{}", present(column), present(child))
                    })
                    .collect();
                conditions.push(format!("({}) IS NOT 1", itself.join(" AND ")));
            }
            arms.push(format!("WHEN {} THEN {number}", conditions.join(" AND ")));
        }
        if arms.is_empty() { "NULL".to_owned() } else { format!("CASE {} END", arms.join(" ")) }
    }

    /// Whether a foreign key of the table refers to the table itself and acts on a change of the
    /// key. For a row that refers to itself, the action comes before any trigger sees the row.
    fn acts_on_itself(&self) -> bool {
        let keys = &self.table.foreign_keys;
        keys.iter().any(|key| {
            key.parent.eq_ignore_ascii_case(&self.table.name) && !key.on_update.refuses()
        })
    }

    /// SQL condition: a row has a key, and `more`.
    fn with_key(&self, alias: &str, more: &str) -> String {
        let conditions = [self.has_key(alias), more.to_owned()];
        let conditions = conditions.into_iter().filter(|condition| !condition.is_empty());
        conditions.collect::<Vec<_>>().join(" AND ")
    }

    fn insert(&self) -> Trigger {
        let (table, before_images) = (self.table, self.before_images());
        let noted = format!(
            " LEFT JOIN {before_images} ON {before_images}.tbl = {} AND {before_images}.own = 1 AND {}",
            self.name(),
            self.is_noted("new")
        );
        let append = self.dialect.append(
            table,
            &Capture {
                op: Op::Insert,
                before: Picture::Whole(Named::BeforeImage),
                after: Picture::Whole(Named::Row("new")),
                from: &noted,
                condition: &self.with_key("new", &self.dialect.is_news(table)),
                pair: "NULL",
                via: "NULL",
                is_insert: true,
            },
        );
        self.trigger("insert", "AFTER INSERT", "", &[append])
    }

    fn update(&self) -> Trigger {
        let table = self.table;
        let changed: Vec<_> = table
            .columns
            .iter()
            .map(|c| {
                let value = |alias: &str| self.dialect.value(table, alias, c);
                self.dialect.differs(c, &value("new"), &value("old"))
            })
            .collect();
        // `key_change` has the updates that change the key.
        let (same, changed) = (same_key(table, "new", "old"), changed.join(" OR "));
        // What names a column that may be dropped is in the body, where that does no harm.
        let (when, condition) = match self.dialect.has_droppable(table) {
            true => (same, format!("({changed})")),
            false => (format!("{same} AND ({changed})"), String::new()),
        };
        let append = self.dialect.append(
            table,
            &Capture {
                op: Op::Update,
                before: Picture::Changed("old"),
                after: Picture::Changed("new"),
                from: "",
                condition: &condition,
                pair: "NULL",
                via: &self.via(Write::Update),
                is_insert: false,
            },
        );
        self.trigger("update", "AFTER UPDATE", &when, &[append])
    }

    /// SQL condition: an update changes the row's key.
    pub(super) fn moves(&self) -> String {
        let parts = self.table.key_columns().zip(&self.table.key_collations);
        let moved: Vec<_> = parts
            .map(|(column, collation)| {
                format!(
                    "new.{0} IS NOT old.{0} COLLATE {1}",
                    ident(&column.present),
                    collation.name()
                )
            })
            .collect();
        moved.join(" OR ")
    }

    fn key_change(&self) -> Trigger {
        let table = self.table;
        // A half whose key has NULL is not appended. Then the other half is an ordinary event,
        // whose `pair` is NULL.
        let half = |side: &str, number: u8| match self.has_key(side) {
            has_key if has_key.is_empty() => number.to_string(),
            has_key => format!("CASE WHEN {has_key} THEN {number} END"),
        };
        let by_this = self.made_by("old");
        let mut body = vec![self.forget("old")];
        // Evicted rows come first: the remote must free the key before this row arrives there. A
        // saved row with the new key is gone too: the row that has its key now is this one.
        body.extend(self.evict(&by_this, &format!(" OR ({})", self.is_noted("new"))));
        body.push(self.dialect.append(
            table,
            &Capture {
                op: Op::Delete,
                before: Picture::Whole(Named::Row("old")),
                after: Picture::None,
                from: "",
                condition: &self.has_key("old"),
                pair: &half("new", 1),
                via: "NULL",
                is_insert: false,
            },
        ));
        // The action on the row itself comes before this trigger, so `new` is outdated. Read the
        // row.
        let (row, from, condition) = match self.acts_on_itself() {
            true => {
                let from = format!(" CROSS JOIN {} AS driftless_row", ident(&table.name));
                ("driftless_row", from, same_key(table, "driftless_row", "new"))
            }
            false => ("new", String::new(), self.has_key("new")),
        };
        body.push(self.dialect.append(
            table,
            &Capture {
                op: Op::Insert,
                before: Picture::None,
                after: Picture::Whole(Named::Row(row)),
                from: &from,
                condition: &condition,
                pair: &half("old", 2),
                via: &self.via(Write::Move),
                is_insert: false,
            },
        ));
        // The events above still need the marks of the evicted rows.
        body.extend(self.unmark_evicted());
        let names = table.key_columns().map(|column| column.present.clone()).collect();
        let event = update_event("AFTER UPDATE", (!table.rowid_key).then_some(names));
        self.trigger("move", &event, &self.moves(), &body)
    }

    fn delete(&self) -> Trigger {
        let append = self.dialect.append(
            self.table,
            &Capture {
                op: Op::Delete,
                before: Picture::Whole(Named::Row("old")),
                after: Picture::None,
                from: "",
                condition: &self.has_key("old"),
                pair: "NULL",
                via: &self.via(Write::Delete),
                is_insert: false,
            },
        );
        let mut body = vec![append];
        body.extend(self.unmark_deleted());
        self.trigger("delete", "AFTER DELETE", "", &body)
    }
}

pub(super) fn update_event(event: &str, columns: Option<Vec<String>>) -> String {
    match columns {
        Some(columns) => {
            let columns: Vec<_> = columns.iter().map(|column| ident(column)).collect();
            format!("{event} OF {}", columns.join(", "))
        }
        None => event.to_owned(),
    }
}
