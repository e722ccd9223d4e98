//! The order of a row's events, when triggers of the application ran before capture's.
//!
//! SQLite runs TEMP triggers first, and then the newest first. A trigger of the application may run
//! before capture's and write the same row again. Then its write is appended first, and the write
//! that fired it second: the outbox has `update`, then `insert`.
//!
//! [`untangle`] restores the order of the writes. Each event has the values of its own write, so
//! the events of a row form a chain, and the last one leaves the row as it is in the table. The
//! search goes backward from there. Nested triggers append the inner event before the outer one
//! (post-order), so a cause belongs in front of the block of events that ends directly before it.
//! The search reads the events from the last to the first, and pushes each on a stack. It pops the
//! top of the stack as soon as the row is as that event left it; after that, the row is as the
//! event found it. Events that were read after an event and popped before it were caused by it. A
//! wrong choice shows later, as an event that never fits. Then the search goes back to the last
//! choice.
//!
//! An order must also fit the UNIQUE indexes: two rows never have the same value at the same time.
//! If the orders that were found for each row alone break an index, the rows of that table are
//! searched together.
//!
//! Events that are in order already pass one linear check, without a search.
//!
//! # Caveats
//!
//! * A BEFORE trigger may change the row whose change fired it. SQLite calls the result undefined,
//!   and no order fits such a chain. It stays as it was appended, up to the point from which on it
//!   fits.
//! * A UNIQUE index with a generated column is ignored. The condition of a partial index is not
//!   evaluated: an order that fits without the condition is preferred. While each row's own events
//!   are in order, nothing moves. So if a trigger gives another row the value that its cause has
//!   just freed, its event stays before the cause's.
//! * Several orders may fit. The search takes the first one that it finds, with the least nesting.
//!   All of them begin and end with the same row.

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

/// Returns the moves that put the events of each row in order. They are to be made one after the
/// other. `steps` are the events of some rows by their numbers: all events of these rows in one
/// stretch of the outbox, with the other halves of key changes. `now` has the rows as they are in
/// the table, and `None` for a row that is not there. A row that is missing in `now` is unknown.
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

/// Searches for each row alone, and together for rows that key changes join. This is quick and
/// mostly right: a value of a UNIQUE index seldom moves from one row to another.
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

/// Whether all rows fit, with all UNIQUE indexes, after `causes` are moved.
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

/// The moves that bring each event in front of the events that it caused, inner ones first; and the
/// number of each step after the moves.
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
