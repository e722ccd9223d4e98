//! The capture triggers of a replica: they append to the outbox.
//!
//! Values go into the outbox unchanged, each in a column of its own; [`Layout`] has the places.
//! This is exact for every value. It costs a fraction of making JSON, both when a row is written
//! and when an application prepares a statement, into which SQLite compiles the triggers. The key
//! is among the values. The store spells it when it reads the outbox.
//!
//! # Functions
//!
//! The triggers run in the application's connection. An application can replace every function of
//! SQLite with `sqlite3_create_function`, also `coalesce` and `typeof`. With `trusted_schema =
//! OFF`, SQLite up to 3.40 refuses the JSON functions in a trigger. So the triggers use operators
//! (`CASE`, `CAST`, `||`, `IS`, `EXISTS`), which cannot be replaced, and two functions for which
//! SQL has no operator:
//!
//! * `julianday()`, for the time in an event's id. If the result does not fit in 48 bits of
//!   milliseconds, `driftless_state.clock` is used.
//! * `random()`, for the low bits of the id. If it is not random, the row's number still makes the
//!   id unique in this file. NULL is read as 0.
//!
//! Neither result decides whether a change is captured, nor its row. The default of a column and
//! the terms of a UNIQUE index may call functions, too. These are the application's own text, and
//! have the meaning that they have in its connection.
//!
//! Collations can be replaced too. A trigger uses a key's collation as the table declares it. If
//! the application replaces NOCASE, its own index and the trigger both use the replacement.

use super::layout::{ABSENT, BEFORE_IMAGES, Layout, foreign_keys, generated_references};
use super::positions::{columns_at_places, names};
use super::triggers::{Capture, Dialect, Generator, Named, Picture, Trigger};
use crate::catalog::affinity::Affinity;
use crate::catalog::limits::PREFIX;
use crate::catalog::quote::ident;
use crate::catalog::sql::{any_of, is_lowest, of, unlike};
use crate::catalog::table::{Collation, Column, ForeignKey, Table, Term, Unique, mentions};
use crate::event::EventId;

/// Milliseconds since 1970, in the SQL of SQLite 3.35. 1970 began at the Julian day 2440587.5; half
/// a millisecond is added for rounding.
pub(super) const NOW_MS: &str = "CAST(julianday() * 86400000.0 - 210866759999999.5 AS INTEGER)";

/// The table with a column for every name that a column has.
pub(super) const NAMES: &str = "driftless_names";

/// The latest time that an id can have: 48 bits of milliseconds.
const MAX_MS: i64 = (1 << 48) - 1;

struct Replica<'a> {
    /// All replicated tables.
    replicated: &'a [&'a Table],
    /// The columns of `driftless_names`.
    names: Vec<String>,
}

/// The subquery with the values of columns that the application may drop.
const ROW: &str = "driftless_values";

