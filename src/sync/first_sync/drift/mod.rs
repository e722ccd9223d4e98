//! The differences that arise between the two sides of a replica, when the web application or the
//! desk migrates.
//!
//! [`Drift`] collects what does not flow because of it, for the status: what waits here
//! (`differences`), and what the remote lacks of the log (`debts`). `newcomers` are tables that
//! have come since.

pub(in crate::sync) mod debts;
pub(in crate::sync) mod differences;
pub(in crate::sync) mod newcomers;

use self::debts::{Owed, read_gaps, read_owed};
use self::differences::{gap, owed};
use self::newcomers::Taking;
use crate::error::Result;
use crate::event::Seq;
use crate::protocol::Statement;
use crate::protocol::push::fill;
use crate::protocol::remote_tables::{Gap, RemoteTable, RemoteTables};
use crate::remote::Rows;
use crate::store::Obstacle;

/// What does not flow, as far as it was examined.
#[derive(Clone, Debug, Default)]
pub(in crate::sync) struct Drift {
    /// The obstacles; `None` if the two sides were not compared.
    obstacles: Option<Vec<Obstacle>>,
    /// The columns of common tables that the remote lacks.
    unknown_there: Vec<Owed>,
    /// The end of the remote's log when its schema was last seen at rest, if that is known.
    since: Option<Seq>,
    /// The end of the remote's log.
    head: Seq,
    gaps: Vec<Gap>,
    /// The columns that events have named and the remote lacks or could not fill.
    owed: Vec<Owed>,
    /// When new tables are taken.
    taking: Taking,
}

impl Drift {
    /// Before anything was examined.
    pub(in crate::sync) fn since(since: Option<Seq>) -> Drift {
        Drift { since, ..Drift::default() }
    }

    /// New tables are taken at once.
    pub(in crate::sync) fn at_once() -> Drift {
        Drift { taking: Taking::at_once(), ..Drift::default() }
    }

    /// When new tables are taken.
    pub(in crate::sync) fn taking(&self) -> Taking {
        self.taking
    }

    /// It is this time, in ms since 1970.
    pub(in crate::sync) fn is_now(&mut self, now_ms: i64) {
        self.taking.is_now(now_ms);
    }

    /// The end of the remote's log when its schema was last seen at rest; for all that is known, it
    /// was never at rest before now.
    pub(in crate::sync) fn rest(&self) -> Seq {
        self.since.unwrap_or(self.head)
    }

    /// Whether it is known when the schema was at rest.
    pub(in crate::sync) fn knows_rest(&self) -> bool {
        self.since.is_some()
    }

    /// The schema was at rest when the log ended there.
    pub(in crate::sync) fn rested(&mut self, since: Option<Seq>) {
        self.since = since;
    }

    /// Sets the facts of the remote: the end of its log, its gaps and its debts.
    pub(in crate::sync) fn told(&mut self, head: Seq, gaps: &Rows, owed: &Rows) -> Result<()> {
        (self.head, self.gaps, self.owed) = (head, read_gaps(gaps)?, read_owed(owed)?);
        Ok(())
    }

    /// The two sides were compared.
    pub(in crate::sync) fn compared(&mut self, obstacles: &[Obstacle], unknown_there: &[Owed]) {
        self.obstacles = Some(obstacles.to_vec());
        self.unknown_there = unknown_there.to_vec();
    }

    /// The gaps of tables whose capture is incomplete.
    pub(in crate::sync) fn gaps_of(&self, tables: Vec<String>) -> Vec<Gap> {
        let since = self.rest();
        let gap = |table: String| {
            tracing::warn!(table, %since, "capture on the remote was not whole");
            Gap { n: 0, table, since }
        };
        tables.into_iter().map(gap).collect()
    }

    /// The statements that fill owed columns that these tables have now.
    pub(in crate::sync) fn fills(&self, tables: &[RemoteTable]) -> Vec<Statement> {
        let fill = |debt: &Owed| {
            let there = tables.iter().find(|there| there.table.name == debt.table())?;
            Some(fill(&there.table, debt.column(), debt.since()?))
        };
        self.owed.iter().filter_map(fill).flatten().collect()
    }

    /// Sets what is left after capture was completed and columns were filled.
    pub(in crate::sync) fn is_left(&mut self, gaps: Vec<Gap>, owed: Vec<Owed>) {
        (self.gaps, self.owed) = (gaps, owed);
    }

    /// The gaps that are recorded on the remote.
    pub(in crate::sync) fn gaps(&self) -> Vec<Gap> {
        self.gaps.clone()
    }

    /// Everything that does not flow, if the two sides were compared. `tables` are the remote's.
    pub(in crate::sync) fn obstacles(&self, tables: &RemoteTables) -> Option<Vec<Obstacle>> {
        let mut all = self.obstacles.clone()?;
        all.extend(self.gaps.iter().map(gap));
        let has = |debt: &Owed| {
            let there = tables.get(debt.table());
            there.is_some_and(|there| there.table.column(debt.column()).is_some())
        };
        all.extend(self.owed.iter().map(|debt| owed(debt, has(debt))));
        let is_owed = |new: &&Owed| self.owed.iter().any(|known| known.is_same(new));
        let new = self.unknown_there.iter().filter(|new| !is_owed(new));
        all.extend(new.map(|debt| owed(debt, false)));
        Some(all)
    }
}
