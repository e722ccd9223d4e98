//! The first sync: the remote's rows are staged, then merged with the local ones in one
//! transaction.
//!
//! Staged rows are read table by table at different moments ([`Store::stage`]); the log since the
//! first of those moments, folded over them ([`Store::stage_events`]), makes them rows of one
//! moment. [`Store::adopt_by`] shows them:
//!
//! * A row on both sides that is the same stays as it is.
//! * A row on both sides that differs takes the remote's version. The local one becomes a pending
//!   insert that has seen nothing and is set aside: the remote will record it as lost, and it comes
//!   into the conflict inbox.
//! * Where the local version is preferred ([`Preferences`]), it stays, as a pending update of the
//!   remote's. The remote's version becomes an insert that is refused in advance, so it comes into
//!   the conflict inbox in the same way.
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

use super::prefer::{Judge, Preferences};
use super::row_order::{Component, Rows, components};
use super::staging::{staged, unstage};
use crate::catalog::{Table, ident, key_json};
use crate::error::{Code, Error, Result};
use crate::event::{EventId, Image, RowKey, Seq};
use crate::store::Store;
use crate::store::apply::affected::AffectedRow;
use crate::store::apply::reapply::reapply_event;
use crate::store::apply::rebase::Rebase;
use crate::store::apply::step::{Step, Stop, Strategy, Task, begin};
use crate::store::connection::{ADOPTED, set_setting};
use crate::store::identity::{NewRemote, retire};
use crate::store::outbox::pending::{known_columns, load};
use crate::store::outbox::reader::row_key;
use crate::store::rows::row::{known_key, value};
use crate::store::rows::writable::{ADVICE, Unwritable};
use crate::store::schema::notice::{acquit, suspects};

/// What the first sync found, in rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Adopted {
    /// Only on the remote: written here.
    pub fetched: usize,
    /// Only here: to be pushed.
    pub local: usize,
    /// The same on both sides.
    pub equal: usize,
    /// Different. The remote's version was taken, except for those that are `local_taken`.
    pub different: usize,
    /// Different, and the local version was preferred.
    pub local_taken: usize,
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
    /// Those of them of which the local version was preferred.
    pub local_taken: usize,
}

impl Adopted {
    fn new(tables: Vec<AdoptedTable>, narrowed: usize) -> Adopted {
        let sum = |of: fn(&AdoptedTable) -> usize| tables.iter().map(of).sum();
        Adopted {
            fetched: sum(|table| table.fetched),
            local: sum(|table| table.local),
            equal: sum(|table| table.equal),
            different: sum(|table| table.different),
            local_taken: sum(|table| table.local_taken),
            narrowed,
            tables,
        }
    }
}

/// Why the remote's version of a row is recorded as rejected, where the local one is preferred.
const PREFERRED: &str = "the local version was preferred";

/// What an adoption is to do.
#[derive(Clone, Copy)]
struct Terms<'a> {
    preferences: &'a Preferences,
    /// The place in the log that the staged rows are of; `None` for the replica's cursor.
    cursor: Option<Seq>,
    now_ms: i64,
    /// The tables that join a replica; `None` for all, in a first sync.
    joining: Option<&'a [String]>,
}

impl Terms<'_> {
    fn takes(&self, table: &str) -> bool {
        let is = |name: &String| name.eq_ignore_ascii_case(table);
        self.joining.is_none_or(|names| names.iter().any(is))
    }
}

/// How the remote's rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Over the local ones.
    InPlace,
    /// The local ones that are not the remote's come off first.
    Rewritten,
}

