//! The rows of a replica at one moment, for a comparison with the remote's.
//!
//! A [`Snapshot`] is one read transaction. It changes nothing, and sees the tables, the cursor, the
//! outbox and the quarantine at the same moment. Rows come in the order of their keys. Rows with
//! pending or waiting events are few, so they are sorted in memory and merged with the rows of the
//! table.

use std::collections::HashMap;
use std::path::Path;

use rusqlite::{Connection, Row, Statement, Transaction};

use crate::catalog::{Collation, Table, ident, key_json};
use crate::error::Result;
use crate::event::value::Value;
use crate::event::{Image, Op, RowKey, Seq};
use crate::protocol::compare::{
    Bound, ComparedTable, Digester, KeyOrder, KeyRange, LocalDigest, LocalRow, LocalRows,
    PendingChange, replay,
};
use crate::store::Store;
use crate::store::bootstrap::rehearse::require_keys;
use crate::store::connection::{OnConnect, connect};
use crate::store::outbox::pending::{PendingEvent, load};
use crate::store::outbox::reader::{Layouts, ROW, Reader};
use crate::store::rows::row::value;
use crate::store::schema::POW2_SQL;

/// A collation that compares by the bytes of UTF-8, for files that use UTF-16.
const BY_BYTES: &str = "driftless_by_bytes";

/// A read transaction over a replica's tables.
pub struct Snapshot<'s> {
    /// The layouts of the outbox; `None` for a file that is no replica.
    layouts: Option<&'s Layouts>,
    tx: Transaction<'s>,
    cursor: Seq,
    tables: Vec<SnapshotTable<'s>>,
}

/// A table of a snapshot.
struct SnapshotTable<'s> {
    table: &'s ComparedTable,
    order: KeyOrder,
    /// Its key columns, each with its collation.
    keys: Vec<String>,
    /// Rows with pending or waiting events, in the order of their keys.
    unsettled: Vec<UnsettledRow>,
}

/// A row with events that are not settled here.
#[derive(Debug, Default)]
pub(super) struct UnsettledRow {
    key: Option<RowKey>,
    values: Vec<Value>,
    /// The outbox numbers of its pending events that are on it, in rising order.
    pending: Vec<i64>,
    /// The columns that an event in quarantine changes.
    waiting: Vec<String>,
    /// Whether an event in quarantine inserts or deletes it.
    waits: bool,
}

impl UnsettledRow {
    /// Its key.
    pub(super) fn key(&self) -> Option<&RowKey> {
        self.key.as_ref()
    }

    /// The outbox numbers of its pending events that are on it.
    pub(super) fn pending(&self) -> &[i64] {
        &self.pending
    }

    /// Whether an event of it waits in quarantine.
    pub(super) fn is_waiting(&self) -> bool {
        self.waits || !self.waiting.is_empty()
    }
}

/// A database that need not be a replica, to look at its rows.
pub struct PlainFile(Connection);

impl PlainFile {
    /// Opens it. A file that is not there has no rows, and is not made.
    ///
    /// # Errors
    ///
    /// `Storage` when it cannot be opened, and what `on_connect` returns.
    pub fn open(path: &Path, on_connect: &OnConnect) -> Result<PlainFile> {
        let db = match path.exists() {
            true => connect(path, false)?,
            false => Connection::open_in_memory()?,
        };
        on_connect.run(&db)?;
        // What spells a REAL. It is the connection's own, and not in the file.
        db.execute_batch(
            "CREATE TEMP TABLE driftless_pow2 (p REAL PRIMARY KEY, e INTEGER) WITHOUT ROWID",
        )?;
        db.execute_batch(POW2_SQL)?;
        Ok(PlainFile(db))
    }

    /// The rows of these tables as they are now: see [`Store::snapshot`].
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub fn snapshot<'s>(&'s self, tables: &'s [ComparedTable]) -> Result<Snapshot<'s>> {
        let tx = self.0.unchecked_transaction()?;
        let tables = snapshot_tables(&tx, tables, HashMap::new())?;
        Ok(Snapshot { layouts: None, tx, cursor: Seq(0), tables })
    }

