//! Pages: how much of the log to ask for, and those that wait to be integrated.

use std::collections::VecDeque;

use crate::error::{Error, Result};
use crate::event::{EventId, Seq};
use crate::identity::Place;
use crate::page::{Offset, Page};
use crate::remote::statements::{MAX_EVENTS, PAGE_BYTES, Part, Span};
use crate::sync::slices::Slices;

/// Pages that may wait: one is integrated while the next one is under way.
const MAX_WAITING: usize = 2;

/// The most events of a page that is made longer to be integrated, in memory all of it: 320,000
/// events of 500 bytes are 160 MB, and no unit is near that.
const MAX_LONGER: usize = 64 * MAX_EVENTS;

/// The most bytes of such a page before it is made longer still: what its events would have if they
/// were of a common size.
const MAX_LONGER_BYTES: usize = 160 << 20;

/// How many times as long a page is before it is tried again: so all tries of a page together cost
/// little more than the last one.
const LONGER: usize = 4;

/// Below this many events a unit is no longer read whole: it does not fit into an answer.
const WHOLE_DOWN_TO: usize = 256;

/// Where the pull stands.
///
/// * `tail` is the end of the newest page that came; the waiting pages lead from the cursor to it
///   without a gap.
/// * `begun` is how much of the front page is integrated already.
/// * While `longer` says so, what comes is joined to the front page, since an answer may be too
///   small for all of it. It is there again when it is long enough, or when nothing follows.
/// * `target` shrinks when a page was too large, and does not grow above what has fitted: a
///   server's cap does not change from one request to the next. If it turns out that it was one
///   event that did not fit, it is again what it was before.
#[derive(Clone, Debug)]
pub(super) struct Pages {
    waiting: VecDeque<Page>,
    begun: Offset,
    /// The front page does not come apart: a part of it could not be integrated by itself.
    at_once: bool,
    tail: Seq,
    tail_id: Option<EventId>,
    head: Seq,
    more: bool,
    events: usize,
    target: usize,
    /// What `target` was before pages became too large: perhaps for one event's sake.
    target_before: Option<usize>,
    /// How many events the front page must have before it is tried again.
    longer: Option<usize>,
    /// The next event's line is read in slices, for it does not fit into a page alone.
    slices: Option<Slices<Seq>>,
}

impl Pages {
    /// Nothing is known about the log after the cursor.
    pub(super) fn after(cursor: Place) -> Self {
        Pages {
            waiting: VecDeque::new(),
            begun: Offset::default(),
            at_once: false,
            tail: cursor.seq,
            tail_id: cursor.id,
            head: cursor.seq,
            more: false,
            events: MAX_EVENTS,
            target: PAGE_BYTES,
            target_before: None,
            longer: None,
            slices: None,
        }
    }

    /// Forgets the waiting pages: the next one is asked for after the cursor.
    pub(super) fn restart(&mut self, cursor: Place) {
        self.waiting.clear();
        self.begun = Offset::default();
        self.at_once = false;
        self.longer = None;
        self.slices = None;
        (self.tail, self.tail_id) = (cursor.seq, cursor.id);
        self.more = self.head > cursor.seq;
    }

    /// The newest place in the log that is known: what is asked for is behind it.
    pub(super) fn place(&self) -> Place {
        Place { seq: self.tail, id: self.tail_id }
    }

    /// What to ask for next.
    pub(super) fn span(&self) -> Span {
        Span {
            after: self.tail,
            events: self.events,
            whole: self.events >= WHOLE_DOWN_TO,
            slice: self.slices.as_ref().map(Slices::<Seq>::next),
        }
    }

    /// Whether another page may come. A longer page stands alone, for it must be integrated first.
    pub(super) fn has_room(&self) -> bool {
        match self.longer {
            Some(_) => self.front().is_none(),
            None => self.waiting.len() < MAX_WAITING,
        }
    }

    /// Whether the log is known to go on.
    pub(super) fn more(&self) -> bool {
        self.more
    }

    /// Something was pushed without asking for a page: its events will be in the next one.
    pub(super) fn expect(&mut self) {
        self.more = true;
    }

    /// The newest seq of the log that is known.
    pub(super) fn head(&self) -> Seq {
        self.head
    }

