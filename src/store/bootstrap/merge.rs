//! The first sync: the remote's rows are staged, then merged with the local ones in one
//! transaction.
//!
//! Staged rows are read table by table at different moments ([`Store::stage`]); the log since the
//! first of those moments, folded over them ([`Store::stage_events`]), makes them rows of one
//! moment. [`Store::adopt`] shows them:
//!
//! * A row on both sides that is the same stays as it is.
//! * A row on both sides that differs takes the remote's version. The local one becomes a pending
//!   insert that has seen nothing and is set aside: the remote will record it as lost, and it comes
//!   into the conflict inbox.
//! * A row that is only here stays, as a pending insert. It has seen nothing of the log either: if
//!   the log tells of that row, it was deleted there, and the remote will record it as lost. A row
//!   that is only there is written.
//! * Pending events from before stay on top, where they can. Those of a row that is the same on
//!   both sides get the cursor as their base, for their writer had seen what the remote has.
//!
//! # Caveats
//!
//! A column of the remote that is unknown here is left out, and counted.

use std::collections::HashMap;

use rusqlite::Connection;

use super::row_order::{Component, Rows, components};
use crate::catalog::{Table, ident, key_json};
use crate::error::{Code, Error, Result};
use crate::event::page::{Line, Page};
use crate::event::{Columns, EventId, Image, Op, RowKey, Seq, read_columns};
use crate::store::Store;
use crate::store::apply::admission::{MALFORMED, Offered, fits};
use crate::store::apply::reapply::redo;
use crate::store::apply::rebase::{Rebase, Touched};
use crate::store::apply::step::{Step, Stop, Strategy, begin};
use crate::store::connection::{ADOPTED, set_setting};
use crate::store::file_state::count_staged;
use crate::store::identity::{NewRemote, retire};
use crate::store::outbox::pending::{known_columns, load};
use crate::store::outbox::reader::row_key;
use crate::store::rows::refusal::shorten;
use crate::store::rows::row::{borrow, known_key, overlay, value};
use crate::store::rows::writable::{ADVICE, Unwritable};
use crate::store::schema::notice::acquit_all;

/// What the first sync found, in rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Adopted {
    /// Only on the remote: written here.
    pub fetched: usize,
    /// Only here: to be pushed.
    pub local: usize,
    /// The same on both sides.
    pub equal: usize,
    /// Different: the remote's version was taken.
    pub different: usize,
    /// Rows of the remote that have columns which are unknown here.
    #[serde(skip)]
    pub narrowed: usize,
    /// The same figures for each table.
    pub tables: Vec<AdoptedTable>,
}

/// What the first sync found in one table: see [`Adopted`].
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct AdoptedTable {
    /// The table.
    pub table: String,
    /// Rows that were only on the remote.
    pub fetched: usize,
    /// Rows that were only here.
    pub local: usize,
    /// Rows that were the same on both sides.
    pub equal: usize,
    /// Rows that differed.
    pub different: usize,
}

impl Adopted {
    fn new(tables: Vec<AdoptedTable>, narrowed: usize) -> Adopted {
        let sum = |of: fn(&AdoptedTable) -> usize| tables.iter().map(of).sum();
        Adopted {
            fetched: sum(|table| table.fetched),
            local: sum(|table| table.local),
            equal: sum(|table| table.equal),
            different: sum(|table| table.different),
            narrowed,
            tables,
        }
    }
}

/// How the remote's rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Over the local ones.
    InPlace,
    /// The local ones that are not the remote's come off first.
    Lifted,
}

/// One adoption under way.
struct Adoption<'a, 's> {
    rebase: Rebase<'s, 's>,
    tx: &'a Connection,
    way: Way,
    now_ms: i64,
    /// Outbox numbers of the inserts for rows that are only here, with their tables.
    local: Vec<(i64, usize)>,
    /// Rows that have pending events: table and key, and whether what is underneath is the
    /// remote's row.
    seen: HashMap<(usize, RowKey), bool>,
    /// What was found in each table.
    found: Vec<AdoptedTable>,
    narrowed: usize,
}

