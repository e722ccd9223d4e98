//! The statements of a comparison, and their results.

use super::digest::{Digest, FUNCTION, row_sql};
use super::key_order::{Bound, KeyRange};
use super::table::ComparedTable;
use crate::catalog::{ident, key_json, row_json};
use crate::error::Result;
use crate::event::json::Scanner;
use crate::event::value::Value;
use crate::event::{Image, RowKey, Seq};
use crate::protocol::meta::{number, wrong};
use crate::protocol::push::cell::key_part;
use crate::protocol::statements::{key_value, sorted};
use crate::protocol::{Rows, Statement};

/// The most rows of a range that are counted and hashed. A range with more rows on the remote
/// differs in any case. It is read one page at a time.
pub(super) const MAX_HASHED: usize = 20_000;

/// The most rows with events after the cursor for which tables are compared.
pub(super) const MAX_MOVING: usize = 20_000;

/// The statement for the rows that have applied events above a cursor: table and key of each.
pub(super) fn moving(cursor: Seq) -> Statement {
    let sql = "SELECT tbl, pk FROM driftless_events WHERE seq > ? AND verdict = 'applied' \
         GROUP BY tbl, pk LIMIT ?";
    Statement::new(sql, [cursor.0.into(), number(MAX_MOVING + 1)])
}

/// Reads the rows of [`moving`].
pub(super) fn read_moving(rows: &Rows) -> Result<Vec<(String, RowKey)>> {
    let read = |row: &Vec<Value>| match row.as_slice() {
        [table, key] => Some((table.as_str()?.to_owned(), RowKey(key.as_str()?.to_owned()))),
        _ => None,
    };
    let read = rows.iter().map(|row| read(row).ok_or_else(|| wrong("a row that has changed")));
    read.collect()
}

/// The statement for the digests of some ranges of a table, which all have the same ends. Its one
/// value has the digests in order, separated by commas.
pub(super) fn digests(table: &ComparedTable, ranges: &[&KeyRange]) -> Statement {
    let (from, to) = (ranges[0].from.as_ref(), ranges[0].to.as_ref());
    let bounds = |range: &&KeyRange| -> Vec<Value> {
        let bounds = range.from.iter().chain(&range.to);
        bounds.flat_map(|bound| bound.key.clone()).collect()
    };
    let values: Vec<_> = ranges.iter().map(bounds).collect();
    let is_tagged = values.iter().flatten().any(Value::is_tagged);
    let parts = table.there().key.len();
    let terms = |first: usize| -> Vec<String> {
        (first..first + parts).map(|part| key_part("b.value", part, is_tagged)).collect()
    };
    let mut conditions = Vec::new();
    if let Some(bound) = from {
        conditions.push(condition(table, &terms(0), bound.behind, true));
    }
    if let Some(bound) = to {
        let first = if from.is_some() { parts } else { 0 };
        conditions.push(condition(table, &terms(first), bound.behind, false));
    }
    let sql = format!(
        "SELECT group_concat(d, ',') FROM (SELECT (SELECT count(*) || ':' || \
         coalesce(substr(hex({FUNCTION}(group_concat(h, ''))), 1, 32), '') FROM \
         (SELECT hex({FUNCTION}(CAST({} AS BLOB))) AS h {} LIMIT {MAX_HASHED})) AS d \
         FROM json_each(?) AS b LIMIT -1)",
        row_sql(table.there(), table.columns_there()),
        rows_of(table, conditions),
    );
    let lists = values.iter().map(|values| RowKey::from_values(values).0);
    let json = format!("[{}]", lists.collect::<Vec<_>>().join(","));
    Statement::new(sql, [Value::Text(json.into_bytes())])
}

/// Reads the row of [`digests`] for `count` ranges.
pub(crate) fn read_digests(rows: &Rows, count: usize) -> Result<Vec<Digest>> {
    let text = rows.first().and_then(|row| row.first()).and_then(Value::as_str);
    let read = text.unwrap_or_default().split(',').map(Digest::parse);
    let read: Option<Vec<_>> = read.collect();
    read.filter(|read| read.len() == count).ok_or_else(|| wrong("the digests of a table"))
}

