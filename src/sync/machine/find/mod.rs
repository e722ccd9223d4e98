//! Finds writes that capture on the remote has missed.
//!
//! A table with a gap is compared with this replica's rows, which are the fold of the log. If a row
//! of the remote is as it was at some place in the gap, although the log has newer events of it, a
//! rebuild has copied it before them: the row is written again on the remote. Any other difference
//! is a write that capture has missed: the log gets an event of the web application. A gap is
//! closed when a search finds nothing.
//!
//! # Caveats
//!
//! * Deletes are logged only up to a limit, and never if no row is left of those that existed: then
//!   the table was rebuilt, and its content was not deleted by anybody.
//! * Rows that have pending or waiting events here, and rows that others are changing, are left to
//!   the next search, and the gap stays open.
//! * Only the columns that both sides have are compared.

use std::collections::{HashMap, VecDeque};

use crate::error::{Error, Result};
use crate::event::{Event, Image, Op};
use crate::protocol::compare::{ComparedTable, Coverage, Difference};
use crate::protocol::incarnation::Place;
use crate::protocol::push::{Compared, close, restore, tell};
use crate::protocol::remote_tables::{Gap, RemoteTables};
use crate::protocol::{Batch, Statement};
use crate::remote::Answer;
use crate::store::{Entry, LogFilter, State, Store};
use crate::sync::verify::tables::{Checked, TableCheck};

/// How long to wait before a search that could not close a gap is repeated, in ms: it reads whole
/// tables.
const RETRY_MS: u64 = 600_000;
/// The most rows that are logged as deleted. They may also be at most a part of the table.
const MAX_DELETES: usize = 100;
const DELETED_PART: u64 = 4;
/// How soon, in ms, a search is repeated that has repaired something, and how often.
const AGAIN_MS: u64 = 1_000;
const ROUNDS: u32 = 5;
/// The most rows that are repaired in one request.
const MAX_ROWS: usize = 500;

/// The state of the file when a request was made.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    data_version: i64,
    place: Place,
    newest: i64,
}

impl Seen {
    fn of(store: &Store, state: &State) -> Result<Seen> {
        let (data_version, newest) = (store.data_version()?, store.newest()?);
        Ok(Seen { data_version, place: state.place, newest })
    }
}

enum Work {
    /// It compares the tables with gaps.
    Compares { check: Box<TableCheck>, found: Vec<Difference>, seen: Option<Seen> },
    /// It writes the findings, one request after the other.
    Writes(Requests),
}

/// The requests that repair rows, or close gaps.
#[derive(Default)]
struct Requests {
    all: VecDeque<Vec<Statement>>,
    /// Whether a row is repaired.
    mends: bool,
}

/// The next step of a search.
pub(super) enum Search {
    /// This request.
    Ask(Batch),
    /// It is repeated soon, because it has repaired something.
    Again,
    /// It has ended.
    Ended,
}

/// The search of one machine.
///
/// * A request that writes takes effect only if the remote is as it was compared.
#[derive(Default)]
pub(super) struct Finder {
    work: Option<Work>,
    /// The earliest time of the next search, in steady ms.
    due: u64,
    /// The number of consecutive searches that have repaired something.
    rounds: u32,
}

impl Finder {
    /// Whether there is something to compare or to write.
    pub(super) fn wants(&self, tables: &RemoteTables, steady_ms: u64) -> bool {
        !tables.gaps.is_empty() && (self.work.is_some() || steady_ms >= self.due)
    }

    /// Gives the search up, to repeat it later.
    pub(super) fn put_off(&mut self, steady_ms: u64) {
        (self.work, self.due) = (None, steady_ms + RETRY_MS);
    }

    /// Returns the next step.
    ///
    /// # Errors
    ///
    /// `Storage` when the store cannot be read.
    pub(super) fn ask(
        &mut self,
        store: &Store,
        tables: &RemoteTables,
        steady_ms: u64,
    ) -> Result<Search> {
        let work = self.work.get_or_insert_with(|| {
            let names: Vec<_> = tables.gaps.iter().map(|gap| gap.table.clone()).collect();
            let check = Box::new(TableCheck::new(store, tables, &names));
            Work::Compares { check, found: Vec::new(), seen: None }
        });
        if let Work::Compares { check, found, seen } = work {
            let compared = check.tables();
            let (state, incarnations) = (store.state()?, store.incarnations()?);
            *seen = Some(Seen::of(store, &state)?);
            let mut snapshot = store.snapshot(&compared)?;
            if let Some(batch) = check.ask(&mut snapshot, state.clone(), incarnations)? {
                check.meanwhile(&mut snapshot)?;
                return Ok(Search::Ask(batch));
            }
            drop(snapshot);
            let plan = Plan { store, tables, check, state: &state };
            *work = Work::Writes(plan.requests(found)?);
        }
        let Work::Writes(requests) = work else { unreachable!("it writes by now") };
        if let Some(statements) = requests.all.pop_front() {
            return Ok(Search::Ask(Batch { statements, writes: true }));
        }
        if requests.mends && self.rounds < ROUNDS {
            (self.work, self.due) = (None, steady_ms + AGAIN_MS);
            self.rounds += 1;
            return Ok(Search::Again);
        }
        // Others may have closed the gap meanwhile, or this search could not.
        self.rounds = 0;
        self.put_off(steady_ms);
        Ok(Search::Ended)
    }

