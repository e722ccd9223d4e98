//! Pages: how much of the log to request, and the pages that wait to be integrated.

use std::collections::{HashSet, VecDeque};

use crate::error::{Code, Error, Result};
use crate::event::Seq;
use crate::event::page::{Offset, Page};
use crate::protocol::incarnation::Place;
use crate::protocol::statements::{LogRange, MAX_EVENTS, MAX_UNIT, ReceivedChunk};
use crate::sync::machine::io::PullSize;
use crate::sync::machine::pull::chunks::Chunks;

/// The most waiting pages: one is integrated while the next one is in flight.
const MAX_WAITING: usize = 2;

/// The most events of a page that is lengthened before it is integrated. It is in memory as a
/// whole: 320,000 events of 500 bytes are 160 MB. No unit is nearly as large.
const MAX_LONGER: usize = 64 * MAX_EVENTS;

/// The most bytes of such a page. Events of a common size reach both limits together.
const MAX_LONGER_BYTES: usize = 160 << 20;

/// By which factor a page grows before it is tried again. With this factor, all attempts together
/// cost little more than the last one.
const LONGER: usize = 4;

/// Below this number of events, units are no longer read whole: such a unit does not fit into an
/// answer.
const WHOLE_DOWN_TO: usize = 256;

/// The log as far as it was read, and the size of the next page.
///
/// * `tail` is the end of the newest page that came. The waiting pages lead from the cursor to it
///   without a gap.
/// * `rest` is the unit at the end of the newest page. It may continue, and waits for its end.
/// * `begun` is the part of the front page that is integrated already.
/// * While `longer` is set, each new page is joined to the front page, because one answer may be
///   too small for all of it. The front page may be integrated when it has this many events, or
///   when nothing follows.
#[derive(Clone, Debug)]
pub(in crate::sync) struct Pages {
    next: NextSize,
    waiting: VecDeque<Page>,
    rest: Option<Page>,
    /// The last seqs of pages that end within a unit that is too large to wait for.
    partial: HashSet<Seq>,
    /// Whether the page that was integrated last ended like this.
    in_parts: bool,
    /// Whether pages are requested with their last unit complete: no unit was too large so far.
    whole_units: bool,
    begun: Offset,
    /// Whether the front page must not be split: a part of it could not be integrated by itself.
    at_once: bool,
    tail: Place,
    head: Seq,
    more: bool,
    /// The number of events that the front page must have before it is tried again.
    longer: Option<usize>,
    /// The next event's line, if it is read in chunks because it does not fit into a page alone.
    chunks: Option<Chunks<Seq>>,
}

/// The size of the next page.
///
/// `target`, in bytes, shrinks when a page was too large, and never grows above the largest page
/// that fitted: a server's limit does not change from one request to the next. If only a single
/// event did not fit, `target` returns to its former value.
#[derive(Clone, Debug)]
struct NextSize {
    most: PullSize,
    events: usize,
    target: usize,
    /// The value of `target` before pages were too large. Perhaps only one event was.
    target_before: Option<usize>,
}

impl NextSize {
    fn new(most: PullSize) -> Self {
        NextSize { most, events: most.events, target: most.bytes, target_before: None }
    }

    /// A page fitted. The next request is for as many events as fill the target, but at most a
    /// quarter more: the next events may be larger.
    fn fitted(&mut self, page: &Page) {
        self.target = self.target.max(page.bytes.len().min(self.most.bytes));
        let weight = (page.bytes.len() / page.count).max(1);
        let fitting = (self.target / weight).max(1);
        let grown = self.events + self.events.div_ceil(4);
        self.events = grown.min(fitting).min(self.most.events);
    }

    /// A page was too large. Returns the number of events that were requested.
    fn too_large(&mut self) -> usize {
        let asked = self.events;
        self.target_before.get_or_insert(self.target);
        self.target = (self.target / 2).max(1);
        self.events = (asked / 2).max(1);
        asked
    }

    /// Only one event was too large. The others may be as large as before.
    fn one_was_too_large(&mut self) {
        self.target = self.target_before.take().unwrap_or(self.target);
    }
}

