//! Compares suspect tables with the remote's, to find writes that local capture missed.
//!
//! Until this is done, nothing is pushed or integrated, so the cursor stays. The remote's rows are
//! read page by page. Each page comes with the log's newest seq at that moment. The log between the
//! cursor and that seq gives the rows as they were at the cursor. The store does the rest
//! ([`Recaptured`]).
//!
//! No progress is stored. If the process ends or the schema changes again, the comparison begins
//! again. Events that were appended until then are pending, and are not found again.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::catalog::Table;
use crate::error::{Kind, Result};
use crate::event::{Image, RowKey, Seq};
use crate::protocol::compare::behind::{AtCursor, Behind, changes};
use crate::protocol::meta::{Asker, HEAD, Meta, meta, read_meta, wrong};
use crate::protocol::remote_tables::{RemoteTables, SCHEMA_COOKIE, read_schema_cookie};
use crate::remote::{Answer, Batch, Rows};
use crate::store::{Adopted, Recaptured, Remote, Store, Suspect};
use crate::sync::first_sync::table_reader::{TablePage, TableReader};

/// The number of log events that are read at once, at first.
const EVENTS: usize = 2_000;

/// The progress of one machine's comparison.
#[derive(Default)]
pub(super) struct Recapture {
    search: Option<Search>,
    /// What was found of the tables that joined last.
    joined: Option<Adopted>,
}

/// A comparison that is running.
struct Search {
    /// The suspect tables that are not compared yet.
    suspects: Vec<Suspect>,
    /// Those that are not read yet. Those that join are the last ones.
    order: VecDeque<Suspect>,
    tables: Arc<RemoteTables>,
    reader: TableReader,
    behind: Behind,
    /// The seq up to which the log was read.
    read_to: Seq,
    /// The most events of the next range of the log.
    events: usize,
    /// A page of rows, and the log's newest seq at its moment.
    page: Option<(Vec<(RowKey, Image)>, Seq)>,
    /// Whether the log was read at least once.
    has_log: bool,
    found: Recaptured,
}

/// The result of an answer.
pub(super) enum Progress {
    /// More requests are needed.
    More,
    /// A table was compared.
    Compared(String, Recaptured),
    /// Tables have joined the replicated ones.
    Joined(Adopted),
    /// The remote's schema is another one than was known: its definitions are to be read again.
    Stale,
}

impl Recapture {
    /// The next request; `None` if there is nothing to compare with.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails, `Corrupt` when the last key is not valid.
    pub(super) fn ask(
        &mut self,
        store: &mut Store,
        tables: Arc<RemoteTables>,
        asker: Asker,
    ) -> Result<Option<Batch>> {
        let is_current = |search: &Search| {
            search.suspects == store.suspects() && search.tables.cookie == tables.cookie
        };
        if !self.search.as_ref().is_some_and(is_current) {
            self.search = Search::begin(store, tables)?;
        }
        let Some(search) = &self.search else { return Ok(None) };
        let question = match search.wants_log() {
            true => {
                let names: Vec<_> = search.suspects.iter().map(|one| one.table.as_str()).collect();
                changes(&names, search.read_to, search.events)
            }
            false => search.reader.statement()?,
        };
        let statements = vec![question, HEAD.into(), SCHEMA_COOKIE.into(), meta(asker)];
        Ok(Some(Batch { statements, writes: false }))
    }

    /// Reads the identity of the remote from an answer.
    ///
    /// # Errors
    ///
    /// `Corrupt` when `answer` is not valid.
    pub(super) fn meta(answer: &Answer) -> Result<Option<Meta>> {
        match answer.rows.as_slice() {
            [.., meta] => read_meta(meta),
            _ => Err(wrong("the number of results")),
        }
    }

    /// Handles an answer.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails, `Corrupt` when the answer is not valid.
    pub(super) fn answered(
        &mut self,
        store: &mut Store,
        answer: Answer,
        now_ms: i64,
    ) -> Result<Progress> {
        let Some(mut search) = self.search.take() else { return Ok(Progress::More) };
        let [rows, head, cookie, _]: [Rows; 4] =
            answer.rows.try_into().map_err(|_| wrong("the number of results"))?;
        let head = head
            .first()
            .and_then(|row| row.first()?.as_integer())
            .ok_or_else(|| wrong("the log's newest seq"))?;
        if read_schema_cookie(&cookie)? != search.tables.cookie {
            return Ok(Progress::Stale);
        }
        search.read(&rows, Seq(head))?;
        let done = search.compare(store, now_ms)?;
        if !matches!(done, Compared::Anew) {
            self.search = Some(search);
        }
        match done {
            Compared::Table(table, found) => Ok(Progress::Compared(table, found)),
            Compared::Joined(found) => {
                self.joined = Some(found.clone());
                Ok(Progress::Joined(found))
            }
            Compared::Nothing | Compared::Anew => Ok(Progress::More),
        }
    }

    /// The answer was too large: the next request is smaller. False if it cannot be.
    pub(super) fn too_large(&mut self) -> bool {
        match &mut self.search {
            Some(search) if search.wants_log() => {
                search.events /= 2;
                search.events > 0
            }
            Some(search) => search.reader.too_large(),
            None => true,
        }
    }

    /// What was found of the tables that joined last.
    pub(super) fn joined(&self) -> Option<&Adopted> {
        self.joined.as_ref()
    }

    /// Begins anew.
    pub(super) fn restart(&mut self) {
        self.search = None;
    }
}