impl Store {
    /// Keeps rows of a remote table aside, until [`Store::adopt`]. A row that is staged already is
    /// replaced.
    ///
    /// # Errors
    ///
    /// `Corrupt` when a row is none of that table: its key has another form, or its values another
    /// key. `Storage` when the database fails.
    pub fn stage(&mut self, table: &str, rows: &[(RowKey, Image)]) -> Result<()> {
        let definition = self.table_index(table).map(|at| &self.tables[at].table);
        let definition = definition.ok_or_else(|| {
            Error::new(Code::TableNotReplicated, format!("table `{table}` is not replicated"))
        })?;
        let tx = self.begin_write()?;
        count_staged(&tx)?;
        for (key, image) in rows {
            let columns = borrow(image);
            let offered = Offered::row(key, &columns);
            fits(definition, &offered, &mut Vec::new())
                .map_err(|reason| Error::new(Code::AnswerInvalid, reason))?;
            put(&tx, table, &key.0, Some(image))?;
        }
        self.commit_write(tx)
    }

    /// Folds a page of the log over the staged rows. An event that is none goes to quarantine.
    ///
    /// # Errors
    ///
    /// `Corrupt` when the page is not one. `Storage` when the database fails.
    pub fn stage_events(&mut self, page: &Page) -> Result<()> {
        let lines = page.lines()?;
        let tx = self.begin_write()?;
        count_staged(&tx)?;
        let (mut after, mut key) = (Columns::new(), Vec::new());
        for line in lines.iter().filter(|line| line.verdict.is_applied() || line.damaged.is_some())
        {
            if let Some(reason) = &line.damaged {
                quarantine(&tx, line, reason)?;
                continue;
            }
            let Some(table) = self.table_index(&line.table) else { continue };
            let table = &self.tables[table].table;
            let read = match line.after {
                Some(json) => read_columns(json, &mut after),
                None => {
                    after.clear();
                    Ok(())
                }
            };
            let read = read.map_err(|error| error.message().to_owned());
            let mut admit = || {
                let offered = Offered::event(line, &after);
                fits(table, &offered, &mut key)
            };
            if let Err(reason) = read.and_then(|()| admit().map(drop)) {
                quarantine(&tx, line, &reason)?;
                continue;
            }
            let mut image = match line.op {
                Op::Insert => Some(Image::default()),
                Op::Update => staged(&tx, &table.name, line.key)?,
                Op::Delete => None,
            };
            if let Some(image) = &mut image {
                overlay(table, image, &after);
            }
            if image.is_some() || line.op == Op::Delete {
                put(&tx, &table.name, line.key, image.as_ref())?;
            }
        }
        self.commit_write(tx)
    }

    /// Forgets all staged rows.
    pub fn stage_clear(&mut self) -> Result<()> {
        let tx = self.begin_write()?;
        count_staged(&tx)?;
        tx.execute("DELETE FROM driftless_staging", [])?;
        self.commit_write(tx)
    }

    /// Whether the first sync is done: what is here is then the remote's at the cursor, with the
    /// pending events on top. Before that it may be neither pushed nor pulled.
    pub fn is_adopted(&self) -> Result<bool> {
        Ok(self.setting(ADOPTED)?.is_some())
    }

    /// Merges the staged rows, which are the remote's at `cursor`, with the local ones, in one
    /// transaction, and forgets them. `now_ms` is the time of the new events, in ms since 1970.
    ///
    /// # Errors
    ///
    /// `Usage`, naming the table, when a constraint that this database alone has refuses a row of
    /// the remote. `Storage` when the database fails. Then nothing has changed.
    pub fn adopt(&mut self, cursor: Seq, now_ms: i64) -> Result<Adopted> {
        self.adopt_from(None, cursor, now_ms)
    }

    /// The same for a remote that takes the place of another one. In the same transaction the log
    /// and what lost in it are put away, with the identity that the file had until now
    /// ([`Store::former`], [`LogFilter::former`](crate::store::LogFilter::former)); the outbox
    /// stays.
    ///
    /// # Errors
    ///
    /// As for [`Store::adopt`].
    pub fn accept(&mut self, to: &NewRemote, cursor: Seq, now_ms: i64) -> Result<Adopted> {
        let done = self.adopt_from(Some(to), cursor, now_ms)?;
        self.id = to.replica;
        Ok(done)
    }