    /// A page came. Gives whether it has events.
    pub(super) fn came(&mut self, page: Page, head: Seq) -> bool {
        self.head = head.max(self.tail);
        self.more = page.more;
        if page.count == 0 {
            if let Some(last) = self.waiting.back_mut() {
                last.more = page.more;
            }
            return false;
        }
        // What has fitted once is no reason to ask for less.
        self.target = self.target.max(page.bytes.len().min(PAGE_BYTES));
        let weight = (page.bytes.len() / page.count).max(1);
        // As many as fill the target, growing by a quarter at the most: the next ones may be
        // heavier.
        let fitting = (self.target / weight).max(1);
        self.events = (self.events + self.events.div_ceil(4)).min(fitting).min(MAX_EVENTS);
        (self.tail, self.tail_id) = (page.last, page.last_id());
        self.waiting.push_back(page);
        if self.longer.is_some() {
            self.join();
        }
        true
    }

    /// Whether a page is here that waits for what follows it.
    pub(super) fn is_joining(&self) -> bool {
        self.longer.is_some() && self.front().is_none()
    }

    /// Joins what waits to the front page.
    fn join(&mut self) {
        let mut pages = std::mem::take(&mut self.waiting).into_iter();
        let Some(mut front) = pages.next() else { return };
        for page in pages {
            front.bytes.push(b'\n');
            front.bytes.extend_from_slice(&page.bytes);
            front.count += page.count;
            (front.last, front.more) = (page.last, page.more);
        }
        self.waiting.push_back(front);
    }

    /// What was asked for came, and may be a slice of a line. Gives whether there is something new.
    ///
    /// # Errors
    ///
    /// `Corrupt` when the slice is none of the line; then the line is begun anew.
    pub(super) fn came_in(&mut self, page: Page, part: Option<Part>, head: Seq) -> Result<bool> {
        let Some(part) = part else {
            self.slices = None;
            return Ok(self.came(page, head));
        };
        let Part { seq, size, bytes, head } = part;
        let Some(slices) = &mut self.slices else { return Ok(false) };
        let came = match seq > self.tail {
            true => slices.came(seq, size, &bytes),
            false => {
                Err(Error::corrupt(format!("a slice of event {seq} is not behind the cursor")))
            }
        };
        match came {
            Ok(None) => self.more = true,
            Ok(Some(bytes)) => {
                let page = Page { bytes, last: seq, count: 1, more: head > seq };
                // The others may be as large as before.
                self.target = self.target_before.take().unwrap_or(self.target);
                self.slices = None;
                self.came(page, head);
            }
            Err(error) => {
                self.slices = None;
                return Err(error);
            }
        }
        Ok(true)
    }

    /// The page to integrate next.
    pub(super) fn front(&self) -> Option<&Page> {
        let long =
            |page: &&Page| !page.more || self.longer.is_none_or(|events| page.count >= events);
        self.waiting.front().filter(long)
    }

    /// What to integrate next: at least `events` events of the front page, if it has as many, up
    /// to the end of a unit.
    pub(super) fn part(&self, events: usize) -> Option<(Page, Offset)> {
        let events = if self.at_once || self.longer.is_some() { usize::MAX } else { events };
        self.front().map(|page| page.part(self.begun, events))
    }

    /// The front page is integrated up to there.
    pub(super) fn integrated(&mut self, end: Offset) {
        let front = self.front().expect("a page that waited was integrated");
        if !front.ends_at(end) {
            self.begun = end;
            return;
        }
        self.waiting.pop_front();
        self.begun = Offset::default();
        self.at_once = false;
        self.longer = None;
    }

