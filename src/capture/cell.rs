//! A column's place in the JSON of an event, in SQL: its value, decoded where it has a tag.

use crate::catalog::quote::literal;
use crate::catalog::table::{Column, Table};

/// A column's place in an event's JSON object.
pub(super) struct Cell<'a> {
    json: &'a str,
    column: &'a Column,
    /// Whether `new.plain` says that no value has a tag.
    knows_plain: bool,
    tagged: bool,
}

impl<'a> Cell<'a> {
    /// In an event of the inbox.
    pub(super) fn pushed(table: &Table, json: &'a str, column: &'a Column) -> Self {
        let tagged = !(table.rowid_key && table.key_columns().any(|key| key == column));
        Cell { json, column, knows_plain: true, tagged }
    }

    /// In the meta row.
    pub(super) fn stored(json: &'a str, column: &'a Column) -> Self {
        Cell { json, column, knows_plain: false, tagged: true }
    }

    /// The JSON path, if the name can stand in one.
    pub(super) fn path(&self) -> Option<String> {
        let name = &self.column.name;
        let fits = !name.chars().any(|c| c == '"' || c == '\\' || c.is_control());
        fits.then(|| literal(&format!("$.\"{name}\"")))
    }

    /// The type of the value there; NULL when the object does not have the column.
    pub(super) fn kind(&self) -> String {
        match self.path() {
            Some(path) => format!("json_type({}, {path})", self.json),
            None => self.lookup("type"),
        }
    }

    pub(super) fn lookup(&self, what: &str) -> String {
        format!(
            "(SELECT {what} FROM json_each({}) WHERE key = {})",
            self.json,
            literal(&self.column.name)
        )
    }

    /// The value.
    pub(super) fn value(&self) -> String {
        let plain = match self.path() {
            Some(path) => format!("json_extract({}, {path})", self.json),
            None => self.lookup("value"),
        };
        if !self.tagged {
            return plain;
        }
        let decoded = format!(
            "CASE {} WHEN 'object' THEN (SELECT driftless_values.v FROM driftless_values WHERE driftless_values.name = {}) \
             ELSE {plain} END",
            self.kind(),
            literal(&self.column.name)
        );
        if self.knows_plain {
            format!("CASE WHEN new.plain THEN {plain} ELSE {decoded} END")
        } else {
            format!("({decoded})")
        }
    }
}

/// The value that a tagged object's text spells, in SQL: `value::read_real` and hex.
pub(super) fn decode(json: &str) -> String {
    let text = format!("substr({json}, 7, length({json}) - 8)");
    format!(
        "CASE substr({json}, 3, 1) WHEN 'x' THEN unhex({text}) \
         WHEN 't' THEN CAST(unhex({text}) AS TEXT) \
         ELSE CASE WHEN {text} = 'inf' THEN 9e999 WHEN {text} = '-inf' THEN -9e999 \
         WHEN instr({text}, 'p') THEN CAST({text} AS INTEGER) / 4503599627370496.0 * \
         (SELECT p FROM driftless_pow2 WHERE e = 52 + CAST(substr({text}, instr({text}, 'p') + 1) AS INTEGER)) \
         ELSE CAST(CAST({text} AS INTEGER) AS REAL) END END"
    )
}

/// A conjunction in groups: a wide table's would be too deep an expression otherwise.
pub(super) fn and(parts: &[String]) -> String {
    let groups: Vec<_> =
        parts.chunks(40).map(|group| format!("({})", group.join(" AND "))).collect();
    groups.join(" AND ")
}
