//! Writes that capture on the remote has missed: rows that differ from the log, and the statements
//! that mend this.
//!
//! For such a row, [`tell`] appends an event of the web application to the log, made from the
//! remote's own row. Its id is a hash of the gap, the table and the key, so two replicas may do
//! this at once. If the row was copied before later events, by a rebuild of the table, [`restore`]
//! writes it again. Capture is silent about that, because the log has these events.
//!
//! Each statement takes effect only if the schema and the log are still as they were compared, the
//! gap still exists, and the row has no event since.

use ulid::Ulid;

use super::cell::{Cell, key_part};
use super::run::{columns_of, places};
use crate::catalog::Table;
use crate::catalog::identity::{capture_key, capture_key_of};
use crate::catalog::quote::ident;
use crate::catalog::row_json;
use crate::catalog::sql::of;
use crate::event::Op;
use crate::event::value::Value;
use crate::event::{Image, RowKey, Seq};
use crate::protocol::Statement;
use crate::protocol::incarnation::Place;
use crate::protocol::meta::{NOW_MS, guard};
use crate::protocol::remote_tables::{Gap, SCHEMA_COOKIE};

/// The row.
const ROW: &str = "driftless_r";
/// The known data of the row: `pk`, and perhaps `after`.
const E: &str = "driftless_e";
/// The row as it will be.
const APPLYING: &str = "driftless_a";

/// The state of the remote for which rows were compared.
#[derive(Clone, Debug)]
pub struct Compared {
    /// The identity of the database.
    pub epoch: String,
    /// The version of its schema.
    pub cookie: i64,
    /// The end of its log.
    pub place: Place,
}

impl Compared {
    /// SQL condition: the remote is in the compared state, and has the gap.
    fn holds(&self, gap: &Gap) -> Statement {
        let guard = guard(&self.epoch, self.place);
        let sql = format!(
            "({SCHEMA_COOKIE})=? AND EXISTS (SELECT 1 FROM driftless_gaps WHERE n=?) AND {}",
            guard.sql
        );
        let args = [self.cookie.into(), gap.n.into()];
        Statement::new(sql, args.into_iter().chain(guard.args))
    }

    /// SQL condition: the same, and the row has no event since.
    fn holds_for(&self, gap: &Gap, table: &Table, key: &RowKey) -> Statement {
        let Statement { sql, args } = self.holds(gap);
        let sql = format!(
            "{sql} AND NOT EXISTS (SELECT 1 FROM driftless_events WHERE tbl=? AND pk=? AND seq>?)"
        );
        let Seq(seq) = self.place.seq;
        let row = [table.name.as_str().into(), key.0.as_str().into(), seq.into()];
        Statement::new(sql, args.into_iter().chain(row))
    }
}

/// SQL condition: the row has the key of [`E`].
fn has_key(table: &Table) -> String {
    let parts = table.key_columns().enumerate().map(|(part, key)| {
        let value = key_part(&format!("{E}.pk"), part, !table.rowid_key);
        format!("{}={value}", of(ROW, &key.present))
    });
    parts.collect::<Vec<_>>().join(" AND ")
}

/// The id of the event for a row whose write was missed.
fn id_of(gap: &Gap, table: &Table, key: &RowKey) -> String {
    let text = format!("{}\0{}\0{}\0{}", gap.n, gap.since.0, table.name, key.0);
    let hash = blake3::hash(text.as_bytes());
    let bytes: [u8; 16] = hash.as_bytes()[..16].try_into().expect("a hash has 32 bytes");
    Ulid::from_bytes(bytes).to_string()
}

/// Appends an event for a row whose write capture has missed. `before` is the row as the log has
/// it. The columns that differ are empty if one of the two rows is absent.
pub fn tell(
    compared: &Compared,
    gap: &Gap,
    table: &Table,
    key: &RowKey,
    before: Option<&Image>,
    columns: &[String],
) -> Statement {
    let is_told = |name: &String| columns.iter().any(|told| told.eq_ignore_ascii_case(name));
    let mut told = table.clone();
    let (op, before) = match before {
        None => (Op::Insert, None),
        Some(row) if columns.is_empty() => (Op::Delete, Some(row.clone())),
        Some(row) => {
            told.columns.retain(|column| is_told(&column.name));
            let of_told = row.0.iter().filter(|(name, _)| is_told(name)).cloned();
            (Op::Update, Some(Image(of_told.collect())))
        }
    };
    let condition = compared.holds_for(gap, table, key);
    let this = ident(&table.name);
    let (after, from, is_there) = match op {
        Op::Delete => ("NULL".to_owned(), String::new(), "NOT EXISTS"),
        _ => {
            (row_json(&told, ROW), format!(" CROSS JOIN {this} AS {ROW} ON {}", has_key(table)), "")
        }
    };
    let gone = match op {
        Op::Delete => {
            format!(" AND {is_there} (SELECT 1 FROM {this} AS {ROW} WHERE {})", has_key(table))
        }
        _ => String::new(),
    };
    let sql = format!(
        "INSERT OR IGNORE INTO driftless_events(id,origin,tbl,pk,op,before,after,base,verdict,\
         received_at) SELECT ?,'web',?,{E}.pk,?,?,{after},0,'applied',{NOW_MS} \
         FROM (SELECT ? AS pk) AS {E}{from} WHERE {}{gone}",
        condition.sql
    );
    let before = before.map_or(Value::Null, |image| image.to_json().as_str().into());
    let id = id_of(gap, table, key);
    let args = [id.as_str().into(), table.name.as_str().into(), op.to_string().as_str().into()];
    let args = args.into_iter().chain([before, key.0.as_str().into()]);
    Statement::new(sql, args.chain(condition.args))
}

