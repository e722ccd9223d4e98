//! The poll of an idle replica: does the log still end at the same place, and is the schema still
//! the same? All pure.
//!
//! An idle replica asks only for the newest event. If it is the one that the replica knows, the log
//! is the one that it has read, and has nothing new: no other log has the same event at the same
//! place. The remote's identity, the version of our schema and the replica's incarnation are read
//! by each push, and by the exchange that follows if anything differs. So such a poll is one short
//! statement that reads two rows, with a request and an answer of some hundred bytes.

use super::incarnation::Place;
use super::meta::wrong;
use super::{Answer, Batch, Statement};
use crate::error::Result;

/// The request for the newest event, if there is one at the place or after it.
pub fn idle_poll(place: Place) -> Batch {
    let sql = "SELECT seq,id,(SELECT schema_version FROM pragma_schema_version) \
        FROM driftless_events WHERE seq>=? ORDER BY seq DESC LIMIT 1";
    Batch { statements: vec![Statement::new(sql, [place.seq.0.into()])], writes: false }
}

/// Whether the answer says that the log ends at the place, whose event is known, and that the whole
/// schema has the version `cookie`.
///
/// # Errors
///
/// `Corrupt` when `answer` is not an answer to [`idle_poll`].
pub fn ends_at(place: Place, cookie: i64, answer: &Answer) -> Result<bool> {
    let [rows] = answer.rows.as_slice() else { return Err(wrong("the number of results")) };
    let Some(row) = rows.first() else { return Ok(false) };
    let [seq, id, version] = row.as_slice() else { return Err(wrong("its newest event")) };
    match (seq.as_integer(), id.as_str(), version.as_integer()) {
        (Some(seq), Some(id), Some(version)) => {
            let is_known = place.id.is_some_and(|known| known.to_string() == id);
            Ok(seq == place.seq.0 && is_known && version == cookie)
        }
        _ => Err(wrong("its newest event")),
    }
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;

    use super::*;
    use crate::event::value::Value;
    use crate::event::{EventId, Seq};

    #[test]
    fn only_the_known_event_at_its_place_is_the_end() {
        let id = EventId(Ulid(7));
        let place = Place { seq: Seq(5), id: Some(id) };
        let row = |seq: i64, id: EventId| {
            vec![seq.into(), Value::from(id.to_string().as_str()), 9.into()]
        };
        let answer = |rows| Answer { rows, ..Answer::default() };
        let ends = |place, rows| ends_at(place, 9, &answer(vec![rows])).unwrap();
        assert!(ends(place, vec![row(5, id)]));
        assert!(!ends_at(place, 8, &answer(vec![vec![row(5, id)]])).unwrap(), "another schema");
        assert!(!ends(place, vec![row(6, id)]), "the log goes on");
        assert!(!ends(place, vec![row(5, EventId(Ulid(8)))]), "it is another log");
        assert!(!ends(place, Vec::new()), "it was rolled back");
        assert!(!ends(Place { id: None, ..place }, vec![row(5, id)]), "who knows");
        let wrong = [vec![], vec![vec![vec![]]], vec![vec![vec![5.into(), Value::Null, 9.into()]]]];
        for rows in wrong {
            assert!(ends_at(place, 9, &answer(rows)).is_err());
        }
    }
}
