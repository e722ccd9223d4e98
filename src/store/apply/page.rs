//! Integrates a page of the remote log: DESIGN's rebase, one page in one local transaction.
//!
//! A page is tried in up to three ways, each more thorough and dearer than the one before
//! ([`Pass`]); what each of them does is in [`rebase`](super::rebase).

use rusqlite::Connection;

use super::decode::Ahead;
use super::rebase::Rebase;
use super::step::Integrated;
use super::step::Pass;
use super::step::Step;
use super::step::Stop;
use super::step::begin;
use super::step::hash;
use crate::error::{Code, Error, Result};
use crate::event::frame::Hash;
use crate::event::page::{Line, Page};
use crate::store::Store;

/// What became of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is integrated.
    Done(Integrated),
    /// Nothing has changed: a UNIQUE index refuses this page, and the log goes on behind it. Ask
    /// for a longer one from the same cursor. A page that says that nothing follows is never
    /// refused.
    NeedsLonger,
}

impl Store {
    /// Integrates a page in one local transaction, and notes that the remote has given its verdict
    /// for all outbox rows up to `sent`. `now_ms` is the time of notices in the conflict inbox, in
    /// ms since 1970.
    ///
    /// # Errors
    ///
    /// `Corrupt` when the page is not one, or does not begin behind the cursor: fetch it again.
    /// `Storage` when the database fails. After an error nothing has changed.
    pub fn integrate(&mut self, page: &Page, sent: Option<i64>, now_ms: i64) -> Result<Outcome> {
        let lines = page.lines()?;
        // All that needs no lock is done before it is taken: the application may want it.
        let ahead = Ahead::new(&lines, chain(&self.db)?);
        let mut pass = Pass::Quick;
        loop {
            self.check_triggers()?;
            self.straighten()?;
            pass = match self.attempt(page, (&lines, &ahead), pass, sent, now_ms) {
                Ok(done) => return Ok(Outcome::Done(done)),
                Err(Stop::Failed(error)) => return Err(error),
                Err(Stop::SchemaChanged) => pass,
                Err(Stop::RolledBack) if self.guard.foreign => {
                    // Such a trigger could stop this page for ever. It is left out of it, and the
                    // guard is set anew for the next page.
                    self.guard.watch(&mut self.db, &self.tables, false)?;
                    let done = self.attempt(page, (&lines, &ahead), pass, sent, now_ms);
                    self.load_definitions()?;
                    match done {
                        Ok(done) => return Ok(Outcome::Done(done)),
                        Err(Stop::Failed(error)) => return Err(error),
                        Err(_) => Pass::Fold,
                    }
                }
                Err(Stop::RolledBack) => {
                    return Err(Error::storage("the transaction of a page was rolled back"));
                }
                Err(Stop::Refused) => Pass::Fold,
                Err(Stop::Taken) => match pass {
                    Pass::Quick if !self.pending.borrow().is_empty() => Pass::Slow,
                    Pass::Quick | Pass::Slow => Pass::Fold,
                    Pass::Fold => return Ok(Outcome::NeedsLonger),
                },
            };
            tracing::debug!(cursor = page.last.0, ?pass, "a page is refused and tried again");
        }
    }

    fn attempt<'p>(
        &self,
        page: &Page,
        (lines, ahead): (&[Line<'p>], &Ahead<'p>),
        pass: Pass,
        sent: Option<i64>,
        now_ms: i64,
    ) -> Step<Integrated> {
        let tx = self.begin_write()?;
        if self.current_schema_version()? != self.schema_version {
            return Err(Stop::SchemaChanged);
        }
        let start = begin(&tx)?;
        if let Some(first) = lines.first()
            && first.seq <= start.cursor
        {
            let message = format!(
                "a page begins with event {}, but event {} is integrated already",
                first.seq, start.cursor
            );
            return Err(Stop::Failed(Error::new(Code::AnswerInvalid, message)));
        }
        self.refresh_pending(&tx, start.cursor)?;
        let mut rebase = Rebase::new(self, lines, pass, page.more, start)?.unpacked(ahead);
        rebase.run(now_ms)?;
        let cursor = start.cursor.max(page.last);
        let finished = rebase.finish(cursor, sent)?;
        self.commit_write(tx)?;
        let mut pending = self.pending.borrow_mut();
        for n in finished.settled {
            pending.remove(n);
        }
        pending.kept.clear();
        pending.kept.extend(finished.kept);
        pending.advance(cursor);
        Ok(finished.done)
    }
}

/// The head of the local log's chain.
fn chain(db: &Connection) -> Result<Hash> {
    let mut statement = db.prepare_cached("SELECT chain FROM driftless_state")?;
    hash(statement.query_row([], |row| row.get(0))?)
}
