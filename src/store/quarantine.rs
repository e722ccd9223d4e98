//! Pulled events that cannot be applied here yet, each with its reason.
//!
//! An event comes here if this database does not know its table or a column, if it contradicts
//! itself, or if a constraint that only this database has refuses its row. Its frame is in the log
//! nevertheless, and the cursor advances. Later events of that row follow it into quarantine, in
//! order, until a retry applies them.
//!
//! If a constraint that only this database has rejects a row's base image, the image is stored in
//! quarantine with the row's first waiting event. A line that is not a valid event has no frame. It
//! is kept, and each retry reads it again, because a later version of this program may understand
//! it. A row image that is stored with such a line is tried without the line.

pub(in crate::store) mod rows;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use self::rows::hold_in_front;
use super::Store;
use super::apply::admission::MALFORMED;
use super::apply::rebase::Rebase;
use super::apply::step::{HeldRows, Integrated, Step, Stop, Strategy, Task};
use super::identity::landmark;
use crate::error::{Code, Error, Result};
use crate::event::page::{Line, Page};
use crate::event::value::write_string;
use crate::event::{Change, Event, Image, RowKey, Seq};

/// The setting with the definitions for which the quarantine was last retried automatically.
const RETRIED: &str = "retried";
/// The most waiting events that are tried in one transaction. An application's write waits for it.
const RETRY_EVENTS: usize = 2_000;
/// The most bytes of lines that are read again in one transaction: the size of a page.
const RETRY_BYTES: usize = 4 << 20;
/// Another version of the program may read lines that this one cannot.
const PROGRAM: &str = env!("CARGO_PKG_VERSION");

/// An event in quarantine.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Quarantined {
    /// Its place in the log.
    pub seq: Seq,
    /// Its table.
    pub table: String,
    /// Its row.
    #[serde(flatten, serialize_with = "crate::event::readable::key")]
    pub key: RowKey,
    /// Why it waits.
    pub reason: String,
}

impl Quarantined {
    /// Whether its line is not a valid event for this version of the program. It has no frame in
    /// the log.
    pub fn is_malformed(&self) -> bool {
        self.reason.starts_with(MALFORMED)
    }
}

/// The result of a retry.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Retried {
    /// Events that are applied now.
    pub applied: usize,
    /// Events that still wait.
    pub waiting: usize,
    /// The rows that changed.
    #[serde(skip)]
    pub changes: Vec<Change>,
}

