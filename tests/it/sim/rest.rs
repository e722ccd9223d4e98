//! All becomes quiet: within a bounded number of rounds everybody must have the same rows.

use driftless::sync::Input;
use rusqlite::Connection;

use super::arrivals::read_log;
use super::history::Fate;
use super::rows::{difference, snapshot};
use super::sql::number;
use super::watch::Writer;
use super::world::{Checked, World};

/// Rounds in which each replica syncs once. A push may fail at one event in each of a few rounds,
/// and what one replica pushes is another's to pull.
const ROUNDS: usize = 12;
/// What a sync may take: requests, pages and timers.
const ACTIONS: usize = 1_000;

impl World {
    /// Nothing goes wrong any more.
    pub(crate) fn rest(&mut self) -> Checked {
        self.say(|| "  -- all becomes quiet".to_owned());
        self.server.set_caps(usize::MAX, usize::MAX);
        self.drop_ghosts()?;
        for at in 0..self.replicas.len() {
            self.replicas[at].cut = false;
            self.replicas[at].set_room(None);
            self.start(at)?;
            while self.answer(at)? {}
        }
        for round in 0..ROUNDS {
            for at in 0..self.replicas.len() {
                self.sync(at)?;
                self.unconstrain(at)?;
                self.recognise(at)?;
            }
            if (0..self.replicas.len()).all(|at| self.is_in_step(at)) {
                self.say(|| format!("  -- at rest after {} rounds", round + 1));
                return self.check_rest();
            }
        }
        let restless: Vec<_> =
            (0..self.replicas.len()).filter(|&at| !self.is_in_step(at)).collect();
        let status = self.replicas[restless[0]]
            .machine
            .as_ref()
            .map(|machine| machine.status(self.replicas[restless[0]].now));
        let waiting = self.replicas[restless[0]].store().and_then(|store| store.quarantine().ok());
        Err(format!(
            "the replicas {restless:?} are not at rest after {ROUNDS} rounds: {status:?} {waiting:?}"
        ))
    }

    fn head(&self) -> i64 {
        self.log.keys().next_back().copied().unwrap_or(0)
    }

    /// A replica that goes on with a remote which was another one is looked at again.
    fn recognise(&mut self, at: usize) -> Checked {
        let cursor = "SELECT cursor FROM driftless_state";
        let on = self.replicas[at].ready
            && !self.replicas[at].is_refusing()
            && number(&self.replicas[at].db, cursor) == self.head()
            && self.has_its_epoch(at);
        if on && !self.watches[at].certain {
            self.replicas[at].fresh = true;
            self.observe(at, Writer::Nobody)?;
        }
        Ok(())
    }

    /// Whether a replica is on this remote, and not on another one whose log was as long.
    fn has_its_epoch(&self, at: usize) -> bool {
        let text = |db: &Connection, sql: &str| -> Option<String> {
            db.query_row(sql, [], |row| row.get(0)).ok()
        };
        let here = "SELECT value FROM driftless_settings WHERE name = 'epoch'";
        let there = self.server.with(|db| text(db, "SELECT epoch FROM driftless_meta"));
        there.is_some() && text(&self.replicas[at].db, here) == there
    }

    fn is_in_step(&self, at: usize) -> bool {
        let Some(machine) = &self.replicas[at].machine else { return false };
        let Ok(status) = machine.status(self.replicas[at].now) else { return false };
        self.replicas[at].ready
            && self.watches[at].certain
            && status.pending == 0
            && status.quarantined == 0
            && self.watches[at].cursor == self.head()
    }

    /// One replica pushes and pulls until it says that it is done.
    fn sync(&mut self, at: usize) -> Checked {
        self.replicas[at].input(Input::LocalCommit);
        self.observe(at, Writer::Nobody)?;
        let refuses = self.replicas[at].ready && self.replicas[at].is_refusing();
        let ticket = match refuses {
            true => self.accept_now(at),
            false => self.replicas[at].sync(),
        };
        self.observe(at, Writer::Nobody)?;
        for _ in 0..ACTIONS {
            if self.carry(at, Fate::Through)? || self.answer(at)? || self.integrate(at)? {
                continue;
            }
            if let Some(outcome) = self.replicas[at].outcome(ticket) {
                self.say(|| format!("  -- replica {at} has synced: {:?}", outcome.as_ref().err()));
                return Ok(());
            }
            let Some(timer) = self.replicas[at].timer else {
                return Err(format!("replica {at} falls silent in a sync"));
            };
            self.pass(at, timer)?;
        }
        Err(format!("a sync of replica {at} does not end after {ACTIONS} actions"))
    }

    fn check_rest(&mut self) -> Checked {
        let log = self.server.with(|db| read_log(db, 0))?;
        if let Some(changed) = log.iter().find(|event| self.log.get(&event.seq.0) != Some(event)) {
            return Err(format!("event {} of the remote log has changed", changed.seq));
        }
        if log.len() != self.log.len() {
            return Err("events have gone from the remote log".to_owned());
        }
        let there = self.server.with(|db| snapshot(db, &self.shape));
        for (at, replica) in self.replicas.iter().enumerate() {
            let here = snapshot(&replica.db, &self.shape);
            if here != there {
                let told = difference(&here, &there);
                return Err(format!("replica {at} (left) and the remote differ at rest: {told}"));
            }
            self.check_beside(at)?;
        }
        let unknown =
            self.ledger.iter().find(|(id, known)| !known.gone && !self.places.contains_key(*id));
        match unknown {
            Some((id, _)) => {
                Err(format!("event {id} was committed, and is not in the log at rest"))
            }
            None => Ok(()),
        }
    }
}
