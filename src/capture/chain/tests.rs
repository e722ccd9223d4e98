//! Orders of events, found from the rows that they leave.

use super::*;
use crate::event::{Op, RowKey};

fn image(value: &str) -> Option<Image> {
    Some(Image::parse(format!("{{\"x\":{value}}}").as_bytes()).unwrap())
}

fn key(row: &str) -> RowKey {
    RowKey(format!("[\"{row}\"]"))
}

/// `+v` inserts the row with a value, `v>w` updates it, `-v` deletes it; `<` and `>` in front
/// say that it is half a key change.
fn steps(list: &str) -> Vec<ChainStep> {
    let step = |(at, text): (usize, &str)| {
        let (row, text) = text.split_once(':').unwrap_or(("a", text));
        let (pair, text) = match text.split_at(1) {
            ("<", text) => (Some(1), text),
            (">", text) => (Some(2), text),
            _ => (None, text),
        };
        let (op, before, after) = match text.split_at(1) {
            ("+", value) => (Op::Insert, None, image(value)),
            ("-", value) => (Op::Delete, image(value), None),
            _ => {
                let (old, new) = text.split_once('>').unwrap();
                (Op::Update, image(old), image(new))
            }
        };
        let (table, key) = row_id(row);
        ChainStep { n: at as i64 + 1, table, key, op, before, after, pair }
    };
    list.split(' ').enumerate().map(step).collect()
}

/// Table `u` has a UNIQUE column.
fn uniques() -> Uniques {
    Uniques::for_tests("u", "x")
}

/// A row of table `u` is `u.row`, of table `t` just `row`.
fn row_id(name: &str) -> RowId {
    let (table, row) = name.split_once('.').unwrap_or(("t", name));
    (table.to_owned(), key(row))
}

/// The rows as they are now: `a=1 b=-`, where `-` is a row that is not there.
fn rows(list: &str) -> HashMap<RowId, Option<Image>> {
    let row = |text: &str| {
        let (row, value) = text.split_once('=').unwrap();
        let image = if value == "-" { None } else { image(value) };
        (row_id(row), image)
    };
    list.split_whitespace().map(row).collect()
}

#[track_caller]
fn check(list: &str, now: &str, expected: &str) {
    let mut order: Vec<_> = list.split(' ').zip(1..).collect();
    for made in untangle(&steps(list), &rows(now), &uniques()) {
        order.iter_mut().for_each(|(_, n)| *n = made.renumber(*n));
    }
    order.sort_by_key(|(_, n)| *n);
    let order: Vec<_> = order.into_iter().map(|(text, _)| text).collect();
    assert_eq!(order.join(" "), expected, "{list}");
}

#[test]
fn what_is_in_order_stays() {
    for (list, now) in [
        ("+1 1>2 -2 +1", "a=1"),
        ("1>2 2>1 1>2", "a=2"),
        ("-1 +1", "a=1"),
        ("+1 b:+1 -1 b:-1", "a=- b=-"),
        ("<-1 b:>+1 b:1>2", "a=- b=2"),
        // The row is unknown.
        ("1>2 2>1 1>2", ""),
    ] {
        check(list, now, list);
    }
}

#[test]
fn a_write_goes_in_front_of_what_it_caused() {
    check("1>2 +1", "a=2", "+1 1>2");
    check("-1 +1", "a=-", "+1 -1");
    check("+2 -1", "a=2", "-1 +2");
    check("-2 1>2", "a=-", "1>2 -2");
    check("2>3 1>2", "a=3", "1>2 2>3");
    // The value is changed back, and then changed again.
    check("2>1 1>2", "a=1", "1>2 2>1");
    check("2>3 3>2 1>2", "a=2", "1>2 2>3 3>2");
    check("-1 +1 +1", "a=1", "+1 -1 +1");
    // Triggers within triggers.
    check("3>4 2>3 1>2", "a=4", "1>2 2>3 3>4");
    check("0>1 2>3 1>2", "a=3", "0>1 1>2 2>3");
    check("+4 -5 +4 4>5", "a=4", "+4 4>5 -5 +4");
    check("-0 +1 -2 +2", "a=1", "-0 +2 -2 +1");
    // The triggers have written to other rows too.
    check("-9 1>2 b:+7 +1", "a=2 b=7", "-9 +1 1>2 b:+7");
}