    fn adopt_from(&mut self, to: Option<&NewRemote>, cursor: Seq, now_ms: i64) -> Result<Adopted> {
        let mut way = Way::InPlace;
        loop {
            self.check_triggers()?;
            if let Some(Unwritable { reason, .. }) = self.unwritable().into_iter().next() {
                return Err(Error::new(Code::TableUnwritable, reason).with_hint(ADVICE));
            }
            self.straighten()?;
            match self.adopt_once(to, cursor, now_ms, way) {
                Ok(done) => {
                    self.suspects.clear();
                    return Ok(done);
                }
                Err(Stop::Failed(error)) => return Err(error),
                Err(Stop::SchemaChanged) => {}
                Err(Stop::Taken | Stop::Refused) if way == Way::InPlace => way = Way::Lifted,
                Err(_) => {
                    let message =
                        "a constraint or a trigger of this database refuses the remote's rows";
                    return Err(Error::new(Code::RowsRefused, message)
                        .with_hint("compare the two schemas: this one asks for more"));
                }
            }
        }
    }

    fn adopt_once(
        &self,
        to: Option<&NewRemote>,
        cursor: Seq,
        now_ms: i64,
        way: Way,
    ) -> Step<Adopted> {
        let tx = self.begin_write()?;
        if self.current_schema_version()? != self.schema_version {
            return Err(Stop::SchemaChanged);
        }
        let mut start = begin(&tx)?;
        self.refresh_pending(&tx, start.cursor)?;
        if let Some(to) = to {
            retire(&tx, to, now_ms)?;
            start = begin(&tx)?;
            // The outbox is the same. Read anew, its events would be in no known order again.
            self.pending.borrow_mut().advance(start.cursor);
        }
        let mut rebase = Rebase::new(self, &[], Strategy::TableWide, false, start)?.of_everything();
        rebase.group()?;
        rebase.take_off()?;
        let row = |row: &Touched| Some(((row.table?, row.key.clone()), false));
        let seen = rebase.rows.iter().filter_map(row).collect();
        let names = self.tables.iter().map(|known| known.table.name.clone());
        let found = names.map(|table| AdoptedTable { table, ..AdoptedTable::default() }).collect();
        let (local, narrowed) = (Vec::new(), 0);
        let mut adoption = Adoption { rebase, tx: &tx, way, now_ms, local, seen, found, narrowed };
        let tables: Vec<_> = self.tables.iter().map(|replicated| &replicated.table).collect();
        for component in components(&tables) {
            adoption.compare_all(&tables, &component)?;
        }
        for table in 0..self.tables.len() {
            adoption.write(table)?;
        }
        adoption.put_back()?;
        let Adoption { mut rebase, local, seen, found, narrowed, .. } = adoption;
        let done = Adopted::new(found, narrowed);
        rebase.put_back()?;
        rebase.carry_out_actions()?;
        raise_bases(&tx, &rebase, &seen, cursor)?;
        if !local.is_empty() || done.different > 0 {
            // Events made before this moment need the rows that these inserts bring.
            tx.execute(
                "UPDATE driftless_outbox SET n = n + (SELECT max(n) FROM driftless_outbox)
                     - (SELECT sent FROM driftless_state)
                 WHERE n > (SELECT sent FROM driftless_state) AND n <= ?1 AND NOT settled",
                [start.newest],
            )?;
        }
        tx.execute("DELETE FROM driftless_staging", [])?;
        rebase.finish(start.cursor.max(cursor), None)?;
        set_setting(&tx, ADOPTED, Some("1"))?;
        acquit_all(&tx)?;
        self.commit_write(tx)?;
        self.pending.borrow_mut().forget();
        self.spans.take();
        Ok(done)
    }
}

