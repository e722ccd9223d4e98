//! Notes of rows that a statement may be about to replace without telling any trigger, and what
//! comes of them: the half of the capture triggers that is rare.

use super::sql::*;
use super::table::*;
use super::triggers::{
    Capture, Generator, NEWEST, Side, Trigger, coming, has_replacement, plain_columns, update_event,
};

impl<S: Side> Generator<'_, S> {
    /// Conditions, one for each way in which a row of the table may stand in the way of `new`.
    pub(super) fn obstacles(&self) -> Vec<String> {
        let table = self.table;
        let this = ident(&table.name);
        let key: Vec<_> = table
            .key_columns()
            .zip(&table.key_collations)
            .map(|(column, collation)| {
                let (name, coming) = (ident(&column.name), coming(column));
                format!("{this}.{name} = {coming} COLLATE {}", collation.name())
            })
            .collect();
        let mut obstacles = vec![key.join(" AND ")];
        for unique in &table.uniques {
            let mut parts: Vec<_> = unique
                .terms
                .iter()
                .map(|term| match term {
                    Term::Column(column, collation) => {
                        let name = ident(column);
                        let coming = match table.column(column) {
                            Some(column) => coming(column),
                            None => format!("new.{name}"),
                        };
                        format!("{this}.{name} = {coming} COLLATE {}", collation.name())
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
    pub(super) fn new_row(&self) -> String {
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

    /// That the note is of the row `alias`.
    pub(super) fn is_noted(&self, alias: &str) -> String {
        let parts: Vec<_> = self
            .table
            .key_columns()
            .enumerate()
            .map(|(part, column)| {
                let value = folded(self.table, part, &of(alias, &column.name));
                format!("driftless_notes.k{} = {value}", part + 1)
            })
            .collect();
        parts.join(" AND ")
    }

    /// Notes the rows for which `condition` is true; `own` says whether they have the key of the
    /// row that is coming, whose key is `by`.
    pub(super) fn take_note(&self, own: u8, by: &str, condition: &str) -> String {
        let this = ident(&self.table.name);
        let columns: Vec<_> =
            (1..=self.table.key.len()).map(|number| format!("k{number}")).collect();
        let values: Vec<_> = self
            .table
            .key_columns()
            .enumerate()
            .map(|(part, column)| folded(self.table, part, &of(&this, &column.name)))
            .collect();
        let has_key = match self.has_key(&this) {
            has_key if has_key.is_empty() => has_key,
            has_key => format!(" AND {has_key}"),
        };
        format!(
            "INSERT INTO driftless_notes (tbl, own, by, pk, img, {}) \
             SELECT {}, {own}, {by}, {}, {}, {} FROM {this} WHERE {condition}{has_key};",
            columns.join(", "),
            self.name(),
            self.key(&this),
            row_json(self.table, &this),
            values.join(", "),
        )
    }

    pub(super) fn forget_by(&self, by: &str) -> String {
        format!(
            "DELETE FROM driftless_notes WHERE tbl = {} AND own = 0 AND by = {by};",
            self.name()
        )
    }

    /// Takes away the notes of the row `alias`.
    pub(super) fn forget(&self, alias: &str) -> String {
        let is_noted = self.is_noted(alias).replace("driftless_notes.k", "k");
        format!(
            "DELETE FROM driftless_notes WHERE tbl = {} AND own IN (0, 1) AND {is_noted};",
            self.name()
        )
    }

    pub(super) fn note_insert(&self) -> Trigger {
        let this = ident(&self.table.name);
        let obstacles = self.obstacles();
        let when: Vec<_> = obstacles
            .iter()
            .map(|obstacle| format!("EXISTS (SELECT 1 FROM {this} WHERE {obstacle})"))
            .collect();
        let (same, others) = obstacles.split_first().expect("the key is one");
        let by = self.key("new");
        let mut body = vec![self.forget("new"), self.take_note(1, &by, same)];
        if !others.is_empty() {
            body.push(self.forget_by(&by));
            let any: Vec<_> = others.iter().map(|other| format!("({other})")).collect();
            let another = format!("({}) AND ({same}) IS NOT 1", any.join(" OR "));
            body.push(self.take_note(0, &by, &another));
        }
        self.trigger("note_insert", "BEFORE INSERT", &when.join("\n  OR "), &body)
    }

    /// The columns that an UPDATE must name to be able to run into another row; `None` when that
    /// cannot be told: the condition or the expression of an index may look at any column, and
    /// `SET rowid = …` changes an INTEGER PRIMARY KEY without naming it.
    pub(super) fn update_of(&self) -> Option<Vec<String>> {
        if self.table.rowid_key {
            return None;
        }
        let mut columns: Vec<_> =
            self.table.key_columns().map(|column| column.name.clone()).collect();
        for unique in &self.table.uniques {
            columns.extend(plain_columns(unique, self.table)?);
        }
        columns.dedup();
        Some(columns)
    }

    pub(super) fn note_update(&self) -> Trigger {
        let table = self.table;
        let this = ident(&table.name);
        // Another row than the one that is updated.
        let other = format!(" AND ({}) IS NOT 1", same_key(table, &this, "old"));
        let (mut when, mut any) = (Vec::new(), Vec::new());
        for (index, obstacle) in self.obstacles().iter().enumerate() {
            let touched = match index.checked_sub(1).map(|index| &table.uniques[index]) {
                None => Some(table.key_columns().map(|column| column.name.clone()).collect()),
                Some(unique) => plain_columns(unique, table),
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
            any.push(format!("({obstacle})"));
        }
        let by = self.key("old");
        let body = [
            self.forget_by(&by),
            self.take_note(0, &by, &format!("({}){other}", any.join(" OR "))),
        ];
        let event = update_event("BEFORE UPDATE", self.update_of());
        self.trigger("note_update", &event, &when.join("\n  OR "), &body)
    }

    /// Appends a delete for each note of `whose` whose row is gone, and takes every note of that
    /// row away: others may stand there, left by statements that were refused.
    pub(super) fn evict(&self, whose: &str, or_else: &str) -> Vec<String> {
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
            "driftless_notes.tbl = {} AND driftless_notes.own = 0{whose} AND (NOT EXISTS (SELECT 1 FROM {this} AS driftless_row WHERE {}){or_else})",
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
                changes: None,
                from: " CROSS JOIN driftless_notes",
                condition: &gone,
                pair: "NULL",
                via: "NULL",
                silent: None,
            },
        );
        let forget = format!(
            "DELETE FROM driftless_notes WHERE tbl = {} AND own IN (0, 1) AND pk IN \
             (SELECT driftless_notes.pk FROM driftless_notes WHERE {gone});",
            self.name()
        );
        vec![append, forget]
    }

    pub(super) fn others_noted(&self) -> String {
        format!(
            "EXISTS (SELECT 1 FROM driftless_notes WHERE driftless_notes.tbl = {} AND driftless_notes.own = 0)",
            self.name()
        )
    }

    pub(super) fn evict_insert(&self) -> Trigger {
        let key = self.key("new");
        // A rowid that SQLite is yet to choose is -1 in a BEFORE trigger.
        let by = if self.table.rowid_key {
            format!(" AND driftless_notes.by IN ({key}, '[-1]')")
        } else if self.table.key_columns().any(has_replacement) {
            // The BEFORE trigger saw NULL, and not the default.
            NEWEST.to_owned()
        } else {
            format!(" AND driftless_notes.by = {key}")
        };
        self.trigger("evict_insert", "AFTER INSERT", &self.others_noted(), &self.evict(&by, ""))
    }

    pub(super) fn evict_update(&self) -> Trigger {
        // A row with NULL in its key, which has no events of its own, may evict another.
        let same = same_key(self.table, "new", "old");
        let when = format!("{} AND ({same}) IS NOT 0", self.others_noted());
        let body = self.evict(&format!(" AND driftless_notes.by = {}", self.key("old")), "");
        let event = update_event("AFTER UPDATE", self.update_of());
        self.trigger("evict_update", &event, &when, &body)
    }

    pub(super) fn evict_delete(&self) -> Trigger {
        self.trigger("evict_delete", "AFTER DELETE", &self.others_noted(), &self.evict(NEWEST, ""))
    }

    /// The newest of all: a row's own delete is logged by its own trigger.
    pub(super) fn forget_deleted(&self) -> Trigger {
        let when = format!(
            "EXISTS (SELECT 1 FROM driftless_notes WHERE driftless_notes.tbl = {} AND driftless_notes.own IN (0, 1) AND {})",
            self.name(),
            self.is_noted("old")
        );
        self.trigger("forget", "AFTER DELETE", &when, &[self.forget("old")])
    }

    /// An upsert noted its own row, and then turned into an update.
    pub(super) fn forget_updated(&self) -> Trigger {
        let condition = format!("tbl = {} AND own = 1 AND {}", self.name(), self.is_noted("old"));
        let when = format!("EXISTS (SELECT 1 FROM driftless_notes WHERE {condition})");
        let forget = format!(
            "DELETE FROM driftless_notes WHERE {};",
            condition.replace("driftless_notes.k", "k")
        );
        self.trigger("upserted", "AFTER UPDATE", &when, &[forget])
    }
}
