//! Own events that the remote has acknowledged, and that a page left out.
//!
//! A replica that has read the log to its end, as it was when the last push was acknowledged or
//! later, has the verdict of every event of that push. If one is missing, the answers contradict
//! each other: a page was not the log, or the acknowledgement was wrong. So the remote is asked for
//! these events by their ids, before anything else is pushed or pulled, and
//!
//! * one that it has at a place that the cursor has passed is settled now, and its row is corrected
//!   ([`Store::reconcile`](crate::store::Store::reconcile));
//! * one that it does not have is pushed again;
//! * one that it has behind the end that it told of is pulled;
//! * one whose place another event had when it was read shows that the log that was read is not the
//!   remote's: the two have diverged. Then replication stops, as it does where the remote was
//!   rolled back, until a person says that the remote counts, or the remote is again what it was.
//!   That is noted in the database, so that the next process begins with the question too.
//!
//! Where the answer would be too large fewer are asked for, and in the end one, in chunks.
//!
//! # Caveats
//!
//! Only own events are missed. Events of others that a page left out or changed are not seen here:
//! nothing tells such a page from the log.

use crate::error::{Code, Error, Kind, Result};
use crate::event::page::Page;
use crate::event::{EventId, Seq};
use crate::protocol::meta::{Asker, Meta};
use crate::protocol::statements;
use crate::protocol::statements::ReceivedChunk;
use crate::remote::{Answer, Batch};
use crate::store::{Integrated, Settlement, Store};
use crate::sync::machine::io::RequestId;
use crate::sync::machine::pull::chunks::Chunks;
use crate::sync::remote_check::other_log;

/// The most events that are asked for at once: a statement of some 15 KB.
const MAX_ASKED: usize = 500;

/// How often answers that contradict each other are followed by another request after a short wait.
/// Then the remote is left alone for a minute.
const ATTEMPTS: u32 = 3;

/// How far one machine is with its missing events.
///
/// * `diverged` is what the database says.
pub(super) struct Reconcile {
    /// The last request that has acknowledged a push.
    acknowledged: RequestId,
    /// At most so many are asked for.
    limit: usize,
    /// The line of this event is read in chunks, for it does not fit into an answer alone.
    chunks: Option<(EventId, Chunks<Seq>)>,
    /// How often the answers have contradicted each other since they last agreed.
    contradictions: u32,
    /// The log that was read is not the remote's.
    diverged: bool,
}

/// The content of an answer.
pub(super) enum Found {
    /// Lines.
    Page(Page),
    /// A chunk of a line, if there is such an event.
    Chunk(Option<ReceivedChunk>),
}

/// The result of an answer.
pub(super) enum Reconciled {
    /// A chunk came, and more are to come.
    GoesOn,
    /// The events are settled.
    Settled(Integrated),
    /// The remote does not have all of them: the rest is pushed again.
    Lost(Integrated, Error),
    /// The log goes on after the end that an earlier answer reported.
    GoesFurther(Error),
    /// The chunk does not belong to the line.
    Invalid(Error),
    /// The answer contradicts an earlier one, or is not one.
    Contradiction(Error),
    /// The log that was read is not the remote's.
    Diverged(Error),
    /// The local database failed.
    Failed(Error),
}

impl From<Error> for Reconciled {
    fn from(error: Error) -> Self {
        match error.kind() {
            Kind::Storage => Reconciled::Failed(error),
            _ => Reconciled::Contradiction(error),
        }
    }
}

/// The error for events that the remote said it has.
fn lost(ids: &[EventId]) -> Error {
    let more = match ids.len() {
        1 => String::new(),
        all => format!(" and {} more", all - 1),
    };
    let message = format!("the remote took event {}{more} in, and does not have it now", ids[0]);
    Error::new(Code::EventNotKept, message).with_hint("nothing is lost: it is pushed again")
}

impl Reconcile {
    /// `diverged` is what the database says.
    pub(super) fn new(diverged: bool) -> Self {
        let acknowledged = RequestId(0);
        Reconcile { acknowledged, limit: MAX_ASKED, chunks: None, contradictions: 0, diverged }
    }

    /// The answer to `request` said that the remote has all events of a push.
    pub(super) fn acknowledged(&mut self, request: RequestId) {
        self.acknowledged = request;
    }

    /// The remote counts from now on, whatever was read before.
    pub(super) fn accept_remote(&mut self) {
        self.diverged = false;
    }

    /// Whether missing events may be looked for: the log was read to its end (`at_end`) by the
    /// request `last_read`, which is not older than the last acknowledgement.
    pub(super) fn may_ask(&self, at_end: bool, last_read: RequestId) -> bool {
        let read = last_read > RequestId(0) && last_read >= self.acknowledged;
        read && at_end || self.diverged
    }

    /// The events that are to be asked for, and the request. `unsent` says that there is something
    /// to push.
    ///
    /// # Errors
    ///
    /// `Storage` when the store cannot be read or written.
    pub(super) fn question(
        &mut self,
        store: &mut Store,
        asker: Asker,
        unsent: bool,
    ) -> Result<Option<(Vec<EventId>, Batch)>> {
        let ids = store.unanswered(self.limit)?;
        if ids.is_empty() {
            self.nothing_is_missing(store, unsent)?;
            return Ok(None);
        }
        tracing::info!(events = ids.len(), first = %ids[0], "the log has gone past own events");
        // The chunks of another event are of no use.
        self.chunks.take_if(|(id, _)| *id != ids[0]);
        let question = match &self.chunks {
            Some((id, chunks)) => statements::lookup_chunk(*id, chunks.next()),
            None => statements::lookup(&ids),
        };
        let statements = vec![question, crate::protocol::meta::meta(asker)];
        Ok(Some((ids, Batch { statements, writes: false })))
    }

