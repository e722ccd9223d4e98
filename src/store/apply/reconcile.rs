//! Own events that the remote has received and the cursor has passed without them.
//!
//! An honest remote has none: a page has every event between the cursor and its end. If a page left
//! an event out, or had an unreadable line in its place, the cursor passes it, and no later page
//! has its verdict. So a replica that has read the log to its end looks for such events
//! ([`Store::unanswered`]), asks the remote for their lines by their ids, and passes these to
//! [`Store::reconcile`].
//!
//! The row of such an event is brought to the state that it would have if the event had come in its
//! place: the event is applied, and then the later events of the same row in the log are applied
//! again, in order. An event sets columns, or has the whole row or none of it, so the result is the
//! fold of the log up to the cursor, whatever the row was in between. The effect of an event from
//! before the end of the first sync is in the rows already, so such an event only leaves the
//! outbox.

use std::collections::HashSet;

use rusqlite::OptionalExtension;

use super::rebase::Rebase;
use super::step::{Integrated, Step, Stop, Strategy, Task};
use crate::error::{Code, Error, Result};
use crate::event::frame::{Hash, chain, seal};
use crate::event::page::{Line, Page};
use crate::event::{EventId, Seq};
use crate::store::Store;
use crate::store::identity::landmark;
use crate::store::log::row_index;
use crate::store::log::{frame, settled_id};
use crate::store::outbox::pending::event_id;
use crate::store::quarantine::{take_out, write_line};

/// The outcome of reconciling events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// They are settled, and their rows are correct.
    Settled(Integrated),
    /// Nothing has changed: the remote's log has this event at a place where another one was read.
    /// So the log that was read is not the remote's.
    Contradicts(EventId, Seq),
}

impl Store {
    /// Own events that the remote has acknowledged and whose verdicts are missing, in their order;
    /// at most `limit`. Events that are held back were not acknowledged. After reading the log to
    /// its end there are none, unless a page was wrong.
    pub fn unanswered(&self, limit: usize) -> Result<Vec<EventId>> {
        let sql = "SELECT ms, n, tail FROM driftless_outbox
                   WHERE n <= ?1 AND NOT settled ORDER BY n";
        let sent = "SELECT sent FROM driftless_state";
        let sent = self.db.prepare_cached(sent)?.query_row([], |row| row.get(0))?;
        self.refresh_held(&self.db, sent)?;
        let pending = self.outbox.pending();
        let mut statement = self.db.prepare_cached(sql)?;
        let mut rows = statement.query([sent])?;
        let mut ids = Vec::new();
        while ids.len() < limit
            && let Some(row) = rows.next()?
        {
            if !pending.held().has(row.get(1)?) {
                ids.push(event_id(row.get(0)?, row.get(1)?, row.get(2)?));
            }
        }
        Ok(ids)
    }

    /// Marks this event and all later ones as unsent, because the remote lacks it although it
    /// acknowledged it. The remote recognises by their ids the events that it has.
    pub fn unsend(&mut self, id: EventId) -> Result<()> {
        let sql = "UPDATE driftless_state SET sent = min(sent, ?1)";
        let tx = self.begin_write()?;
        tx.prepare_cached(sql)?.execute([id.outbox_number() - 1])?;
        self.commit_write(tx)
    }

    /// Settles own events that are in the remote's log at or before the cursor, in one transaction.
    /// `page` has their lines. `now_ms` is the time of new entries in the conflict inbox, in ms
    /// since 1970. The cursor stays.
    ///
    /// # Errors
    ///
    /// `Corrupt` when the page is not valid, or has a line that is not valid or was not read yet;
    /// `Storage` when the database fails. After an error nothing has changed.
    pub fn reconcile(&mut self, page: &Page, now_ms: i64) -> Result<Settlement> {
        let found = page.lines()?;
        let place = self.place()?;
        for line in &found {
            if let Some(reason) = &line.damaged {
                let message = format!("the remote's event {} is not valid: {reason}", line.seq);
                return Err(Error::new(Code::AnswerInvalid, message));
            }
            if line.seq > place.seq {
                let message = format!("event {} was not left out: it was not read yet", line.seq);
                return Err(Error::new(Code::AnswerInvalid, message));
            }
            if settled_id(&self.db, line.seq)?.is_some() {
                return Ok(Settlement::Contradicts(line.id, line.seq));
            }
        }
        self.apply_behind_cursor(&found, now_ms, true).map(Settlement::Settled)
    }

