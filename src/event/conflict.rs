//! The conflict rule: when an event loses to another one.

use super::{Columns, Op, Seq, read_columns};
use crate::error::{Error, Result};

/// The definition of a conflict between two writers, set for each table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ConflictRule {
    /// Any two changes of the same row. The default.
    #[default]
    Row,
    /// Two updates of the same row conflict only if they changed a column in common; inserts and
    /// deletes conflict with everything.
    Columns,
}

impl ConflictRule {
    /// Its name, in the command and in the databases.
    pub fn as_str(self) -> &'static str {
        match self {
            ConflictRule::Row => "row",
            ConflictRule::Columns => "columns",
        }
    }
}

impl std::str::FromStr for ConflictRule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "row" => Ok(ConflictRule::Row),
            "columns" => Ok(ConflictRule::Columns),
            _ => Err(Error::usage(format!("`{text}` is not a conflict rule"))
                .with_hint("use `row` or `columns`, as in --conflict members=columns")),
        }
    }
}

/// The part of an event that the conflict rule needs. The event is of the row in question.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// What it does.
    pub op: Op,
    /// Its new values, as JSON.
    pub after: Option<&'a [u8]>,
}

/// The conflict rule: **an event loses if, when it arrives, another writer's applied event of the
/// same row has a seq greater than the event's base.** Gives the seq of the first event that
/// defeats it.
///
/// `arrival` is the event, and `base` the newest seq that its writer had seen. `others` are the
/// applied events of the same row by other writers that are in the log when it arrives, in their
/// order. It is a pure function of the log, so every replica and every replay agrees.
/// `protocol/push/judge.rs` has the same rule in SQL, and a test compares the two.
pub fn loses_to<'a>(
    rule: ConflictRule,
    arrival: Claim<'a>,
    base: Seq,
    others: impl IntoIterator<Item = (Seq, Claim<'a>)>,
) -> Option<Seq> {
    let mut others = others.into_iter();
    let winner = others.find(|(seq, other)| *seq > base && collide(rule, arrival, *other));
    winner.map(|(seq, _)| seq)
}

/// Whether two events of one row, by different writers, conflict.
fn collide(rule: ConflictRule, one: Claim<'_>, other: Claim<'_>) -> bool {
    if rule == ConflictRule::Row || one.op != Op::Update || other.op != Op::Update {
        return true;
    }
    let (Some(one), Some(other)) = (one.after, other.after) else { return true };
    let (mut mine, mut theirs) = (Columns::new(), Columns::new());
    // An image that cannot be read counts as a conflict.
    if read_columns(one, &mut mine).is_err() || read_columns(other, &mut theirs).is_err() {
        return true;
    }
    mine.iter().any(|(name, _)| theirs.iter().any(|(other, _)| other == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_read_from_the_word_it_is_written_in() {
        for (rule, word) in [(ConflictRule::Row, "row"), (ConflictRule::Columns, "columns")] {
            assert_eq!(rule.as_str(), word);
            assert_eq!(word.parse::<ConflictRule>().unwrap(), rule);
        }
        let error = "rows".parse::<ConflictRule>().unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::Usage);
    }

    #[test]
    fn what_another_writer_did_after_the_base_defeats() {
        let claim = Claim { op: Op::Update, after: None };
        let loses_to = |others: &[i64]| {
            let others = others.iter().map(|&seq| (Seq(seq), claim));
            loses_to(ConflictRule::Row, claim, Seq(5), others).map(|seq| seq.0)
        };
        assert_eq!(loses_to(&[]), None);
        assert_eq!(loses_to(&[4, 5]), None, "its writer had seen them");
        assert_eq!(loses_to(&[6]), Some(6));
        assert_eq!(loses_to(&[4, 6, 7]), Some(6), "one is enough, and the first one is named");
    }

    #[test]
    fn by_columns_two_updates_collide_where_they_changed_the_same() {
        let (x, y, both) = (r#"{"x":1}"#, r#"{"y":1}"#, r#"{"y":2,"x":null}"#);
        let of = |op, after: &'static str| Claim { op, after: Some(after.as_bytes()) };
        let update = |after| of(Op::Update, after);
        let rule = ConflictRule::Columns;
        assert!(!collide(rule, update(x), update(y)));
        assert!(collide(rule, update(x), update(both)) && collide(rule, update(both), update(x)));
        assert!(collide(ConflictRule::Row, update(x), update(y)));
        for op in [Op::Insert, Op::Delete] {
            assert!(collide(rule, of(op, y), update(x)) && collide(rule, update(x), of(op, y)));
        }
        let unknown = Claim { op: Op::Update, after: None };
        for unknown in [unknown, update("{"), update("[]")] {
            assert!(collide(rule, unknown, update(x)) && collide(rule, update(x), unknown));
        }
    }
}