impl Pages {
    /// Nothing is known about the log after the cursor.
    pub(in crate::sync) fn after(cursor: Place, most: PullSize) -> Self {
        Pages {
            next: NextSize::new(most),
            waiting: VecDeque::new(),
            rest: None,
            partial: HashSet::new(),
            in_parts: false,
            whole_units: true,
            begun: Offset::default(),
            at_once: false,
            tail: cursor,
            head: cursor.seq,
            more: false,
            longer: None,
            chunks: None,
        }
    }

    /// Drops the waiting pages: the next page is requested from the cursor on.
    pub(in crate::sync) fn restart(&mut self, cursor: Place) {
        self.waiting.clear();
        self.rest = None;
        self.partial.clear();
        self.begun = Offset::default();
        self.at_once = false;
        self.longer = None;
        self.chunks = None;
        self.tail = cursor;
        self.more = self.head > cursor.seq;
    }

    /// The newest known place in the log. The next request begins after it.
    pub(in crate::sync) fn place(&self) -> Place {
        self.tail
    }

    fn asks_whole_units(&self) -> bool {
        self.whole_units && self.next.events >= WHOLE_DOWN_TO && self.chunks.is_none()
    }

    /// The part of the log to request next.
    pub(in crate::sync) fn range(&self) -> LogRange {
        LogRange {
            after: self.tail.seq,
            events: self.next.events,
            whole_units: self.asks_whole_units(),
            chunk: self.chunks.as_ref().map(Chunks::<Seq>::next),
        }
    }

    /// Whether another page may be requested. While a longer page waits, it must be integrated
    /// first.
    pub(in crate::sync) fn has_room(&self) -> bool {
        match self.longer {
            Some(_) => self.front().is_none(),
            None => self.waiting.len() < MAX_WAITING,
        }
    }

    /// Whether the log is known to go on.
    pub(in crate::sync) fn more(&self) -> bool {
        self.more
    }

    /// Something was pushed without requesting a page: its events will be in the next page.
    pub(in crate::sync) fn expect(&mut self) {
        self.more = true;
    }

    /// The newest seq of the log that is known.
    pub(in crate::sync) fn head(&self) -> Seq {
        self.head
    }

    /// A page arrived. Returns whether it has events.
    pub(in crate::sync) fn came(&mut self, page: Page, head: Seq) -> bool {
        self.head = head.max(self.tail.seq);
        self.more = page.more;
        let closed =
            !page.more || (self.asks_whole_units() && page.count < self.next.events + MAX_UNIT);
        if page.count == 0 {
            self.waiting.extend(self.rest.take());
            if let Some(last) = self.waiting.back_mut() {
                last.more = page.more;
            }
            return false;
        }
        self.next.fitted(&page);
        self.tail = Place { seq: page.last, id: page.last_id() };
        self.queue(page, closed);
        if self.longer.is_some() {
            self.join();
        }
        true
    }

    /// Queues the page, except for the unit at its end, which may continue in the next page. In a
    /// `closed` page it does not.
    fn queue(&mut self, page: Page, closed: bool) {
        let page = match self.rest.take() {
            Some(rest) => rest.joined(page),
            None => page,
        };
        if closed {
            return self.waiting.push_back(page);
        }
        let (done, rest) = page.split_last_unit();
        self.whole_units |= done.is_some();
        self.waiting.extend(done);
        self.rest = rest;
        let PullSize { unit_events, unit_bytes, .. } = self.next.most;
        let large = |rest: &mut Page| rest.count > unit_events || rest.bytes.len() > unit_bytes;
        if let Some(large) = self.rest.take_if(large) {
            self.partial.insert(large.last);
            self.waiting.push_back(large);
        }
    }

    /// Whether another writer's transaction is integrated in part, because it is too large to be
    /// integrated at once.
    pub(in crate::sync) fn in_parts(&self) -> bool {
        self.in_parts
    }

