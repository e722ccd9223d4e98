//! The state of a replica.

use super::Store;
use super::connection::setting;
use super::local::dangling::Dangling;
use crate::error::Result;
use crate::event::frame::Hash;
use crate::event::{ReplicaId, Seq};
use crate::protocol::incarnation::Place;

impl Store {
    /// Records whether a transaction of another writer is being integrated in parts, for `driftless
    /// status`.
    pub fn set_in_parts(&mut self, in_parts: bool) -> Result<()> {
        self.set_setting(IN_PARTS, in_parts.then_some("1"))
    }

    /// The replica's state. The cost does not grow with the outbox, after that has been read once.
    pub fn state(&self) -> Result<State> {
        let tx = self.db.unchecked_transaction()?;
        let mut statement = tx.prepare_cached(
            "SELECT sent, chain, actor,
                    (SELECT count(*) FROM driftless_conflicts WHERE state = 'open')
                        + (SELECT count(*) FROM driftless_old_conflicts WHERE state = 'open'),
                    (SELECT count(*) FROM driftless_quarantine),
                    (SELECT page_count FROM pragma_page_count)
                        * (SELECT page_size FROM pragma_page_size)
             FROM driftless_state",
        )?;
        let mut state = statement.query_row([], |row| {
            Ok(State {
                sent: row.get(0)?,
                chain: row.get(1)?,
                actor: row.get(2)?,
                conflicts: row.get::<_, i64>(3)? as u64,
                quarantined: row.get::<_, i64>(4)? as u64,
                bytes: row.get::<_, i64>(5)? as u64,
                ..State::unknown(self.id)
            })
        })?;
        drop(statement);
        state.dangling = self.dangling()?;
        state.place = super::identity::place(&tx)?;
        state.url = setting(&tx, "url")?.unwrap_or_default();
        state.in_parts = setting(&tx, IN_PARTS)?.is_some();
        // In a file that somebody has changed, an epoch that is not valid must not become part of
        // an SQL text.
        let epoch = setting(&tx, "epoch")?;
        state.epoch = epoch.filter(|epoch| !epoch.contains('\0'));
        let mut pending = self.outbox.pending_mut();
        pending.refresh(&tx, self.outbox.layouts(), state.cursor())?;
        self.remember_outbox(&tx)?;
        state.pending = pending.len() as u64;
        state.unsent = pending.above(state.sent) as u64;
        if let Some(oldest) = pending.numbers().next() {
            let sql = "SELECT ms FROM driftless_outbox WHERE n = ?1";
            let oldest = tx.prepare_cached(sql)?.query_row([oldest], |row| row.get(0))?;
            state.oldest_pending_ms = Some(oldest);
        }
        Ok(state)
    }

    /// Rows of tables that are not replicated whose replicated parent row was removed by the
    /// remote, or may be another row than the one that they were written for. The first kind is
    /// counted if the foreign key's action was refused, or none was declared.
    pub fn dangling(&self) -> Result<Vec<Dangling>> {
        let data_version = self.data_version()?;
        self.dangling.borrow_mut().refresh(&self.db, &self.dependents, &self.tables, data_version)
    }
}

/// The setting for [`State::in_parts`].
pub(super) const IN_PARTS: &str = "in_parts";

/// The state of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Its identity.
    pub replica: ReplicaId,
    /// The remote's URL.
    pub url: String,
    /// The remote's epoch, if it is known.
    pub epoch: Option<String>,
    /// The highest integrated seq.
    /// The same place, with the event there.
    pub place: Place,
    /// The highest outbox number whose verdict the remote has given.
    pub sent: i64,
    /// The number of local events without a known verdict.
    pub pending: u64,
    /// The number of those that the remote has not judged.
    pub unsent: u64,
    /// When the oldest pending event was made: ms since 1970.
    pub oldest_pending_ms: Option<i64>,
    /// Open conflicts.
    pub conflicts: u64,
    /// Events in quarantine.
    pub quarantined: u64,
    /// Rows of tables that are not replicated whose parent is gone.
    pub dangling: Vec<Dangling>,
    /// The database's size in bytes, without its write-ahead log.
    pub bytes: u64,
    /// The head of the local log's chain.
    pub chain: Hash,
    /// Who is at work, as the application set it.
    pub actor: Option<String>,
    /// Whether a transaction of another writer is being integrated in parts.
    pub in_parts: bool,
}

impl State {
    /// The highest seq that is integrated.
    pub fn cursor(&self) -> Seq {
        self.place.seq
    }

    /// The state of a replica about which nothing is known.
    pub(crate) fn unknown(replica: ReplicaId) -> State {
        State {
            replica,
            url: String::new(),
            epoch: None,
            place: Place::default(),
            sent: 0,
            pending: 0,
            unsent: 0,
            oldest_pending_ms: None,
            conflicts: 0,
            quarantined: 0,
            dangling: Vec::new(),
            bytes: 0,
            chain: [0; 32],
            actor: None,
            in_parts: false,
        }
    }
}