/// The statement for the first rows of a range. Its one row has the lines, each a JSON array of the
/// row's canonical key and the row, and their count.
pub(super) fn rows(table: &ComparedTable, range: &KeyRange, limit: usize) -> Statement {
    let (conditions, args) = within(table, range);
    let sql = format!(
        "SELECT CAST(group_concat(line, char(10)) AS BLOB), count(*) FROM (SELECT '[' || {} || ',' \
         || {} || ']' AS line {} LIMIT ?)",
        key_json(table.there(), "r"),
        row_json(table.there(), "r"),
        rows_of(table, conditions),
    );
    Statement::new(sql, args.into_iter().chain([number(limit)]))
}

/// The conditions for the rows of a range, and their arguments.
fn within(table: &ComparedTable, range: &KeyRange) -> (Vec<String>, Vec<Value>) {
    let (mut conditions, mut args) = (Vec::new(), Vec::new());
    for (bound, is_from) in [(&range.from, true), (&range.to, false)] {
        let Some(Bound { key, behind }) = bound else { continue };
        let values: Vec<_> = key.iter().cloned().map(key_value).collect();
        let terms: Vec<_> = values.iter().map(|value| value.sql.clone()).collect();
        conditions.push(condition(table, &terms, *behind, is_from));
        args.extend(values.into_iter().flat_map(|value| value.args));
    }
    (conditions, args)
}

/// The statement for the number of rows of a range.
pub(super) fn count(table: &ComparedTable, range: &KeyRange) -> Statement {
    let (conditions, args) = within(table, range);
    Statement::new(format!("SELECT count(*) {}", from(table, conditions)), args)
}

/// Reads the row of [`count`].
pub(super) fn read_count(rows: &Rows) -> Result<u64> {
    let count = rows.first().and_then(|row| row.first()).and_then(Value::as_integer);
    count.and_then(|count| count.try_into().ok()).ok_or_else(|| wrong("the number of rows"))
}

/// The same statement for a remote that has no `driftless_pow2`.
pub(super) fn with_powers(statement: Statement) -> Statement {
    if !statement.sql.contains("driftless_pow2") {
        return statement;
    }
    let sql = format!(
        "WITH RECURSIVE driftless_up (p, e) AS (SELECT 1.0, 0 UNION ALL \
         SELECT p * 2.0, e + 1 FROM driftless_up WHERE e < 1023), \
         driftless_down (p, e) AS (SELECT 0.5, -1 UNION ALL \
         SELECT p / 2.0, e - 1 FROM driftless_down WHERE e > -1074), \
         driftless_pow2 (p, e) AS MATERIALIZED (SELECT p, e FROM driftless_up UNION ALL \
         SELECT p, e FROM driftless_down) {}",
        statement.sql
    );
    Statement::new(sql, statement.args)
}

/// A row of the remote. Instead of a key that has text that is not UTF-8, it has `None`.
pub(super) type RemoteRow = (Option<RowKey>, Image);

/// Reads the row of [`rows`].
pub(super) fn read_rows(rows: &Rows) -> Result<Vec<RemoteRow>> {
    let [lines, count] = rows.first().map_or(&[][..], Vec::as_slice) else {
        return Err(wrong("a table's columns"));
    };
    let bytes = lines.as_bytes().unwrap_or_default();
    let mut read = Vec::new();
    for line in bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let mut scanner = Scanner::new(line);
        scanner.expect(b'[')?;
        let key = std::str::from_utf8(scanner.raw()?).ok().map(|key| RowKey(key.to_owned()));
        scanner.expect(b',')?;
        read.push((key, Image::parse(scanner.raw()?)?));
        scanner.expect(b']')?;
        scanner.end()?;
    }
    if count.as_integer() != Some(read.len() as i64) {
        return Err(wrong("the number of a table's rows"));
    }
    Ok(read)
}

/// The SQL of an event's outline: see [`outline`](crate::event::frame::outline).
const OUTLINE: &str = "seq || ' ' || id || ' ' || origin || ' ' || op || ' ' || base || ' ' || \
    verdict || ' ' || tbl || ' ' || pk";