    /// Refuses a table with a row whose key is text that is not UTF-8.
    ///
    /// # Errors
    ///
    /// `Usage`, naming the table; `Storage` when the database fails.
    pub fn require_keys(&self, table: &Table) -> Result<()> {
        require_keys(&self.0, table)
    }

    /// How many rows a table has.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub fn count(&self, table: &str) -> Result<u64> {
        count(&self.0, table)
    }
}

fn count(db: &Connection, table: &str) -> Result<u64> {
    let sql = format!("SELECT count(*) FROM main.{}", ident(table));
    let count: i64 = db.query_row(&sql, [], |row| row.get(0))?;
    Ok(count as u64)
}

/// The tables of a snapshot. `unsettled` are their rows with events that are not settled, by the
/// number of the table.
fn snapshot_tables<'s>(
    tx: &Connection,
    tables: &'s [ComparedTable],
    mut unsettled: HashMap<usize, Vec<UnsettledRow>>,
) -> Result<Vec<SnapshotTable<'s>>> {
    let encoding: String = tx.query_row("PRAGMA encoding", [], |row| row.get(0))?;
    let by_bytes = encoding != "UTF-8";
    if by_bytes {
        tx.create_collation(BY_BYTES, |a, b| a.as_bytes().cmp(b.as_bytes()))?;
    }
    let tables = tables.iter().enumerate().map(|(at, table)| {
        let order = KeyOrder::of(table.here());
        let mut unsettled = unsettled.remove(&at).unwrap_or_default();
        unsettled.sort_by(|a, b| order.compare(&a.values, &b.values));
        let columns = table.here().key_columns().zip(&table.here().key_collations);
        let key = |(column, collation): (&crate::catalog::Column, &Collation)| {
            let collation = match collation {
                Collation::Binary if by_bytes => BY_BYTES,
                collation => collation.name(),
            };
            format!("r.{} COLLATE {collation}", ident(&column.present))
        };
        SnapshotTable { table, order, keys: columns.map(key).collect(), unsettled }
    });
    Ok(tables.collect())
}

impl Store {
    /// A snapshot of these tables. It delays nobody in WAL mode. In another mode, nobody can commit
    /// before it is dropped.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub fn snapshot<'s>(&'s self, tables: &'s [ComparedTable]) -> Result<Snapshot<'s>> {
        let tx = self.db.unchecked_transaction()?;
        let cursor =
            tx.query_row("SELECT cursor FROM driftless_state", [], |row| row.get(0).map(Seq))?;
        let unsettled = self.unsettled(&tx, tables)?;
        let tables = snapshot_tables(&tx, tables, unsettled)?;
        Ok(Snapshot { layouts: Some(self.outbox.layouts()), tx, cursor, tables })
    }

    /// The rows with pending events on them, or with events in quarantine, by the number of their
    /// table.
    pub(super) fn unsettled(
        &self,
        tx: &Connection,
        tables: &[ComparedTable],
    ) -> Result<HashMap<usize, Vec<UnsettledRow>>> {
        let at = |name: &str| tables.iter().position(|t| t.name().eq_ignore_ascii_case(name));
        let mut rows: HashMap<(usize, String), UnsettledRow> = HashMap::new();
        {
            let sql = format!(
                "SELECT {ROW} FROM driftless_outbox WHERE NOT settled AND NOT aside ORDER BY n"
            );
            let mut statement = tx.prepare(&sql)?;
            let mut found = statement.query([])?;
            let mut reader = Reader::of_keys(tx, self.outbox.layouts());
            while let Some(row) = found.next()? {
                let n = row.get(0)?;
                let of = reader.row(row, 0, |table, key| Some((at(table)?, key.to_owned())))?;
                if let Some(of) = of {
                    rows.entry(of).or_default().pending.push(n);
                }
            }
        }
        let sql = "SELECT seq, tbl, pk, img IS NOT NULL FROM driftless_quarantine";
        let mut statement = tx.prepare(sql)?;
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            let (seq, table): (i64, String) = (row.get(0)?, row.get(1)?);
            let Some(at) = at(&table) else { continue };
            let unsettled = rows.entry((at, row.get(2)?)).or_default();
            match self.settled(Seq(seq))? {
                Some(event) if event.op == Op::Update && !row.get::<_, bool>(3)? => {
                    let names = event.after.into_iter().flat_map(|after| after.0);
                    unsettled.waiting.extend(names.map(|(name, _)| name));
                }
                _ => unsettled.waits = true,
            }
        }
        let mut unsettled: HashMap<usize, Vec<UnsettledRow>> = HashMap::new();
        for ((at, key), mut row) in rows {
            let key = RowKey(key);
            // A key that is not valid has no row.
            let Ok(values) = key.values() else { continue };
            (row.key, row.values) = (Some(key), values);
            unsettled.entry(at).or_default().push(row);
        }
        Ok(unsettled)
    }
}