impl Dialect for Replica<'_> {
    /// One read of the state row gives the replay flag, the base and the actor. The parts of the id
    /// are stored, and not its text: making a ULID's text in SQL would double the cost of a
    /// captured insert. Reading the newest row's time would do the same, because SQLite copies the
    /// rows of a SELECT from the table that it inserts into. Instead the store raises `clock` when
    /// the machine's clock went back.
    fn append(&self, table: &Table, capture: &Capture<'_>) -> String {
        let mask = EventId::TAIL_MASK;
        let (mut columns, mut values) = (Vec::new(), Vec::new());
        let mut put = |column: &str, value: String| {
            columns.push(column.to_owned());
            values.push(value);
        };
        put(
            "ms",
            format!(
                "CASE WHEN {NOW_MS} BETWEEN s.clock AND {MAX_MS} THEN {NOW_MS} ELSE s.clock END"
            ),
        );
        put("tail", format!("random() & {mask}"));
        put("layout", Layout::of(table, self.replicated).id().to_string());
        let op = match capture.is_insert() {
            // An insert has replaced its row if there is a before-image of it.
            true => format!("{}.own IS NOT NULL", self.before_images(table)),
            false => (capture.op() as u8).to_string(),
        };
        put("op", op);
        put("base", "s.cursor".to_owned());
        put("actor", "s.actor".to_owned());
        for (column, value) in [("pair", capture.pair()), ("via", capture.via())] {
            if value != "NULL" {
                put(column, value.to_owned());
            }
        }
        for (column, value) in self.images(table, capture) {
            put(&column, value);
        }
        let aliases: Vec<_> = ["old", "new"].into_iter().filter(|it| capture.names(it)).collect();
        let from = match self.droppable_values(table, &aliases) {
            Some(values) => format!("{values} CROSS JOIN driftless_state AS s"),
            None => "driftless_state AS s".to_owned(),
        };
        let condition = match capture.condition() {
            "" => String::new(),
            condition => format!(" AND {condition}"),
        };
        format!(
            "INSERT INTO driftless_outbox ({}) SELECT {} \
             FROM {from}{} WHERE NOT s.replaying{condition};",
            columns.join(", "),
            values.join(", "),
            capture.from(),
        )
    }

    fn before_images(&self, table: &Table) -> &'static str {
        BEFORE_IMAGES[NoteCollation::of(table) as usize]
    }

    fn before_image(&self, table: &Table, alias: &str) -> (Vec<String>, Vec<String>) {
        let key = identity(table, &|column| of(alias, &column.present));
        let (mut columns, mut values) = (vec!["k".to_owned()], vec![key]);
        for (at, column) in self.captured(table).iter().enumerate() {
            columns.push(Layout::before_image_column(at));
            // The column is the table's, and otherwise that of `driftless_names`.
            values.push(match self.is_droppable(table, column) {
                true => ident(&column.present),
                false => of(alias, &column.present),
            });
        }
        (columns, values)
    }

    fn before_image_from(&self, table: &Table, alias: &str) -> String {
        let from = format!("{} AS {alias}", ident(&table.name));
        match self.has_droppable(table) {
            true => format!("{from} NATURAL LEFT JOIN {NAMES}"),
            false => from,
        }
    }

    fn value(&self, table: &Table, alias: &str, column: &Column) -> String {
        match self.is_droppable(table, column) {
            true => format!("{ROW}.{}", droppable_value(table, alias, column)),
            false => of(alias, &column.present),
        }
    }

    fn has_droppable(&self, table: &Table) -> bool {
        table.columns.iter().any(|column| self.is_droppable(table, column))
    }

    fn before_image_key(
        &self,
        table: &Table,
        prefix: &str,
        value: &dyn Fn(&Column) -> String,
    ) -> String {
        let mut conditions = vec![format!("{prefix}k = {}", identity(table, value))];
        if table.key.len() > 1 {
            conditions.extend(table.key_columns().enumerate().map(|(part, column)| {
                format!(
                    "{prefix}{} = +{} COLLATE {}",
                    self.before_image_part(table, part),
                    value(column),
                    table.key_collations[part].name()
                )
            }));
        }
        conditions.join(" AND ")
    }

    fn before_image_part(&self, table: &Table, part: usize) -> String {
        Layout::before_image_column(table.key[part])
    }

    /// Unlike the key in a before-image, this key must distinguish NULL, and text with other
    /// spaces. It is compared only within one statement, which has one spelling of it, and a row
    /// without a key may evict another.
    fn maker(&self, table: &Table, alias: &str) -> String {
        if table.key.len() == 1 {
            return identity(table, &|column| of(alias, &column.present));
        }
        let part = |column: &Column| {
            let x = of(alias, &column.present);
            format!("CASE WHEN {x} IS NULL THEN '' ELSE '=' || {x} END")
        };
        let parts: Vec<_> = table.key_columns().map(part).collect();
        format!("({})", parts.join(" || '|' || "))
    }

    fn unknown_rowid(&self) -> &'static str {
        "-1"
    }

    fn is_news(&self, table: &Table) -> String {
        let before_images = self.before_images(table);
        let differ: Vec<_> = table
            .columns
            .iter()
            .enumerate()
            .map(|(at, column)| {
                let noted = format!("{before_images}.{}", Layout::before_image_column(at));
                self.differs(column, &self.value(table, "new", column), &noted)
            })
            .collect();
        format!("({before_images}.own IS NULL OR {})", any_of(&differ))
    }

    fn one_row(&self, table: &Table) -> String {
        let before_images = self.before_images(table);
        let mut conditions = vec![format!("driftless_other.k = {before_images}.k")];
        if table.key.len() > 1 {
            conditions.extend((0..table.key.len()).map(|part| {
                let noted = self.before_image_part(table, part);
                let collation = table.key_collations[part].name();
                format!("driftless_other.{noted} = {before_images}.{noted} COLLATE {collation}")
            }));
        }
        conditions.join(" AND ")
    }

    fn newest(&self, before_images: &str, condition: &str) -> String {
        format!(
            "(SELECT driftless_other.rowid FROM {before_images} AS driftless_other WHERE {condition} \
             ORDER BY driftless_other.rowid DESC LIMIT 1)"
        )
    }

    fn differs(&self, column: &Column, a: &str, b: &str) -> String {
        let plain = unlike(column, a, b);
        let kinds = format!("{} <> {}", kind(a), kind(b));
        match column.affinity {
            // 1 and 1.0 are equal. A column has both only if it does not convert them.
            Affinity::Blob => format!("({plain} OR {kinds})"),
            Affinity::Integer | Affinity::Numeric => {
                format!("({plain} OR {} AND {kinds})", is_lowest(a))
            }
            Affinity::Text | Affinity::Real => plain,
        }
    }

    fn or_else(x: &str, other: &str) -> String {
        format!("CASE WHEN {x} IS NULL THEN {other} ELSE {x} END")
    }

    fn is_number(x: &str) -> String {
        format!("{x} < ''")
    }
}