    /// Takes the answer to the last request.
    ///
    /// # Errors
    ///
    /// As [`TableCheck::answered`].
    pub(super) fn answered(&mut self, store: &Store, answer: &Answer) -> Result<()> {
        let Some(Work::Compares { check, found, seen }) = &mut self.work else { return Ok(()) };
        let state = store.state()?;
        if *seen != Some(Seen::of(store, &state)?) {
            check.give_up();
            return Ok(());
        }
        let compared = check.tables();
        let mut snapshot = store.snapshot(&compared)?;
        let checked = check.answered(&mut snapshot, answer)?;
        drop(snapshot);
        found.extend(check.take_found());
        if checked == Checked::SchemaChanged {
            self.work = None;
        }
        Ok(())
    }

    /// A request failed. Returns whether another request may succeed.
    pub(super) fn recover(&mut self, error: &Error) -> bool {
        match &mut self.work {
            Some(Work::Compares { check, .. }) => check.recover(error),
            _ => false,
        }
    }
}

/// The writes for the differences that were found.
struct Plan<'a> {
    store: &'a Store,
    tables: &'a RemoteTables,
    check: &'a TableCheck,
    state: &'a State,
}

/// The events of rows after a place in the log, in its order.
type Histories = HashMap<String, Vec<Event>>;

impl Plan<'_> {
    fn requests(&self, found: &[Difference]) -> Result<Requests> {
        let mut requests = Requests::default();
        for gap in &self.tables.gaps {
            let all = self.check.tables();
            let compared = all.iter().find(|it| it.name().eq_ignore_ascii_case(&gap.table));
            // The gap of a table that cannot be compared stays open.
            let Some(compared) = compared else { continue };
            let of_table: Vec<_> =
                found.iter().filter(|row| row.table.eq_ignore_ascii_case(&gap.table)).collect();
            if of_table.is_empty() {
                let close = self.close(gap);
                requests.all.extend(close.map(|statement| vec![statement]));
                continue;
            }
            let mended = self.mend(gap, compared, &of_table)?;
            requests.mends |= !mended.is_empty();
            requests.all.extend(mended);
        }
        Ok(requests)
    }

    fn remote(&self) -> Compared {
        Compared {
            epoch: self.state.epoch.clone().unwrap_or_default(),
            cookie: self.tables.cookie,
            place: self.state.place,
        }
    }

    fn coverage(&self, gap: &Gap) -> Coverage {
        let mut all = self.check.coverage().into_iter();
        let found = all.find(|(name, _)| name.eq_ignore_ascii_case(&gap.table));
        found.map(|(_, coverage)| coverage).unwrap_or_default()
    }

    /// The statement that closes the gap, if nothing differs and all rows were compared.
    fn close(&self, gap: &Gap) -> Option<Statement> {
        let coverage = self.coverage(gap);
        let is_whole = coverage.moving == 0 && coverage.waiting == 0;
        is_whole.then(|| close(&self.remote(), gap))
    }

    /// The requests that repair these rows.
    fn mend(
        &self,
        gap: &Gap,
        compared: &ComparedTable,
        found: &[&Difference],
    ) -> Result<Vec<Vec<Statement>>> {
        let (remote, coverage) = (self.remote(), self.coverage(gap));
        let histories = self.histories(gap, found)?;
        let (mut rows, mut deletes) = (Vec::new(), Vec::new());
        for row in found {
            let (table, key) = (compared.there(), &row.key);
            if row.seq != self.state.place.seq || self.store.has_pending(&gap.table, key)? {
                continue;
            }
            let history = histories.get(&key.0).map_or(&[][..], Vec::as_slice);
            let (local, there) = (row.local.as_ref(), row.remote.as_ref());
            if was_so(compared, history, local, there) {
                rows.push(restore(&remote, gap, table, key, local, there.is_some()));
            } else if there.is_none() {
                deletes.push(vec![tell(&remote, gap, table, key, local, &[])]);
            } else {
                rows.push(vec![tell(&remote, gap, table, key, local, &row.columns)]);
            }
        }
        // If no row is left of those that existed, the rows were not deleted by anybody.
        let (gone, all) = (deletes.len() as u64, coverage.rows);
        let is_told = deletes.len() <= MAX_DELETES && gone * DELETED_PART <= all;
        if is_told {
            rows.extend(deletes);
        } else {
            tracing::warn!(table = gap.table, gone, "too many rows are gone on the remote");
        }
        Ok(rows.chunks(MAX_ROWS).map(|rows| rows.concat()).collect())
    }

    /// The applied events of these rows after the beginning of a gap.
    fn histories(&self, gap: &Gap, found: &[&Difference]) -> Result<Histories> {
        let mut histories: Histories =
            found.iter().map(|row| (row.key.0.clone(), Vec::new())).collect();
        if histories.is_empty() {
            return Ok(histories);
        }
        let filter = LogFilter {
            table: Some(gap.table.clone()),
            after_seq: Some(gap.since),
            ..LogFilter::default()
        };
        self.store.log(&filter, &mut |entry| {
            if let Entry::Settled(event) = entry
                && event.verdict.is_applied()
                && let Some(history) = histories.get_mut(&event.key.0)
            {
                history.push(event);
            }
            Ok(())
        })?;
        Ok(histories)
    }
}

/// Whether a row was, at some place in the gap, as it is on the remote now.
fn was_so(
    compared: &ComparedTable,
    history: &[Event],
    local: Option<&Image>,
    there: Option<&Image>,
) -> bool {
    let mut row = local.cloned();
    for event in history.iter().rev() {
        row = match (event.op, row, &event.before) {
            (Op::Insert, ..) => None,
            (Op::Delete, _, before) => before.clone(),
            (Op::Update, Some(mut row), Some(before)) if !before.0.is_empty() => {
                row.overlay(before);
                Some(row)
            }
            // Its former state is not known.
            _ => return false,
        };
        let same = match (&row, there) {
            (None, None) => true,
            (Some(row), Some(there)) => compared.differing(there, row).is_empty(),
            _ => false,
        };
        if same {
            return true;
        }
    }
    false
}
