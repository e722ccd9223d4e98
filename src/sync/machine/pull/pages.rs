//! Pages: how much of the log to ask for, and those that wait to be integrated.

use std::collections::{HashSet, VecDeque};

use crate::error::{Code, Error, Result};
use crate::event::Seq;
use crate::event::page::{Offset, Page};
use crate::protocol::incarnation::Place;
use crate::protocol::statements::{LogRange, MAX_EVENTS, MAX_UNIT, ReceivedChunk};
use crate::sync::machine::io::PullSize;
use crate::sync::machine::pull::chunks::Chunks;

/// Pages that may wait: one is integrated while the next one is in flight.
const MAX_WAITING: usize = 2;

/// The most events of a page that is made longer to be integrated. All of it is in memory: 320,000
/// events of 500 bytes are 160 MB, and no unit is near that.
const MAX_LONGER: usize = 64 * MAX_EVENTS;

/// The most bytes of such a page before it is made longer still: so many bytes have as many events
/// of a common size.
const MAX_LONGER_BYTES: usize = 160 << 20;

/// How many times as long a page is before it is tried again: so all tries of a page together cost
/// little more than the last one.
const LONGER: usize = 4;

/// Below this many events a unit is no longer read whole: it does not fit into an answer.
const WHOLE_DOWN_TO: usize = 256;

/// The log as far as it was read, and the size of the next page.
///
/// * `tail` is the end of the newest page that came; the waiting pages lead from the cursor to it
///   without a gap.
/// * `rest` is the unit at the end of what came. It may go on, and waits for its end.
/// * `begun` is how much of the front page is integrated already.
/// * While `longer` is set, a page that comes is joined to the front page, because an answer may be
///   too small for all of it. The front page may be integrated when it has that many events, or
///   when nothing follows.
#[derive(Clone, Debug)]
pub(in crate::sync) struct Pages {
    next: NextSize,
    waiting: VecDeque<Page>,
    rest: Option<Page>,
    /// The last seqs of pages that end within a unit which is too large to wait for its end.
    partial: HashSet<Seq>,
    /// The page that was integrated last ended in this way.
    in_parts: bool,
    /// Pages are asked for with their last unit complete: none was too large for an answer so far.
    whole_units: bool,
    begun: Offset,
    /// The front page does not come apart: a part of it could not be integrated by itself.
    at_once: bool,
    tail: Place,
    head: Seq,
    more: bool,
    /// How many events the front page must have before it is tried again.
    longer: Option<usize>,
    /// The next event's line is read in chunks, for it does not fit into a page alone.
    chunks: Option<Chunks<Seq>>,
}

/// The size of the next page.
///
/// `target`, in bytes, shrinks when a page was too large, and does not grow above the largest page
/// that has fitted: a server's limit does not change from one request to the next. If it turns out
/// that one single event did not fit, `target` returns to its former value.
#[derive(Clone, Debug)]
struct NextSize {
    most: PullSize,
    events: usize,
    target: usize,
    /// The value of `target` before pages became too large: perhaps only one event was.
    target_before: Option<usize>,
}

impl NextSize {
    fn new(most: PullSize) -> Self {
        NextSize { most, events: most.events, target: most.bytes, target_before: None }
    }

    /// A page came, and has fitted: that is no reason to ask for less. As many events follow as
    /// fill the target, growing by a quarter at the most: the next ones may be heavier.
    fn fitted(&mut self, page: &Page) {
        self.target = self.target.max(page.bytes.len().min(self.most.bytes));
        let weight = (page.bytes.len() / page.count).max(1);
        let fitting = (self.target / weight).max(1);
        let grown = self.events + self.events.div_ceil(4);
        self.events = grown.min(fitting).min(self.most.events);
    }

    /// A page was too large. Gives how many events it was asked for.
    fn too_large(&mut self) -> usize {
        let asked = self.events;
        self.target_before.get_or_insert(self.target);
        self.target = (self.target / 2).max(1);
        self.events = (asked / 2).max(1);
        asked
    }

    /// One event was too large: the others may be as large as before.
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

    /// Forgets the waiting pages: the next one is asked for after the cursor.
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

    /// The newest place in the log that is known: what is asked for is behind it.
    pub(in crate::sync) fn place(&self) -> Place {
        self.tail
    }

    fn asks_whole_units(&self) -> bool {
        self.whole_units && self.next.events >= WHOLE_DOWN_TO && self.chunks.is_none()
    }

    /// The part of the log to ask for next.
    pub(in crate::sync) fn range(&self) -> LogRange {
        LogRange {
            after: self.tail.seq,
            events: self.next.events,
            whole_units: self.asks_whole_units(),
            chunk: self.chunks.as_ref().map(Chunks::<Seq>::next),
        }
    }

    /// Whether another page may come. While a longer page waits, none may: that one must be
    /// integrated first.
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

    /// Something was pushed without asking for a page: its events will be in the next one.
    pub(in crate::sync) fn expect(&mut self) {
        self.more = true;
    }

    /// The newest seq of the log that is known.
    pub(in crate::sync) fn head(&self) -> Seq {
        self.head
    }

    /// A page came. Gives whether it has events.
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

    /// The page waits to be integrated, except for the unit at its end, which may go on in the next
    /// page. In a `closed` page it does not go on.
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

    /// Whether a part of another writer's transaction is integrated, which is too large to be
    /// integrated at once, and the rest is not.
    pub(in crate::sync) fn in_parts(&self) -> bool {
        self.in_parts
    }

    /// Whether a page is here that waits for the next one.
    pub(in crate::sync) fn is_joining(&self) -> bool {
        self.longer.is_some() && self.front().is_none()
    }

    /// Joins what waits to the front page.
    fn join(&mut self) {
        let mut pages = std::mem::take(&mut self.waiting).into_iter();
        let Some(front) = pages.next() else { return };
        self.waiting.push_back(pages.fold(front, Page::joined));
    }

    /// An answer came: a page, or a chunk of a line. Gives whether it has something new.
    ///
    /// # Errors
    ///
    /// `Corrupt` when the chunk does not belong to the line; then the line is read from its
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

    /// The events to integrate next: at least `events` events of the front page, if it has as many,
    /// up to the end of a unit.
    pub(in crate::sync) fn part(&self, events: usize) -> Option<(Page, Offset)> {
        let events = if self.at_once || self.longer.is_some() { usize::MAX } else { events };
        self.front().map(|page| page.part(self.begun, events))
    }

    /// The front page is integrated up to there.
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

    /// A part of the front page, up to `end`, can be integrated only with the events after it.
    /// Gives false if there are none, or if the page is as long as it may be.
    ///
    /// The next page is joined to it here. Both are not asked for in one request, because the
    /// remote's answers may be too small for that.
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

    /// The answer was too large. Gives false if less cannot be asked for.
    pub(in crate::sync) fn too_large(&mut self) -> bool {
        if let Some(chunks) = &mut self.chunks {
            let smaller = chunks.too_large();
            if !smaller {
                self.chunks = None;
            }
            return smaller;
        }
        if self.asks_whole_units() {
            // Perhaps for its last unit alone.
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