impl Adoption<'_, '_> {
    /// Compares tables that refer to one another. Rows that are only here are appended with parents
    /// first.
    fn compare_all(&mut self, tables: &[&Table], component: &Component) -> Step {
        let first = self.local.len();
        let mut rows = component.is_circle.then(|| Rows::of(tables));
        for &at in &component.tables {
            self.compare(at, rows.as_mut())?;
        }
        let Some(rows) = rows else { return Ok(()) };
        let order = rows.sorted();
        if order.is_sorted() {
            return Ok(());
        }
        let highest = "SELECT max(n) FROM driftless_outbox";
        let highest: i64 = self.tx.query_row(highest, [], |row| row.get(0))?;
        let mut statement =
            self.tx.prepare_cached("UPDATE driftless_outbox SET n = ?2 WHERE n = ?1")?;
        let unordered = self.local.split_off(first);
        for (place, from) in order.into_iter().enumerate() {
            let (n, at) = unordered[from];
            let to = highest + 1 + place as i64;
            statement.execute([n, to])?;
            self.local.push((to, at));
        }
        Ok(())
    }

    /// Compares a table's rows with the staged ones, and appends the events that follow from it.
    /// The rows that are only here go to `order` too.
    fn compare(&mut self, at: usize, mut order: Option<&mut Rows<'_>>) -> Step {
        let table = &self.rebase.store.tables[at].table;
        let names: Vec<_> = table.column_names().map(|name| format!("r.{}", ident(name))).collect();
        let whole: Vec<_> = table
            .key_columns()
            .map(|column| format!("r.{} IS NOT NULL", ident(&column.name)))
            .collect();
        let sql = format!(
            "SELECT {}, {} FROM main.{} AS r WHERE {}",
            key_json(table, "r"),
            names.join(", "),
            ident(&table.name),
            whole.join(" AND ")
        );
        let mut lifted = Vec::new();
        {
            let mut statement = self.tx.prepare(&sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let key = row_key(row.get_ref(0)?.as_bytes().map_err(rusqlite::Error::from)?)?;
                if !key.is_utf8() {
                    return Err(RowKey::not_utf8("this database", &table.name).into());
                }
                let mut image = Image::default();
                for (index, column) in table.columns.iter().enumerate() {
                    image.0.push((column.name.clone(), value(row.get_ref(index + 1)?)));
                }
                let n = match staged(self.tx, &table.name, &key.0)? {
                    None => {
                        self.found[at].local += 1;
                        let aside = self.way == Way::Lifted;
                        let n = self.append(table, &key, &image, Seq(0), aside)?;
                        self.local.push((n, at));
                        order.iter_mut().for_each(|rows| rows.push(&table.name, &image));
                        Some(n)
                    }
                    Some(theirs) if same(table, &image, &theirs) => {
                        self.found[at].equal += 1;
                        if let Some(equal) = self.seen.get_mut(&(at, key.clone())) {
                            *equal = true;
                        }
                        let sql = "DELETE FROM driftless_staging WHERE tbl = ?1 AND pk = ?2";
                        self.tx.prepare_cached(sql)?.execute([&table.name, &key.0])?;
                        None
                    }
                    Some(_) => {
                        self.found[at].different += 1;
                        Some(self.append(table, &key, &image, Seq(0), true)?)
                    }
                };
                if self.way == Way::Lifted && n.is_some() {
                    lifted.push(key);
                }
            }
        }
        for key in lifted {
            let Some(values) = known_key(table, &key.0) else { continue };
            if let Some(row) = self.rebase.writer.row(at, &values)? {
                let lifted = self.rebase.writer.lift(at, &key, &values, &row);
                self.rebase.check(lifted)?;
            }
        }
        Ok(())
    }

    /// Appends an insert to the outbox, and gives its number.
    fn append(
        &self,
        table: &Table,
        key: &RowKey,
        image: &Image,
        base: Seq,
        aside: bool,
    ) -> Result<i64> {
        let mut statement = self.tx.prepare_cached(
            "INSERT INTO driftless_outbox (ms, tail, tbl, pk, op, after, base, actor, aside)
             SELECT max(clock, ?1), random() & ?7, ?2, ?3, 0, ?4, ?5, actor, ?6
             FROM driftless_state",
        )?;
        let json = image.to_json();
        let mask = EventId::TAIL_MASK;
        statement.execute((self.now_ms, &table.name, &key.0, json, base.0, aside, mask))?;
        Ok(self.tx.last_insert_rowid())
    }