/// One adoption under way.
struct Adoption<'a, 's> {
    rebase: Rebase<'s, 's>,
    tx: &'a Connection,
    way: Way,
    now_ms: i64,
    /// The place in the log that the staged rows are of.
    cursor: Seq,
    /// Decides which version of a row is taken.
    judge: Judge<'a>,
    /// Outbox numbers of the inserts for rows that are only here, with their tables.
    local: Vec<(i64, usize)>,
    /// The same of the updates for rows of which the local version is preferred, and of the inserts
    /// that have the remote's version.
    kept: Vec<(i64, usize)>,
    lost: Vec<(i64, usize)>,
    /// Rows that have pending events: table and key, and whether what is underneath is the
    /// remote's row.
    seen: HashMap<(usize, RowKey), bool>,
    /// What was found in each table.
    found: Vec<AdoptedTable>,
    narrowed: usize,
}

impl Store {
    /// Whether the first sync is done: what is here is then the remote's at the cursor, with the
    /// pending events on top. Before that it may be neither pushed nor pulled.
    pub fn is_adopted(&self) -> Result<bool> {
        Ok(self.setting(ADOPTED)?.is_some())
    }

    /// Merges the staged rows, which are the remote's at `cursor`, with the local ones, in one
    /// transaction, and forgets them. `preferences` say which version of a row is taken. `now_ms`
    /// is the time of the new events, in ms since 1970.
    ///
    /// # Errors
    ///
    /// `Usage`, naming the table, when a constraint that this database alone has refuses a row of
    /// the remote. `Storage` when the database fails. Then nothing has changed.
    pub fn adopt_by(
        &mut self,
        preferences: &Preferences,
        cursor: Seq,
        now_ms: i64,
    ) -> Result<Adopted> {
        let terms = Terms { preferences, cursor: Some(cursor), now_ms, joining: None };
        self.adopt_from(None, &terms)
    }

    /// The same without preferences.
    ///
    /// # Errors
    ///
    /// As [`Store::adopt_by`].
    #[cfg(feature = "internals")]
    pub fn adopt(&mut self, cursor: Seq, now_ms: i64) -> Result<Adopted> {
        self.adopt_by(&Preferences::default(), cursor, now_ms)
    }

    /// The same for a remote that takes the place of another one. In the same transaction the log
    /// and what lost in it are put away, with the identity that the file had until now
    /// ([`Store::former`], [`LogFilter::former`](crate::store::LogFilter::former)); the outbox
    /// stays.
    ///
    /// # Errors
    ///
    /// As for [`Store::adopt_by`].
    pub fn accept(&mut self, to: &NewRemote, cursor: Seq, now_ms: i64) -> Result<Adopted> {
        let preferences = &Preferences::default();
        let terms = Terms { preferences, cursor: Some(cursor), now_ms, joining: None };
        let done = self.adopt_from(Some(to), &terms)?;
        self.id = to.replica;
        Ok(done)
    }

    /// The same for tables that join a replica, whose staged rows are the remote's at its cursor.
    /// The other tables stay as they are.
    ///
    /// # Errors
    ///
    /// As for [`Store::adopt`].
    pub(crate) fn adopt_joining(&mut self, now_ms: i64) -> Result<Adopted> {
        let mut preferences = Preferences::default();
        let joins =
            self.suspects.iter().filter_map(|one| Some((one.table.clone(), one.joins.clone()?)));
        let joins: Vec<_> = joins.collect();
        let names: Vec<_> = joins.iter().map(|(name, _)| name.clone()).collect();
        joins.into_iter().for_each(|(name, prefer)| preferences.set(Some(name), prefer));
        let terms =
            Terms { preferences: &preferences, cursor: None, now_ms, joining: Some(&names) };
        self.adopt_from(None, &terms)
    }

