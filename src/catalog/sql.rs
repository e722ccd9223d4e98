//! Small pieces of SQL text: names, literals, and the exact forms of a value.

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef as SqlRef};

use super::affinity::Affinity;
use super::quote::{ident, literal};
use super::table::{Collation, Column, Table};
use crate::event::value::ValueRef;

impl ToSql for ValueRef<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            ValueRef::Null => SqlRef::Null,
            ValueRef::Integer(integer) => SqlRef::Integer(*integer),
            ValueRef::Real(real) => SqlRef::Real(*real),
            ValueRef::Text(text) => SqlRef::Text(text),
            ValueRef::Blob(blob) => SqlRef::Blob(blob),
        }))
    }
}

/// How many pairs of name and value are passed to one `json_object`. SQLite up to 3.40 (at least)
/// allows 127 arguments for a function, and the Turso engine fewer than SQLite's newest version.
const PAIRS: usize = 60;

/// A double that is integral and below this is spelled in decimal: 2^53.
const EXACT_LIMIT: &str = "9007199254740992.0";

/// -2^63. SQL has no literal for it, so it is an expression.
const MIN: &str = "(-9223372036854775807 - 1)";

/// The JSON spelling of a REAL `x`, which must not be NULL: `value::spell_real` in SQL.
///
/// `driftless_pow2` has every power of two, made by doubling and halving. Dividing by the greatest
/// power that is not above `x` is exact in every version of SQLite.
pub(crate) fn real_json(x: &str) -> String {
    format!(
        "json_object('r', CASE WHEN abs({x}) < {EXACT_LIMIT} AND CAST({x} AS INTEGER) = {x} \
         THEN CAST({x} AS INTEGER) || '.0' WHEN {x} = 9e999 THEN 'inf' WHEN {x} = -9e999 THEN '-inf' \
         ELSE (SELECT CAST({x} / p * 4503599627370496.0 AS INTEGER) || 'p' || (e - 52) \
         FROM driftless_pow2 WHERE p <= abs({x}) ORDER BY p DESC LIMIT 1) END)"
    )
}

/// The SQL that spells a column's value, with the common and the rare values apart.
struct Spelling {
    /// The value `x` as an argument of `json_object` or `json_array`.
    plain: String,
    /// SQL condition: `plain` does not work for the value. `None` if it works for all values.
    rare: Option<String>,
}

/// Most columns are passed unchanged, after a check for rare values. The column's type limits which
/// rare values are possible. `x >= x''` is true of blobs alone, and is much cheaper than `typeof`.
/// Text that JSON cannot carry (an embedded NUL) is written as `\u0000`, which every version writes
/// and our reader understands.
fn spelling(table: &Table, column: &Column, x: &str) -> Spelling {
    let all = |plain: String| Spelling { plain, rare: None };
    let blob = format!("json_object('x', hex({x}))");
    let bare = table.rowid_key && std::ptr::eq(column, &table.columns[table.key[0]]);
    let strict = table.strict.then(|| column.declared.to_ascii_uppercase());
    match (strict.as_deref(), column.affinity) {
        _ if bare => all(x.to_owned()),
        (Some("INT" | "INTEGER" | "TEXT"), _) => all(x.to_owned()),
        (Some("REAL"), _) => {
            all(format!("CASE WHEN {x} IS NULL THEN NULL ELSE {} END", real_json(x)))
        }
        (Some("BLOB"), _) => all(format!("CASE WHEN {x} IS NULL THEN NULL ELSE {blob} END")),
        (None, Affinity::Real) => all(any_json(x)),
        // A TEXT column converts numbers to text, so it has only text, blobs and NULL.
        (None, Affinity::Text) => {
            Spelling { plain: x.to_owned(), rare: Some(format!("{x} >= x''")) }
        }
        // An integral double has become an integer in such a column, except for -2^63.
        (None, Affinity::Integer | Affinity::Numeric) => Spelling {
            plain: x.to_owned(),
            rare: Some(format!("({x} IS NOT CAST({x} AS INTEGER) OR {x} IS {MIN})")),
        },
        (_, _) => Spelling {
            plain: format!("CASE typeof({x}) WHEN 'blob' THEN {blob} ELSE {x} END"),
            rare: Some(format!("typeof({x}) = 'real'")),
        },
    }
}

