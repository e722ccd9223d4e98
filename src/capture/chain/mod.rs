//! The order of a row's events, where triggers of the application ran before capture's.
//!
//! SQLite runs TEMP triggers before all others, and of the others the newest first. If a trigger of
//! the application runs before capture's and writes the same row again, its write is appended
//! first, and the write that fired it is appended second: the outbox says `update`, then `insert`.
//!
//! [`untangle`] restores the order of the writes. Each event has the values of its own write, so
//! the events of a row form a chain, and the last one leaves the row as it is in the table. The
//! search goes backward from there. Nested triggers append from the inside out (post-order), so
//! an event belongs in front of a block of events that ends directly before it. The search reads
//! the events from the last to the first and keeps those that wait in a stack. The top of the stack
//! is taken off as soon as the row is as that event left it; the row is then as it found it. What
//! was read after an event and taken off before it was caused by it. A wrong choice shows later, as
//! an event that never fits; then the search goes back to the last choice.
//!
//! A row is not all that an order must fit: two rows never have the same value in a UNIQUE index at
//! once. So if the orders that are found for each row alone break such an index, the rows of its
//! table are searched together.
//!
//! Events in their order pass in one linear look, without a search.
//!
//! # Caveats
//!
//! * A BEFORE trigger that changes the row for whose change it was fired, which SQLite calls
//!   undefined, leaves a chain that no order mends. Such a chain stays as it was appended, up to
//!   the point from which on it fits.
//! * A UNIQUE index with a generated column is not looked at. The condition of a partial index is
//!   not evaluated: an order that fits as if it had none is preferred. As long as each row's own
//!   events are in their order, nothing moves: if a trigger gives another row the value that its
//!   cause has given up, that is told before its cause.
//! * Several orders may fit. The search takes the first that it meets; it nests as little as it
//!   can. All of them begin and end with the same row.

mod search;
mod step;
#[cfg(test)]
mod tests;
mod uniques;

use std::collections::{BTreeMap, HashMap};

use petgraph::unionfind::UnionFind;

use self::search::Search;
use self::step::{Cause, Event};
pub use self::step::{ChainStep, Move, RowId};
pub use self::uniques::Uniques;
use crate::event::Image;

/// Returns the moves that put the events of each row in their order, to be made one after the
/// other. `steps` are the events of some rows by their numbers: all events that one stretch of the
/// outbox has of these rows, and the other halves of key changes. `now` has the rows as they are in
/// the table, `None` for a row that is not there; a row that is missing in `now` is not known.
pub fn untangle(
    steps: &[ChainStep],
    now: &HashMap<RowId, Option<Image>>,
    uniques: &Uniques,
) -> Vec<Move> {
    let events = Event::all(steps);
    let mut causes = Vec::new();
    for component in components(steps, &events, uniques) {
        let mut search = Search::new(steps, &component, now, uniques);
        if !search.is_in_order() {
            let apart = apart(steps, &component, now);
            let fits = fits(steps, &component, &apart, now, uniques);
            causes.extend(if fits { apart } else { search.run() });
        }
    }
    moves(steps, causes).0
}

/// Searches for each row alone, and for rows that key changes join. That is quick, and mostly
/// right: a value of a UNIQUE index seldom moves from one row to another.
fn apart(steps: &[ChainStep], events: &[Event], now: &HashMap<RowId, Option<Image>>) -> Vec<Cause> {
    let none = Uniques::default();
    let mut causes = Vec::new();
    for component in components(steps, events, &none) {
        let mut search = Search::new(steps, &component, now, &none);
        if !search.is_in_order() {
            causes.extend(search.run());
        }
    }
    causes
}

/// Whether all rows are in their order once `causes` are moved, with all UNIQUE indexes.
fn fits(
    steps: &[ChainStep],
    events: &[Event],
    causes: &[Cause],
    now: &HashMap<RowId, Option<Image>>,
    uniques: &Uniques,
) -> bool {
    let (_, numbers) = moves(steps, causes.to_vec());
    let mut order = events.to_vec();
    order.sort_by_key(|event| numbers[event.at()]);
    Search::new(steps, &order, now, uniques).fits()
}

/// The events by sets of rows that key changes or UNIQUE indexes join; sets of at least two events.
fn components(steps: &[ChainStep], events: &[Event], uniques: &Uniques) -> Vec<Vec<Event>> {
    let mut first: HashMap<RowId, usize> = HashMap::new();
    let mut of_table: HashMap<String, usize> = HashMap::new();
    let mut joined = UnionFind::<usize>::new(events.len());
    for (index, event) in events.iter().enumerate() {
        for step in &steps[event.at()..event.at() + event.len()] {
            let row = step.row();
            if !uniques.of_table(&row.0).is_empty() {
                joined.union(*of_table.entry(row.0.clone()).or_insert(index), index);
            }
            joined.union(*first.entry(row).or_insert(index), index);
        }
    }
    let mut sets: BTreeMap<usize, Vec<Event>> = BTreeMap::new();
    for (index, &event) in events.iter().enumerate() {
        sets.entry(joined.find(index)).or_default().push(event);
    }
    sets.into_values().filter(|set| set.len() > 1).collect()
}

/// The moves that bring each event in front of those that it caused, inner ones first; and the
/// number of each step after them.
fn moves(steps: &[ChainStep], mut causes: Vec<Cause>) -> (Vec<Move>, Vec<i64>) {
    causes.sort_by_key(|cause| cause.event().at());
    let mut numbers: Vec<_> = steps.iter().map(|step| step.n).collect();
    let mut order: BTreeMap<i64, usize> =
        numbers.iter().enumerate().map(|(step, &n)| (n, step)).collect();
    let mut moves = Vec::new();
    for cause in causes {
        let event = cause.event();
        let from = numbers[event.at()];
        let caused = cause.caused().iter().map(|event| numbers[event.at()]);
        let to = caused.min().expect("it caused one");
        let made = Move { from, len: event.len() as i64, to };
        let changed: Vec<_> =
            order.range(to..from + made.len).map(|(&n, &step)| (n, step)).collect();
        for (n, _) in &changed {
            order.remove(n);
        }
        for (n, step) in changed {
            numbers[step] = made.renumber(n);
            order.insert(numbers[step], step);
        }
        moves.push(made);
    }
    (moves, numbers)
}