    fn adopt_from(&mut self, to: Option<&NewRemote>, terms: &Terms<'_>) -> Result<Adopted> {
        let mut way = Way::InPlace;
        loop {
            self.check_triggers()?;
            let mut unwritable = self.unwritable().into_iter();
            if let Some(Unwritable { reason, .. }) =
                unwritable.find(|found| terms.takes(&found.table))
            {
                return Err(Error::new(Code::TableUnwritable, reason).with_hint(ADVICE));
            }
            self.straighten()?;
            match self.adopt_once(to, terms, way) {
                Ok(done) => {
                    self.suspects = suspects(&self.db)?;
                    return Ok(done);
                }
                Err(Stop::Failed(error)) => return Err(error),
                Err(Stop::SchemaChanged) => {}
                Err(Stop::UniqueViolation | Stop::Refused) if way == Way::InPlace => {
                    way = Way::Rewritten
                }
                Err(_) => {
                    let message =
                        "a constraint or a trigger of this database refuses the remote's rows";
                    return Err(Error::new(Code::RowsRefused, message)
                        .with_hint("compare the two schemas: this one is stricter"));
                }
            }
        }
    }

    fn adopt_once(&self, to: Option<&NewRemote>, terms: &Terms<'_>, way: Way) -> Step<Adopted> {
        let &Terms { preferences, cursor, now_ms, .. } = terms;
        let judge = Judge::new(preferences)?;
        let tx = self.begin_write()?;
        if self.current_schema_version()? != self.schema_version {
            return Err(Stop::SchemaChanged);
        }
        let mut start = begin(&tx)?;
        let cursor = cursor.unwrap_or(start.cursor());
        self.refresh_pending(&tx, start.cursor())?;
        if let Some(to) = to {
            retire(&tx, to, now_ms)?;
            start = begin(&tx)?;
            // The outbox is the same. Read anew, its events would be in no known order again.
            self.outbox.pending_mut().advance(start.cursor());
        }
        let task = Task::new(self, &[], Strategy::TableWide, start).of_everything();
        let mut rebase = Rebase::new(task)?;
        rebase.group()?;
        rebase.undo_pending()?;
        let row = |row: &AffectedRow| Some(((row.table()?, row.key().clone()), false));
        let seen = rebase.rows().iter().filter_map(row).collect();
        let names = self.tables.iter().map(|known| known.table.name.clone());
        let found = names.map(|table| AdoptedTable { table, ..AdoptedTable::default() }).collect();
        let mut adoption = Adoption {
            rebase,
            tx: &tx,
            way,
            now_ms,
            cursor,
            judge,
            local: Vec::new(),
            kept: Vec::new(),
            lost: Vec::new(),
            seen,
            found,
            narrowed: 0,
        };
        let tables: Vec<_> = self.tables.iter().map(|replicated| &replicated.table).collect();
        for mut component in components(&tables) {
            component.retain(|at| terms.takes(&tables[at].name));
            adoption.compare_all(&tables, &component)?;
        }
        for table in (0..tables.len()).filter(|&at| terms.takes(&tables[at].name)) {
            adoption.write(table)?;
        }
        adoption.rewrite_local()?;
        let Adoption { mut rebase, local, seen, mut found, narrowed, .. } = adoption;
        found.retain(|table| terms.takes(&table.table));
        let done = Adopted::new(found, narrowed);
        rebase.reapply()?;
        rebase.carry_out_actions()?;
        raise_bases(&tx, &rebase, &seen, cursor)?;
        if !local.is_empty() || done.different > 0 {
            // Events made before this moment need the rows that these inserts bring.
            let takes = |table: usize| terms.takes(&self.tables[table].table.name);
            let numbers: Vec<_> = match terms.joining {
                None => self.outbox.pending().numbers().collect(),
                Some(_) => rebase.rows().numbers(takes),
            };
            move_behind(&tx, &numbers, start.newest())?;
        }
        tx.execute("DELETE FROM driftless_staging", [])?;
        rebase.finish(start.cursor().max(cursor), None)?;
        set_setting(&tx, ADOPTED, Some("1"))?;
        acquit(&tx, |name| terms.takes(name))?;
        self.commit_write(tx)?;
        self.outbox.forget_numbers();
        Ok(done)
    }
}