/// The statement for the digests of ranges of the log. Each range includes its first seq and
/// excludes its second one.
pub(crate) fn log_digests(ranges: &[(Seq, Seq)]) -> Statement {
    let sql = format!(
        "SELECT group_concat(d, ',') FROM (SELECT (SELECT count(*) || ':' || \
         coalesce(substr(hex({FUNCTION}(group_concat(h, ''))), 1, 32), '') FROM \
         (SELECT hex({FUNCTION}(CAST({OUTLINE} AS BLOB))) AS h FROM driftless_events \
         WHERE seq >= json_extract(b.value, '$[0]') AND seq < json_extract(b.value, '$[1]') \
         ORDER BY seq LIMIT {MAX_HASHED})) AS d FROM json_each(?) AS b LIMIT -1)"
    );
    let ranges = ranges.iter().map(|(from, to)| format!("[{from},{to}]"));
    let json = format!("[{}]", ranges.collect::<Vec<_>>().join(","));
    Statement::new(sql, [Value::Text(json.into_bytes())])
}

/// The statement for the outlines of the first events in a range of the log. Its one row has the
/// lines and their count.
pub(crate) fn log_lines(from: Seq, to: Seq, limit: usize) -> Statement {
    let sql = format!(
        "SELECT CAST(group_concat(line, char(10)) AS BLOB), count(*) FROM (SELECT {OUTLINE} AS line \
         FROM driftless_events WHERE seq >= ? AND seq < ? ORDER BY seq LIMIT ?)"
    );
    Statement::new(sql, [from.0.into(), to.0.into(), number(limit)])
}

/// Reads the row of [`log_lines`].
pub(crate) fn read_log_lines(rows: &Rows) -> Result<Vec<(Seq, String)>> {
    let lines = rows.first().and_then(|row| row.first()).and_then(Value::as_bytes);
    let text = String::from_utf8_lossy(lines.unwrap_or_default());
    let mut read: Vec<(Seq, String)> = Vec::new();
    for line in text.split('\n') {
        let seq = line.split(' ').next().and_then(|seq| seq.parse().ok()).map(Seq);
        match (seq, read.last_mut()) {
            (Some(seq), last) if last.as_ref().is_none_or(|(last, _)| *last < seq) => {
                read.push((seq, line.to_owned()));
            }
            // A table's name may contain a line feed.
            (_, Some((_, last))) => {
                last.push('\n');
                last.push_str(line);
            }
            (_, None) if line.is_empty() => {}
            (_, None) => return Err(wrong("the lines of its log")),
        }
    }
    Ok(read)
}

/// The FROM, WHERE and ORDER BY for rows of a table. Rows with NULL in their key are left out.
fn rows_of(table: &ComparedTable, conditions: Vec<String>) -> String {
    format!("{} ORDER BY {}", from(table, conditions), key_columns(table).join(", "))
}

/// The same without an order.
fn from(table: &ComparedTable, conditions: Vec<String>) -> String {
    let columns = key_columns(table);
    let known = columns.iter().map(|column| format!("{column} IS NOT NULL"));
    let conditions: Vec<_> = known.chain(conditions).collect();
    format!("FROM {} AS r WHERE {}", ident(&table.there().name), conditions.join(" AND "))
}

fn key_columns(table: &ComparedTable) -> Vec<String> {
    let there = table.there();
    let columns = there.key_columns().zip(&there.key_collations);
    columns.map(|(column, collation)| sorted(&column.present, collation)).collect()
}

/// SQL condition: a key is after a bound, or before it.
fn condition(table: &ComparedTable, terms: &[String], behind: bool, is_from: bool) -> String {
    let operator = match (is_from, behind) {
        (true, true) => ">=",
        (true, false) => ">",
        (false, true) => "<",
        (false, false) => "<=",
    };
    let columns = key_columns(table);
    match (columns.as_slice(), terms) {
        ([column], [term]) => format!("{column} {operator} {term}"),
        (columns, terms) => {
            format!("({}) {operator} ({})", columns.join(", "), terms.join(", "))
        }
    }
}