    /// Whether a page waits for the next one, to be joined with it.
    pub(in crate::sync) fn is_joining(&self) -> bool {
        self.longer.is_some() && self.front().is_none()
    }

    /// Joins the waiting pages to the front page.
    fn join(&mut self) {
        let mut pages = std::mem::take(&mut self.waiting).into_iter();
        let Some(front) = pages.next() else { return };
        self.waiting.push_back(pages.fold(front, Page::joined));
    }

    /// An answer arrived: a page, or a chunk of a line. Returns whether it has something new.
    ///
    /// # Errors
    ///
    /// `Corrupt` when the chunk does not belong to the line. Then the line is read from its
    /// beginning again.
    pub(in crate::sync) fn came_in(
        &mut self,
        page: Page,
        chunk: Option<ReceivedChunk>,
        head: Seq,
    ) -> Result<bool> {
        let Some(chunk) = chunk else {
            self.chunks = None;
            return Ok(self.came(page, head));
        };
        let ReceivedChunk { seq, size, bytes, head } = chunk;
        let Some(chunks) = &mut self.chunks else { return Ok(false) };
        let came = match seq > self.tail.seq {
            true => chunks.came(seq, size, &bytes),
            false => {
                let message = format!("a chunk of event {seq} is not behind the cursor");
                Err(Error::new(Code::AnswerInvalid, message))
            }
        };
        match came {
            Ok(None) => self.more = true,
            Ok(Some(bytes)) => {
                let page = Page { bytes, last: seq, count: 1, more: head > seq };
                self.next.one_was_too_large();
                self.chunks = None;
                self.came(page, head);
            }
            Err(error) => {
                self.chunks = None;
                return Err(error);
            }
        }
        Ok(true)
    }

    /// The page to integrate next.
    pub(in crate::sync) fn front(&self) -> Option<&Page> {
        let long =
            |page: &&Page| !page.more || self.longer.is_none_or(|events| page.count >= events);
        self.waiting.front().filter(long)
    }

    /// The part to integrate next: at least `events` events of the front page, if it has as many,
    /// up to the end of a unit.
    pub(in crate::sync) fn part(&self, events: usize) -> Option<(Page, Offset)> {
        let events = if self.at_once || self.longer.is_some() { usize::MAX } else { events };
        self.front().map(|page| page.part(self.begun, events))
    }

    /// The front page is integrated up to `end`.
    pub(in crate::sync) fn integrated(&mut self, end: Offset) {
        let front = self.front().expect("a page that waited was integrated");
        if !front.ends_at(end) {
            self.begun = end;
            return;
        }
        let last = front.last;
        self.in_parts = self.partial.remove(&last);
        self.waiting.pop_front();
        self.begun = Offset::default();
        self.at_once = false;
        self.longer = None;
    }

    /// The part of the front page up to `end` can be integrated only with the events after it.
    /// Returns false if there are none, or if the page may not grow any more.
    ///
    /// The next page is joined to it here. The two are not fetched in one request, because the
    /// remote's answers may be too small for both.
    pub(in crate::sync) fn lengthen(&mut self, end: Offset) -> bool {
        let front = self.front().expect("a page that waited was refused");
        if !front.ends_at(end) {
            self.at_once = true;
            return true;
        }
        if !front.more || front.count >= MAX_LONGER || front.bytes.len() >= MAX_LONGER_BYTES {
            self.longer = None;
            return false;
        }
        self.longer = Some((front.count * LONGER).min(MAX_LONGER));
        self.join();
        true
    }

    /// The answer was too large. Returns false if a request cannot be smaller.
    pub(in crate::sync) fn too_large(&mut self) -> bool {
        if let Some(chunks) = &mut self.chunks {
            let smaller = chunks.too_large();
            if !smaller {
                self.chunks = None;
            }
            return smaller;
        }
        if self.asks_whole_units() {
            // Perhaps only its last unit was too large.
            self.whole_units = false;
            return true;
        }
        if self.next.too_large() == 1 {
            self.chunks = Some(Chunks::new());
        }
        true
    }
}

#[cfg(test)]
mod tests;