impl SnapshotTable<'_> {
    /// A statement with these result columns for the rows of a range, in the order of their keys.
    fn prepare<'t>(
        &self,
        tx: &'t Connection,
        results: &str,
        range: &KeyRange,
    ) -> Result<Statement<'t>> {
        let mut conditions: Vec<_> =
            self.keys.iter().map(|key| format!("{key} IS NOT NULL")).collect();
        let mut args = Vec::new();
        for (bound, is_from) in [(&range.from, true), (&range.to, false)] {
            let Some(Bound { key, behind }) = bound else { continue };
            let operator = match (is_from, behind) {
                (true, true) => ">=",
                (true, false) => ">",
                (false, true) => "<",
                (false, false) => "<=",
            };
            let (left, right) = match self.keys.as_slice() {
                [key] => (key.clone(), "?".to_owned()),
                keys => {
                    let marks = vec!["?"; keys.len()].join(", ");
                    (format!("({})", keys.join(", ")), format!("({marks})"))
                }
            };
            conditions.push(format!("{left} {operator} {right}"));
            args.extend(key);
        }
        let sql = format!(
            "SELECT {results} FROM main.{} AS r WHERE {} ORDER BY {}",
            ident(&self.table.here().name),
            conditions.join(" AND "),
            self.keys.join(", ")
        );
        let mut statement = tx.prepare(&sql)?;
        for (place, value) in args.into_iter().enumerate() {
            statement.raw_bind_parameter(place + 1, crate::event::value::ValueRef::from(value))?;
        }
        Ok(statement)
    }

    /// The columns of a row, as results.
    fn columns(&self) -> String {
        let names = self.table.here().present_names();
        names.map(|name| format!("r.{}", ident(name))).collect::<Vec<_>>().join(", ")
    }

    /// The key of a row, whose columns begin at the result `first`. `None` if it has text that is
    /// not UTF-8.
    fn key(&self, row: &[Value]) -> Option<Vec<Value>> {
        let key: Vec<_> = self.table.here().key.iter().map(|&at| row[at].clone()).collect();
        is_utf8(&key).then_some(key)
    }

    /// Whether a row of the table may have a key that is not UTF-8.
    fn needs_key(&self) -> bool {
        !self.table.here().rowid_key
    }

    /// The unsettled rows of a range.
    fn unsettled(&self, range: &KeyRange) -> &[UnsettledRow] {
        let place = |bound: &Option<Bound>, none: usize| match bound {
            None => none,
            Some(Bound { key, behind }) => self.unsettled.partition_point(|row| {
                let order = self.order.compare(&row.values, key);
                order.is_lt() || (order.is_eq() && !behind)
            }),
        };
        let (from, to) = (place(&range.from, 0), place(&range.to, self.unsettled.len()));
        &self.unsettled[from..to.max(from)]
    }

    /// A row as an image.
    fn image(&self, row: &[Value]) -> Image {
        let names = self.table.here().column_names().map(str::to_owned);
        Image(names.zip(row.iter().cloned()).collect())
    }

    /// The values of an image, in the order of a row.
    fn row(&self, image: &Image) -> Vec<Value> {
        let value = |name: &str| {
            let found = image.0.iter().find(|(mine, _)| mine.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        self.table.here().column_names().map(value).collect()
    }
}

fn is_utf8(key: &[Value]) -> bool {
    key.iter().all(|value| !matches!(value, Value::Text(_)) || value.as_str().is_some())
}

/// The values of a row, from the result `first` on.
fn values(row: &Row<'_>, first: usize, count: usize, into: &mut Vec<Value>) -> Result<()> {
    into.clear();
    for at in first..first + count {
        into.push(value(row.get_ref(at)?));
    }
    Ok(())
}

impl Snapshot<'_> {
    /// The pending events of a row.
    fn pending(&self, row: &UnsettledRow) -> Result<Vec<PendingEvent>> {
        let Some(layouts) = self.layouts else { return Ok(Vec::new()) };
        let load = |&n: &i64| load(&self.tx, layouts, n);
        row.pending.iter().filter_map(|n| load(n).transpose()).collect()
    }

    /// Adds the row under the pending events of a row. False if a hash cannot decide whether it is
    /// right.
    fn add_base(
        &self,
        table: &SnapshotTable<'_>,
        unsettled: &UnsettledRow,
        row: Option<Image>,
        digester: &mut Digester,
    ) -> Result<bool> {
        let pending = self.pending(unsettled)?;
        let mut base = row.clone();
        for event in pending.iter().rev() {
            base = event.undo(base)?;
        }
        if let Some(base) = &base {
            let values = table.row(base);
            digester.row(table.table.digested(&values));
        }
        let again = replay(base, &changes(&pending)?);
        let same = match (&again, &row) {
            (None, None) => true,
            (Some(again), Some(row)) => table.row(again) == table.row(row),
            _ => false,
        };
        Ok(same && unsettled.waiting.is_empty() && !unsettled.waits)
    }
}

