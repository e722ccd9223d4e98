//! A column's value in the JSON of a pushed event, as SQL that also decodes tagged values.

use crate::catalog::quote::literal;
use crate::catalog::table::Column;

/// A column's place in an event's JSON object.
pub(super) struct Cell<'a> {
    json: &'a str,
    column: &'a Column,
    /// Whether a value of the column may have a tag.
    tagged: bool,
}

impl<'a> Cell<'a> {
    /// In the JSON that the SQL expression `json` gives.
    pub(super) fn new(json: &'a str, column: &'a Column, tagged: bool) -> Self {
        Cell { json, column, tagged }
    }

    /// The JSON path, if the name may be part of one.
    fn path(&self) -> Option<String> {
        let name = &self.column.name;
        let fits = !name.chars().any(|c| c == '"' || c == '\\' || c.is_control());
        fits.then(|| literal(&format!("$.\"{name}\"")))
    }

    fn lookup(&self, what: &str) -> String {
        format!(
            "(SELECT {what} FROM json_each({}) WHERE key={})",
            self.json,
            literal(&self.column.name)
        )
    }

    /// The value.
    pub(super) fn value(&self) -> String {
        let (plain, kind) = match self.path() {
            Some(path) => (
                format!("json_extract({},{path})", self.json),
                format!("json_type({},{path})", self.json),
            ),
            None => (self.lookup("value"), self.lookup("type")),
        };
        if self.tagged { decoded(&kind, &plain) } else { plain }
    }
}

/// The value of a key's part, in the JSON array that the SQL expression `json` gives.
pub(in crate::protocol) fn key_part(json: &str, part: usize, tagged: bool) -> String {
    let plain = format!("json_extract({json},'$[{part}]')");
    if tagged { decoded(&format!("json_type({json},'$[{part}]')"), &plain) } else { plain }
}

/// The value `plain`, decoded if its JSON type is an object.
fn decoded(kind: &str, plain: &str) -> String {
    // A subquery with a LIMIT is not merged into the outer one. After a merge, the text would be
    // taken from the JSON again at each use.
    format!(
        "CASE {kind} WHEN 'object' THEN (SELECT {} FROM (SELECT {plain} AS v LIMIT -1) AS driftless_v) \
         ELSE {plain} END",
        decode("driftless_v.v")
    )
}

/// The value of a tagged object, as SQL: `value::read_real`, and decoding of hex.
fn decode(json: &str) -> String {
    let text = format!("substr({json},7,length({json})-8)");
    format!(
        "CASE substr({json},3,1) WHEN 'x' THEN unhex({text}) \
         WHEN 't' THEN CAST(unhex({text}) AS TEXT) \
         ELSE CASE WHEN {text}='inf' THEN 9e999 WHEN {text}='-inf' THEN -9e999 \
         WHEN instr({text},'p') THEN CAST({text} AS INTEGER)/4503599627370496.0*\
         (SELECT p FROM driftless_pow2 WHERE e=52+CAST(substr({text},instr({text},'p')+1) AS INTEGER)) \
         ELSE CAST(CAST({text} AS INTEGER) AS REAL) END END"
    )
}

/// A conjunction in groups. Without groups, the expression of a wide table would be too deep.
pub(super) fn and(parts: &[String]) -> String {
    let groups: Vec<_> =
        parts.chunks(40).map(|group| format!("({})", group.join(" AND "))).collect();
    groups.join(" AND ")
}
