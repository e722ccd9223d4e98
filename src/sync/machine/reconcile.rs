//! What the machine does about own events that the remote has acknowledged, and that do not come
//! back.
//!
//! Whoever has read the log to its end, as it was when the last push was acknowledged or later, has
//! the verdict of every event of that push. If one is missing, what the remote has said does not
//! hold together: a page was not the log, or the acknowledgement was wrong. So the remote is asked
//! for these events by their ids, before anything else is pushed or pulled, and
//!
//! * one that it has at a place that the cursor has passed is settled now, and its row is put right
//!   ([`Store::settle_overlooked`](crate::store::Store::settle_overlooked));
//! * one that it does not have is pushed again;
//! * one that it has behind the end that it told of is pulled;
//! * one whose place another event had when it was read shows that the log that was read is not the
//!   remote's. Then replication stops, as it does where the remote was rolled back, until a person
//!   says that the remote counts, or the remote is again what it was. That is noted in the
//!   database, so that the next process begins with the question too.
//!
//! Where the answer would be too large fewer are asked for, and in the end one, in slices.
//!
//! # Caveats
//!
//! Only own events are missed. What a page left out or changed of others' is not seen here: nothing
//! tells it from what the remote's log is.

use crate::error::{Code, Error, Kind, Result};
use crate::event::{EventId, Seq};
use crate::page::Page;
use crate::remote::statements::{self, Asker, Part};
use crate::remote::{Answer, Batch};
use crate::store::{Integrated, Late};
use crate::sync::machine::Machine;
use crate::sync::machine::identity::{acceptable_hint, examine};
use crate::sync::machine::io::Effect;
use crate::sync::machine::io::RequestId;
use crate::sync::machine::pull::chunks::Slices;
use crate::sync::machine::request::Errand;
use crate::sync::status::{Change, Changes, SyncState};

/// The most events that are asked for at once: a statement of some 15 KB.
pub(in crate::sync) const MAX_ASKED: usize = 500;

/// How often what does not hold together is looked at anew without a pause: a remote whose answers
/// contradict each other for longer is left alone for a minute.
const LOOKS: u32 = 3;

/// Where the machine stands with such events.
#[derive(Clone, Debug)]
pub(in crate::sync) struct Inquiry {
    /// The last request that has acknowledged a push.
    pub(in crate::sync) acknowledged: RequestId,
    /// At most so many are asked for.
    limit: usize,
    /// The line of this event is read in slices, for it does not fit into an answer alone.
    slices: Option<(EventId, Slices<Seq>)>,
    /// How often the answers have contradicted each other since they last held together.
    contradictions: u32,
    /// The log that was read is not the remote's.
    pub(in crate::sync) stopped: bool,
}

impl Inquiry {
    pub(in crate::sync) fn new(stopped: bool) -> Self {
        Inquiry {
            acknowledged: RequestId(0),
            limit: MAX_ASKED,
            slices: None,
            contradictions: 0,
            stopped,
        }
    }
}

/// What an answer has.
enum Found {
    /// Lines.
    Page(Page),
    /// A slice of a line, if there is one.
    Part(Option<Part>),
}

/// What is wrong with an answer, and whether it may be right the next time.
enum Wrong {
    /// Perhaps.
    Unlikely(Error),
    /// The log that was read is not the remote's.
    OtherLog(Error),
    /// The local database failed.
    Here(Error),
}

impl From<Error> for Wrong {
    fn from(error: Error) -> Self {
        if error.kind() == Kind::Storage { Wrong::Here(error) } else { Wrong::Unlikely(error) }
    }
}

