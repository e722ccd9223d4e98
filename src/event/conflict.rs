//! What the remote decided about an event, and the rule by which an event loses to another.

use std::fmt;

use super::{Columns, Op, Seq, read_columns};
use crate::error::{Code, Error, Result};

/// What the remote decided about an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It is in the remote's tables.
    Applied,
    /// It lost to another writer. The reason is `conflict`, `pair` (the other half of the key
    /// change lost) or `via` (the event of which it is a consequence lost).
    Superseded(String),
    /// It broke a constraint: `unique`, `foreign`, `children`, `exists`, `missing`, `refused` or
    /// the message of the server. Or it is `too large`, `key is not UTF-8` or
    /// `key is too large`.
    Rejected(String),
}

/// Why an event was rejected that does not fit into a request even alone. It is in the log without
/// its values, which only its writer has.
pub const TOO_LARGE: &str = "too large";

/// Why an event was rejected that names its row by text that is not UTF-8. No other replica could
/// find the row: the remote's own capture spells such text as it is, and JSON has no form for it.
pub const KEY_NOT_UTF8: &str = "key is not UTF-8";

/// Why an event was rejected whose key is larger than
/// [`MAX_KEY_BYTES`](super::page::MAX_KEY_BYTES).
pub const KEY_TOO_LARGE: &str = "key is too large";

impl Verdict {
    /// Reads the remote log's two columns.
    ///
    /// # Errors
    ///
    /// `Corrupt` for a word that is no verdict.
    #[doc(hidden)]
    pub fn parse(word: &str, reason: Option<&str>) -> Result<Self> {
        let reason = || reason.unwrap_or_default().to_owned();
        match word {
            "applied" => Ok(Verdict::Applied),
            "superseded" => Ok(Verdict::Superseded(reason())),
            "rejected" => Ok(Verdict::Rejected(reason())),
            _ => Err(Error::new(
                Code::EventInvalid,
                "an event's verdict is none that this version knows",
            )),
        }
    }

    /// The verdict's word, as the remote log has it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Verdict::Applied => "applied",
            Verdict::Superseded(_) => "superseded",
            Verdict::Rejected(_) => "rejected",
        }
    }

    /// Why it was not applied.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Verdict::Applied => None,
            Verdict::Superseded(reason) | Verdict::Rejected(reason) => Some(reason),
        }
    }

    /// Whether the event is in the tables.
    pub fn is_applied(&self) -> bool {
        *self == Verdict::Applied
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason() {
            Some(reason) if !reason.is_empty() => f.pad(&format!("{}: {reason}", self.as_str())),
            _ => f.pad(self.as_str()),
        }
    }
}

/// What counts as two writers changing the same thing: set per table.
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
    /// The word for it, in the command and in the databases.
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

/// What the conflict rule looks at in an event of the row in question.
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
/// `arrival` is the event, `base` what its writer had seen, and `others` the applied events of its
/// row by other writers that are in the log when it arrives, in their order. It is a pure function
/// of the log, so every replica and every replay agrees; `capture/judge.rs` has it once more as
/// SQL, and a test holds the two equal.
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

/// Whether two events of one row, by different writers, touch the same thing.
fn collide(rule: ConflictRule, one: Claim<'_>, other: Claim<'_>) -> bool {
    if rule == ConflictRule::Row || one.op != Op::Update || other.op != Op::Update {
        return true;
    }
    let (Some(one), Some(other)) = (one.after, other.after) else { return true };
    let (mut mine, mut theirs) = (Columns::new(), Columns::new());
    // What cannot be read is not taken for harmless.
    if read_columns(one, &mut mine).is_err() || read_columns(other, &mut theirs).is_err() {
        return true;
    }
    mine.iter().any(|(name, _)| theirs.iter().any(|(other, _)| other == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_read_from_the_words_it_is_written_in() {
        let all = [
            (Verdict::Applied, None, "applied"),
            (Verdict::Superseded("pair".to_owned()), Some("pair"), "superseded: pair"),
            (Verdict::Rejected("unique".to_owned()), Some("unique"), "rejected: unique"),
        ];
        for (verdict, reason, shown) in all {
            assert_eq!(Verdict::parse(verdict.as_str(), reason).unwrap(), verdict);
            assert_eq!(verdict.reason(), reason);
            assert_eq!(verdict.is_applied(), reason.is_none());
            assert_eq!(verdict.to_string(), shown);
        }
        assert_eq!(Verdict::parse("rejected", None).unwrap().to_string(), "rejected");
        assert_eq!(format!("{:>9}|", Verdict::Applied), "  applied|");
        assert!(Verdict::parse("lost", None).is_err());
    }

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