impl Adoption<'_, '_> {
    /// Compares tables that refer to one another. Rows that are only here are appended with parents
    /// first.
    fn compare_all(&mut self, tables: &[&Table], component: &Component) -> Step {
        let (first, first_kept) = (self.local.len(), self.kept.len());
        let mut rows = component.is_circle().then(|| Rows::of(tables));
        for &at in component.tables() {
            self.compare(at, rows.as_mut())?;
        }
        let Some(rows) = rows else { return Ok(()) };
        let order = rows.sorted();
        if order.is_sorted() && self.kept.len() == first_kept {
            return Ok(());
        }
        let highest = "SELECT max(n) FROM driftless_outbox";
        let highest: i64 = self.tx.query_row(highest, [], |row| row.get(0))?;
        let mut statement =
            self.tx.prepare_cached("UPDATE driftless_outbox SET n = ?2 WHERE n = ?1")?;
        let unordered = self.local.split_off(first);
        // An update may refer to a row that is only here.
        let updates = self.kept.split_off(first_kept);
        let lost = self.lost.split_off(first_kept);
        let mut next = highest;
        let mut renumber = |(n, at): (i64, usize)| -> Step<(i64, usize)> {
            next += 1;
            statement.execute([n, next])?;
            Ok((next, at))
        };
        for from in order {
            self.local.push(renumber(unordered[from])?);
        }
        for update in updates {
            self.kept.push(renumber(update)?);
        }
        for insert in lost {
            self.lost.push(renumber(insert)?);
        }
        Ok(())
    }