    /// Writes the staged rows of a table that are left.
    fn write(&mut self, at: usize) -> Step {
        let table = &self.rebase.store.tables[at].table;
        let sql = "SELECT pk, img FROM driftless_staging WHERE tbl = ?1 AND img IS NOT NULL";
        let mut statement = self.tx.prepare_cached(sql)?;
        let mut rows = statement.query([&table.name])?;
        while let Some(row) = rows.next()? {
            let key: String = row.get(0)?;
            let image = Image::parse(row.get_ref(1)?.as_bytes().map_err(rusqlite::Error::from)?)?;
            let columns = known_columns(table, &image);
            self.narrowed += usize::from(columns.len() < image.0.len());
            let written = self.rebase.writer.upsert(at, &key, &columns);
            self.rebase.check(written)?;
            self.found[at].fetched += 1;
        }
        // The different ones have been counted as such.
        Ok(())
    }

    /// Puts the rows that are only here back, where they were lifted.
    fn put_back(&mut self) -> Step {
        for table in &mut self.found {
            table.fetched -= table.different.min(table.fetched);
        }
        if self.way == Way::InPlace {
            return Ok(());
        }
        for &(n, at) in &self.local {
            let Some(event) = load(self.tx, &self.rebase.store.layouts, n)? else { continue };
            let table = &self.rebase.store.tables[at].table;
            redo(self.tx, &mut self.rebase.writer, table, at, &event)?;
        }
        Ok(())
    }
}

/// Who changed a row that is the same on both sides has seen all that the remote's log tells of it.
fn raise_bases(
    tx: &Connection,
    rebase: &Rebase<'_, '_>,
    seen: &HashMap<(usize, RowKey), bool>,
    cursor: Seq,
) -> Step {
    let sql = "UPDATE driftless_outbox SET base = ?2 WHERE n = ?1 AND NOT aside";
    let mut statement = tx.prepare_cached(sql)?;
    for row in &rebase.rows {
        let Some(table) = row.table else { continue };
        if seen.get(&(table, row.key.clone())) == Some(&true) {
            for (n, ..) in &row.pending {
                statement.execute((n, cursor.0))?;
            }
        }
    }
    Ok(())
}

/// The staged image of a row, if there is one and the row was not deleted meanwhile.
fn staged(db: &Connection, table: &str, key: &str) -> Result<Option<Image>> {
    let sql = "SELECT img FROM driftless_staging WHERE tbl = ?1 AND pk = ?2 AND img IS NOT NULL";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([table, key])?;
    match rows.next()? {
        None => Ok(None),
        Some(row) => {
            Ok(Some(Image::parse(row.get_ref(0)?.as_bytes().map_err(rusqlite::Error::from)?)?))
        }
    }
}

fn put(db: &Connection, table: &str, key: &str, image: Option<&Image>) -> Result<()> {
    let mut statement = db.prepare_cached(
        "INSERT INTO driftless_staging (tbl, pk, img) VALUES (?1, ?2, ?3)
         ON CONFLICT (tbl, pk) DO UPDATE SET img = excluded.img",
    )?;
    statement.execute((table, key, image.map(Image::to_json)))?;
    Ok(())
}

/// Puts an event that is none into quarantine: it is no reason to have no first sync.
fn quarantine(db: &Connection, line: &Line<'_>, reason: &str) -> Result<()> {
    let mut statement = db.prepare_cached(
        "INSERT INTO driftless_quarantine (seq, tbl, pk, reason) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (seq) DO UPDATE SET reason = excluded.reason",
    )?;
    let reason = format!("{MALFORMED}{reason}");
    statement.execute((line.seq.0, &line.table, line.key, &reason))?;
    let table = shorten(&line.table);
    tracing::warn!(seq = line.seq.0, table = ?table, reason, "into quarantine");
    Ok(())
}

/// Whether the remote's row is the local one, in the columns that both sides have.
fn same(table: &Table, mine: &Image, theirs: &Image) -> bool {
    known_columns(table, theirs).into_iter().all(|(name, value)| {
        let found = mine.0.iter().find(|(mine, _)| mine.eq_ignore_ascii_case(&name));
        found.is_some_and(|(_, mine)| *mine == value.into_value())
    })
}