/// The error for a log in which another event stands than the one that was read.
pub(crate) fn other_log(id: &str, seq: &str) -> Error {
    let message = format!(
        "the remote's log is not the one that was read here: this replica's event {id} stands at \
         {seq} there, where another one was read"
    );
    Error::new(Code::RemoteLogDiffers, message).with_hint(acceptable_hint())
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

impl Machine {
    /// The question that is to be asked before anything else, if there is one.
    pub(in crate::sync) fn next_inquiry(&mut self) -> Result<Option<(RequestId, Batch)>> {
        let caught_up = self.last_look > RequestId(0)
            && self.last_look >= self.inquiry.acknowledged
            && self.pages.front().is_none()
            && !self.pages.more();
        if self.is_renewing() || !(caught_up || self.inquiry.stopped) {
            return Ok(None);
        }
        let ids = self.store.unanswered(self.inquiry.limit)?;
        let Some((replica, _)) = self.identity.as_ref().filter(|_| !ids.is_empty()) else {
            self.hold_together()?;
            return Ok(None);
        };
        tracing::info!(events = ids.len(), first = %ids[0], "the log has gone past own events");
        let asker = Asker { replica: *replica, place: self.pages.place() };
        // What was begun of another one is of no use.
        self.inquiry.slices.take_if(|(id, _)| *id != ids[0]);
        let question = match &self.inquiry.slices {
            Some((id, slices)) => statements::lookup_slice(*id, slices.next()),
            None => statements::lookup(&ids),
        };
        let statements = vec![question, statements::meta(asker)];
        let batch = Batch { statements, writes: false };
        Ok(Some((self.fly(Errand::Inquiry(ids)), batch)))
    }

    /// Nothing is missing any more.
    fn hold_together(&mut self) -> Result<()> {
        if std::mem::take(&mut self.inquiry.stopped) {
            self.store.set_contradiction(None)?;
        }
        // What is pushed again was missing a moment ago.
        if !self.unsent {
            self.inquiry.contradictions = 0;
        }
        self.inquiry.limit = MAX_ASKED;
        self.inquiry.slices = None;
        Ok(())
    }

    /// The remote has answered.
    pub(in crate::sync) fn inquired(&mut self, ids: &[EventId], answer: Answer) {
        let slices = self.inquiry.slices.is_some();
        let read = if slices {
            let read = statements::read_lookup_slice(answer);
            read.map(|(part, meta)| (Found::Part(part), meta))
        } else {
            statements::read_lookup(answer).map(|(page, meta)| (Found::Page(page), meta))
        };
        let (found, meta) = match read {
            Ok(read) => read,
            Err(error) => return self.failed(None, error),
        };
        let marks = match self.store.marks() {
            Ok(marks) => marks,
            Err(error) => return self.local_trouble(error),
        };
        let epoch = self.identity.as_ref().map(|(_, epoch)| epoch.as_str());
        if let Err((error, state)) = examine(epoch, self.pages.place(), &marks, meta.as_ref()) {
            return self.refused(error, state);
        }
        let page = match found {
            Found::Page(page) => page,
            Found::Part(part) => match self.line_of(part) {
                Ok(Some(page)) => page,
                Ok(None) => return self.succeeded(),
                Err(error) => return self.failed(None, error),
            },
        };
        match self.settle_overlooked(ids, &page) {
            Ok(done) => {
                self.succeeded();
                self.count(done);
            }
            Err(Wrong::Here(error)) => self.local_trouble(error),
            Err(Wrong::OtherLog(error)) => self.refused(error, SyncState::RolledBack),
            Err(Wrong::Unlikely(error)) => {
                self.inquiry.contradictions += 1;
                if self.inquiry.contradictions < LOOKS {
                    self.unavailable(error);
                } else {
                    self.refused(error, SyncState::Trouble);
                }
            }
        }
        self.changed();
    }

    /// A slice came, or none where there is no such event. Gives the page with the event's line
    /// once it is whole, or an empty one.
    fn line_of(&mut self, part: Option<Part>) -> Result<Option<Page>> {
        let Some((id, mut slices)) = self.inquiry.slices.take() else { return Ok(None) };
        let Some(Part { seq, size, bytes, .. }) = part else { return Ok(Some(Page::default())) };
        // What is none of it is begun anew with the next request.
        let line = slices.came(seq, size, &bytes)?;
        if line.is_none() {
            self.inquiry.slices = Some((id, slices));
        }
        Ok(line.map(|bytes| Page { bytes, last: seq, count: 1, more: false }))
    }

    /// What is missing is settled as far as it is in the log.
    fn settle_overlooked(&mut self, ids: &[EventId], page: &Page) -> Result<Integrated, Wrong> {
        let cursor = self.store.place()?.seq;
        let lines = page.lines()?;
        if lines.iter().any(|line| line.damaged.is_none() && !ids.contains(&line.id)) {
            let message = "the remote has answered another question";
            return Err(Error::new(Code::AnswerInvalid, message).into());
        }
        if let Some(line) = lines.iter().find(|line| line.seq > cursor) {
            self.pages.expect();
            let message = format!("the remote's log ended before its event {}", line.seq);
            return Err(Error::new(Code::AnswerInvalid, message).into());
        }
        let done = match self.store.settle_overlooked(page, self.now.wall_ms)? {
            Late::Settled(done) => done,
            Late::Contradicts(id, seq) => return Err(self.stop_for(id, seq)),
        };
        let is_there = |id: &&EventId| lines.iter().any(|line| line.id == **id);
        let missing: Vec<_> = ids.iter().filter(|id| !is_there(id)).copied().collect();
        if let Some(first) = missing.first() {
            self.store.unsend(*first)?;
            self.look_at_outbox();
            self.count(done);
            return Err(lost(&missing).into());
        }
        Ok(done)
    }

    /// Notes that the log that was read is not the remote's.
    fn stop_for(&mut self, id: EventId, seq: Seq) -> Wrong {
        let (id, seq) = (id.to_string(), seq.to_string());
        self.inquiry.stopped = true;
        match self.store.set_contradiction(Some((&id, &seq))) {
            Ok(()) => Wrong::OtherLog(other_log(&id, &seq)),
            Err(error) => Wrong::Here(error),
        }
    }

    /// The answer would be too large: fewer are asked for, or less of one.
    pub(in crate::sync) fn inquiry_too_large(&mut self, ids: &[EventId], error: Error) {
        if ids.len() > 1 {
            self.inquiry.limit = ids.len() / 2;
            return;
        }
        match self.inquiry.slices.as_mut().map(|(_, slices)| slices.too_large()) {
            None => self.inquiry.slices = Some((ids[0], Slices::new())),
            Some(true) => {}
            Some(false) => {
                self.inquiry.slices = None;
                self.cannot_be_sent(ids[0], error);
            }
        }
    }

    /// Not even a slice fits into an answer.
    fn cannot_be_sent(&mut self, id: EventId, error: Error) {
        let message =
            format!("event {id} cannot be asked for, for the remote sends next to nothing");
        let error = Error::new(Code::EventUnreadable, message)
            .with_hint("raise the remote's limit on the size of an answer")
            .with_source(error);
        self.refused(error, SyncState::Trouble);
    }

    /// Counts what a transaction has integrated, and tells whoever wants to know.
    pub(in crate::sync) fn count(&mut self, done: Integrated) {
        let totals = &mut self.totals;
        let own = done.settled_applied + done.settled_superseded + done.settled_rejected;
        totals.applied += done.settled_applied as u64;
        totals.superseded += done.settled_superseded as u64;
        totals.rejected += done.settled_rejected as u64;
        totals.pulled += done.pulled.saturating_sub(own) as u64;
        tracing::debug!(cursor = %done.cursor, pulled = done.pulled, "integrated");
        if !done.changes.is_empty() {
            let rows = done.changes.into_iter();
            let rows = rows.map(|(table, key)| Change { table, key }).collect();
            let changes = Changes { rows, cursor: done.cursor, missed: false };
            self.effects.push_back(Effect::Notify(changes));
        }
        self.changed();
    }
}