    /// Compares a table's rows with the staged ones, and appends the events that follow from it.
    /// The rows that are only here go to `order` too.
    fn compare(&mut self, at: usize, mut order: Option<&mut Rows<'_>>) -> Step {
        let table = self.rebase.task().table(at);
        let names: Vec<_> =
            table.present_names().map(|name| format!("r.{}", ident(name))).collect();
        let whole: Vec<_> = table
            .key_columns()
            .map(|column| format!("r.{} IS NOT NULL", ident(&column.present)))
            .collect();
        let sql = format!(
            "SELECT {}, {} FROM main.{} AS r WHERE {}",
            key_json(table, "r"),
            names.join(", "),
            ident(&table.name),
            whole.join(" AND ")
        );
        let mut removed = Vec::new();
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
                        let aside = self.way == Way::Rewritten;
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
                        unstage(self.tx, &table.name, &key)?;
                        None
                    }
                    Some(theirs) => {
                        self.found[at].different += 1;
                        match self.judge.takes_local(&table.name, &image, &theirs)? {
                            true => Some(self.keep(at, &key, &image, &theirs)?),
                            false => Some(self.append(table, &key, &image, Seq(0), true)?),
                        }
                    }
                };
                if self.way == Way::Rewritten && n.is_some() {
                    removed.push(key);
                }
            }
        }
        for key in removed {
            let Some(values) = known_key(table, &key.0) else { continue };
            if let Some(row) = self.rebase.row(at, &values)? {
                let removed = self.rebase.writer_mut().remove_for_rewrite(at, &key, &values, &row);
                self.rebase.check(removed)?;
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

    /// Takes the local version of a row: as an update of the remote's. Gives its outbox number.
    fn keep(&mut self, at: usize, key: &RowKey, mine: &Image, theirs: &Image) -> Result<i64> {
        let table = self.rebase.task().table(at);
        let (mut before, mut after) = (Image::default(), Image::default());
        for (name, old) in known_columns(table, theirs) {
            let found = mine.0.iter().find(|(mine, _)| mine.eq_ignore_ascii_case(&name));
            let old = old.into_value();
            if let Some((_, new)) = found.filter(|(_, new)| *new != old) {
                before.0.push((name.clone().into_owned(), old));
                after.0.push((name.into_owned(), new.clone()));
            }
        }
        let aside = self.way == Way::Rewritten;
        let n = self.append(table, key, &after, self.cursor, aside)?;
        let update = "UPDATE driftless_outbox SET op = 1, before = ?2 WHERE n = ?1";
        self.tx.prepare_cached(update)?.execute((n, before.to_json()))?;
        // Behind the update: an insert that meets a row without an event would have that logged as
        // a write of the web's, to which the update would lose.
        let lost = self.append(table, key, theirs, Seq(0), true)?;
        let refuse = "UPDATE driftless_outbox SET refuse = ?2 WHERE n = ?1";
        self.tx.prepare_cached(refuse)?.execute((lost, PREFERRED))?;
        self.lost.push((lost, at));
        if self.way == Way::InPlace {
            unstage(self.tx, &table.name, key)?;
        }
        // What was written before the first sync is an update of the preferred version.
        if let Some(seen) = self.seen.get_mut(&(at, key.clone())) {
            *seen = true;
        }
        self.found[at].local_taken += 1;
        self.kept.push((n, at));
        Ok(n)
    }

    /// Writes the staged rows of a table that are left.
    fn write(&mut self, at: usize) -> Step {
        let table = self.rebase.task().table(at);
        let sql = "SELECT pk, img FROM driftless_staging WHERE tbl = ?1 AND img IS NOT NULL";
        let mut statement = self.tx.prepare_cached(sql)?;
        let mut rows = statement.query([&table.name])?;
        while let Some(row) = rows.next()? {
            let key: String = row.get(0)?;
            let image = Image::parse(row.get_ref(1)?.as_bytes().map_err(rusqlite::Error::from)?)?;
            let columns = known_columns(table, &image);
            self.narrowed += usize::from(columns.len() < image.0.len());
            let written = self.rebase.writer_mut().upsert(at, &key, &columns);
            self.rebase.check(written)?;
            self.found[at].fetched += 1;
        }
        // The different ones have been counted as such.
        Ok(())
    }

    /// Puts the rows that are only here, and the preferred versions, back where they were removed.
    fn rewrite_local(&mut self) -> Step {
        for table in &mut self.found {
            // A preferred version that stayed in its place was not written over.
            let over = match self.way {
                Way::InPlace => table.different - table.local_taken,
                Way::Rewritten => table.different,
            };
            table.fetched -= over.min(table.fetched);
        }
        if self.way == Way::InPlace {
            return Ok(());
        }
        for &(n, at) in self.local.iter().chain(&self.kept) {
            let Some(event) = load(self.tx, self.rebase.task().store().outbox.layouts(), n)? else {
                continue;
            };
            let table = self.rebase.task().table(at);
            reapply_event(self.tx, self.rebase.writer_mut(), table, at, &event)?;
        }
        Ok(())
    }
}

/// Gives those of these events that were made before, and not sent yet, new numbers behind all
/// others, in their order.
fn move_behind(tx: &Connection, numbers: &[i64], up_to: i64) -> Result<()> {
    let sql = "SELECT (SELECT max(n) FROM driftless_outbox) - sent, sent FROM driftless_state";
    let (offset, sent): (i64, i64) = tx.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut statement = tx.prepare_cached("UPDATE driftless_outbox SET n = ?2 WHERE n = ?1")?;
    for &n in numbers.iter().filter(|&&n| n > sent && n <= up_to) {
        // Halves of a key change stay neighbours.
        statement.execute([n, n + offset])?;
    }
    Ok(())
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
    for row in rebase.rows().iter() {
        let Some(table) = row.table() else { continue };
        if seen.get(&(table, row.key().clone())) == Some(&true) {
            for (n, ..) in row.pending() {
                statement.execute((n, cursor.0))?;
            }
        }
    }
    Ok(())
}

/// Whether the remote's row is the local one, in the columns that both sides have.
fn same(table: &Table, mine: &Image, theirs: &Image) -> bool {
    known_columns(table, theirs).into_iter().all(|(name, value)| {
        let found = mine.0.iter().find(|(mine, _)| mine.eq_ignore_ascii_case(&name));
        found.is_some_and(|(_, mine)| *mine == value.into_value())
    })
}
