//! The identity of this file at its remote: its incarnations, its place in the log, its past
//! identities.
//!
//! An [`Incarnation`] is a stamp that a push leaves on the remote, to distinguish a file from its
//! copies.

use rusqlite::{Connection, Transaction};

use super::Store;

use super::connection::{set_setting, setting};
use super::log::row_index::INDEXED;
use super::log::settled_id;
use crate::catalog::ident;
use crate::error::{Code, Error, Result};
use crate::event::frame::GENESIS;
use crate::event::{ReplicaId, Seq};
use crate::protocol::incarnation::{Incarnation, Incarnations, Place};

/// The setting with the incarnation that the remote is known to have had.
const CONFIRMED: &str = "confirmed";
/// The setting with the incarnations that were issued since, with spaces between.
const ISSUED: &str = "marks";
/// The setting with the place where the first sync ended. The event there has no frame.
const LANDMARK: &str = "landmark";

/// Why a file took another identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Another file had pushed with the same identity: this one was copied, or restored from a
    /// backup.
    Copied,
    /// A person told it to continue with another remote, or with one that was rolled back.
    Accepted,
}

impl Cause {
    fn as_str(self) -> &'static str {
        match self {
            Cause::Copied => "copied",
            Cause::Accepted => "accepted",
        }
    }
}

/// An identity that this file had before.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PastIdentity {
    /// Its number, from 1.
    pub n: i64,
    /// The replica's id.
    pub replica: String,
    /// The epoch of the remote that it belonged to; `None` before its first sync.
    pub epoch: Option<String>,
    /// Its cursor at the end.
    pub cursor: i64,
    /// Why it ended.
    pub cause: Cause,
    /// When it ended: ms since 1970.
    pub ended_ms: i64,
}

/// The setting with the event, and its place, in which the remote's log contradicts this file.
const CONTRADICTION: &str = "contradiction";

impl Store {
    /// The id and the seq of the event that shows that the remote's log is not the one that was
    /// read here. `None` if there is no contradiction.
    pub fn contradiction(&self) -> Result<Option<(String, String)>> {
        let text = self.setting(CONTRADICTION)?;
        let parts = text.as_deref().and_then(|text| text.split_once(' '));
        Ok(parts.map(|(id, seq)| (id.to_owned(), seq.to_owned())))
    }

    /// Records the contradiction; `None` if no event is missing any more.
    pub fn set_contradiction(&mut self, event: Option<(&str, &str)>) -> Result<()> {
        let text = event.map(|(id, seq)| format!("{id} {seq}"));
        let tx = self.begin_write()?;
        set_setting(&tx, CONTRADICTION, text.as_deref())?;
        self.commit_write(tx)
    }

    /// The newest integrated place in the remote's log.
    pub fn place(&self) -> Result<Place> {
        place(&self.db.unchecked_transaction()?)
    }

    /// Records the event at the cursor at the end of the first sync.
    pub fn set_landmark(&mut self, place: Place) -> Result<()> {
        let text = place.id.map(|id| format!("{} {id}", place.seq));
        let tx = self.begin_write()?;
        set_setting(&tx, LANDMARK, text.as_deref())?;
        self.commit_write(tx)
    }

    /// The incarnations of this replica that the remote may have.
    ///
    /// # Errors
    ///
    /// `Corrupt` when a stored incarnation is not valid, `Storage` when the database fails.
    pub fn incarnations(&self) -> Result<Incarnations> {
        let tx = self.db.unchecked_transaction()?;
        read(&tx)
    }

    /// Issues the incarnation of a push, with the random number `chance`. It is stored so that even
    /// a power failure does not lose it, because the remote may have it a moment later. It is the
    /// newest of the returned ones.
    pub fn issue_incarnation(&mut self, chance: u128) -> Result<Incarnations> {
        self.db.pragma_update(None, "synchronous", "FULL")?;
        let issued = self.keep_incarnation(chance);
        self.db.pragma_update(None, "synchronous", "NORMAL")?;
        issued
    }