/// Writes a row again as the log has it: `row`, or none. `is_there` says whether the remote has the
/// row. A row that cannot be written like this stays as it is.
pub fn restore(
    compared: &Compared,
    gap: &Gap,
    table: &Table,
    key: &RowKey,
    row: Option<&Image>,
    is_there: bool,
) -> Vec<Statement> {
    let has = |name: &str| row.is_some_and(|row| row.get(name).is_some());
    let known = (0..table.columns.len()).filter(|&at| has(&table.columns[at].name)).collect();
    let restored = Restored { table, row, known, is_there };
    let condition = compared.holds_for(gap, table, key);
    vec![
        restored.enter(key, condition),
        restored.write().into(),
        "DELETE FROM driftless_applying".into(),
    ]
}

/// A row that is written again.
struct Restored<'a> {
    table: &'a Table,
    row: Option<&'a Image>,
    /// The columns whose values the log has.
    known: Vec<usize>,
    is_there: bool,
}

impl Restored<'_> {
    /// Announces the row: as it is, and as it will be.
    fn enter(&self, key: &RowKey, condition: Statement) -> Statement {
        let Restored { table, row, known, is_there } = self;
        let all = 0..table.columns.len();
        let after = format!("{E}.after");
        let value = |at: usize| match known.contains(&at) {
            true => Cell::new(&after, &table.columns[at], true).value(),
            false if *is_there => of(ROW, &table.columns[at].present),
            false => "NULL".to_owned(),
        };
        let (mut names, mut values) = (String::new(), String::new());
        if *is_there {
            names += &format!(",{}", places("o", all.clone()));
            values += &format!(",{}", columns_of(table, ROW));
        }
        if row.is_some() {
            names += &format!(",{}", places("n", all.clone()));
            all.for_each(|at| values += &format!(",{}", value(at)));
        }
        let (this, has_key) = (ident(&table.name), has_key(table));
        let part = |part| key_part(&format!("{E}.pk"), part, !table.rowid_key);
        let (identity, from, absent) = match is_there {
            true => {
                let from = format!(" CROSS JOIN {this} AS {ROW} ON {has_key}");
                (capture_key(table, ROW), from, String::new())
            }
            false => {
                let absent =
                    format!(" AND NOT EXISTS (SELECT 1 FROM {this} AS {ROW} WHERE {has_key})");
                (capture_key_of(table, &part), String::new(), absent)
            }
        };
        let sql = format!(
            "INSERT INTO driftless_applying(tbl,k,seq{names}) SELECT ?,{identity},0{values} \
             FROM (SELECT ? AS pk,? AS after) AS {E}{from} WHERE {}{absent}",
            condition.sql
        );
        let json = row.map_or(Value::Null, |row| row.to_json().as_str().into());
        let args = [table.name.as_str().into(), key.0.as_str().into(), json];
        Statement::new(sql, args.into_iter().chain(condition.args))
    }

    /// Writes the row that was announced.
    fn write(&self) -> String {
        let (table, this) = (self.table, ident(&self.table.name));
        let name = |at: usize| ident(&table.columns[at].present);
        let same =
            table.key.iter().map(|&at| format!("{this}.{}={APPLYING}.o{}", name(at), at + 1));
        let same = same.collect::<Vec<_>>().join(" AND ");
        match (self.row.is_some(), self.is_there) {
            (true, true) => {
                let set = self.known.iter();
                let set = set.map(|&at| format!("{}={APPLYING}.n{}", name(at), at + 1));
                format!(
                    "UPDATE OR IGNORE {this} SET {} FROM driftless_applying AS {APPLYING} \
                     WHERE {same}",
                    set.collect::<Vec<_>>().join(",")
                )
            }
            (true, false) => format!(
                "INSERT OR IGNORE INTO {this}({}) SELECT {} FROM driftless_applying",
                self.known.iter().map(|&at| name(at)).collect::<Vec<_>>().join(","),
                places("n", self.known.iter().copied())
            ),
            (false, _) => format!(
                "DELETE FROM {this} WHERE EXISTS (SELECT 1 FROM driftless_applying AS {APPLYING} \
                 WHERE {same})"
            ),
        }
    }
}

/// Ends a gap: the table was compared, and agrees with the log.
pub fn close(compared: &Compared, gap: &Gap) -> Statement {
    let condition = compared.holds(gap);
    let sql = format!("DELETE FROM driftless_gaps WHERE n=? AND {}", condition.sql);
    Statement::new(sql, std::iter::once(gap.n.into()).chain(condition.args))
}