/// The JSON spelling of a REAL `x` in a key. An integral REAL is the same key as the integer.
fn integral_json(x: &str) -> String {
    let real = real_json(x);
    format!("CASE WHEN CAST({x} AS INTEGER) = {x} THEN CAST({x} AS INTEGER) ELSE {real} END")
}

/// The exact JSON of any value.
pub(crate) fn any_json(x: &str) -> String {
    format!(
        "CASE typeof({x}) WHEN 'real' THEN {} WHEN 'blob' THEN json_object('x', hex({x})) ELSE {x} END",
        real_json(x)
    )
}

/// The canonical form of a key column's value, as an argument of `json_array`. NOCASE text is in
/// lower case, RTRIM text has no trailing spaces, and an integral REAL is an integer where the
/// column has no type. Text with a NUL is in its hex form, because the remote looks rows up by this
/// text.
pub(crate) fn key_value_json(table: &Table, part: usize, x: &str) -> String {
    let column = &table.columns[table.key[part]];
    if table.rowid_key {
        return x.to_owned();
    }
    let folded = match table.key_collations[part] {
        Collation::NoCase => format!("lower({x})"),
        Collation::RTrim => format!("rtrim({x}, ' ')"),
        _ => x.to_owned(),
    };
    let strict = table.strict.then(|| column.declared.to_ascii_uppercase());
    if matches!(strict.as_deref(), Some("INT" | "INTEGER")) {
        return x.to_owned();
    }
    let bytes = match table.key_collations[part] {
        Collation::NoCase => lower_before_nul(x),
        _ => folded.clone(),
    };
    let text = format!(
        "CASE WHEN instr({x}, CAST(x'00' AS TEXT)) THEN json_object('t', hex({bytes})) ELSE {folded} END"
    );
    let blob = format!("json_object('x', hex({x}))");
    if strict.as_deref() == Some("TEXT") {
        return text;
    }
    if column.affinity == Affinity::Text && !table.strict {
        return format!(
            "CASE WHEN {x} >= x'' THEN {blob} WHEN instr({x}, CAST(x'00' AS TEXT)) \
             THEN json_object('t', hex({bytes})) ELSE {folded} END"
        );
    }
    let real = real_json(x);
    let integral = match column.affinity {
        Affinity::Real => real,
        // Columns that convert integral doubles to integers need this too: -2^63 stays a double.
        _ => integral_json(x),
    };
    format!(
        "CASE typeof({x}) WHEN 'text' THEN {text} WHEN 'real' THEN {integral} \
         WHEN 'blob' THEN {blob} ELSE {x} END"
    )
}

/// The part of a canonical key that a before-image stores.
pub(crate) fn folded(table: &Table, part: usize, x: &str) -> String {
    // Only text has case and spaces. `lower(1)` would be text, and 0.1 + 0.2 would lose its last
    // digits.
    match table.key_collations[part] {
        Collation::NoCase => format!(
            "CASE WHEN typeof({x}) <> 'text' THEN {x} WHEN instr({x}, CAST(x'00' AS TEXT)) THEN {} \
             ELSE lower({x}) END",
            lower_before_nul(x)
        ),
        Collation::RTrim => {
            format!("CASE WHEN typeof({x}) = 'text' THEN rtrim({x}, ' ') ELSE {x} END")
        }
        // The sign removes the column's affinity. With the affinity, SQLite would not use an index
        // of the before-images.
        _ => format!("+{x}"),
    }
}

/// The part of text with a NUL that NOCASE compares: the text before the NUL, and the length of the
/// rest.
pub(crate) fn lower_before_nul(x: &str) -> String {
    let bytes = format!("CAST({x} AS BLOB)");
    let before = format!("instr({bytes}, x'00') - 1");
    format!("lower(substr({bytes}, 1, {before})) || zeroblob(length({bytes}) - ({before}))")
}

/// `alias."column"`.
pub(crate) fn of(alias: &str, column: &str) -> String {
    format!("{alias}.{}", ident(column))
}

/// The canonical key of the row `alias`, as JSON text.
pub(crate) fn key_json(table: &Table, alias: &str) -> String {
    let parts: Vec<_> = table
        .key_columns()
        .enumerate()
        .map(|(part, column)| key_value_json(table, part, &of(alias, &column.present)))
        .collect();
    format!("json_array({})", parts.join(", "))
}