    fn keep_incarnation(&self, chance: u128) -> Result<Incarnations> {
        let tx = self.begin_write()?;
        let mut incarnations = read(&tx)?;
        incarnations.issue(chance);
        keep(&tx, &incarnations)?;
        self.commit_write(tx)?;
        Ok(incarnations)
    }

    /// Records that the remote has this incarnation of one of our pushes. With `sent`, the remote
    /// also has all outbox rows up to that number: see [`Store::sent`].
    pub fn confirm_incarnation(
        &mut self,
        incarnation: Incarnation,
        sent: Option<i64>,
    ) -> Result<()> {
        let tx = self.begin_write()?;
        let mut incarnations = read(&tx)?;
        incarnations.confirm(incarnation);
        keep(&tx, &incarnations)?;
        if let Some(sent) = sent {
            super::outbox::batch::note_sent(&tx, sent)?;
        }
        self.commit_write(tx)?;
        if let Some(sent) = sent {
            self.outbox.boundaries().forget(sent);
        }
        Ok(())
    }

    /// Records the remote's incarnation, from the answer to a request that pushed nothing.
    pub fn see_incarnation(&mut self, found: Option<&str>) -> Result<()> {
        let tx = self.begin_write()?;
        let mut incarnations = read(&tx)?;
        incarnations.seen(found);
        keep(&tx, &incarnations)?;
        self.commit_write(tx)
    }

    /// Takes another identity, because another file has pushed with this one. The log must have
    /// been read to its end. So a pending event that is still on its row has seen all of it, with
    /// the former identity's own events, and gets the cursor as its base.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails. Then nothing has changed.
    pub fn take_identity(&mut self, id: ReplicaId, now_ms: i64) -> Result<()> {
        let tx = self.begin_write()?;
        tx.execute(
            "UPDATE driftless_outbox SET base = (SELECT cursor FROM driftless_state)
             WHERE NOT settled AND NOT aside",
            [],
        )?;
        tx.execute("UPDATE driftless_state SET sent = 0", [])?;
        end_identity(&tx, id, Cause::Copied, now_ms)?;
        self.commit_write(tx)?;
        self.id = id;
        Ok(())
    }

    /// The replicated tables, and the number of rows of each.
    pub fn count_rows(&self) -> Result<Vec<(String, u64)>> {
        let count = |name: &str| -> Result<u64> {
            let sql = format!("SELECT count(*) FROM main.{}", ident(name));
            Ok(self.db.query_row(&sql, [], |row| row.get::<_, i64>(0))? as u64)
        };
        let names = self.tables.iter().map(|replicated| &replicated.table.name);
        names.map(|name| Ok((name.clone(), count(name)?))).collect()
    }