/// The changes that pending events make.
pub(super) fn changes(pending: &[PendingEvent]) -> Result<Vec<PendingChange>> {
    let change = |event: &PendingEvent| -> Result<PendingChange> {
        let after = if event.op() == Op::Delete { None } else { Some(event.after()?) };
        Ok(PendingChange { op: event.op(), after })
    };
    pending.iter().map(change).collect()
}

impl LocalRows for Snapshot<'_> {
    fn cursor(&self) -> Seq {
        self.cursor
    }

    fn count(&mut self, table: usize) -> Result<u64> {
        count(&self.tx, &self.tables[table].table.here().name)
    }

    fn ends(&mut self, table: usize) -> Result<Option<[Vec<Value>; 2]>> {
        let table = &self.tables[table];
        let names =
            table.table.here().key_columns().map(|column| format!("r.{}", ident(&column.present)));
        let results = names.collect::<Vec<_>>().join(", ");
        let parts = table.table.here().key.len();
        let mut ends = [Vec::new(), Vec::new()];
        for (end, order) in ends.iter_mut().zip(["", " DESC"]) {
            let known: Vec<_> = table.keys.iter().map(|key| format!("{key} IS NOT NULL")).collect();
            let keys: Vec<_> = table.keys.iter().map(|key| format!("{key}{order}")).collect();
            let sql = format!(
                "SELECT {results} FROM main.{} AS r WHERE {} ORDER BY {} LIMIT 1",
                ident(&table.table.here().name),
                known.join(" AND "),
                keys.join(", ")
            );
            let mut statement = self.tx.prepare(&sql)?;
            let mut rows = statement.query([])?;
            let Some(row) = rows.next()? else { return Ok(None) };
            values(row, 0, parts, end)?;
        }
        Ok(ends.iter().all(|end| is_utf8(end)).then_some(ends))
    }

    fn cut(&mut self, table: usize, range: &KeyRange, every: u64) -> Result<Vec<Bound>> {
        let table = &self.tables[table];
        let names =
            table.table.here().key_columns().map(|column| format!("r.{}", ident(&column.present)));
        let results = names.collect::<Vec<_>>().join(", ");
        let parts = table.table.here().key.len();
        let mut statement = table.prepare(&self.tx, &results, range)?;
        let mut rows = statement.raw_query();
        let (mut bounds, mut count, mut before) = (Vec::new(), 0, Vec::new());
        while let Some(row) = rows.next()? {
            // A bound between two keys is short.
            if count > 0 && count % every == 0 {
                let mut key = Vec::with_capacity(parts);
                values(row, 0, parts, &mut key)?;
                if is_utf8(&key) && is_utf8(&before) {
                    bounds.push(table.order.between(&before, key));
                }
            }
            count += 1;
            if count % every == 0 {
                values(row, 0, parts, &mut before)?;
            }
        }
        Ok(bounds)
    }

    fn digest(&mut self, table: usize, range: &KeyRange) -> Result<LocalDigest> {
        let table = &self.tables[table];
        let count = table.table.here().columns.len();
        let mut statement = table.prepare(&self.tx, &table.columns(), range)?;
        let mut rows = statement.raw_query();
        let mut unsettled = table.unsettled(range).iter().peekable();
        let (mut digester, mut row, mut must_read) = (Digester::default(), Vec::new(), false);
        while let Some(found) = rows.next()? {
            values(found, 0, count, &mut row)?;
            if unsettled.peek().is_none() && !table.needs_key() {
                digester.row(table.table.digested(&row));
                continue;
            }
            let Some(key) = table.key(&row) else { continue };
            let mut own = None;
            while let Some(next) = unsettled.peek() {
                match table.order.compare(&next.values, &key) {
                    std::cmp::Ordering::Less => {
                        must_read |= !self.add_base(table, next, None, &mut digester)?;
                        unsettled.next();
                    }
                    std::cmp::Ordering::Equal => {
                        own = unsettled.next();
                        break;
                    }
                    std::cmp::Ordering::Greater => break,
                }
            }
            match own {
                Some(own) => {
                    let image = Some(table.image(&row));
                    must_read |= !self.add_base(table, own, image, &mut digester)?;
                }
                None => digester.row(table.table.digested(&row)),
            }
        }
        for rest in unsettled {
            must_read |= !self.add_base(table, rest, None, &mut digester)?;
        }
        Ok(LocalDigest { digest: digester.finish(), must_read })
    }

    fn rows(&mut self, table: usize, range: &KeyRange) -> Result<Vec<LocalRow>> {
        let table = &self.tables[table];
        let count = table.table.here().columns.len();
        let results = format!("{}, {}", key_json(table.table.here(), "r"), table.columns());
        let mut statement = table.prepare(&self.tx, &results, range)?;
        let mut rows = statement.raw_query();
        let (mut found, mut row) = (Vec::new(), Vec::new());
        let mut places = HashMap::new();
        while let Some(next) = rows.next()? {
            values(next, 1, count, &mut row)?;
            if table.key(&row).is_none() {
                continue;
            }
            let key = RowKey(next.get(0)?);
            places.insert(key.clone(), found.len());
            let image = Some(table.image(&row));
            found.push(LocalRow { key, row: image, ..LocalRow::default() });
        }
        for unsettled in table.unsettled(range) {
            let Some(key) = &unsettled.key else { continue };
            let at = *places.entry(key.clone()).or_insert(found.len());
            if at == found.len() {
                found.push(LocalRow { key: key.clone(), ..LocalRow::default() });
            }
            found[at].pending = changes(&self.pending(unsettled)?)?;
            found[at].waiting.clone_from(&unsettled.waiting);
            found[at].waits = unsettled.waits;
        }
        Ok(found)
    }
}
