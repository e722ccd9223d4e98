//! Finds own events that the remote has acknowledged and a page left out.
//!
//! A replica that has read the log to its end has the verdict of every event of its last
//! acknowledged push. If a verdict is missing, the answers contradict each other: a page was not
//! the log, or the acknowledgement was wrong. So before anything else is pushed or pulled, the
//! remote is asked for these events by their ids. There are four cases:
//!
//! * The remote has the event at a place that the cursor has passed. It is settled now, and its row
//!   is corrected ([`Store::reconcile`](crate::store::Store::reconcile)).
//! * The remote does not have the event. It is pushed again.
//! * The remote has the event after the end that it reported. It is pulled.
//! * The remote has the event at a place where this replica has read another one. Then the log that
//!   was read is not the remote's: the two have diverged. Replication stops, as for a remote that
//!   was rolled back, until a person accepts the remote or the remote is as before. The database
//!   records this, so that the next process asks the same question first.
//!
//! If the answer would be too large, fewer events are requested, and in the end one, in chunks.
//!
//! # Caveats
//!
//! Only own events are found to be missing. If a page leaves out or changes an event of another
//! writer, this cannot be seen here.

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

/// The most events that are requested at once: a statement of about 15 KB.
const MAX_ASKED: usize = 500;

/// How many contradicting answers are followed by another request after a short wait. After that
/// nothing is sent for a minute.
const ATTEMPTS: u32 = 3;

/// The state of one machine's missing events.
///
/// * `diverged` is as the database records it.
pub(super) struct Reconcile {
    /// The last request that has acknowledged a push.
    acknowledged: RequestId,
    /// The most events that are requested at once.
    limit: usize,
    /// The event whose line is read in chunks, because it does not fit into an answer alone.
    chunks: Option<(EventId, Chunks<Seq>)>,
    /// The number of contradicting answers since they last agreed.
    contradictions: u32,
    /// Whether the log that was read is not the remote's.
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
    /// More chunks are needed.
    GoesOn,
    /// The events are settled.
    Settled(Integrated),
    /// The remote lacks some of the events. They are pushed again.
    Lost(Integrated, Error),
    /// The log continues after the end that an earlier answer reported.
    GoesFurther(Error),
    /// The chunk does not belong to the line.
    Invalid(Error),
    /// The answer contradicts an earlier one, or is not valid.
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

/// The error for events that the remote lacks although it has acknowledged them.
fn lost(ids: &[EventId]) -> Error {
    let more = match ids.len() {
        1 => String::new(),
        all => format!(" and {} more", all - 1),
    };
    let message =
        format!("the remote acknowledged event {}{more}, and does not have it now", ids[0]);
    Error::new(Code::EventNotKept, message).with_hint("nothing is lost: it is pushed again")
}

impl Reconcile {
    /// `diverged` is as the database records it.
    pub(super) fn new(diverged: bool) -> Self {
        let acknowledged = RequestId(0);
        Reconcile { acknowledged, limit: MAX_ASKED, chunks: None, contradictions: 0, diverged }
    }

    /// The answer to `request` acknowledged all events of a push.
    pub(super) fn acknowledged(&mut self, request: RequestId) {
        self.acknowledged = request;
    }

    /// The remote was accepted, whatever was read before.
    pub(super) fn accept_remote(&mut self) {
        self.diverged = false;
    }

    /// Whether missing events may be requested: the log was read to its end (`at_end`) by the
    /// request `last_read`, which is not older than the last acknowledgement.
    pub(super) fn may_ask(&self, at_end: bool, last_read: RequestId) -> bool {
        let read = last_read > RequestId(0) && last_read >= self.acknowledged;
        read && at_end || self.diverged
    }

    /// The events to request, and the request. `unsent` is whether there is something to push.
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
        // Chunks of another event cannot be used.
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
        // An event that will be pushed again was missing before, and may be missing again.
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
    /// `Corrupt` when `answer` is not valid.
    pub(super) fn read(&self, answer: Answer) -> Result<(Found, Option<Meta>)> {
        if self.chunks.is_some() {
            let (chunk, meta) = statements::read_lookup_chunk(answer)?;
            return Ok((Found::Chunk(chunk), meta));
        }
        let (page, meta) = statements::read_lookup(answer)?;
        Ok((Found::Page(page), meta))
    }

    /// Settles those of the events that are in the log.
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

    /// Handles a chunk, or `None` if there is no such event. Returns a page with the event's line
    /// when it is complete, or an empty page.
    fn line_of(&mut self, chunk: Option<ReceivedChunk>) -> Result<Option<Page>> {
        let Some((id, mut chunks)) = self.chunks.take() else { return Ok(None) };
        let Some(ReceivedChunk { seq, size, bytes, .. }) = chunk else {
            return Ok(Some(Page::default()));
        };
        // After a chunk that does not belong to the line, the next request begins again.
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

    /// The answers contradict each other. Returns whether they have done so too often.
    pub(super) fn contradicted(&mut self) -> bool {
        self.contradictions += 1;
        self.contradictions >= ATTEMPTS
    }

    /// The answer would be too large: fewer events are requested, or less of one.
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
                    "event {} cannot be read, because the remote sends only tiny answers",
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
