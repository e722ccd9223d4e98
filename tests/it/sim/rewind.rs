//! A replica's file is restored by SQLite's own means while the machine and the application have it
//! open.

use super::watch::Writer;
use super::world::{Checked, World};
use driftless::sync::Input;

impl World {
    /// A replica's file becomes what it was when it was copied, while all goes on: the request that
    /// is under way, answers that are late, a page that waits. The copy that is kept from now on is
    /// of what the file was just now, so the next time it is restored it may go forward.
    pub(super) fn rewind(&mut self, at: usize, told: bool) -> Checked {
        if self.replicas[at].full || !self.replicas[at].ready || !self.watches[at].certain {
            return Ok(());
        }
        let Some((file, watch)) = self.saves.remove(&at) else { return self.save(at) };
        let now = self.replicas[at].copy(&self.folder.path().join("rewind.db"));
        let forward = watch.cursor > self.watches[at].cursor;
        self.replicas[at].restore_in_place(&file, &self.folder.path().join("from.db"));
        let watch = std::mem::replace(&mut self.watches[at], watch);
        for id in watch.mine.difference(&self.watches[at].mine) {
            let known = self.ledger.get_mut(id).expect("what a file has was committed");
            known.gone = !self.places.contains_key(id);
        }
        self.saves.insert(at, (now, watch));
        self.replicas[at].outlived = self.replicas[at].sent.is_some();
        self.watches[at].look_again();
        // What was gone with another state of the file may be back.
        self.note_pending(at);
        if self.replicas[at].machine.is_some() {
            self.seen.note("a file restored under a live machine");
            if self.replicas[at].sent.is_some() {
                self.seen.note("a file restored with a request under way");
            }
            if self.replicas[at].waits {
                self.seen.note("a file restored with a page waiting");
            }
            if forward {
                self.seen.note("a file restored to a later state");
            }
        }
        self.observe(at, Writer::Nobody)?;
        if told {
            self.replicas[at].input(Input::LocalCommit);
            self.observe(at, Writer::Nobody)?;
        }
        Ok(())
    }
}