#[test]
fn the_halves_of_a_key_change_stay_together() {
    check("b:1>2 <-1 b:>+1", "a=- b=2", "<-1 b:>+1 b:1>2");
    check("+5 <-1 b:>+1", "a=5 b=1", "<-1 b:>+1 +5");
    check("b:<-1 >+1 <-1 b:>+1", "a=1 b=-", "<-1 b:>+1 b:<-1 >+1");
    check("c:<-0 >+2 2>3 c:+0", "a=3 c=-", "c:+0 c:<-0 >+2 2>3");
}

#[test]
fn no_two_rows_have_one_unique_value() {
    // Both orders fit the rows, but the key change comes first in only one of them.
    check("b:-7 b:+7 <-7 b:>+7", "a=- b=7", "b:+7 b:-7 <-7 b:>+7");
    let list = "u.b:-7 u.b:+7 u.a:<-7 u.b:>+7";
    check(list, "u.a=- u.b=7", "u.a:<-7 u.b:>+7 u.b:-7 u.b:+7");
    // Another row gets the value that the first one frees. Each row is in order, so nothing moves.
    // A third event that is out of order makes the search look at all rows of the table.
    check("u.b:+1 u.a:1>2", "u.a=2 u.b=1", "u.b:+1 u.a:1>2");
    check("u.b:+1 u.a:2>3 u.a:1>2", "u.a=3 u.b=1", "u.a:1>2 u.b:+1 u.a:2>3");
    check("u.a:1>2 u.b:+1", "u.a=2 u.b=1", "u.a:1>2 u.b:+1");
}

#[test]
fn a_chain_that_no_order_mends_stays_from_there_on() {
    check("1>2 1>3", "a=3", "1>2 1>3");
    check("1>2", "a=7", "1>2");
    // The later events are put in order nevertheless.
    check("1>2 1>3 4>5 3>4", "a=5", "1>2 1>3 3>4 4>5");
    check("2>3 1>2 7>8 8>9", "a=9", "2>3 1>2 7>8 8>9");
}

#[test]
fn a_long_chain_takes_no_longer_than_it_must() {
    // Each write fires a trigger that writes the row again.
    let each = |n: usize| format!("{}>{} {}>{}", 2 * n + 1, 2 * n + 2, 2 * n, 2 * n + 1);
    let list: Vec<_> = (0..5000).map(each).collect();
    let moves = untangle(&steps(&list.join(" ")), &rows("a=10000"), &Uniques::default());
    assert_eq!(moves.len(), 5000);
    assert!(moves.iter().all(|made| made.from == made.to + 1 && made.len == 1));
}

#[test]
fn a_wrong_choice_for_one_row_is_seen_before_the_next_row() {
    // The update of each row also fits last. Then nothing fits before it.
    let each = |written: [usize; 3]| {
        let row = |n: usize| {
            let (old, new) = (2 * n, 2 * n + 1);
            let all = [format!("-{new}"), format!("+{new}"), format!("{old}>{new}")];
            written.map(|at| format!("u.r{n}:{}", all[at])).join(" ")
        };
        (0..200).map(row).collect::<Vec<_>>().join(" ")
    };
    let now: Vec<_> = (0..200).map(|n| format!("u.r{n}={}", 2 * n + 1)).collect();
    check(&each([0, 1, 2]), &now.join(" "), &each([2, 0, 1]));
}

#[test]
fn a_wrong_choice_that_shows_late_is_of_one_row_alone() {
    // Only the insert shows that the last update comes first, and all inserts come before the
    // updates.
    let row = |n: usize| (format!("u.r{n}"), 3 * n, 3 * n + 1, 3 * n + 2);
    let inserts = (0..50).map(row).map(|(name, old, ..)| format!("{name}:+{old}"));
    let inserts = inserts.collect::<Vec<_>>().join(" ");
    let each = |written: [usize; 3]| {
        let updates = |(name, old, between, new): (String, usize, usize, usize)| {
            let all = [(new, between), (between, new), (old, new)];
            let texts = written.map(|at| format!("{name}:{}>{}", all[at].0, all[at].1));
            texts.join(" ")
        };
        let updates = (0..50).map(row).map(updates).collect::<Vec<_>>().join(" ");
        format!("{inserts} {updates}")
    };
    let now: Vec<_> = (0..50).map(row).map(|(name, .., new)| format!("{name}={new}")).collect();
    check(&each([0, 1, 2]), &now.join(" "), &each([2, 0, 1]));
}
