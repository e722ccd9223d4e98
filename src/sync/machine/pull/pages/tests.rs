//! The size of requests, and the waiting pages.

use super::*;

fn at(seq: i64) -> Place {
    Place { seq: Seq(seq), id: None }
}

fn after(seq: i64) -> Pages {
    Pages::after(at(seq), PullSize::default())
}

fn page(last: i64, count: usize, weight: usize, more: bool) -> Page {
    Page { bytes: vec![b' '; count * weight], last: Seq(last), count, more }
}

#[test]
fn a_page_shrinks_at_once_and_grows_slowly() {
    let mut pages = after(7);
    assert_eq!(
        pages.range(),
        LogRange { after: Seq(7), events: MAX_EVENTS, whole_units: true, chunk: None }
    );
    for _ in 0..5 {
        assert!(pages.too_large());
    }
    let small = pages.range();
    assert_eq!(small.events, MAX_EVENTS >> 4);
    assert!(!small.whole_units, "a unit that is larger than an answer is read in parts");
    assert!(pages.came(page(100, 93, 10, true), Seq(900)));
    let grown = pages.range();
    assert!(grown.events > small.events && grown.events <= small.events * 5 / 4 + 1);
    assert_eq!(grown.after, Seq(100));
}

#[test]
fn a_single_event_that_is_too_large_is_said() {
    let mut pages = after(0);
    let halvings = (0..40).take_while(|_| pages.too_large()).count();
    assert_eq!(halvings, 1 + 13 + 8);
    assert_eq!(pages.range().events, 1);
}

#[test]
fn a_large_event_comes_in_chunks_and_the_next_page_is_as_large_as_before() {
    let mut pages = after(7);
    while pages.range().chunk.is_none() {
        assert!(pages.too_large());
    }
    let chunk = pages.range().chunk.unwrap();
    let part = |bytes: usize| ReceivedChunk {
        seq: Seq(8),
        size: chunk.bytes + 5,
        bytes: vec![b' '; bytes],
        head: Seq(900),
    };
    assert!(pages.came_in(Page::default(), Some(part(chunk.bytes)), Seq(7)).unwrap());
    assert!(pages.front().is_none() && pages.more());
    assert_eq!(pages.range().chunk.unwrap().from, chunk.bytes);
    assert!(pages.came_in(Page::default(), Some(part(5)), Seq(7)).unwrap());
    assert_eq!(pages.front().unwrap().bytes.len(), chunk.bytes + 5);
    assert_eq!((pages.place().seq, pages.head(), pages.range().chunk), (Seq(8), Seq(900), None));
    for seq in 9..40 {
        pages.came(page(seq, 1, 100, true), Seq(900));
        pages.waiting.clear();
    }
    assert!(pages.range().events > 100, "{:?}", pages.range());
}

#[test]
fn a_chunk_is_of_an_event_behind_the_cursor_and_may_be_the_last_of_the_log() {
    for (seq, head, taken) in [(6, 9, false), (7, 9, false), (8, 9, true), (8, 8, true)] {
        let mut pages = after(7);
        while pages.range().chunk.is_none() {
            assert!(pages.too_large());
        }
        let part = ReceivedChunk { seq: Seq(seq), size: 3, bytes: vec![b' '; 3], head: Seq(head) };
        let came = pages.came_in(Page::default(), Some(part), Seq(7));
        assert_eq!(came.is_ok(), taken, "event {seq} of {head}");
        assert_eq!(pages.front().map(|page| page.more), taken.then_some(head > seq));
        assert_eq!(pages.range().chunk, None);
    }
}

