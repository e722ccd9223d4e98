//! Checks that a remote is the one that a replica belongs to, with the log that it has read.
//!
//! Every answer says which database the remote is, which event it has at this replica's place in
//! the log, and which of the replica's incarnations
//! ([`incarnation`](crate::protocol::incarnation)). If the remote is another one or was rolled
//! back, nothing is pushed to it and nothing of its answer is integrated, until a person decides.

use crate::error::{Code, Error, Result};
use crate::event::Seq;
use crate::protocol::incarnation::{Incarnations, Place, Standing};
use crate::protocol::meta::{Meta, SCHEMA_VERSION};
use crate::sync::status::SyncState;

/// The reason why the remote is not used any more, and the state that is shown.
pub(crate) type Refusal = (Error, SyncState);

/// Compares the remote with the one that a replica belongs to, and its log with the one that it
/// knows.
pub(crate) fn examine(
    epoch: Option<&str>,
    place: Place,
    incarnations: &Incarnations,
    meta: Option<&Meta>,
) -> Result<(), Refusal> {
    let Some(meta) = meta.filter(|meta| Some(meta.epoch.as_str()) == epoch) else {
        let found = meta.map(|meta| meta.epoch.as_str());
        return Err((other_remote(found), SyncState::OtherRemote));
    };
    if meta.version != SCHEMA_VERSION {
        return Err((schema_version(meta.version), SyncState::Refused));
    }
    let Place { seq, .. } = place;
    if meta.oldest.0 > seq.0.saturating_add(1) {
        let message = format!(
            "the remote keeps its log from event {} on, and this replica is at {seq}",
            meta.oldest
        );
        let error = Error::new(Code::RemoteLogCompacted, message)
            .with_hint("this replica was away for too long: initialise a new one");
        return Err((error, SyncState::Refused));
    }
    if !place.is_in(meta.oldest, meta.there.as_deref()) {
        return Err((rolled_back(seq, meta.there.is_some()), SyncState::RolledBack));
    }
    if incarnations.compare(meta.incarnation.as_deref()) == Standing::Ahead {
        return Err((forgotten(), SyncState::RolledBack));
    }
    Ok(())
}

/// The hint if the remote's log is not the one that was read.
const ACCEPTABLE: &str = "nothing is lost: pending events stay; to continue with the remote as it \
    is: `driftless remote accept`";

/// The hint if the remote was rolled back.
const ROLLED_BACK: &str = "nothing was pushed or pulled; if it was restored from a backup on \
    purpose, continue with it: `driftless remote accept`";

/// The error for a remote whose log is not the one that was read up to `seq`.
fn rolled_back(seq: Seq, another: bool) -> Error {
    let message = if another {
        format!("the remote was rolled back: its event {seq} is not the one that was read here")
    } else {
        format!("the remote was rolled back: it no longer has event {seq}")
    };
    Error::new(Code::RemoteRolledBack, message).with_hint(ROLLED_BACK)
}

/// The error for a remote that has lost events of this replica.
fn forgotten() -> Error {
    let message = "the remote was rolled back: it no longer knows this replica's last push";
    Error::new(Code::RemoteRolledBack, message).with_hint(ROLLED_BACK)
}

/// The error for a log that has another event at a place where one was read.
pub(crate) fn other_log(id: &str, seq: &str) -> Error {
    let message = format!(
        "the remote's log is not the one that was read here: it has this replica's event {id} at \
         {seq}, where another one was read"
    );
    Error::new(Code::RemoteLogDiffers, message).with_hint(ACCEPTABLE)
}

/// The error for a remote that is another database.
pub(crate) fn other_remote(found: Option<&str>) -> Error {
    let message = match found {
        Some(epoch) => format!("the URL leads to another database (its epoch is {epoch})"),
        None => "the URL leads to a database without driftless's tables".to_owned(),
    };
    Error::new(Code::OtherRemote, message)
}

/// The error for a column that the remote's triggers do not know.
pub(crate) fn unknown_column(table: &str, column: &str) -> Error {
    let message = format!("table `{table}` has a column `{column}` that the remote does not know");
    Error::new(Code::RemoteColumnMissing, message)
}

/// The error for a remote whose schema is not of this version.
pub(crate) fn schema_version(found: i64) -> Error {
    let message = format!(
        "the remote has version {found} of driftless's schema, and this program knows \
         {SCHEMA_VERSION}"
    );
    let newer = found > SCHEMA_VERSION;
    Error::new(if newer { Code::RemoteSchemaNewer } else { Code::RemoteSchemaOlder }, message)
}

/// The error for a replica that may neither push nor pull yet.
pub(in crate::sync) fn no_first_sync() -> Error {
    Error::new(Code::FirstSyncNotDone, "this replica's first sync is not done")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventId;
    use crate::protocol::incarnation::Incarnation;

    #[test]
    fn a_remote_is_spoken_to_if_it_is_ours_and_has_forgotten_nothing() {
        let id = EventId(ulid::Ulid(7));
        let place = Place { seq: Seq(5), id: Some(id) };
        let confirmed = Incarnation { count: 3, chance: 1 };
        let incarnations = Incarnations { confirmed: Some(confirmed), issued: Vec::new() };
        let well = Meta {
            epoch: "e".to_owned(),
            version: SCHEMA_VERSION,
            oldest: Seq(1),
            there: Some(id.to_string()),
            incarnation: Some(confirmed.to_string()),
            cookie: None,
        };
        let state = |meta: Meta| {
            examine(Some("e"), place, &incarnations, Some(&meta)).err().map(|(_, state)| state)
        };
        assert_eq!(state(well.clone()), None);
        for epoch in [None, Some("f")] {
            let (_, state) = examine(epoch, place, &incarnations, Some(&well)).unwrap_err();
            assert_eq!(state, SyncState::OtherRemote);
        }
        let (error, other) = examine(Some("e"), place, &incarnations, None).unwrap_err();
        assert_eq!(other, SyncState::OtherRemote);
        assert_eq!(error.code(), Code::OtherRemote, "{error}");
        let version = SCHEMA_VERSION + 1;
        assert_eq!(state(Meta { version, ..well.clone() }), Some(SyncState::Refused));
        // The log may begin directly after the place, but not later.
        let kept_from = |oldest| Meta { oldest: Seq(oldest), there: None, ..well.clone() };
        assert_eq!(state(kept_from(6)), None);
        assert_eq!(state(kept_from(7)), Some(SyncState::Refused));
        // The event at the place is gone or is another one, or our last push is gone.
        let other = Some(EventId(ulid::Ulid(8)).to_string());
        let message = |there: Option<String>| {
            let meta = Meta { there, ..well.clone() };
            let (error, state) = examine(Some("e"), place, &incarnations, Some(&meta)).unwrap_err();
            assert_eq!((error.code(), state), (Code::RemoteRolledBack, SyncState::RolledBack));
            assert!(error.message().contains("event 5"), "{error}");
            error.message().to_owned()
        };
        assert_ne!(message(None), message(other), "the two are told apart");
        assert_eq!(state(Meta { incarnation: None, ..well.clone() }), Some(SyncState::RolledBack));
        let copy = Some(Incarnation { count: 4, chance: 2 }.to_string());
        assert_eq!(
            state(Meta { incarnation: copy, ..well }),
            None,
            "a copy is told apart by its push"
        );
    }

    #[test]
    fn whichever_side_is_older_is_to_be_updated() {
        assert_eq!(schema_version(SCHEMA_VERSION + 1).code(), Code::RemoteSchemaNewer);
        assert_eq!(schema_version(SCHEMA_VERSION - 1).code(), Code::RemoteSchemaOlder);
    }
}
