//! What the triggers of all replicated tables of the remote share: tables, and the triggers of
//! `driftless_capture`, `driftless_told` and `driftless_notes`.

use std::fmt::Write as _;

use super::replica::NOW_MS;
use crate::catalog::affinity::Affinity;
use crate::catalog::identity::ulid;
use crate::catalog::limits::PREFIX;
use crate::catalog::quote::{ident, literal};
use crate::catalog::sql::{lower_before_nul, real_json};
use crate::catalog::table::{Collation, Table};

/// `{prefix}1,{prefix}2,…`
pub(super) fn each(prefix: &str, width: usize) -> String {
    let columns: Vec<_> = (1..=width).map(|at| format!("{prefix}{at}")).collect();
    columns.join(",")
}

/// `typeof({prefix}1),…`
fn kinds(prefix: &str, width: usize) -> String {
    let columns: Vec<_> = (1..=width).map(|at| format!("typeof({prefix}{at})")).collect();
    columns.join(",")
}

/// The value of the column at `c.at`, from the columns `{prefix}1, {prefix}2, …`.
fn at_place(prefix: &str, width: usize) -> String {
    let mut sql = "CASE c.at".to_owned();
    for at in 0..width {
        let _ = write!(sql, " WHEN {at} THEN {prefix}{}", at + 1);
    }
    sql.push_str(" END");
    sql
}

/// A number for the spelling of a key column's values in an event's key.
fn fold(table: &Table, part: usize) -> u8 {
    match (&table.key_collations[part], table.columns[table.key[part]].affinity) {
        (Collation::NoCase, _) => 1,
        (Collation::RTrim, _) => 2,
        (_, Affinity::Real) => 3,
        _ => 0,
    }
}

/// The rows of `driftless_columns` for a table: its columns, and then those of its key once more,
/// in the key's order.
fn columns_rows(table: &Table) -> String {
    let table_name = literal(&table.name);
    let name = |at: usize| literal(&table.columns[at].name);
    let columns =
        (0..table.columns.len()).map(|at| format!("({table_name},{at},{},NULL)", name(at)));
    let parts = table.key.iter().enumerate();
    let key =
        parts.map(|(part, &at)| format!("({table_name},{at},{},{})", name(at), fold(table, part)));
    columns.chain(key).collect::<Vec<_>>().join(",")
}

/// The tables and triggers that all tables share.
pub(super) fn shared(tables: &[&Table], width: usize, names: &[String]) -> Vec<String> {
    let dropped = ["capture", "told", "applying", "notes", "names", "columns", "one", "now"];
    let mut all: Vec<_> =
        dropped.iter().map(|name| format!("DROP TABLE IF EXISTS {PREFIX}{name}")).collect();
    let (o, n) = (each("o", width), each("n", width));
    let quoted: Vec<_> = names.iter().map(|name| ident(name)).collect();
    all.extend([
        format!("CREATE TABLE driftless_capture(tbl,k,l,{o},{n})"),
        format!("CREATE TABLE driftless_told(tbl,op,w,{o},{n})"),
        format!("CREATE TABLE driftless_applying(tbl,k,seq,done DEFAULT 0,{o},{n})"),
        "CREATE INDEX driftless_applying_row ON driftless_applying(tbl,k)".to_owned(),
        format!("CREATE TABLE driftless_notes(tbl,k,{o},gone)"),
        "CREATE INDEX driftless_notes_row ON driftless_notes(tbl,k)".to_owned(),
        format!("CREATE TABLE driftless_names({})", quoted.join(",")),
        "CREATE TABLE driftless_columns(tbl,at,name,fold)".to_owned(),
        "CREATE INDEX driftless_columns_of ON driftless_columns(tbl)".to_owned(),
        "CREATE TABLE driftless_one(driftless_one)".to_owned(),
        "CREATE TABLE driftless_now(one INTEGER PRIMARY KEY,id,unit,origin,head)".to_owned(),
        "INSERT INTO driftless_one VALUES(0)".to_owned(),
        "INSERT INTO driftless_now VALUES(1,NULL,NULL,'web',0)".to_owned(),
    ]);
    if let Some(name) = quoted.first() {
        all.push(format!("INSERT INTO driftless_names({name}) VALUES(NULL)"));
    }
    let rows = tables.iter().map(|table| columns_rows(table));
    all.extend(rows.map(|rows| format!("INSERT INTO driftless_columns VALUES{rows}")));
    all.extend([tell(width), log(width), quiet(width)]);
    all.extend([
        "CREATE TRIGGER driftless_note BEFORE INSERT ON driftless_notes BEGIN \
         DELETE FROM driftless_notes WHERE tbl=new.tbl AND k=new.k;END"
            .to_owned(),
        format!(
            "CREATE TRIGGER driftless_gone AFTER UPDATE ON driftless_notes BEGIN \
             INSERT INTO driftless_capture(tbl,k,{o}) VALUES(new.tbl,new.k,{});END",
            each("new.o", width)
        ),
    ]);
    all
}

