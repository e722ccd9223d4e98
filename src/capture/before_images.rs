//! Before-images of rows that a statement may replace without firing a delete trigger, and
//! the deletes that are appended for them. In ordinary use these triggers rarely run.

use super::triggers::{Capture, Dialect, Generator, THERE, Trigger, update_event};
use crate::catalog::affinity::Affinity;
use crate::catalog::quote::ident;
use crate::catalog::sql::{equals, of, same_key};
use crate::catalog::table::{Column, Table, Term, Unique};

/// The new row as a BEFORE trigger sees it, in one dialect.
pub(super) struct Coming<'a> {
    /// A value of the new row, by its column's name.
    new: &'a dyn Fn(&str) -> String,
    /// `x`, or `other` where `x` is NULL.
    or_else: fn(&str, &str) -> String,
    /// Whether a value is a number.
    is_number: fn(&str) -> String,
}

impl<'a> Coming<'a> {
    /// `new` gives a value of the new row, by its column's name.
    pub(super) fn new(
        new: &'a dyn Fn(&str) -> String,
        or_else: fn(&str, &str) -> String,
        is_number: fn(&str) -> String,
    ) -> Self {
        Coming { new, or_else, is_number }
    }

    /// A column's value in the new row. ON CONFLICT REPLACE puts the default in the place of a
    /// NULL.
    fn value(&self, column: &Column) -> String {
        let new = (self.new)(&column.present);
        match &column.default {
            Some(default) if column.not_null => (self.or_else)(&new, &format!("({default})")),
            _ => new,
        }
    }

    /// The same for an expression, in which the default needs its column's affinity: `1` in a REAL
    /// column is `1.0`. A comparison with the column itself would convert it.
    fn converted(&self, column: &Column) -> String {
        if !has_replacement(column) {
            return self.value(column);
        }
        let new = (self.new)(&column.present);
        let default = column.default.as_deref().unwrap_or("NULL");
        let cast = |kind: &str| format!("CAST(({default}) AS {kind})");
        let (integer, real, text) = (cast("INTEGER"), cast("REAL"), cast("TEXT"));
        // Text that looks like a number is compared as a number. Other text does not equal its
        // cast.
        let cases = match column.affinity {
            Affinity::Blob => return self.value(column),
            Affinity::Text => {
                format!("WHEN {} THEN {text}", (self.is_number)(&format!("({default})")))
            }
            Affinity::Real => format!("WHEN ({default}) = {real} THEN {real}"),
            Affinity::Integer | Affinity::Numeric => format!(
                "WHEN ({default}) = {integer} THEN {integer} WHEN ({default}) = {real} THEN {real}"
            ),
        };
        (self.or_else)(&new, &format!("CASE {cases} ELSE ({default}) END"))
    }

    /// The new row as a row of a subquery, for expressions of an index with plain column names.
    fn row(&self, table: &Table, unique: &Unique) -> String {
        let mut columns: Vec<_> = table
            .columns
            .iter()
            .filter(|column| unique.mentions(&column.present) || unique.mentions(&column.name))
            .map(|column| format!("{} AS {}", self.converted(column), ident(&column.present)))
            .collect();
        let made = table.generated.iter().filter(|name| unique.mentions(name));
        columns.extend(made.map(|name| format!("{} AS {}", (self.new)(name), ident(name))));
        format!("SELECT {}", columns.join(", "))
    }
}

/// Conditions, one for each way in which the new row may replace the row `this` of the table. The
/// condition of the key is the first.
pub(super) fn obstacles(table: &Table, this: &str, coming: &Coming<'_>) -> Vec<String> {
    let key: Vec<_> = table
        .key_columns()
        .zip(&table.key_collations)
        .map(|(column, collation)| equals(column, this, &coming.value(column), collation))
        .collect();
    let mut obstacles = vec![key.join(" AND ")];
    for unique in &table.uniques {
        let mut parts: Vec<_> = unique
            .terms
            .iter()
            .map(|term| match term {
                Term::Column(name, collation) => match table.column(name) {
                    Some(column) => equals(column, this, &coming.value(column), collation),
                    None => format!(
                        "{this}.{} = {} COLLATE {}",
                        ident(name),
                        (coming.new)(name),
                        collation.name()
                    ),
                },
                Term::Expression(text) => {
                    format!(
                        "({text}) = (SELECT {text} FROM ({}) AS coming)",
                        coming.row(table, unique)
                    )
                }
            })
            .collect();
        // SQLite uses a partial index only if its condition is there too. Otherwise it scans the
        // table.
        parts.extend(unique.predicate.as_ref().map(|predicate| format!("({predicate})")));
        obstacles.push(parts.join(" AND "));
    }
    obstacles
}