#[test]
fn a_page_is_integrated_in_parts_until_one_of_them_cannot_be() {
    let lines = |first: i64| -> Vec<u8> {
        let line = |seq| format!("[{seq},\"x\",\"web\",null,null]");
        (first..first + 10).map(line).collect::<Vec<_>>().join("\n").into_bytes()
    };
    let mut pages = after(0);
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

/// Lines from `first` on, all in the unit `unit`.
fn lines_of(unit: u64, first: i64, count: i64, more: bool) -> Page {
    let unit = ulid::Ulid::from_parts(unit, 1);
    let line = |seq| format!("[{seq},\"x\",\"a\",null,\"{unit}\"]");
    let bytes = (first..first + count).map(line).collect::<Vec<_>>().join("\n").into_bytes();
    Page { bytes, last: Seq(first + count - 1), count: count as usize, more }
}

#[test]
fn a_unit_that_may_go_on_waits_for_its_end() {
    let mut pages = after(0);
    assert!(pages.too_large());
    assert_eq!((pages.range().whole_units, pages.range().events), (false, MAX_EVENTS));
    let part = |pages: &Pages| pages.part(usize::MAX).map(|(part, _)| (part.count, part.last));
    assert!(pages.came(lines_of(1, 1, 10, true), Seq(500)));
    assert!(pages.front().is_none() && pages.has_room() && pages.more());
    assert_eq!(pages.place().seq, Seq(10), "it is not asked for again");
    pages.came(lines_of(1, 11, 10, true), Seq(500));
    assert!(pages.front().is_none());
    pages.came(lines_of(2, 21, 5, true), Seq(500));
    assert_eq!(part(&pages), Some((20, Seq(20))));
    assert!(pages.range().whole_units, "the next unit may fit");
    assert!(pages.too_large());
    let end = pages.part(usize::MAX).unwrap().1;
    pages.integrated(end);
    assert!(pages.front().is_none());
    pages.came(lines_of(2, 26, 5, false), Seq(30));
    assert_eq!(part(&pages), Some((10, Seq(30))), "the log's end is one");
    // A page that was requested with its last unit waits for nothing.
    pages.restart(at(0));
    pages.whole_units = true;
    pages.came(lines_of(1, 1, 10, true), Seq(500));
    assert_eq!(part(&pages), Some((10, Seq(10))));
    pages.restart(at(30));
    pages.whole_units = false;
    // A head that is reported without an event is the end too.
    pages.came(lines_of(3, 31, 5, true), Seq(36));
    pages.came(page(35, 0, 0, false), Seq(35));
    assert_eq!(pages.waiting.back().map(|page| page.count), Some(5));
    pages.restart(at(30));
    pages.came(lines_of(3, 31, 5, true), Seq(36));
    pages.restart(at(30));
    pages.came(lines_of(3, 31, 5, false), Seq(36));
    assert_eq!(part(&pages), Some((5, Seq(35))), "what was forgotten is not joined");
}

#[test]
fn a_unit_that_is_too_large_is_integrated_in_parts() {
    let mut pages = after(0);
    pages.whole_units = false;
    let (mut first, mut parts, mut integrated) = (1, 0, 0);
    while first <= 50_000 {
        pages.came(lines_of(1, first, MAX_EVENTS as i64, true), Seq(60_000));
        first += MAX_EVENTS as i64;
        while let Some((part, end)) = pages.part(usize::MAX) {
            assert!(part.count <= MAX_UNIT + MAX_EVENTS);
            (parts, integrated) = (parts + 1, integrated + part.count);
            pages.integrated(end);
            assert!(pages.in_parts());
        }
    }
    assert_eq!((parts, integrated), (2, 2 * (MAX_UNIT + MAX_EVENTS)));
    pages.came(lines_of(1, first, 5, false), Seq(60_000));
    assert!(pages.in_parts(), "until the rest is integrated");
    let end = pages.part(usize::MAX).unwrap().1;
    pages.integrated(end);
    assert!(!pages.in_parts());
    // A page that was requested with its last unit has all of that unit.
    for (count, partial) in [(MAX_EVENTS + MAX_UNIT - 1, false), (MAX_EVENTS + MAX_UNIT, true)] {
        let mut pages = after(0);
        pages.came(lines_of(1, 1, count as i64, true), Seq(60_000));
        let end = pages.part(usize::MAX).unwrap().1;
        pages.integrated(end);
        assert_eq!(pages.in_parts(), partial);
    }
}

#[test]
fn heavy_events_make_short_pages() {
    let mut pages = after(0);
    pages.came(page(10, 10, 1 << 20, true), Seq(500));
    assert_eq!(pages.range().events, 3);
}

#[test]
fn a_longer_page_is_made_of_those_that_follow_and_stands_alone() {
    let mut pages = after(0);
    pages.came(page(10, 10, 10, true), Seq(500));
    pages.came(page(20, 10, 10, true), Seq(500));
    assert!(!pages.has_room());
    assert!(!pages.is_joining());
    let (_, end) = pages.part(1).unwrap();
    assert!(pages.lengthen(end));
    assert_eq!(pages.range().after, Seq(20), "what is here already is not asked for again");
    assert!(pages.has_room() && pages.front().is_none() && pages.more());
    assert!(pages.is_joining());
    pages.came(page(40, 20, 10, true), Seq(500));
    assert!(!pages.has_room() && !pages.is_joining(), "it is long enough");
    let (part, end) = pages.part(1).unwrap();
    assert_eq!(part.last, Seq(40), "and does not come apart");
    pages.integrated(end);
    assert!(pages.has_room());
    assert!(pages.range().events > 40);
}

#[test]
fn the_log_goes_on_as_far_as_it_is_known() {
    let mut pages = after(7);
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
    let mut pages = after(0);
    pages.whole_units = false;
    pages.too_large();
    pages.came(page(1, 1, PullSize::default().bytes / 8, true), Seq(500));
    assert_eq!(pages.range().events, 4);
}

#[test]
fn a_page_that_must_be_longer_comes_through_answers_that_are_smaller() {
    let mut pages = after(0);
    let long = |pages: &Pages| pages.front().map(|page| page.count);
    for seq in 1..=4 {
        while pages.range().chunk.is_none() {
            assert!(pages.too_large());
        }
        let bytes = vec![b' '; 100];
        let part = ReceivedChunk { seq: Seq(seq), size: 100, bytes, head: Seq(9) };
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
    let mut pages = after(0);
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
        let mut pages = after(0);
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