    /// A part of the front page, up to `end`, can be integrated only with what follows. Gives false
    /// if there cannot be any more of it.
    ///
    /// What follows is joined to it here, and not asked for together with it: the remote's answers
    /// may be too small for that.
    pub(super) fn lengthen(&mut self, end: Offset) -> bool {
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

    /// What was asked for is too large. Gives false if less cannot be asked for.
    pub(super) fn too_large(&mut self) -> bool {
        if let Some(slices) = &mut self.slices {
            let smaller = slices.too_large();
            if !smaller {
                self.slices = None;
            }
            return smaller;
        }
        let asked = self.events;
        self.target_before.get_or_insert(self.target);
        self.target = (self.target / 2).max(1);
        self.events = (asked / 2).clamp(1, MAX_EVENTS);
        if asked == 1 {
            self.slices = Some(Slices::new());
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seq: i64) -> Place {
        Place { seq: Seq(seq), id: None }
    }

    fn page(last: i64, count: usize, weight: usize, more: bool) -> Page {
        Page { bytes: vec![b' '; count * weight], last: Seq(last), count, more }
    }

    #[test]
    fn a_page_shrinks_at_once_and_grows_slowly() {
        let mut pages = Pages::after(at(7));
        assert_eq!(
            pages.span(),
            Span { after: Seq(7), events: MAX_EVENTS, whole: true, slice: None }
        );
        for _ in 0..5 {
            assert!(pages.too_large());
        }
        let small = pages.span();
        assert_eq!(small.events, MAX_EVENTS >> 5);
        assert!(!small.whole, "a unit that is larger than an answer is read in parts");
        assert!(pages.came(page(100, 93, 10, true), Seq(900)));
        let grown = pages.span();
        assert!(grown.events > small.events && grown.events <= small.events * 5 / 4 + 1);
        assert_eq!(grown.after, Seq(100));
    }

    #[test]
    fn a_single_event_that_is_too_large_is_said() {
        let mut pages = Pages::after(at(0));
        let halvings = (0..40).take_while(|_| pages.too_large()).count();
        assert_eq!(halvings, 13 + 8);
        assert_eq!(pages.span().events, 1);
    }

    #[test]
    fn a_large_event_comes_in_slices_and_the_next_page_is_as_large_as_before() {
        let mut pages = Pages::after(at(7));
        while pages.span().slice.is_none() {
            assert!(pages.too_large());
        }
        let slice = pages.span().slice.unwrap();
        let part = |bytes: usize| Part {
            seq: Seq(8),
            size: slice.bytes + 5,
            bytes: vec![b' '; bytes],
            head: Seq(900),
        };
        assert!(pages.came_in(Page::default(), Some(part(slice.bytes)), Seq(7)).unwrap());
        assert!(pages.front().is_none() && pages.more());
        assert_eq!(pages.span().slice.unwrap().from, slice.bytes);
        assert!(pages.came_in(Page::default(), Some(part(5)), Seq(7)).unwrap());
        assert_eq!(pages.front().unwrap().bytes.len(), slice.bytes + 5);
        assert_eq!((pages.place().seq, pages.head(), pages.span().slice), (Seq(8), Seq(900), None));
        for seq in 9..40 {
            pages.came(page(seq, 1, 100, true), Seq(900));
            pages.waiting.clear();
        }
        assert!(pages.span().events > 100, "{:?}", pages.span());
    }

    #[test]
    fn a_slice_is_of_an_event_behind_the_cursor_and_may_be_the_last_of_the_log() {
        for (seq, head, taken) in [(6, 9, false), (7, 9, false), (8, 9, true), (8, 8, true)] {
            let mut pages = Pages::after(at(7));
            while pages.span().slice.is_none() {
                assert!(pages.too_large());
            }
            let part = Part { seq: Seq(seq), size: 3, bytes: vec![b' '; 3], head: Seq(head) };
            let came = pages.came_in(Page::default(), Some(part), Seq(7));
            assert_eq!(came.is_ok(), taken, "event {seq} of {head}");
            assert_eq!(pages.front().map(|page| page.more), taken.then_some(head > seq));
            assert_eq!(pages.span().slice, None);
        }
    }

    #[test]
    fn a_page_is_integrated_in_parts_until_one_of_them_cannot_be() {
        let lines = |first: i64| -> Vec<u8> {
            let line = |seq| format!("[{seq},\"x\",\"web\",null,null]");
            (first..first + 10).map(line).collect::<Vec<_>>().join("\n").into_bytes()
        };
        let mut pages = Pages::after(at(0));
        let two = |first| Page { bytes: lines(first), last: Seq(first + 9), count: 10, more: true };
        pages.came(two(1), Seq(500));
        pages.came(two(11), Seq(500));
        let (part, end) = pages.part(4).unwrap();
        assert_eq!((part.count, part.last), (4, Seq(4)));
        pages.integrated(end);
        let (part, end) = pages.part(4).unwrap();
        assert_eq!((part.count, part.last), (4, Seq(8)));
        assert!(pages.lengthen(end), "there is more of this page");
        assert!(!pages.has_room(), "and both still wait");
        let (part, end) = pages.part(4).unwrap();
        assert_eq!((part.count, part.last), (6, Seq(10)));
        pages.integrated(end);
        let (part, end) = pages.part(4).unwrap();
        assert_eq!((part.count, part.last), (4, Seq(14)));
        pages.integrated(end);
        let (_, end) = pages.part(100).unwrap();
        assert!(pages.lengthen(end));
        assert!(pages.front().is_none() && pages.has_room(), "40 events are wanted");
        pages.came(Page { bytes: lines(21), last: Seq(30), count: 10, more: true }, Seq(500));
        assert!(pages.front().is_none() && pages.has_room());
        pages.came(Page { bytes: lines(31), last: Seq(40), count: 10, more: false }, Seq(40));
        assert!(!pages.has_room());
        let (part, end) = pages.part(4).unwrap();
        assert_eq!((part.count, part.last, part.more), (26, Seq(40), false), "nothing follows");
        pages.integrated(end);
        assert!(pages.front().is_none() && pages.has_room());
    }

    #[test]
    fn heavy_events_make_short_pages() {
        let mut pages = Pages::after(at(0));
        pages.came(page(10, 10, 1 << 20, true), Seq(500));
        assert_eq!(pages.span().events, 3);
    }

    #[test]
    fn a_longer_page_is_made_of_those_that_follow_and_stands_alone() {
        let mut pages = Pages::after(at(0));
        pages.came(page(10, 10, 10, true), Seq(500));
        pages.came(page(20, 10, 10, true), Seq(500));
        assert!(!pages.has_room());
        assert!(!pages.is_joining());
        let (_, end) = pages.part(1).unwrap();
        assert!(pages.lengthen(end));
        assert_eq!(pages.span().after, Seq(20), "what is here already is not asked for again");
        assert!(pages.has_room() && pages.front().is_none() && pages.more());
        assert!(pages.is_joining());
        pages.came(page(40, 20, 10, true), Seq(500));
        assert!(!pages.has_room() && !pages.is_joining(), "it is long enough");
        let (part, end) = pages.part(1).unwrap();
        assert_eq!(part.last, Seq(40), "and does not come apart");
        pages.integrated(end);
        assert!(pages.has_room());
        assert!(pages.span().events > 40);
    }

    #[test]
    fn the_log_goes_on_as_far_as_it_is_known() {
        let mut pages = Pages::after(at(7));
        assert_eq!((pages.place(), pages.head(), pages.more()), (at(7), Seq(7), false));
        pages.expect();
        assert!(pages.more());
        assert!(pages.came(page(10, 3, 100, true), Seq(20)));
        assert_eq!((pages.place(), pages.head(), pages.more()), (at(10), Seq(20), true));
        assert!(!pages.came(page(10, 0, 100, false), Seq(5)));
        assert_eq!((pages.head(), pages.more()), (Seq(10), false), "a log ends behind its pages");
        for (cursor, more) in [(9, true), (10, false), (11, false)] {
            pages.restart(at(cursor));
            assert_eq!((pages.place(), pages.more()), (at(cursor), more));
            assert!(pages.front().is_none());
        }
    }

    #[test]
    fn what_was_too_large_once_is_the_measure_from_then_on() {
        let mut pages = Pages::after(at(0));
        pages.too_large();
        pages.came(page(1, 1, PAGE_BYTES / 8, true), Seq(500));
        assert_eq!(pages.span().events, 4);
    }

    #[test]
    fn a_page_that_must_be_longer_comes_through_answers_that_are_smaller() {
        let mut pages = Pages::after(at(0));
        let long = |pages: &Pages| pages.front().map(|page| page.count);
        for seq in 1..=4 {
            while pages.span().slice.is_none() {
                assert!(pages.too_large());
            }
            let bytes = vec![b' '; 100];
            let part = Part { seq: Seq(seq), size: 100, bytes, head: Seq(9) };
            assert!(pages.came_in(Page::default(), Some(part), Seq(9)).unwrap());
            if seq == 1 {
                let end = pages.part(1).unwrap().1;
                assert!(pages.lengthen(end));
            }
            assert_eq!(long(&pages), (seq == 4).then_some(4), "after event {seq}");
        }
        assert_eq!((pages.part(1).unwrap().0.last, pages.place().seq), (Seq(4), Seq(4)));
    }

    #[test]
    fn an_end_that_comes_without_an_event_is_one() {
        let mut pages = Pages::after(at(0));
        pages.came(page(10, 10, 10, true), Seq(500));
        let end = pages.part(1).unwrap().1;
        assert!(pages.lengthen(end));
        assert!(pages.front().is_none());
        assert!(!pages.came(page(10, 0, 0, false), Seq(10)));
        assert!(pages.front().is_some_and(|page| !page.more));
    }

    #[test]
    fn a_page_grows_longer_until_memory_would_not_do() {
        for (weight, most) in [(40, MAX_LONGER), (1 << 14, MAX_LONGER_BYTES >> 14)] {
            let mut pages = Pages::after(at(0));
            let mut tried = Vec::new();
            for seq in 1.. {
                pages.came(page(seq * 1_000, 1_000, weight, true), Seq(1 << 40));
                let Some((part, end)) = pages.part(1) else { continue };
                tried.push(part.count);
                if !pages.lengthen(end) {
                    break;
                }
            }
            let last = tried.pop().unwrap();
            assert!((most..2 * most).contains(&last), "{last} of {tried:?}");
            assert!(tried.windows(2).all(|two| two[1] >= LONGER * two[0]), "{tried:?}");
        }
    }
}
