//! The events that wait, and the order in which fewer wait.

use ulid::Ulid;

use super::*;
use crate::catalog::Action;
use crate::event::{EventId, RowKey};

/// A table with a foreign key for each parent, in the column `to_<parent>`.
fn table(name: &str, parents: &[&str]) -> Table {
    let foreign_keys = parents.iter().map(|parent| ForeignKey {
        parent: (*parent).to_owned(),
        columns: vec![(format!("to_{parent}"), "id".to_owned())],
        on_delete: Action::NoAction,
        on_update: Action::NoAction,
    });
    Table {
        name: name.to_owned(),
        columns: Vec::new(),
        generated: Vec::new(),
        key: Vec::new(),
        key_collations: Vec::new(),
        rowid_key: false,
        without_rowid: false,
        strict: false,
        uniques: Vec::new(),
        foreign_keys: foreign_keys.collect(),
        sql: String::new(),
    }
}

fn id(n: usize) -> EventId {
    EventId(Ulid::from_parts(1, n as u128))
}

/// Events of a table, a key and the images, in their order.
fn events(list: &[(&str, &str, &str, &str)]) -> Vec<Outgoing> {
    let image = |json: &&str| (!json.is_empty()).then(|| (*json).to_owned());
    let event = |(n, (table, key, before, after)): (usize, &(&str, &str, &str, &str))| {
        let op = match (before.is_empty(), after.is_empty()) {
            (true, _) => Op::Insert,
            (_, true) => Op::Delete,
            _ => Op::Update,
        };
        let key = RowKey(format!("[\"{key}\"]"));
        let event = Outgoing::new(n as i64, id(n), (*table).to_owned(), key, op);
        Outgoing { before: image(before), after: image(after), ..event }
    };
    list.iter().enumerate().map(event).collect()
}

fn join(events: &mut [Outgoing], first: usize, second: usize) {
    events[first].pair = Some(id(second));
    events[second].pair = Some(id(first));
}

/// What the events wait for. These defer their foreign keys.
fn waits(events: &mut [Outgoing]) -> Vec<Option<usize>> {
    let (kids, people) = (table("Kids", &["people"]), table("People", &[]));
    let waits = defer_fk(&[&kids, &people, &table("others", &[])], events).unwrap();
    assert!(events.iter().zip(&waits).all(|(event, waits)| event.defer_fk == waits.is_some()));
    waits
}

/// The numbers of the events, dependencies first.
fn order(events: Vec<Outgoing>) -> Vec<i64> {
    let (kids, people) = (table("kids", &["people"]), table("people", &[]));
    let sorted = topological_order(&[&kids, &people], events).unwrap();
    sorted.iter().map(|event| event.n).collect()
}

const KID_OF_P: &str = r#"{"id":"k","to_people":"p"}"#;
const P: &str = r#"{"id":"p"}"#;

#[test]
fn values_are_compared_as_any_column_might() {
    let text = |text: &str| Some(text.as_bytes().to_vec());
    for (value, as_text) in [
        (Value::Null, None),
        (Value::Integer(-7), text("-7")),
        (Value::Real(-7.0), text("-7")),
        (Value::Real(-0.0), text("0")),
        (Value::Real(7.5), text("7.5")),
        (Value::Real(1e15), text("1000000000000000")),
        (Value::Real(1e20), text("100000000000000000000")),
        (Value::Text(b" Ab c  ".to_vec()), text(" ab c")),
        (Value::Blob(b"AB ".to_vec()), text("ab")),
    ] {
        assert_eq!(loosely(&value), as_text, "{as_text:?}");
    }
}

