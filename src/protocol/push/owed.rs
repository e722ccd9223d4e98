//! Columns that events name and the remote's table lacks.
//!
//! Such an event is applied with the columns that the table has. Its other values are only in the
//! log, and the remote owes them: `driftless_owed` names the column, in the transaction of the
//! push. When the remote gets the column, it is filled from the log, in the transaction in which
//! capture learns of the column. So this happens before the next push of the table.

use super::cell::{Cell, key_part};
use super::run::{columns_of, places};
use crate::catalog::Table;
use crate::catalog::identity::capture_key;
use crate::catalog::quote::{ident, literal};
use crate::catalog::sql::of;
use crate::event::Seq;
use crate::event::json::names_json;
use crate::protocol::Statement;

/// The event that fills a row.
const E: &str = "driftless_e";
/// A later event of the same row.
const LATER: &str = "driftless_x";
/// The row.
const ROW: &str = "driftless_r";
/// The row as it will be.
const APPLYING: &str = "driftless_a";

/// Records the columns of the push's applied events that the remote's table lacks.
pub(super) fn note(table: &Table) -> Statement {
    let sql = "INSERT INTO driftless_owed (tbl, col, since) \
         SELECT i.tbl, j.key, min(e.seq) FROM driftless_inbox AS i \
         CROSS JOIN driftless_events AS e ON e.id = i.id AND e.verdict = 'applied' \
         CROSS JOIN json_each(coalesce(i.image, i.after)) AS j \
         WHERE i.tbl = ? AND (j.type <> 'null' OR i.op = 'update') \
         AND lower(j.key) NOT IN (SELECT lower(value) FROM json_each(?)) \
         GROUP BY i.tbl, j.key ON CONFLICT (tbl, col) DO NOTHING";
    let columns = names_json(table.column_names());
    Statement::new(sql, [table.name.as_str().into(), columns.as_str().into()])
}

/// Fills a column that the remote has got: in each row that still has the default and whose last
/// event that names the column is not older than `since`. Capture is silent about this, because the
/// log has the events already. The debt stays if a row cannot take the value. The column is a
/// column of `table`.
pub fn fill(table: &Table, column: &str, since: Seq) -> Vec<Statement> {
    let Some(at) = table.columns.iter().position(|it| it.name.eq_ignore_ascii_case(column)) else {
        return Vec::new();
    };
    let (filled, name) = (&table.columns[at], ident(&table.name));
    let same: Vec<_> = table
        .key
        .iter()
        .map(|key| {
            let column = ident(&table.columns[*key].present);
            format!("{name}.{column}={APPLYING}.o{}", key + 1)
        })
        .collect();
    let write = format!(
        "UPDATE OR IGNORE {name} SET {}={APPLYING}.n{} FROM driftless_applying AS {APPLYING} \
         WHERE {}",
        ident(&filled.present),
        at + 1,
        same.join(" AND ")
    );
    let settle = "DELETE FROM driftless_owed WHERE tbl = ? AND col = ? COLLATE NOCASE \
         AND NOT EXISTS (SELECT 1 FROM driftless_applying)";
    vec![
        enter(table, at, since),
        write.into(),
        Statement::new(settle, [table.name.as_str().into(), filled.name.as_str().into()]),
        "DELETE FROM driftless_applying".into(),
    ]
}

/// Announces the rows that will be filled: as they are, and as they will be.
fn enter(table: &Table, at: usize, since: Seq) -> Statement {
    let filled = &table.columns[at];
    let all = 0..table.columns.len();
    let after = format!("{E}.after");
    let value = Cell::new(&after, filled, true).value();
    let names = |event: &str| {
        let name = literal(&filled.name.to_lowercase());
        format!("EXISTS (SELECT 1 FROM json_each({event}.after) WHERE lower(key)={name})")
    };
    let has_key: Vec<_> = table
        .key_columns()
        .enumerate()
        .map(|(part, key)| {
            let value = key_part(&format!("{E}.pk"), part, !table.rowid_key);
            format!("{}={value}", of(ROW, &key.present))
        })
        .collect();
    let new: Vec<_> = table
        .columns
        .iter()
        .enumerate()
        .map(|(place, it)| if place == at { value.clone() } else { of(ROW, &it.present) })
        .collect();
    let default = filled.default.as_deref().unwrap_or("NULL");
    let sql = format!(
        "INSERT INTO driftless_applying(tbl,k,seq,{},{}) SELECT {E}.tbl,{},{E}.seq,{},{} \
         FROM driftless_events AS {E} CROSS JOIN {} AS {ROW} ON {} \
         WHERE {E}.tbl=? AND {E}.verdict='applied' AND {E}.op<>'delete' AND {E}.seq>=? AND {} \
         AND NOT EXISTS (SELECT 1 FROM driftless_events AS {LATER} WHERE {LATER}.tbl={E}.tbl \
         AND {LATER}.pk={E}.pk AND {LATER}.seq>{E}.seq AND {LATER}.verdict='applied' \
         AND ({LATER}.op<>'update' OR {})) AND {} IS ({default}) AND {} IS NOT ({value})",
        places("o", all.clone()),
        places("n", all),
        capture_key(table, ROW),
        columns_of(table, ROW),
        new.join(","),
        ident(&table.name),
        has_key.join(" AND "),
        names(E),
        names(LATER),
        of(ROW, &filled.present),
        of(ROW, &filled.present),
    );
    Statement::new(sql, [table.name.as_str().into(), since.0.into()])
}