impl Store {
    /// The events in quarantine, in the order of the log.
    pub fn quarantine(&self) -> Result<Vec<Quarantined>> {
        let sql = "SELECT seq, tbl, pk, reason FROM driftless_quarantine ORDER BY seq";
        let mut statement = self.db.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| {
            Ok(Quarantined {
                seq: Seq(row.get(0)?),
                table: row.get(1)?,
                key: RowKey(row.get(2)?),
                reason: row.get(3)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Removes a malformed event from quarantine: its row was repaired on the remote, or is given
    /// up here.
    ///
    /// # Errors
    ///
    /// `Usage` when no event waits at that place, when it may still be applied, or when its row's
    /// former values are stored only with it; `Storage` when the database fails.
    pub fn dismiss_quarantined(&mut self, seq: Seq) -> Result<()> {
        let waiting = self.quarantine()?.into_iter().find(|event| event.seq == seq);
        let Some(event) = waiting else {
            let message = format!("no event {seq} waits in quarantine");
            return Err(Error::new(Code::NoSuchEvent, message));
        };
        if !event.is_malformed() {
            let message = format!("event {seq} waits, and can still be applied");
            return Err(Error::new(Code::StillApplicable, message)
                .with_hint("when the reason is gone: driftless quarantine retry"));
        }
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let sql = "DELETE FROM driftless_quarantine WHERE seq = ?1 RETURNING img";
        let image: Option<String> = tx.query_row(sql, [seq.0], |row| row.get(0))?;
        if let Some(image) = image
            && !hold_in_front(&tx, &event.table, &event.key.0, &image)?
        {
            let message = format!("a row of table `{}` waits with it", event.table);
            return Err(Error::new(Code::StillApplicable, message)
                .with_hint("when the reason is gone: driftless quarantine retry"));
        }
        Ok(tx.commit()?)
    }

    /// Tries to apply the events in quarantine, in the order of the log, after a migration or on a
    /// person's request. `now_ms` is the time of new conflict notices, in ms since 1970.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails, `Corrupt` when a waiting event's frame is damaged. Events
    /// that were applied before the error stay applied.
    pub fn retry_quarantine(&mut self, now_ms: i64) -> Result<Retried> {
        let mut retried = self.read_again(now_ms)?;
        let before = self.waiting()?;
        let mut after = Seq(0);
        loop {
            let page = self.waiting_page(after)?;
            if page.count == 0 {
                retried.waiting = self.waiting()?;
                retried.applied += before.saturating_sub(retried.waiting);
                return Ok(retried);
            }
            let lines = page.lines()?;
            let done = self.escalate(|store, strategy| store.retry(&lines, strategy, now_ms))?;
            let refused = || Error::storage("a UNIQUE index refuses the events in quarantine");
            let done = done.ok_or_else(refused)?;
            retried.changes.extend(done.changes);
            after = page.last;
        }
    }

    /// Retries the quarantine if the definitions of the replicated tables, or the program's
    /// version, have changed since the last retry: an event may have waited for a column that
    /// exists now, or for a program that can read it. `None` if nothing was to be tried. Call it
    /// after [`Store::check_triggers`]. It costs nothing while the schema stays the same.
    ///
    /// # Errors
    ///
    /// As for [`Store::retry_quarantine`].
    pub fn retry_after_migration(&mut self, now_ms: i64) -> Result<Option<Retried>> {
        if self.looks.has_seen_quarantine() {
            return Ok(None);
        }
        let mut done = None;
        // The fingerprints of the triggers represent the definitions.
        let sql = "SELECT group_concat(name || ' ' || triggers, char(10)) FROM \
                   (SELECT name, triggers FROM driftless_tables ORDER BY name)";
        let tables: Option<String> = self.db.query_row(sql, [], |row| row.get(0))?;
        // A table may become writable when the program gets a collation that it lacked.
        let unwritable: Vec<_> = self.unwritable().into_iter().map(|one| one.table).collect();
        let unwritable = unwritable.join(",");
        let now = format!("{PROGRAM}\n{}\n{unwritable}", tables.unwrap_or_default());
        if self.setting(RETRIED)?.as_ref() != Some(&now) {
            let sql = "SELECT EXISTS (SELECT 1 FROM driftless_quarantine)";
            if self.db.query_row(sql, [], |row| row.get(0))? {
                done = Some(self.retry_quarantine(now_ms)?);
            }
            // Recorded even if nothing waits: an event that comes to wait later must be tried when
            // this changes.
            self.set_setting(RETRIED, Some(&now))?;
        }
        self.looks.saw_quarantine();
        Ok(done)
    }

    fn retry(&self, lines: &[Line<'_>], strategy: Strategy, now_ms: i64) -> Step<Integrated> {
        let (tx, start) = self.begin_attempt()?;
        let held = take_out(&tx, lines, strategy)?;
        let task = Task::new(self, lines, strategy, start).again();
        let mut rebase = Rebase::new(task)?.holding(held);
        rebase.run(None, now_ms)?;
        let finished = rebase.finish(start.cursor(), None)?;
        self.end_attempt(tx, finished, start.cursor())
    }

    /// Reads the invalid lines again, and applies those that are valid now. Lines from before the
    /// end of the first sync stay: the later events of their rows are not in the log.
    fn read_again(&mut self, now_ms: i64) -> Result<Retried> {
        let mut retried = Retried::default();
        let mut after = landmark(&self.db)?.map_or(Seq(0), |place| place.seq);
        while let Some((page, last)) = self.readable_page(after)? {
            after = last;
            if page.count == 0 {
                continue;
            }
            let lines = page.lines()?;
            let before = self.state()?.quarantined;
            let done = self.apply_behind_cursor(&lines, now_ms, false)?;
            // Events that waited for these lines were applied with them. Lines that wait for
            // another reason now are tried again, and counted, with the other events.
            retried.applied += before.saturating_sub(self.state()?.quarantined) as usize;
            retried.changes.extend(done.changes);
        }
        Ok(retried)
    }

    /// The lines after `after` that this version of the program can read, up to the size of one
    /// transaction, and the last line that was examined. `None` at the end.
    fn readable_page(&self, after: Seq) -> Result<Option<(Page, Seq)>> {
        let sql = "SELECT seq, line FROM driftless_quarantine
                   WHERE seq > ?1 AND line IS NOT NULL
                     AND seq NOT IN (SELECT seq FROM driftless_log)
                   ORDER BY seq LIMIT ?2";
        let mut statement = self.db.prepare_cached(sql)?;
        let mut rows = statement.query((after.0, RETRY_EVENTS as i64))?;
        let (mut page, mut looked) = (Page::default(), None);
        while let Some(row) = rows.next()? {
            let seq = Seq(row.get(0)?);
            looked = Some(seq);
            let alone = Page { bytes: row.get(1)?, last: seq, count: 1, more: false };
            let is_event = |line: &Line<'_>| line.damaged.is_none() && line.event().is_ok();
            if alone.lines().is_ok_and(|lines| lines.iter().all(is_event)) {
                append(&alone.bytes, &mut page.bytes);
                (page.last, page.count) = (seq, page.count + 1);
            }
            if page.bytes.len() >= RETRY_BYTES {
                break;
            }
        }
        Ok(looked.map(|looked| (page, looked)))
    }

    /// The number of waiting events, without invalid lines.
    fn waiting(&self) -> Result<usize> {
        let sql = "SELECT count(*) FROM driftless_quarantine \
                   WHERE seq IN (SELECT seq FROM driftless_log)";
        let waiting: i64 = self.db.query_row(sql, [], |row| row.get(0))?;
        Ok(waiting as usize)
    }

    /// The next waiting events as a page.
    fn waiting_page(&self, after: Seq) -> Result<Page> {
        // An invalid line has no frame and stays in quarantine, unless a row image is stored with
        // it.
        let sql = "SELECT seq, line FROM driftless_quarantine WHERE seq > ?1 \
                   AND (seq IN (SELECT seq FROM driftless_log) \
                        OR (img IS NOT NULL AND line IS NOT NULL)) ORDER BY seq LIMIT ?2";
        let mut statement = self.db.prepare_cached(sql)?;
        let waiting = statement
            .query_map((after.0, RETRY_EVENTS as i64), |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<Vec<(i64, Option<Vec<u8>>)>>>()?;
        let mut page = Page::default();
        for (seq, line) in waiting {
            match (self.settled(Seq(seq))?, line) {
                (Some(event), _) => write_line(&event, &mut page.bytes),
                (None, Some(line)) => append(&line, &mut page.bytes),
                (None, None) => {
                    let message = format!("event {seq} is in quarantine, but not in the log");
                    return Err(Error::new(Code::LogDamaged, message));
                }
            }
            (page.last, page.count) = (Seq(seq), page.count + 1);
        }
        Ok(page)
    }
}

/// Appends a line unchanged.
fn append(line: &[u8], page: &mut Vec<u8>) {
    if !page.is_empty() {
        page.push(b'\n');
    }
    page.extend_from_slice(line);
}

/// Takes these events out of quarantine, and returns the row images that were stored with them.
/// Only the strategy `Folded` can use them: with another one the page is refused if there are any.
pub(super) fn take_out(db: &Connection, lines: &[Line<'_>], strategy: Strategy) -> Step<HeldRows> {
    let sql = "DELETE FROM driftless_quarantine WHERE seq = ?1 RETURNING img";
    let mut take = db.prepare_cached(sql)?;
    let mut held = HeldRows::new();
    for line in lines {
        let image: Option<Option<String>> =
            take.query_row([line.seq.0], |row| row.get(0)).optional()?;
        if let Some(image) = image.flatten() {
            held.insert(line.seq, Image::parse(image.as_bytes())?);
        }
    }
    if !held.is_empty() && strategy != Strategy::Folded {
        return Err(Stop::UniqueViolation);
    }
    Ok(held)
}

/// Appends an event's line in the form that a page has.
pub(super) fn write_line(event: &Event, out: &mut Vec<u8>) {
    let id = |id: Option<String>| id.map_or("null".to_owned(), |id| format!("\"{id}\""));
    let text = |text: Option<&str>, out: &mut Vec<u8>| match text {
        Some(text) => write_string(text.as_bytes(), out),
        None => out.extend_from_slice(b"null"),
    };
    if !out.is_empty() {
        out.push(b'\n');
    }
    out.extend_from_slice(
        format!("[{},\"{}\",\"{}\",", event.seq, event.id, event.origin).as_bytes(),
    );
    text(event.actor.as_deref(), out);
    out.extend_from_slice(format!(",{},", id(event.unit.map(|id| id.to_string()))).as_bytes());
    text(Some(&event.table), out);
    out.extend_from_slice(format!(",{},\"{}\"", event.key.0, event.op).as_bytes());
    for image in [&event.before, &event.after] {
        out.push(b',');
        match image {
            Some(image) => image.write_json(out),
            None => out.extend_from_slice(b"null"),
        }
    }
    out.extend_from_slice(format!(",{}", event.base).as_bytes());
    for other in [event.cause, event.via, event.pair] {
        out.extend_from_slice(format!(",{}", id(other.map(|id| id.to_string()))).as_bytes());
    }
    out.extend_from_slice(format!(",\"{}\",", event.verdict.as_str()).as_bytes());
    text(event.verdict.reason(), out);
    out.extend_from_slice(format!(",{}]", event.received_at).as_bytes());
}