    fn nothing_is_missing(&mut self, store: &mut Store, unsent: bool) -> Result<()> {
        if std::mem::take(&mut self.diverged) {
            store.set_contradiction(None)?;
        }
        // An event that is pushed again was missing a moment ago, and may be again.
        if !unsent {
            self.contradictions = 0;
        }
        self.limit = MAX_ASKED;
        self.chunks = None;
        Ok(())
    }

    /// Reads an answer.
    ///
    /// # Errors
    ///
    /// `Corrupt` when it is not one.
    pub(super) fn read(&self, answer: Answer) -> Result<(Found, Option<Meta>)> {
        if self.chunks.is_some() {
            let (chunk, meta) = statements::read_lookup_chunk(answer)?;
            return Ok((Found::Chunk(chunk), meta));
        }
        let (page, meta) = statements::read_lookup(answer)?;
        Ok((Found::Page(page), meta))
    }

    /// Settles these events as far as they are in the log.
    pub(super) fn settle(
        &mut self,
        store: &mut Store,
        ids: &[EventId],
        found: Found,
        wall_ms: i64,
    ) -> Reconciled {
        let page = match found {
            Found::Page(page) => page,
            Found::Chunk(chunk) => match self.line_of(chunk) {
                Ok(Some(page)) => page,
                Ok(None) => return Reconciled::GoesOn,
                Err(error) => return Reconciled::Invalid(error),
            },
        };
        self.settle_page(store, ids, &page, wall_ms).unwrap_or_else(Reconciled::from)
    }

    /// A chunk came, or none where there is no such event. Gives the page with the event's line
    /// once it is complete, or an empty one.
    fn line_of(&mut self, chunk: Option<ReceivedChunk>) -> Result<Option<Page>> {
        let Some((id, mut chunks)) = self.chunks.take() else { return Ok(None) };
        let Some(ReceivedChunk { seq, size, bytes, .. }) = chunk else {
            return Ok(Some(Page::default()));
        };
        // After a chunk that does not belong to the line, the next request begins anew.
        let line = chunks.came(seq, size, &bytes)?;
        if line.is_none() {
            self.chunks = Some((id, chunks));
        }
        Ok(line.map(|bytes| Page { bytes, last: seq, count: 1, more: false }))
    }

    fn settle_page(
        &mut self,
        store: &mut Store,
        ids: &[EventId],
        page: &Page,
        wall_ms: i64,
    ) -> Result<Reconciled> {
        let cursor = store.place()?.seq;
        let lines = page.lines()?;
        if lines.iter().any(|line| line.damaged.is_none() && !ids.contains(&line.id)) {
            let message = "the remote has answered another question";
            return Err(Error::new(Code::AnswerInvalid, message));
        }
        if let Some(line) = lines.iter().find(|line| line.seq > cursor) {
            let message = format!("the remote's log ended before its event {}", line.seq);
            return Ok(Reconciled::GoesFurther(Error::new(Code::AnswerInvalid, message)));
        }
        let done = match store.reconcile(page, wall_ms)? {
            Settlement::Settled(done) => done,
            Settlement::Contradicts(id, seq) => {
                let (id, seq) = (id.to_string(), seq.to_string());
                self.diverged = true;
                store.set_contradiction(Some((&id, &seq)))?;
                return Ok(Reconciled::Diverged(other_log(&id, &seq)));
            }
        };
        let is_there = |id: &&EventId| lines.iter().any(|line| line.id == **id);
        let missing: Vec<_> = ids.iter().filter(|id| !is_there(id)).copied().collect();
        let Some(first) = missing.first() else { return Ok(Reconciled::Settled(done)) };
        store.unsend(*first)?;
        Ok(Reconciled::Lost(done, lost(&missing)))
    }

    /// The answers contradict each other. Gives whether that has been so for too long.
    pub(super) fn contradicted(&mut self) -> bool {
        self.contradictions += 1;
        self.contradictions >= ATTEMPTS
    }

    /// The answer would be too large: fewer are asked for, or less of one.
    ///
    /// # Errors
    ///
    /// `TooLarge` when not even the smallest chunk fits into an answer.
    pub(super) fn too_large(&mut self, ids: &[EventId], error: Error) -> Result<()> {
        if ids.len() > 1 {
            self.limit = ids.len() / 2;
            return Ok(());
        }
        match self.chunks.as_mut().map(|(_, chunks)| chunks.too_large()) {
            None => self.chunks = Some((ids[0], Chunks::new())),
            Some(true) => {}
            Some(false) => {
                self.chunks = None;
                let message = format!(
                    "event {} cannot be asked for, for the remote sends next to nothing",
                    ids[0]
                );
                return Err(Error::new(Code::EventUnreadable, message)
                    .with_hint("raise the remote's limit on the size of an answer")
                    .with_source(error));
            }
        }
        Ok(())
    }
}
