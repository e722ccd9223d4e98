//! Integrates a page of the remote log, in one local transaction.
//!
//! A page is tried with up to three strategies, each slower than the one before and with fewer
//! intermediate states ([`Strategy`]). [`rebase`](super::rebase) explains their steps.

use rusqlite::{Connection, Transaction};

use super::decode::Predecoded;
use super::rebase::{Finished, Rebase};
use super::step::{Integrated, Start, Step, Stop, Strategy, Task, begin, hash};
use crate::error::{Code, Error, Result};
use crate::event::Seq;
use crate::event::frame::Hash;
use crate::event::page::Page;
use crate::store::Store;

/// The outcome of integrating a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is integrated.
    Done(Integrated),
    /// Nothing has changed: a UNIQUE index refuses this page, and the log continues after it.
    /// Request a longer page from the same cursor. The last page of the log is never refused like
    /// this.
    NeedsLonger,
    /// Nothing has changed: an echo in the page is for an event that is not pending here, because
    /// this file is a copy or was restored. Request the same page with whole lines.
    NeedsWholeLines,
}

impl Store {
    /// Integrates a page in one local transaction, and records that the remote has given its
    /// verdict for all outbox rows up to `sent`. `now_ms` is the time of new entries in the
    /// conflict inbox, in ms since 1970.
    ///
    /// # Errors
    ///
    /// `Corrupt` when the page is not valid, or does not begin after the cursor: fetch it again.
    /// `Storage` when the database fails. After an error nothing has changed.
    pub fn integrate(&mut self, page: &Page, sent: Option<i64>, now_ms: i64) -> Result<Outcome> {
        match self.completed(page)? {
            Some(page) => self.integrate_whole_lines(&page, sent, now_ms),
            None => Ok(Outcome::NeedsWholeLines),
        }
    }

    /// The same for a page that was requested with whole lines: an echo in it is not valid.
    ///
    /// # Errors
    ///
    /// As [`Store::integrate`].
    pub fn integrate_whole_lines(
        &mut self,
        page: &Page,
        sent: Option<i64>,
        now_ms: i64,
    ) -> Result<Outcome> {
        let lines = page.lines()?;
        // Do all work that needs no lock before the lock is taken: the application may need it.
        let predecoded = Predecoded::new(&lines, chain(&self.db)?);
        let done = self
            .escalate(|store, strategy| store.attempt(page, &predecoded, strategy, sent, now_ms))?;
        Ok(done.map_or(Outcome::NeedsLonger, Outcome::Done))
    }

    /// Runs an `attempt` with the fastest strategy, and again with a slower one if a constraint
    /// refuses it. `None` if a UNIQUE index refuses the slowest one too. A failed attempt changes
    /// nothing.
    ///
    /// # Errors
    ///
    /// The error of an attempt. `Storage` if another constraint, or a trigger that is not the
    /// application's, refuses the slowest strategy.
    pub(in crate::store) fn escalate<T>(
        &mut self,
        attempt: impl Fn(&Store, Strategy) -> Step<T>,
    ) -> Result<Option<T>> {
        let mut strategy = Strategy::InPlace;
        loop {
            self.check_triggers()?;
            if let Some(suspect) = self.suspects.first() {
                let message = format!(
                    "nothing is integrated until table `{}` is compared with the remote's",
                    suspect.table
                );
                return Err(Error::new(Code::TableSuspect, message)
                    .with_hint("its definition has changed here; run `driftless sync`"));
            }
            self.straighten()?;
            let mut tried = attempt(self, strategy);
            if let Err(Stop::RolledBack) = tried
                && self.guard.is_foreign()
            {
                // Such a trigger could stop this page for ever. It is turned off for this page, and
                // the guard is prepared again for the next one.
                self.guard.watch(&mut self.db, &self.tables, false)?;
                tried = attempt(self, strategy);
                self.load_definitions()?;
            }
            strategy = match tried {
                Ok(done) => return Ok(Some(done)),
                Err(Stop::Failed(error)) => return Err(error),
                Err(Stop::SchemaChanged) => strategy,
                // A pending event may hold the value. Without one, undoing the table changes
                // nothing.
                Err(Stop::UniqueViolation) => match strategy {
                    Strategy::InPlace if !self.outbox.pending().is_empty() => Strategy::TableWide,
                    Strategy::InPlace | Strategy::TableWide => Strategy::Folded,
                    Strategy::Folded => return Ok(None),
                },
                Err(Stop::Refused | Stop::RolledBack) if strategy != Strategy::Folded => {
                    Strategy::Folded
                }
                Err(Stop::Refused) => {
                    return Err(Error::storage("the database refuses events of the remote"));
                }
                Err(Stop::RolledBack) => {
                    return Err(Error::storage("the transaction of a page was rolled back"));
                }
            };
            tracing::debug!(?strategy, "a page is refused and tried again");
        }
    }

    fn attempt(
        &self,
        page: &Page,
        predecoded: &Predecoded<'_, '_>,
        strategy: Strategy,
        sent: Option<i64>,
        now_ms: i64,
    ) -> Step<Integrated> {
        let (tx, start) = self.begin_attempt()?;
        let (lines, seen) = (predecoded.lines(), start.cursor());
        if let Some(first) = lines.first()
            && first.seq <= seen
        {
            let message = format!(
                "a page begins with event {}, but event {} is integrated already",
                first.seq, seen
            );
            return Err(Stop::Failed(Error::new(Code::AnswerInvalid, message)));
        }
        let task = Task::new(self, lines, strategy, start).with_more(page.more);
        let mut rebase = Rebase::new(task)?;
        rebase.run(Some(predecoded), now_ms)?;
        let cursor = seen.max(page.last);
        let finished = rebase.finish(cursor, sent)?;
        self.end_attempt(tx, finished, cursor)
    }

    /// Begins the transaction of an attempt: capture is silent in it.
    pub(in crate::store) fn begin_attempt(&self) -> Step<(Transaction<'_>, Start)> {
        let tx = self.begin_write()?;
        if self.current_schema_version()? != self.schema_version {
            return Err(Stop::SchemaChanged);
        }
        let start = begin(&tx)?;
        self.refresh_pending(&tx, start.cursor())?;
        Ok((tx, start))
    }

    /// Commits the transaction, with the cursor at `cursor`.
    pub(in crate::store) fn end_attempt(
        &self,
        tx: Transaction<'_>,
        finished: Finished,
        cursor: Seq,
    ) -> Step<Integrated> {
        self.commit_write(tx)?;
        Ok(finished.settle(&mut self.outbox.pending_mut(), cursor))
    }
}

/// The head of the local log's chain.
fn chain(db: &Connection) -> Result<Hash> {
    let mut statement = db.prepare_cached("SELECT chain FROM driftless_state")?;
    hash(statement.query_row([], |row| row.get(0))?)
}