    /// Seals and applies events that are at or before the cursor and have no frame in the log, in
    /// one transaction. `own` is whether all of them are in the outbox, and must leave it.
    pub(in crate::store) fn apply_behind_cursor(
        &mut self,
        found: &[Line<'_>],
        now_ms: i64,
        own: bool,
    ) -> Result<Integrated> {
        let adopted = landmark(&self.db)?.map_or(Seq(0), |place| place.seq);
        let page = self.with_followers(found, adopted)?;
        let lines = page.lines()?;
        let done = self.escalate(|store, strategy| {
            store.attempt_behind_cursor(found, &lines, adopted, strategy, now_ms, own)
        })?;
        done.ok_or_else(|| Error::storage("a UNIQUE index refuses an event that a page left out"))
    }

    /// The lines, with the later lines of the log that are of the same rows.
    fn with_followers(&self, found: &[Line<'_>], adopted: Seq) -> Result<Page> {
        let row = |table: &str, key: &str| (table.to_ascii_lowercase(), key.to_owned());
        let rows: HashSet<_> = found.iter().map(|line| row(&line.table, line.key)).collect();
        let first = found.first().map_or(Seq(0), |line| line.seq.max(adopted));
        let mut events = found.iter().map(Line::event).collect::<Result<Vec<_>>>()?;
        let sql = "SELECT seq, header, vals FROM driftless_log WHERE seq > ?1 ORDER BY seq";
        let mut statement = self.db.prepare_cached(sql)?;
        let mut frames = statement.query([first.0])?;
        while let Some(next) = frames.next()? {
            let event = frame(next)?;
            if event.verdict.is_applied() && rows.contains(&row(&event.table, &event.key.0)) {
                events.push(event);
            }
        }
        events.sort_by_key(|event| event.seq);
        let mut page = Page::default();
        for event in &events {
            write_line(event, &mut page.bytes);
            page.last = event.seq;
            page.count += 1;
        }
        Ok(page)
    }

    fn attempt_behind_cursor(
        &self,
        found: &[Line<'_>],
        lines: &[Line<'_>],
        adopted: Seq,
        strategy: Strategy,
        now_ms: i64,
        own: bool,
    ) -> Step<Integrated> {
        let (tx, start) = self.begin_attempt()?;
        let held = take_out(&tx, lines, strategy)?;
        let chain = self.seal_behind_cursor(found, start.chain())?;
        let task = Task::new(self, lines, strategy, start.with_chain(chain));
        let mut rebase = Rebase::new(task.again().adopted(adopted))?.holding(held);
        rebase.run(None, now_ms)?;
        let finished = rebase.finish(start.cursor(), None)?;
        // An event that is not in the outbox would be requested again and again.
        let left = found.iter().find(|line| !finished.has_settled(line.id.outbox_number()));
        if let Some(left) = left.filter(|_| own) {
            let message = format!("the remote's event {} has an id of this outbox's", left.seq);
            return Err(Stop::Failed(Error::new(Code::AnswerInvalid, message)));
        }
        self.end_attempt(tx, finished, start.cursor())
    }

    /// Appends the events to the local log, in their places. Their frames are chained after the
    /// newest one. Returns the chain's new head.
    fn seal_behind_cursor(&self, found: &[Line<'_>], mut head: Hash) -> Result<Hash> {
        let mut statement = self.db.prepare_cached(
            "INSERT INTO driftless_log (seq, id, own, header, vals, hash)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        for line in found {
            let sealed = seal(&line.event()?);
            head = chain(&head, &sealed);
            let id = line.id.0.to_bytes();
            let values = sealed.values.as_deref();
            let (id, hash) = (id.as_slice(), head.as_slice());
            let own = self.is_pending(line.id)?;
            statement.execute((line.seq.0, id, own, &sealed.header, values, hash))?;
            row_index::add_late(&self.db, line)?;
        }
        Ok(head)
    }

    /// Whether an event is in the outbox without a verdict.
    fn is_pending(&self, id: EventId) -> Result<bool> {
        let sql = "SELECT ms, tail FROM driftless_outbox WHERE n = ?1 AND NOT settled";
        let mut statement = self.db.prepare_cached(sql)?;
        let found = statement.query_row([id.outbox_number()], |row| {
            Ok(event_id(row.get(0)?, id.outbox_number(), row.get(1)?))
        });
        Ok(found.optional()? == Some(id))
    }
}