    /// The identities that this file had before, the oldest first.
    pub fn past_identities(&self) -> Result<Vec<PastIdentity>> {
        let sql = "SELECT n, replica, epoch, cursor, cause, ended FROM driftless_identities \
                   ORDER BY n";
        let mut statement = self.db.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| {
            let cause: String = row.get(4)?;
            Ok(PastIdentity {
                n: row.get(0)?,
                replica: row.get(1)?,
                epoch: row.get(2)?,
                cursor: row.get(3)?,
                cause: if cause == "accepted" { Cause::Accepted } else { Cause::Copied },
                ended_ms: row.get(5)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

/// The cursor, with the event there.
pub(super) fn place(tx: &Transaction<'_>) -> Result<Place> {
    let sql = "SELECT cursor FROM driftless_state";
    let seq = Seq(tx.prepare_cached(sql)?.query_row([], |row| row.get(0))?);
    let mut id = settled_id(tx, seq)?;
    if id.is_none()
        && let Some(landmark) = landmark(tx)?
        && landmark.seq == seq
    {
        id = landmark.id;
    }
    Ok(Place { seq, id })
}

/// The place where the first sync ended, if there was an event.
pub(super) fn landmark(db: &Connection) -> Result<Option<Place>> {
    let text = setting(db, LANDMARK)?;
    Ok(text.as_deref().and_then(|text| text.split_once(' ')).and_then(|(seq, id)| {
        let seq = seq.parse().ok().map(Seq)?;
        Some(Place { seq, id: id.parse().ok() })
    }))
}

fn read(tx: &Transaction<'_>) -> Result<Incarnations> {
    let issued = setting(tx, ISSUED)?.unwrap_or_default();
    Ok(Incarnations {
        confirmed: setting(tx, CONFIRMED)?.map(|text| text.parse()).transpose()?,
        issued: issued.split_whitespace().map(str::parse).collect::<Result<_>>()?,
    })
}

fn keep(db: &Connection, incarnations: &Incarnations) -> Result<()> {
    let issued: Vec<_> = incarnations.issued.iter().map(Incarnation::to_string).collect();
    let confirmed = incarnations.confirmed.map(|incarnation| incarnation.to_string());
    if setting(db, CONFIRMED)? != confirmed {
        set_setting(db, CONFIRMED, confirmed.as_deref())?;
    }
    set_setting(db, ISSUED, Some(&issued.join(" ")))
}

/// Archives the log and its conflicts, with the identity that ends with it, and starts at the
/// beginning of another remote's log. Pending events have seen nothing of that log.
pub(super) fn retire(tx: &Transaction<'_>, to: &NewRemote, now_ms: i64) -> Result<()> {
    end_identity(tx, to.replica, Cause::Accepted, now_ms)?;
    let former = tx.last_insert_rowid();
    tx.execute(
        "INSERT INTO driftless_old_log (former, seq, id, own, header, vals, hash)
         SELECT ?1, seq, id, own, header, vals, hash FROM driftless_log",
        [former],
    )?;
    tx.execute(
        "INSERT INTO driftless_old_conflicts
             (former, seq, id, kind, winner, theirs, state, noticed, tbl, pk, other, ends)
         SELECT ?1, seq, id, kind, winner, theirs, state, noticed, tbl, pk, other, ends
         FROM driftless_conflicts",
        [former],
    )?;
    // Rows that waited in quarantine are fetched again with the remote's rows.
    tx.execute_batch(
        "DELETE FROM driftless_log; DELETE FROM driftless_log_rows;
         DELETE FROM driftless_conflicts;
         DELETE FROM driftless_quarantine;
         UPDATE driftless_outbox SET base = 0, winner = NULL, refuse = NULL WHERE NOT settled",
    )?;
    let sql = "UPDATE driftless_state SET cursor = 0, sent = 0, chain = ?1";
    tx.execute(sql, [GENESIS.as_slice()])?;
    set_setting(tx, INDEXED, None)?;
    set_setting(tx, "url", Some(&to.url))?;
    set_setting(tx, "epoch", Some(&to.epoch))?;
    set_setting(tx, CONTRADICTION, None)?;
    set_setting(tx, LANDMARK, None)
}

/// Archives the present identity, and puts the new one in its place.
pub(super) fn end_identity(
    tx: &Transaction<'_>,
    id: ReplicaId,
    cause: Cause,
    now_ms: i64,
) -> Result<()> {
    let former = setting(tx, "replica")?.ok_or_else(|| {
        Error::new(Code::IdentityLost, "the database has lost its replica's identity")
    })?;
    tx.execute(
        "INSERT INTO driftless_identities (replica, epoch, cursor, cause, ended)
         SELECT ?1, ?2, cursor, ?3, ?4 FROM driftless_state",
        (former, setting(tx, "epoch")?, cause.as_str(), now_ms),
    )?;
    set_setting(tx, "replica", Some(&id.to_string()))?;
    set_setting(tx, CONFIRMED, None)?;
    set_setting(tx, ISSUED, None)
}

/// A remote that replaces another one, and the replica's identity there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRemote {
    /// Its URL, without credentials.
    pub url: String,
    /// Its epoch.
    pub epoch: String,
    /// The replica's new identity.
    pub replica: ReplicaId,
}