/// The whole row `alias` as a JSON object.
///
/// The code for rare values is written once, not for each column. SQLite compiles all of it into
/// every statement on the table, and clears its registers each time.
pub(crate) fn row_json(table: &Table, alias: &str) -> String {
    let (mut pairs, mut rare) = (Vec::new(), Vec::new());
    for column in &table.columns {
        let spelling = spelling(table, column, &of(alias, &column.present));
        pairs.push(format!("{}, {}", literal(&column.name), spelling.plain));
        rare.extend(spelling.rare);
    }
    let objects: Vec<_> =
        pairs.chunks(PAIRS).map(|pairs| format!("json_object({})", pairs.join(", "))).collect();
    let plain = match objects.as_slice() {
        [one] => one.clone(),
        // The closing brace of the first object and the opening brace of the last one become
        // commas.
        [first, middle @ .., last] => {
            let mut sql = format!("substr({first}, 1, length({first}) - 1)");
            for object in middle {
                sql.push_str(&format!(" || ',' || substr({object}, 2, length({object}) - 2)"));
            }
            format!("({sql} || ',' || substr({last}, 2))")
        }
        [] => unreachable!("a table has columns"),
    };
    if rare.is_empty() {
        return plain;
    }
    format!("CASE WHEN {} THEN {} ELSE {plain} END", any_of(&rare), any_row_json(table, alias))
}

/// The whole row `alias` as a JSON object, with the same text as [`row_json`]. It is slower, and
/// its SQL is shorter.
pub(crate) fn any_row_json(table: &Table, alias: &str) -> String {
    let columns: Vec<_> = table
        .columns
        .iter()
        // The sign removes the column's affinity.
        .map(|c| format!("SELECT {} AS k, +{} AS v", literal(&c.name), of(alias, &c.present)))
        .collect();
    // The Turso engine finds these columns by the subquery's name alone.
    let value = any_json("driftless_part.v");
    format!(
        "(SELECT json_group_object(driftless_part.k, {value}) FROM ({}) AS driftless_part)",
        columns.join(" UNION ALL ")
    )
}

/// A disjunction in groups. Without groups, the expression of a wide table would be deeper than
/// SQLite allows.
pub(crate) fn any_of(conditions: &[String]) -> String {
    let groups: Vec<_> =
        conditions.chunks(50).map(|group| format!("({})", group.join(" OR "))).collect();
    groups.join(" OR ")
}

/// SQL condition: two values of a column differ in their bytes or their type, whatever the column's
/// collation says.
pub(crate) fn differs(column: &Column, a: &str, b: &str) -> String {
    let plain = unlike(column, a, b);
    match column.affinity {
        // 1 and 1.0 are equal. Only a column that converts nothing can have both.
        Affinity::Blob => format!("({plain} OR typeof({a}) <> typeof({b}))"),
        Affinity::Integer | Affinity::Numeric => {
            format!("({plain} OR {} AND typeof({a}) <> typeof({b}))", is_lowest(a))
        }
        Affinity::Text | Affinity::Real => plain,
    }
}

pub(crate) fn unlike(column: &Column, a: &str, b: &str) -> String {
    let collate = if column.collation == Collation::Binary { "" } else { " COLLATE BINARY" };
    format!("{a} IS NOT {b}{collate}")
}

/// SQL condition: a number may be -2^63, the only integral double that stays a double in a column
/// of integers. Few numbers are this low.
pub(crate) fn is_lowest(x: &str) -> String {
    format!("{x} < -9223372036854775807")
}

/// SQL condition: two rows have the same canonical key. It is NULL if a key has NULL, which equals
/// nothing.
pub(crate) fn same_key(table: &Table, a: &str, b: &str) -> String {
    let parts: Vec<_> = table
        .key_columns()
        .zip(&table.key_collations)
        .map(|(column, collation)| equals(column, a, &of(b, &column.present), collation))
        .collect();
    parts.join(" AND ")
}

/// SQL condition: a column of the row `a` equals `b` by a collation. The collation is named only if
/// it is not the column's own: SQLite 3.54 reads a whole table for an OR of conditions that name
/// one.
pub(crate) fn equals(column: &Column, a: &str, b: &str, collation: &Collation) -> String {
    let a = of(a, &column.present);
    if column.collation == *collation {
        format!("{a} = {b}")
    } else {
        format!("{a} = {b} COLLATE {}", collation.name())
    }
}

/// The statement that makes a table where it is missing.
pub fn create_if_missing(table: &Table) -> String {
    let body = super::index_sql::body(&table.sql);
    format!("CREATE TABLE IF NOT EXISTS {} {body}", ident(&table.name))
}
