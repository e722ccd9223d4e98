//! Pages as a remote may send them.

use super::*;

const LINE: &str = r#"[7,"01JD8ZK3V5QWERTY0123456789","web",null,null,"a\"b",["k",1],"update",{"x":1},{"x":{"r":"2.0"}},3,null,null,null,"rejected","unique",1700000000000]"#;

fn page(bytes: &str, last: i64, count: usize) -> Page {
    Page { bytes: bytes.as_bytes().to_vec(), last: Seq(last), count, more: false }
}

#[test]
fn a_line_is_read() {
    let page = page(LINE, 7, 1);
    let event = page.lines().unwrap()[0].event().unwrap();
    assert_eq!(event.table, "a\"b");
    assert_eq!(event.key.0, r#"["k",1]"#);
    assert_eq!(event.after.unwrap().0, [("x".to_owned(), crate::event::value::Value::Real(2.0))]);
    assert_eq!(event.verdict, Verdict::Rejected("unique".to_owned()));
}

#[test]
fn a_long_page_is_read_as_a_short_one_is() {
    let count = 2 * TWO_FROM as i64;
    let line = |seq: i64| LINE.replace("[7,", &format!("[{seq},"));
    let lines: Vec<_> = (1..=count).map(line).collect();
    let read = |lines: &[String]| {
        let page = page(&lines.join("\n"), count, lines.len());
        page.lines().map(|lines| lines.iter().map(|line| line.seq.0).collect::<Vec<_>>())
    };
    assert!(read(&lines).unwrap().into_iter().eq(1..=count));
    // A damaged line gives the same error when its line feed is exactly in the middle of the page.
    for at in [0, lines.len() / 2 - 1, lines.len() / 2, lines.len() - 1] {
        let mut damaged = lines.clone();
        damaged[at] = damaged[at].replace("\"k\"", &format!("\"{}", "k\n".repeat(400)));
        assert!(read(&damaged).unwrap().into_iter().eq(1..=count), "{at}");
    }
    for at in lines.len() / 2 - 3..lines.len() / 2 + 3 {
        let mut double = lines.clone();
        double[at] = double[at - 1].clone();
        assert!(read(&double).is_err(), "event {at} comes twice");
    }
    for (one, other) in [(0, 1), (lines.len() / 2 - 1, lines.len() / 2), (5, lines.len() - 5)] {
        let mut mixed = lines.clone();
        mixed.swap(one, other);
        assert!(read(&mixed).is_err(), "{one} and {other} change places");
    }
}

#[test]
fn a_page_comes_apart_between_units() {
    let line = |seq: i64, unit: Option<u128>, pair: Option<u128>| {
        let quoted = |id: Option<u128>| match id {
            Some(id) => format!("\"{}\"", ulid::Ulid(id)),
            None => "null".to_owned(),
        };
        let id = quoted(Some(seq as u128));
        LINE.replace(
            "[7,\"01JD8ZK3V5QWERTY0123456789\",\"web\",null,null",
            &format!("[{seq},{id},\"web\",null,{}", quoted(unit)),
        )
        .replace("3,null,null,null,", &format!("3,null,null,{},", quoted(pair)))
    };
    let lines = [
        line(1, Some(9), None),
        line(2, Some(9), None),
        line(3, Some(8), None),
        line(4, None, None),
        line(5, None, Some(6)),
        line(6, None, Some(5)),
        line(7, None, None),
    ];
    let whole = Page { more: true, ..page(&lines.join("\n"), 7, 7) };
    let apart = |events: usize| -> Vec<i64> {
        let mut ends = Vec::new();
        let mut place = Offset::default();
        while !whole.ends_at(place) {
            let (part, end) = whole.part(place, events);
            assert_eq!(part.lines().unwrap().len(), part.count);
            assert!(part.more);
            ends.push(part.last.0);
            place = end;
        }
        ends
    };
    let (first, place) = whole.part(Offset::default(), 3);
    let (second, _) = whole.part(place, 9);
    assert_eq!([first.bytes, second.bytes].join(&b'\n'), whole.bytes);
    assert_eq!(apart(1), [2, 3, 4, 6, 7]);
    assert_eq!(apart(3), [3, 6, 7]);
    assert_eq!(apart(7), [7]);
    let wrong = Page { count: 8, ..whole.clone() };
    let (_, place) = wrong.part(Offset::default(), 1);
    assert!(wrong.part(place, 9).0.lines().is_err(), "a wrong count shows in the last part");
}

#[test]
fn a_damaged_line_does_not_stop_the_others() {
    let broken = LINE.replace("[\"k\",1]", "[\"k\n\",1").replace("[7,", "[6,");
    let page = page(&format!("{broken}\n{LINE}"), 7, 2);
    let lines = page.lines().unwrap();
    assert!(lines[0].damaged.is_some());
    assert!(lines[1].damaged.is_none());
}

#[test]
fn a_page_that_is_not_what_it_says_is_refused() {
    let two = format!("{LINE}\n{LINE}");
    let bad = [page(LINE, 8, 1), page(LINE, 7, 2), page(&two, 7, 2), page("[]", 7, 1)];
    for page in bad {
        assert!(page.lines().is_err());
    }
    for (old, new) in
        [("web", "wob"), ("{\"x\":1}", "[]"), ("update", "delete"), ("[\"k\",1]", "1")]
    {
        let page = page(&LINE.replace(old, new), 7, 1);
        let lines = page.lines().unwrap();
        assert!(lines[0].damaged.is_some(), "{new}");
        assert_eq!(lines[0].seq, Seq(7));
    }
}

#[test]
fn only_a_long_page_is_worth_a_thread() {
    let long = |count: usize| {
        let line = |seq: usize| LINE.replace("[7,", &format!("[{seq},"));
        let lines: Vec<_> = (1..=count).map(line).collect();
        page(&lines.join("\n"), count as i64, count)
    };
    assert!(long(TWO_FROM - 1).lines_by_two().is_none());
    assert_eq!(long(TWO_FROM).lines_by_two().unwrap().len(), TWO_FROM);
}

#[test]
fn a_page_is_believed_as_far_as_its_bytes_go() {
    assert!(page("[7", 7, 1).lines().unwrap()[0].damaged.is_some());
    assert!(page("[1\n[2\n[3", 3, 3).lines().is_err(), "no event is so short");
    assert!(page("", 7, 0).lines().unwrap().is_empty());
    let at = |seq: i64| page(&LINE.replace("[7,", &format!("[{seq},")), seq, 1);
    assert_eq!(at(MAX_SEQ.0).lines().unwrap()[0].seq, MAX_SEQ);
    assert!(at(MAX_SEQ.0 + 1).lines().is_err());
}

#[test]
fn the_last_id_is_that_of_the_last_event_if_it_is_one() {
    let two = format!("{}\n{LINE}\n", LINE.replace("[7,", "[6,").replace("789\"", "788\""));
    let id = Some("01JD8ZK3V5QWERTY0123456789".parse().unwrap());
    assert_eq!(page(&two, 7, 2).last_id(), id);
    assert_eq!(page(&two, 8, 2).last_id(), None, "it is not the last one");
    assert_eq!(page(&LINE.replace("web", "wob"), 7, 1).last_id(), None);
    assert_eq!(page("", 0, 0).last_id(), None);
}