/// Distinguishes the integer 1 from 1.0, which are equal: it gives 0 for an integer and 0.5 for a
/// REAL.
fn kind(x: &str) -> String {
    format!("(0 * {x} + 1) / 2")
}

/// How two spellings of one key may differ. This decides which table has the before-images.
#[derive(Clone, Copy)]
enum NoteCollation {
    Binary,
    NoCase,
    RTrim,
}

impl NoteCollation {
    fn of(table: &Table) -> NoteCollation {
        match table.key_collations.as_slice() {
            [Collation::RTrim] => NoteCollation::RTrim,
            collations if collations.contains(&Collation::NoCase) => NoteCollation::NoCase,
            _ => NoteCollation::Binary,
        }
    }
}

/// The value by which a before-image is found: the key's value, or one text of all values if the
/// key has several columns. Equal keys have equal texts. Different keys may have equal texts too.
///
/// Spaces at the end of a part would be inside the text, so an RTRIM part is left out.
fn identity(table: &Table, value: &dyn Fn(&Column) -> String) -> String {
    let mut parts = table.key_columns();
    if let (Some(column), None) = (parts.next(), parts.next()) {
        // The sign removes the column's affinity. With the affinity, SQLite would not use the
        // before-images' index.
        return format!("+{}", value(column));
    }
    let spelled = |(column, collation): (&Column, &Collation)| {
        let x = value(column);
        match (column.affinity, collation) {
            (_, Collation::RTrim) => None,
            (Affinity::Text, _) => Some(x),
            // 1 and 1.0 are one key.
            _ => Some(format!("CASE WHEN {x} < '' THEN CAST({x} AS INTEGER) ELSE {x} END")),
        }
    };
    let parts: Vec<_> =
        table.key_columns().zip(&table.key_collations).filter_map(spelled).collect();
    if parts.is_empty() { "''".to_owned() } else { format!("({})", parts.join(" || '|' || ")) }
}