/// Appends an event, with its key and its images as JSON. If `new.w` is 1, the images are whole.
/// Otherwise they have only the columns that differ. The key is that of the new values. A delete
/// has the key of its old values.
///
/// Each level of the query computes a value that the next level uses several times: the column's
/// old and new value; one of the two; this value as a key has it; its JSON.
fn tell(width: usize) -> String {
    let values = format!(
        "SELECT c.name AS c,c.fold AS f,{} AS o,{} AS n FROM driftless_columns AS c \
         WHERE c.tbl=new.tbl LIMIT -1",
        at_place("new.o", width),
        at_place("new.n", width),
    );
    let sides = format!(
        "SELECT q.c,q.f,s.value AS s,q.o IS NOT q.n OR typeof(q.o)<>typeof(q.n) AS d,\
         iif(s.value,q.n,q.o) AS x FROM ({values}) AS q,json_each('[0,1]') AS s \
         WHERE q.f IS NULL OR s.value=(new.op<>'delete') LIMIT -1"
    );
    let folded = format!(
        "SELECT q.c,q.f,q.s,q.d,CASE WHEN q.f IS NULL THEN q.x WHEN typeof(q.x)='text' THEN \
         CASE WHEN q.f=2 THEN rtrim(q.x,' ') WHEN q.f<>1 THEN q.x \
         WHEN instr(q.x,char(0)) THEN {} ELSE lower(q.x) END \
         WHEN typeof(q.x)='real' AND q.f<>3 AND CAST(q.x AS INTEGER)=q.x \
         THEN CAST(q.x AS INTEGER) ELSE q.x END AS x FROM ({sides}) AS q WHERE q.f IS NOT NULL \
         OR (new.w OR q.d) AND new.op<>iif(q.s,'delete','insert') LIMIT -1",
        lower_before_nul("q.x"),
    );
    let spelled = format!(
        "SELECT q.c,q.d,CASE WHEN q.f IS NULL THEN q.s ELSE 2 END AS g,\
         CASE typeof(q.x) WHEN 'real' THEN {} WHEN 'blob' THEN json_object('x',hex(q.x)) \
         ELSE CASE WHEN q.f IS NOT NULL AND instr(q.x,char(0)) THEN json_object('t',hex(q.x)) \
         ELSE json_quote(q.x) END END AS j FROM ({folded}) AS q LIMIT -1",
        real_json("q.x"),
    );
    let image = |g| {
        format!("'{{'||group_concat(CASE q.g WHEN {g} THEN json_quote(q.c)||':'||q.j END)||'}}'")
    };
    format!(
        "CREATE TRIGGER driftless_tell BEFORE INSERT ON driftless_told BEGIN \
         INSERT INTO driftless_events(id,origin,unit,tbl,pk,op,before,after,base,cause,verdict,\
         received_at) SELECT {},s.origin,s.unit,new.tbl,q.k,new.op,\
         q.b,q.a,0,s.id,'applied',{NOW_MS} FROM driftless_now AS s,\
         (SELECT '['||group_concat(CASE q.g WHEN 2 THEN q.j END)||']' AS k,{} AS b,{} AS a,\
         max(q.d) AS d FROM ({spelled}) AS q) AS q WHERE new.op<>'update' OR q.d;\
         SELECT RAISE(IGNORE);END",
        ulid(),
        image(0),
        image(1),
    )
}

/// Logs a write that is not silent: the delete of the old key, the insert of the new key, or the
/// update of a row that keeps its key. A write that changes nothing is not logged.
fn log(width: usize) -> String {
    let (o, n) = (each("o", width), each("n", width));
    let (old, new, noted) = (each("new.o", width), each("new.n", width), each("x.o", width));
    format!(
        "CREATE TRIGGER driftless_log BEFORE INSERT ON driftless_capture BEGIN \
         UPDATE driftless_applying SET done=iif(({n}) IS ({old}) AND ({o}) IS NOT ({n}),2,3) \
         WHERE tbl=new.tbl AND k IN (new.k,new.l) AND done=0;\
         INSERT INTO driftless_told SELECT new.tbl,iif(new.k IS new.l,'update','delete'),\
         new.k IS NOT new.l,{old},{new} WHERE new.k IS NOT NULL;\
         INSERT INTO driftless_told SELECT new.tbl,iif(x.k IS NULL,'insert','update'),1,{noted},{new} \
         FROM driftless_one LEFT JOIN driftless_notes AS x ON x.tbl=new.tbl AND x.k=new.l \
         AND new.k IS NULL WHERE new.l IS NOT NULL AND new.k IS NOT new.l;\
         DELETE FROM driftless_notes WHERE tbl=new.tbl AND k IN (new.k,new.l) \
         AND new.k IS NOT new.l;SELECT RAISE(IGNORE);END"
    )
}

/// Keeps silent about a write that goes from exactly the announced old row to exactly the announced
/// new row.
fn quiet(width: usize) -> String {
    let (o, n) = (each("o", width), each("n", width));
    let (old, new) = (each("new.o", width), each("new.n", width));
    format!(
        "CREATE TRIGGER driftless_quiet BEFORE INSERT ON driftless_capture WHEN EXISTS \
         (SELECT 1 FROM driftless_applying WHERE tbl=new.tbl AND k=coalesce(new.l,new.k) \
         AND ({o}) IS ({old}) AND (done=2 OR done=0 AND ({n}) IS ({new}) \
         AND ({}) IS ({}))) BEGIN \
         DELETE FROM driftless_applying WHERE tbl=new.tbl AND k=coalesce(new.l,new.k);\
         DELETE FROM driftless_notes WHERE tbl=new.tbl AND k IN (new.k,new.l) \
         AND new.k IS NOT new.l;\
         SELECT RAISE(IGNORE);END",
        kinds("n", width),
        kinds("new.n", width),
    )
}