#[test]
fn a_child_waits_for_a_parent_that_comes_behind_it() {
    let mut push = events(&[("KIDS", "k", "", KID_OF_P), ("PEOPLE", "p", "", P)]);
    assert_eq!(waits(&mut push), [Some(1), None]);
    push[1].refuse = Some("no".to_owned());
    assert_eq!(waits(&mut push), [None, None], "what is rejected supplies nothing");
    push[1].refuse = None;
    push[0].refuse = Some("no".to_owned());
    assert_eq!(waits(&mut push), [None, None], "and waits for nothing");
    for other in [
        [("people", "p", "", P), ("kids", "k", "", KID_OF_P)],
        [("kids", "k", "", KID_OF_P), ("people", "q", "", r#"{"id":"q"}"#)],
        [("kids", "k", "", KID_OF_P), ("others", "p", "", P)],
        [("kids", "k", "", r#"{"id":"k","to_people":null}"#), ("people", "p", "", P)],
        [("kids", "k", "", r#"{"id":"k"}"#), ("people", "p", "", P)],
    ] {
        assert_eq!(waits(&mut events(&other)), [None, None], "{other:?}");
    }
}

#[test]
fn a_parent_that_goes_waits_for_its_children_to_go_and_for_its_successor() {
    for (behind, is) in [
        (("kids", "k", KID_OF_P, ""), true),
        (("kids", "k", r#"{"to_people":"p"}"#, r#"{"to_people":null}"#), true),
        (("kids", "k", r#"{"to_people":"q"}"#, r#"{"to_people":"p"}"#), false),
        (("people", "q", r#"{"id":"q"}"#, P), true),
        (("others", "p", "", P), false),
    ] {
        let mut push = events(&[("people", "p", P, ""), behind]);
        assert_eq!(waits(&mut push), [is.then_some(1), None], "{behind:?}");
    }
}

#[test]
fn a_child_waits_for_what_takes_its_reference_back() {
    for (behind, is) in [
        (("kids", "k", r#"{"to_people":"p"}"#, r#"{"to_people":"q"}"#), true),
        (("kids", "k", r#"{"id":"k"}"#, ""), true),
        (("kids", "k", r#"{"name":"a"}"#, r#"{"name":"b"}"#), false),
        (("kids", "l", r#"{"to_people":"p"}"#, r#"{"to_people":"q"}"#), false),
    ] {
        let mut push = events(&[("kids", "k", "", KID_OF_P), behind]);
        assert_eq!(waits(&mut push), [is.then_some(1), None], "{behind:?}");
    }
}

#[test]
fn of_several_the_last_one_is_waited_for() {
    let both = r#"{"id":"k","to_people":"p","to_dogs":"d"}"#;
    for [second, third] in [["people", "dogs"], ["dogs", "people"]] {
        let of = |table: &str| if table == "dogs" { r#"{"id":"d"}"# } else { P };
        let mut push = events(&[
            ("kids", "k", "", both),
            (second, "2", "", of(second)),
            (third, "3", "", of(third)),
        ]);
        let tables = [table("kids", &["people", "dogs"]), table("people", &[]), table("dogs", &[])];
        let tables: Vec<_> = tables.iter().collect();
        assert_eq!(defer_fk(&tables, &mut push).unwrap(), [Some(2), None, None]);
    }
}

#[test]
fn a_key_change_waits_for_what_its_new_row_waits_for() {
    let list = [
        ("others", "o", "", P),
        ("kids", "j", r#"{"id":"j"}"#, ""),
        ("kids", "k", "", KID_OF_P),
        ("people", "p", "", P),
    ];
    let mut push = events(&list);
    assert_eq!(waits(&mut push), [None, None, Some(3), None], "two of which nobody knows more");
    join(&mut push, 1, 2);
    assert_eq!(waits(&mut push), [None, Some(3), Some(3), None]);
    // An update names the next event, which is not its other half: no deferral is passed on.
    let mut push = events(&[list[1], ("kids", "l", r#"{"to_people":"q"}"#, KID_OF_P), list[3]]);
    push[0].pair = Some(id(1));
    assert_eq!(waits(&mut push), [None, Some(2), None]);
}

#[test]
fn dependencies_come_first() {
    let (kid, p) = (("kids", "k", "", KID_OF_P), ("people", "p", "", P));
    assert_eq!(order(events(&[kid, p])), [1, 0]);
    assert_eq!(order(events(&[p, kid])), [0, 1]);
    // The halves of a key change stay together, in the middle and at the end.
    let old = ("kids", "j", r#"{"id":"j"}"#, "");
    for list in [&[old, kid, p, ("others", "o", "", P)][..], &[old, kid, p]] {
        let mut push = events(list);
        join(&mut push, 0, 1);
        assert_eq!(order(push), [2, 0, 1, 3][..list.len()]);
    }
    // The second half supplies the row. Its first half is moved too.
    let mut push = events(&[kid, ("people", "q", r#"{"id":"q"}"#, ""), p]);
    join(&mut push, 1, 2);
    assert_eq!(order(push), [1, 2, 0]);
    // An event that waits only for the first half does not come between the two either.
    let gone = ("people", "p", P, "");
    let mut push = events(&[gone, ("kids", "j", KID_OF_P, ""), ("kids", "k", "", r#"{"id":"k"}"#)]);
    assert_eq!(order(push.clone()), [1, 0, 2]);
    join(&mut push, 1, 2);
    assert_eq!(order(push), [1, 2, 0]);
    // A row's events keep their order, whatever the case of its table's name.
    let later = ("KIDS", "k", r#"{"name":"a"}"#, r#"{"name":"b"}"#);
    assert_eq!(order(events(&[kid, later, p])), [2, 0, 1]);
    // A consequence stays behind its cause.
    let mut push = events(&[kid, ("others", "o", "", P), p]);
    push[1].via = Some(id(0));
    assert_eq!(order(push), [2, 0, 1]);
    // A cycle keeps its order, and waits.
    let mut push = events(&[kid, p]);
    push[1].via = Some(id(0));
    assert_eq!(order(push), [0, 1]);
}

/// Any order is possible for independent events: the first one is always taken.
#[test]
fn an_order_is_kept_to_as_far_as_there_is_one() {
    for seed in 0..2_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let len = random.usize(1..9);
        let mut stands_for: Vec<_> = (0..len).collect();
        for at in 1..len {
            if stands_for[at - 1] == at - 1 && random.u8(..4) == 0 {
                stands_for[at] = at - 1;
            }
        }
        let (behind, before) = (vec![Vec::new(); len], vec![0; len]);
        let mut graph = DependencyGraph { stands_for: stands_for.clone(), behind, before };
        let mut asked = Vec::new();
        for _ in 0..random.usize(..10) {
            let (first, then) = (random.usize(..len), random.usize(..len));
            graph.add(first, then);
            asked.push((stands_for[first], stands_for[then]));
        }
        asked.retain(|(first, then)| first != then);
        let mut left: Vec<_> = (0..len).filter(|&at| stands_for[at] == at).collect();
        let mut sorted = Vec::new();
        while !left.is_empty() {
            let is_free =
                |at: &usize| !asked.iter().any(|(first, then)| then == at && left.contains(first));
            let next = *left.iter().find(|at| is_free(at)).unwrap_or(&left[0]);
            left.retain(|&at| at != next);
            sorted.extend((0..len).filter(|&at| stands_for[at] == next));
        }
        assert_eq!(graph.sorted(), sorted, "seed {seed}: {asked:?} {stands_for:?}");
    }
}

/// Whether the delete at the end is the cause of a consequence that names its row.
fn is_cause(between: &[(&str, &str, &str, &str)], key: &ForeignKey, named: &str) -> bool {
    let people = Table { foreign_keys: vec![key.clone()], ..table("people", &[]) };
    let mut list = between.to_vec();
    list.push(("people", "p", r#"{"id":"p","mail":"m"}"#, ""));
    let mut deletes = Deletes::new(&[&people]);
    for (at, event) in events(&list).iter().enumerate().rev() {
        deletes.pass(at, event).unwrap();
    }
    deletes.find("people", named).unwrap().is_some()
}

#[test]
fn a_row_that_is_written_again_was_gone_for_another_reason() {
    let by_mail = ForeignKey {
        parent: "People".to_owned(),
        columns: vec![("of".to_owned(), "mail".to_owned())],
        on_delete: Action::Cascade,
        on_update: Action::NoAction,
    };
    for named in [r#"["p"]"#, r#"{"mail":"m"}"#] {
        let whole = r#"{"id":"p","mail":"m"}"#;
        assert!(is_cause(&[], &by_mail, named));
        assert!(is_cause(&[("people", "q", "", r#"{"id":"q","mail":"n"}"#)], &by_mail, named));
        assert!(is_cause(&[("others", "p", "", whole)], &by_mail, named));
        assert!(!is_cause(&[("People", "p", "", whole)], &by_mail, named), "{named}");
    }
}