impl<S: Dialect> Generator<'_, S> {
    /// Conditions, one for each way in which `new` may replace a row of the table.
    fn obstacles(&self) -> Vec<String> {
        self.with_coming(|coming| obstacles(self.table(), THERE, coming))
    }

    fn with_coming<T>(&self, make: impl FnOnce(&Coming<'_>) -> T) -> T {
        let new = |name: &str| of("new", name);
        make(&Coming::new(&new, S::or_else, S::is_number))
    }

    /// SQL condition: the before-image is of the row `alias`.
    pub(super) fn is_noted(&self, alias: &str) -> String {
        self.has_before_image_key(&format!("{}.", self.before_images()), &|column| {
            of(alias, &column.present)
        })
    }

    /// SQL condition: the before-image is of the row whose key has these values.
    pub(super) fn has_before_image_key(
        &self,
        note: &str,
        value: &dyn Fn(&Column) -> String,
    ) -> String {
        self.dialect().before_image_key(self.table(), note, value)
    }

    /// Appends before-images of the rows for which `condition` is true. `own` says whether they
    /// have the key of the new row. `by` is the new row's key.
    pub(super) fn save_before_image(&self, own: &str, by: &str, condition: &str) -> String {
        let this = THERE;
        let (columns, values) = self.dialect().before_image(self.table(), this);
        let has_key = match self.has_key(this) {
            has_key if has_key.is_empty() => has_key,
            has_key => format!(" AND {has_key}"),
        };
        format!(
            "INSERT INTO {} (tbl, own, by, {}) \
             SELECT {}, {own}, {by}, {} FROM {from} WHERE {condition}{has_key};",
            self.before_images(),
            columns.join(", "),
            self.name(),
            values.join(", "),
            from = self.dialect().before_image_from(self.table(), this),
        )
    }

    pub(super) fn forget_by(&self, by: &str) -> String {
        format!(
            "DELETE FROM {} WHERE tbl = {} AND own = 0 AND by IS {by};",
            self.before_images(),
            self.name()
        )
    }

    /// Removes the before-images of the row `alias`.
    pub(super) fn forget(&self, alias: &str) -> String {
        self.forget_where(&self.has_before_image_key("", &|column| of(alias, &column.present)))
    }

    pub(super) fn forget_where(&self, is_noted: &str) -> String {
        format!("DELETE FROM {} WHERE tbl = {} AND {is_noted};", self.before_images(), self.name())
    }

    pub(super) fn save_on_insert(&self) -> Trigger {
        let (this, before_images) = (ident(&self.table().name), self.before_images());
        let obstacles = self.obstacles();
        let mut when: Vec<_> = obstacles
            .iter()
            .map(|obstacle| format!("EXISTS (SELECT 1 FROM {this} AS {THERE} WHERE {obstacle})"))
            .collect();
        // Remove an old before-image of a row that is gone. If a trigger that is newer than ours
        // inserts the row again, the before-image would turn this insert into an update.
        when.push(format!(
            "EXISTS (SELECT 1 FROM {before_images} WHERE {before_images}.tbl = {} AND {})",
            self.name(),
            self.has_before_image_key(&format!("{before_images}."), &|column| self
                .coming_converted(column))
        ));
        let (same, others) = obstacles.split_first().expect("the key is one");
        let by = self.dialect().maker(self.table(), "new");
        let old_notes = self
            .forget_where(&self.has_before_image_key("", &|column| self.coming_converted(column)));
        let mut body = vec![old_notes];
        let own = if others.is_empty() {
            "1".to_owned()
        } else {
            body.push(self.forget_by(&by));
            format!("({same}) IS 1")
        };
        let conditions = each_once(&obstacles).into_iter();
        body.extend(conditions.map(|row| self.save_before_image(&own, &by, &row)));
        if !others.is_empty() {
            body.extend(self.mark_evicted(&by));
        }
        self.trigger("note_insert", "BEFORE INSERT", &when.join("\n  OR "), &body)
    }

    /// The columns of which an UPDATE must name at least one to replace another row; `None` if that
    /// is not known. The condition or an expression of an index may use any column, and `SET rowid
    /// = …` changes an INTEGER PRIMARY KEY without naming it.
    pub(super) fn update_of(&self) -> Option<Vec<String>> {
        if self.table().rowid_key {
            return None;
        }
        let mut columns: Vec<_> =
            self.table().key_columns().map(|column| column.present.clone()).collect();
        for unique in &self.table().uniques {
            columns.extend(
                unique.plain_columns(self.table())?.into_iter().map(|(c, _)| c.present.clone()),
            );
        }
        columns.dedup();
        Some(columns)
    }

    pub(super) fn save_on_update(&self) -> Trigger {
        let table = self.table();
        let this = ident(&table.name);
        // The updated row itself does not count.
        let other = format!(" AND ({}) IS NOT 1", same_key(table, THERE, "old"));
        let (mut when, mut any) = (Vec::new(), Vec::new());
        for (index, obstacle) in self.obstacles().iter().enumerate() {
            // Compare with the index's own collation. By the column's collation the values may be
            // equal.
            let touched: Option<Vec<_>> = match index.checked_sub(1).map(|i| &table.uniques[i]) {
                None => {
                    let columns = table.key_columns();
                    Some(columns.zip(&table.key_collations).collect())
                }
                Some(unique) => unique.plain_columns(table),
            };
            let touched = match touched {
                Some(columns) => {
                    let parts: Vec<_> = columns
                        .iter()
                        .map(|(column, collation)| {
                            format!(
                                "new.{0} IS NOT old.{0} COLLATE {1}",
                                ident(&column.present),
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
        // A row that leaves its key needs no before-image. The AFTER trigger would remove the
        // before-image too late if a TEMP trigger deletes another row first.
        let moves = self.moves();
        let noted = self.has_before_image_key("", &|column| of("old", &column.present));
        when.push(format!(
            "(({moves}) AND EXISTS (SELECT 1 FROM {before_images} WHERE tbl = {} AND {noted}))",
            self.name(),
            before_images = self.before_images(),
        ));
        let by = self.dialect().maker(table, "old");
        let forget_moved = self.forget_where(&format!("{noted} AND ({moves})"));
        let mut body = vec![forget_moved, self.forget_by(&by)];
        let conditions = each_once(&any).into_iter();
        body.extend(
            conditions.map(|row| self.save_before_image("0", &by, &format!("{row}{other}"))),
        );
        body.extend(self.mark_evicted(&by));
        let event = update_event("BEFORE UPDATE", self.update_of());
        self.trigger("note_update", &event, &when.join("\n  OR "), &body)
    }

    /// Appends a delete for each before-image that `whose` selects and whose row is gone, and
    /// removes every before-image of that row. Other statements, which were refused, may have left
    /// before-images of it too.
    pub(super) fn evict(&self, whose: &str, or_else: &str) -> Vec<String> {
        let (this, before_images) = (ident(&self.table().name), self.before_images());
        let same: Vec<_> = self
            .table()
            .key_columns()
            .zip(&self.table().key_collations)
            .enumerate()
            .map(|(part, (column, collation))| {
                format!(
                    "driftless_row.{} = {before_images}.{} COLLATE {}",
                    ident(&column.present),
                    self.dialect().before_image_part(self.table(), part),
                    collation.name()
                )
            })
            .collect();
        // A saved row was evicted if no row has its key now.
        let gone = format!(
            "{before_images}.tbl = {} AND {before_images}.own = 0{whose} AND (NOT EXISTS (SELECT 1 FROM {this} AS driftless_row WHERE {}){or_else})",
            self.name(),
            same.join(" AND ")
        );
        let append = self.dialect().append(
            self.table(),
            &Capture::eviction(&format!(" CROSS JOIN {before_images}"), &gone),
        );
        // Several statements may have saved one row. Remove all its before-images, or the next
        // write would append its delete again.
        let forget = format!(
            "DELETE FROM {before_images} WHERE rowid IN (SELECT driftless_other.rowid \
             FROM {before_images} JOIN {before_images} AS driftless_other \
             ON driftless_other.tbl = {before_images}.tbl AND {} WHERE {gone});",
            self.dialect().one_row(self.table())
        );
        vec![append, forget]
    }

    pub(super) fn others_noted(&self) -> String {
        format!(
            "EXISTS (SELECT 1 FROM {before_images} WHERE {before_images}.tbl = {} AND {before_images}.own = 0)",
            self.name(),
            before_images = self.before_images()
        )
    }

    pub(super) fn evict_insert(&self) -> Trigger {
        // In a BEFORE trigger the new row's rowid is -1 if SQLite has not chosen it yet.
        let by = if self.table().rowid_key {
            let maker = self.dialect().maker(self.table(), "new");
            format!(
                " AND {}.by IN ({maker}, {})",
                self.before_images(),
                self.dialect().unknown_rowid()
            )
        } else if self.table().key_columns().any(has_replacement) {
            // The BEFORE trigger saw NULL and not the default, so the row cannot be found by its
            // key.
            self.newest()
        } else {
            self.made_by("new")
        };
        let mut body = self.evict(&by, "");
        body.extend(self.unmark_evicted());
        self.trigger("evict_insert", "AFTER INSERT", &self.others_noted(), &body)
    }

    pub(super) fn evict_update(&self) -> Trigger {
        // A row with NULL in its key has no events of its own, but it may replace another row.
        let same = same_key(self.table(), "new", "old");
        let when = format!("{} AND ({same}) IS NOT 0", self.others_noted());
        let mut body = self.evict(&self.made_by("old"), "");
        body.extend(self.unmark_evicted());
        let event = update_event("AFTER UPDATE", self.update_of());
        self.trigger("evict_update", &event, &when, &body)
    }

    /// The newest of all triggers. It removes the before-images of the deleted row first, because
    /// another trigger logs that delete. Usually there are no before-images, and this check is
    /// cheaper than a search for the relevant ones. The marks of evicted rows stay, because the row
    /// may be a consequence of theirs.
    pub(super) fn evict_delete(&self) -> Trigger {
        let when = format!("EXISTS (SELECT 1 FROM {})", self.before_images());
        let mut body = vec![self.forget("old")];
        body.extend(self.evict(&self.newest(), ""));
        self.trigger("evict_delete", "AFTER DELETE", &when, &body)
    }

    /// Removes the before-images of a row before it is deleted. AFTER DELETE is too late if a
    /// foreign key deletes other rows of the same table first: their triggers would find the old
    /// before-image of a row that is gone, and log that row as evicted.
    pub(super) fn forget_deleted(&self) -> Trigger {
        let when = format!("EXISTS (SELECT 1 FROM {})", self.before_images());
        self.trigger("forget", "BEFORE DELETE", &when, &[self.forget("old")])
    }

    /// A column's value in the new row, as an expression of an index sees it.
    fn coming_converted(&self, column: &Column) -> String {
        self.with_coming(|coming| coming.converted(column))
    }
}

/// Conditions for the rows that match any of `obstacles`: for each such row exactly one of them is
/// true, so it gets one before-image. An obstacle that names a collation is a condition of its own,
/// because SQLite 3.54 reads the whole table for an OR of such conditions (see [`equals`]).
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

/// Whether ON CONFLICT REPLACE replaces a NULL with the default.
fn has_replacement(column: &Column) -> bool {
    column.not_null && column.default.is_some()
}