/// The result of a comparison.
enum Compared {
    Nothing,
    Table(String, Recaptured),
    Joined(Adopted),
    /// The schema has changed: it begins anew.
    Anew,
}

impl Search {
    fn begin(store: &mut Store, tables: Arc<RemoteTables>) -> Result<Option<Search>> {
        let is_there = |suspect: &&Suspect| tables.get(&suspect.table).is_some();
        let absent: Vec<_> =
            store.suspects().iter().filter(|one| !is_there(one)).cloned().collect();
        let absent: Vec<_> = absent.iter().map(|one| one.table.as_str()).collect();
        if !absent.is_empty() {
            tracing::warn!(?absent, "tables cannot be compared, for the remote lacks them");
            store.wait_for_tables(&absent)?;
        }
        let suspects = store.suspects().to_vec();
        if suspects.is_empty() {
            return Ok(None);
        }
        // Rows that are only here must find their parents, also in tables that join with theirs.
        let (joining, plain): (Vec<_>, Vec<_>) =
            suspects.iter().cloned().partition(|suspect| suspect.joins.is_some());
        if !joining.is_empty() {
            store.stage_clear()?;
        }
        let order: VecDeque<_> = plain.into_iter().chain(joining).collect();
        let there = |suspect: &Suspect| tables.get(&suspect.table).map(|there| there.table.clone());
        let there: Vec<Table> = order.iter().filter_map(there).collect();
        store.begin_recapture()?;
        Ok(Some(Search {
            suspects,
            order,
            reader: TableReader::new(there),
            tables,
            behind: Behind::default(),
            read_to: store.place()?.seq,
            events: EVENTS,
            page: None,
            has_log: false,
            found: Recaptured::default(),
        }))
    }

    /// Whether more of the log must be read before a page is compared.
    fn wants_log(&self) -> bool {
        !self.has_log || self.page.as_ref().is_some_and(|(_, head)| *head > self.read_to)
    }

    /// Reads the result of the last request.
    fn read(&mut self, rows: &Rows, head: Seq) -> Result<()> {
        if !self.wants_log() {
            if let TablePage::Rows(_, rows) = self.reader.answered(rows)? {
                self.page = Some((rows, head));
            }
            return Ok(());
        }
        let (count, last) = self.behind.read(rows)?;
        let complete = count < self.events;
        self.read_to = if complete { head } else { last.unwrap_or(head) };
        self.has_log |= complete;
        Ok(())
    }

    /// Compares the waiting page, after enough of the log was read.
    fn compare(&mut self, store: &mut Store, now_ms: i64) -> Result<Compared> {
        if self.wants_log() {
            return Ok(Compared::Nothing);
        }
        let Some((rows, _)) = self.page.take() else { return Ok(Compared::Nothing) };
        let Some(suspect) = self.order.front().cloned() else { return Ok(Compared::Anew) };
        if suspect.joins.is_some() {
            return self.join(store, &suspect.table, rows, now_ms);
        }
        let Some(there) = self.tables.get(&suspect.table) else { return Ok(Compared::Anew) };
        let remote = Remote::new(&there.table, &self.behind);
        if !rows.is_empty() {
            let Some(found) = store.recapture_rows(remote, &rows, now_ms)? else {
                return Ok(Compared::Anew);
            };
            self.found.add(found);
            return Ok(Compared::Nothing);
        }
        let Some(found) = store.end_recapture(&suspect, remote, now_ms)? else {
            return Ok(Compared::Anew);
        };
        self.found.add(found);
        store.begin_recapture()?;
        self.order.pop_front();
        self.suspects.retain(|other| other.table != suspect.table);
        Ok(Compared::Table(suspect.table, std::mem::take(&mut self.found)))
    }

    /// Stages rows of a table that joins, as they were at the cursor. After the last row of the
    /// last of them, the rows of both sides are brought together, as in a first sync.
    fn join(
        &mut self,
        store: &mut Store,
        table: &str,
        rows: Vec<(RowKey, Image)>,
        now_ms: i64,
    ) -> Result<Compared> {
        if !rows.is_empty() {
            let former = |(key, row): (RowKey, Image)| {
                let row = match self.behind.at_cursor(table, &key, Some(row.clone())) {
                    AtCursor::Row(former) => former?,
                    // The events of it are integrated over what it is now, with the same result.
                    AtCursor::Unknown => row,
                };
                Some((key, row))
            };
            let rows: Vec<_> = rows.into_iter().filter_map(former).collect();
            store.stage(table, &rows)?;
            return Ok(Compared::Nothing);
        }
        // Those that were deleted since.
        for key in self.behind.keys(table) {
            if let AtCursor::Row(Some(row)) = self.behind.at_cursor(table, key, None) {
                store.stage_former(table, key, row)?;
            }
        }
        self.order.pop_front();
        if !self.order.is_empty() {
            return Ok(Compared::Nothing);
        }
        match store.adopt_joining(now_ms) {
            Ok(found) => Ok(Compared::Joined(found)),
            // They hold up nothing else.
            Err(error) if error.kind() == Kind::Usage => {
                tracing::warn!("tables cannot join: {error}");
                let joining = self.suspects.iter().filter(|one| one.joins.is_some());
                let joining: Vec<_> = joining.map(|one| one.table.as_str()).collect();
                store.wait_for_tables(&joining)?;
                Ok(Compared::Anew)
            }
            Err(error) => Err(error),
        }
    }
}