impl Replica<'_> {
    /// The columns whose values an event has, in order: those of the table, and then the generated
    /// ones that foreign keys lead from or to.
    fn captured(&self, table: &Table) -> Vec<Column> {
        let made = generated_references(table, self.replicated).into_iter().map(|name| Column {
            present: name.clone(),
            name,
            declared: String::new(),
            affinity: Affinity::Blob,
            collation: Collation::Other(String::new()),
            not_null: false,
            default: None,
        });
        table.columns.iter().cloned().chain(made).collect()
    }

    /// Whether the application may drop a column: SQLite refuses it for a column of a key, of an
    /// index or of a foreign key.
    fn is_droppable(&self, table: &Table, column: &Column) -> bool {
        let Some(at) = table.columns.iter().position(|it| it.present == column.present) else {
            return false;
        };
        // A join by name compares the columns, and so needs their collations.
        let is_foreign = |it: &Column| matches!(it.collation, Collation::Other(_));
        if table.columns.iter().any(is_foreign) {
            return false;
        }
        let is = |name: &String| name.eq_ignore_ascii_case(&column.present);
        let is_child = |name: &String| name.eq_ignore_ascii_case(&column.name);
        let mut children = table.foreign_keys.iter().flat_map(|key| &key.columns);
        self.names.iter().any(is)
            && !table.is_key(at)
            && !table.uniques.iter().any(|unique| is_of(unique, column))
            && !children.any(|(child, _)| is_child(child))
    }

    /// The subquery with the columns of the rows `aliases` that may be dropped. A scalar subquery
    /// names the trigger's row, and once the column is dropped `driftless_names` under the same
    /// alias, with a value that no application writes. The LIMIT has SQLite evaluate each once.
    fn droppable_values(&self, table: &Table, aliases: &[&str]) -> Option<String> {
        let columns: Vec<_> =
            table.columns.iter().filter(|column| self.is_droppable(table, column)).collect();
        if columns.is_empty() || aliases.is_empty() {
            return None;
        }
        let values = aliases.iter().flat_map(|alias| {
            columns.iter().map(move |column| {
                let place = droppable_value(table, alias, column);
                format!("(SELECT {}) AS {place}", of(alias, &column.present))
            })
        });
        let values: Vec<_> = values.collect();
        let from: Vec<_> = aliases.iter().map(|alias| format!("{NAMES} AS {alias}")).collect();
        Some(format!("(SELECT {} FROM {} LIMIT 1) AS {ROW}", values.join(", "), from.join(", ")))
    }

    /// The columns for the images of an event, each with its value.
    fn images(&self, table: &Table, capture: &Capture<'_>) -> Vec<(String, String)> {
        let columns = self.captured(table);
        let changed: Vec<_> = columns
            .iter()
            .map(|c| may_differ(c, &self.value(table, "new", c), &self.value(table, "old", c)))
            .collect();
        let mut places = Vec::new();
        for (picture, place) in [
            (capture.before(), Layout::before as fn(usize) -> String),
            (capture.after(), Layout::after),
        ] {
            for (at, column) in columns.iter().enumerate() {
                let value = match picture {
                    Picture::None => continue,
                    Picture::Whole(Named::Row(alias)) => self.value(table, alias, column),
                    Picture::Whole(Named::BeforeImage) => {
                        format!("{}.{}", self.before_images(table), Layout::before_image_column(at))
                    }
                    // The old key identifies the event's row.
                    Picture::Changed("old") if table.key.contains(&at) => {
                        of("old", &column.present)
                    }
                    Picture::Changed(alias) => {
                        let together = self.together(table, &columns, at);
                        let any: Vec<_> = together.into_iter().map(|at| &*changed[at]).collect();
                        format!(
                            "CASE WHEN {} THEN {} END",
                            any.join(" OR "),
                            self.value(table, alias, column)
                        )
                    }
                };
                places.push((place(at), value));
            }
        }
        // An event without old values needs the ones that name its parent.
        if capture.before() == Picture::None && capture.via() != "NULL" {
            for (at, column) in columns.iter().enumerate() {
                if foreign_keys(table, self.replicated).any(|(key, _)| leads_from(key, column)) {
                    places.push((Layout::before(at), of("old", &column.present)));
                }
            }
        }
        places
    }

    /// The columns that an update writes together with the one at `at`: the columns of its foreign
    /// keys, so that the parent can be named if only one of them changes.
    fn together(&self, table: &Table, columns: &[Column], at: usize) -> Vec<usize> {
        let mut together = vec![at];
        for (key, _) in foreign_keys(table, self.replicated) {
            if leads_from(key, &columns[at]) {
                together
                    .extend((0..columns.len()).filter(|&other| leads_from(key, &columns[other])));
            }
        }
        together.sort_unstable();
        together.dedup();
        together
    }
}

