//! Which conflicts may be of one transaction of the application's.
//!
//! SQLite tells a trigger nothing about its transaction, so no event says which one it is of. What
//! is known is where some transactions ended
//! ([`boundaries`](crate::store::outbox::boundaries)), and when each event was made. So events are
//! taken to be of one transaction if no transaction is known to have ended between them, and no
//! pause of more than [`PAUSE_MS`] lies between them, with all events of this
//! file in between taken into account.
//!
//! So a group may hold several transactions that were quick after one another while no replicator
//! was looking. It parts a transaction only if that paused for so long. Too small a group is an
//! inconvenience, and too large a one would write more over other people's changes than was meant.

use rusqlite::Connection;

use super::entry::Place;
use crate::error::Result;
use crate::event::EventId;

/// The longest pause between two changes of one transaction, in ms. A desktop application makes
/// the changes of a transaction within milliseconds, and a person takes seconds from one to the
/// next.
const PAUSE_MS: i64 = 1_000;

/// Sets the groups. Each has the id of the first of its events.
pub(in crate::store) fn group(db: &Connection, places: &mut [Place]) -> Result<()> {
    places.sort_by_key(|place| (place.former, place.id.outbox_number(), place.id));
    for at in 1..places.len() {
        let (before, here) = (&places[at - 1], &places[at]);
        let known = here.ends.is_some() && before.ends == here.ends;
        if known && before.former == here.former && is_close(db, before, here)? {
            places[at].group = places[at - 1].group;
        }
    }
    Ok(())
}

/// Whether there is no long pause between two events of this file.
fn is_close(db: &Connection, from: &Place, to: &Place) -> Result<bool> {
    if to.id.ms() - from.id.ms() <= PAUSE_MS {
        return Ok(true);
    }
    let mut times = between(db, from, to)?;
    times.extend([from.id.ms(), to.id.ms()]);
    times.sort_unstable();
    Ok(times.windows(2).all(|pair| pair[1] - pair[0] <= PAUSE_MS))
}

/// When the events of this file between two others were made, whatever became of them.
fn between(db: &Connection, from: &Place, to: &Place) -> Result<Vec<i64>> {
    let (first, last) = (from.id.0.to_bytes(), to.id.0.to_bytes());
    let sql = match from.former {
        None => "SELECT id FROM driftless_log WHERE own AND ?1 IS NULL AND id > ?2 AND id < ?3",
        Some(_) => {
            "SELECT id FROM driftless_old_log WHERE own AND former = ?1 AND id > ?2 AND id < ?3"
        }
    };
    let mut statement = db.prepare_cached(sql)?;
    let ids = statement.query_map((from.former, first.as_slice(), last.as_slice()), |row| {
        row.get::<_, [u8; 16]>(0)
    })?;
    let mut times = Vec::new();
    for id in ids {
        times.push(EventId(ulid::Ulid::from_bytes(id?)).ms());
    }
    if from.former.is_none() {
        let sql = "SELECT ms FROM driftless_outbox WHERE n > ?1 AND n < ?2 AND NOT settled";
        let mut statement = db.prepare_cached(sql)?;
        let pending = statement
            .query_map([from.id.outbox_number(), to.id.outbox_number()], |row| row.get(0))?;
        for ms in pending {
            times.push(ms?);
        }
    }
    Ok(times)
}
