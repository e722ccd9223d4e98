//! Who this file is to its remote: its incarnations, its place in the log, its past identities.
//!
//! An [`Incarnation`] is what a push leaves at the remote, to tell a file from its copies.

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
/// The setting with the place at which the first sync ended, whose event is in no frame.
const LANDMARK: &str = "landmark";

/// Why a file took another identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Another file had pushed under the same one: this one was copied, or restored from a backup.
    Copied,
    /// A person told it to go on with another remote, or with one that was rolled back.
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
    /// Counts them, from 1.
    pub n: i64,
    /// The replica's id.
    pub replica: String,
    /// The epoch of the remote that it belonged to, if it had had its first sync.
    pub epoch: Option<String>,
    /// What it had integrated when it ended.
    pub cursor: i64,
    /// Why it ended.
    pub cause: Cause,
    /// When it ended: ms since 1970.
    pub ended_ms: i64,
}

/// The setting with the event, and its place, by which the remote's log contradicts what was read.
const CONTRADICTION: &str = "contradiction";

impl Store {
    /// The id and the seq of the event by which the remote's log was found not to be the one that
    /// was read here, if it was.
    pub fn contradiction(&self) -> Result<Option<(String, String)>> {
        let text = self.setting(CONTRADICTION)?;
        let parts = text.as_deref().and_then(|text| text.split_once(' '));
        Ok(parts.map(|(id, seq)| (id.to_owned(), seq.to_owned())))
    }

    /// Notes it; `None` if nothing is missing any more.
    pub fn set_contradiction(&mut self, event: Option<(&str, &str)>) -> Result<()> {
        let text = event.map(|(id, seq)| format!("{id} {seq}"));
        let tx = self.begin_write()?;
        set_setting(&tx, CONTRADICTION, text.as_deref())?;
        self.commit_write(tx)
    }

    /// The newest place in the remote's log that is integrated.
    pub fn place(&self) -> Result<Place> {
        place(&self.db.unchecked_transaction()?)
    }

    /// Notes the event at the cursor, where the first sync has ended.
    pub fn set_landmark(&mut self, place: Place) -> Result<()> {
        let text = place.id.map(|id| format!("{} {id}", place.seq));
        let tx = self.begin_write()?;
        set_setting(&tx, LANDMARK, text.as_deref())?;
        self.commit_write(tx)
    }

    /// What is known about the incarnation of this replica that the remote has.
    ///
    /// # Errors
    ///
    /// `Corrupt` when it is not what was written, `Storage` when the database fails.
    pub fn incarnations(&self) -> Result<Incarnations> {
        let tx = self.db.unchecked_transaction()?;
        read(&tx)
    }

    /// Issues the incarnation of a push, by `chance`, and keeps it so that not even a power failure
    /// takes it away: the remote may have it a moment later. It is the newest of those it gives.
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

    /// The remote has this incarnation of a push of ours, and with `sent` also all outbox rows up
    /// to that number: see [`Store::sent`].
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

    /// The remote said which incarnation it has to a request that pushed nothing.
    pub fn see_incarnation(&mut self, found: Option<&str>) -> Result<()> {
        let tx = self.begin_write()?;
        let mut incarnations = read(&tx)?;
        incarnations.seen(found);
        keep(&tx, &incarnations)?;
        self.commit_write(tx)
    }

    /// Takes another identity, because another file has pushed under this one. The log must have
    /// been read to its end: what is still on top of its row has seen all of it, the former
    /// identity's own events too, and gets the cursor as its base.
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

    /// The replicated tables, and how many rows each has.
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

/// Where the first sync ended, if there was an event then.
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

/// Puts the log and what lost in it away, with the identity that ends with it, and begins at the
/// beginning of the log of another remote. Pending events have seen nothing of that.
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
    // What waited in quarantine is read anew with the remote's rows.
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

/// Writes the present identity down as a former one, and the new one in its place.
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

/// A remote that is taken in the place of another one, and who the replica is to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRemote {
    /// Its URL, without credentials.
    pub url: String,
    /// Its epoch.
    pub epoch: String,
    /// The replica's new identity.
    pub replica: ReplicaId,
}