/// Whether an index uses a column. Its columns have the names that events have for them.
fn is_of(unique: &Unique, column: &Column) -> bool {
    let is_term = |term: &Term| match term {
        Term::Column(name, _) => name.eq_ignore_ascii_case(&column.name),
        Term::Expression(text) => mentions(text, &column.present),
    };
    let predicate = unique.predicate.as_ref();
    unique.terms.iter().any(is_term)
        || predicate.is_some_and(|text| mentions(text, &column.present))
}

/// The name of a column's value in the subquery. The row `driftless_row` has the values of `new`:
/// no action of a foreign key changes such a column.
fn droppable_value(table: &Table, alias: &str, column: &Column) -> String {
    let at = table.columns.iter().position(|it| it.present == column.present);
    let at = at.expect("it is a column of the table") + 1;
    if alias == "old" { format!("o{at}") } else { format!("n{at}") }
}

/// The statements that make `driftless_names` anew: a column for each name that a column of these
/// tables has at present.
pub fn names_table(replicated: &[&Table]) -> Vec<String> {
    let default = ABSENT.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let columns: Vec<_> = names(replicated)
        .iter()
        .map(|name| format!("{} DEFAULT x'{default}'", ident(name)))
        .collect();
    if columns.is_empty() {
        return Vec::new();
    }
    vec![
        format!("DROP TABLE IF EXISTS {NAMES}"),
        format!("CREATE TABLE {NAMES} ({})", columns.join(", ")),
        format!("INSERT INTO {NAMES} DEFAULT VALUES"),
    ]
}

fn leads_from(key: &ForeignKey, column: &Column) -> bool {
    key.columns.iter().any(|(child, _)| child.eq_ignore_ascii_case(&column.name))
}

/// SQL condition: two values of a column differ. It is also true for some equal values; the reader
/// compares again.
fn may_differ(column: &Column, a: &str, b: &str) -> String {
    match column.affinity {
        Affinity::Blob => format!("({} OR {} <> {})", unlike(column, a, b), kind(a), kind(b)),
        Affinity::Integer | Affinity::Numeric => {
            format!("({} OR {})", unlike(column, a, b), is_lowest(a))
        }
        Affinity::Text | Affinity::Real => unlike(column, a, b),
    }
}

/// The capture triggers of `table` on a replica, in the order in which they are created.
/// `replicated` are all replicated tables, with this one.
pub fn triggers(table: &Table, replicated: &[&Table]) -> Vec<Trigger> {
    let names = names(replicated);
    Generator::new(&Replica { replicated, names }, table, replicated).triggers()
}

/// The name of the trigger for the deletes of a table, by which [`present_names`] are known.
pub fn delete_trigger(table: &str) -> String {
    format!("{PREFIX}delete_{table}")
}

/// The names that the columns of a table have now, read from the text of its trigger for deletes,
/// in the order of the layout with which the trigger was made; and that layout's number.
pub fn present_names(sql: &str) -> Option<(i64, Vec<String>)> {
    let places = columns_at_places(sql, "driftless_outbox", "b")?;
    Some((places.value("layout")?.parse().ok()?, places.into_columns()))
}

/// A short text that changes when any of the triggers does.
pub fn fingerprint<'t>(triggers: impl IntoIterator<Item = &'t Trigger>) -> String {
    fingerprint_of(triggers.into_iter().map(|trigger| trigger.sql.as_str()))
}

/// The same, from the texts of the triggers.
pub fn fingerprint_of<'t>(triggers: impl IntoIterator<Item = &'t str>) -> String {
    let mut hasher = blake3::Hasher::new();
    for sql in triggers {
        hasher.update(sql.as_bytes());
        hasher.update(b"\0");
    }
    hasher.finalize().to_hex()[..16].to_owned()
}
