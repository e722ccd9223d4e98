//! The search for the order of some rows' events.

use std::collections::{HashMap, HashSet};

use super::step::{Cause, ChainStep, Event, RowId, State};
use super::uniques::{Entry, Uniques};
use crate::event::Image;

/// The most events on the stack: how deep the triggers of one row may nest.
const MAX_DEPTH: usize = 24;
/// How many steps a search may take for a set of rows, in addition to [`STEPS_PER_EVENT`].
const MAX_STEPS: usize = 20_000;
/// How many further steps a search may take for each event.
const STEPS_PER_EVENT: usize = 16;

/// One step of a search, so that it can be undone.
enum Done {
    /// It has read an event and put it on the stack.
    Read,
    /// It has taken an event off.
    Taken(usize, Saved),
}

/// The state that an event changed, as it was before.
#[derive(Default)]
struct Saved {
    states: Vec<(usize, State)>,
    owners: Vec<(Entry, Option<usize>)>,
}

/// The rows at one point of the search, by their places.
#[derive(Clone, Default)]
struct Rows {
    states: Vec<State>,
    /// The UNIQUE indexes of each row's table.
    indexes: Vec<Vec<usize>>,
    /// The row that has an entry of a UNIQUE index.
    owners: HashMap<Entry, usize>,
}

impl Rows {
    /// Adds a row, and returns its place.
    fn add(&mut self, state: State, indexes: &[usize], uniques: &Uniques) -> usize {
        let place = self.states.len();
        let entries = indexes.iter().filter_map(|&index| uniques.entry(index, &state));
        self.owners.extend(entries.map(|entry| (entry, place)));
        self.states.push(state);
        self.indexes.push(indexes.to_vec());
        place
    }

    /// Takes an event off a row. Returns whether the row's entries in the UNIQUE indexes are free
    /// then. `all` includes the indexes that are not certain.
    fn undo(
        &mut self,
        row: usize,
        step: &ChainStep,
        uniques: &Uniques,
        all: bool,
        saved: &mut Saved,
    ) -> bool {
        let before = self.states[row].before(step);
        let mut free = true;
        for &index in &self.indexes[row] {
            let entries = [&self.states[row], &before].map(|state| uniques.entry(index, state));
            if entries[0] == entries[1] {
                continue;
            }
            let [left, found] = entries;
            if let Some(left) = left.filter(|left| self.owners.get(left) == Some(&row)) {
                self.owners.remove(&left);
                saved.owners.push((left, Some(row)));
            }
            if let Some(found) = found {
                let owner = self.owners.insert(found.clone(), row);
                let counts = all || uniques.is_strict(index);
                free &= !counts || owner.is_none_or(|owner| owner == row);
                saved.owners.push((found, owner));
            }
        }
        saved.states.push((row, std::mem::replace(&mut self.states[row], before)));
        free
    }

    fn restore(&mut self, saved: Saved) {
        for (row, state) in saved.states.into_iter().rev() {
            self.states[row] = state;
        }
        for (entry, owner) in saved.owners.into_iter().rev() {
            match owner {
                Some(owner) => self.owners.insert(entry, owner),
                None => self.owners.remove(&entry),
            };
        }
    }
}

/// The search for the order of the events of some rows.
pub(super) struct Search<'a> {
    steps: &'a [ChainStep],
    events: &'a [Event],
    uniques: &'a Uniques,
    /// Whether indexes count that are not certain.
    all: bool,
    /// The row of each half of each event, as a place in `rows`.
    places: Vec<[usize; 2]>,
    rows: Rows,
    /// The number of events that are still to be read. They are the first ones.
    unread: usize,
    /// The number of halves of these events, by row.
    unread_of: Vec<usize>,
    /// The stack: events that were read and not yet popped, by their places in `events`.
    waiting: Vec<usize>,
    done: Vec<Done>,
}

/// How an attempt ended.
enum Attempt {
    /// All events have their place.
    Complete,
    /// It stopped with this many unread events and an empty stack.
    Stopped(usize),
}

impl<'a> Search<'a> {
    pub(super) fn new(
        steps: &'a [ChainStep],
        events: &'a [Event],
        now: &HashMap<RowId, Option<Image>>,
        uniques: &'a Uniques,
    ) -> Search<'a> {
        let mut known = HashMap::new();
        let mut rows = Rows::default();
        let mut place = |step: &ChainStep| {
            let row = step.row();
            let state = match now.get(&row) {
                None => State::Unknown,
                Some(None) => State::Absent,
                Some(Some(image)) => State::Row(image.clone()),
            };
            let indexes = uniques.of_table(&row.0).to_vec();
            *known.entry(row).or_insert_with(|| rows.add(state, &indexes, uniques))
        };
        let places = events
            .iter()
            .map(|event| [place(&steps[event.at()]), place(&steps[event.at() + event.len() - 1])])
            .collect();
        let unread = events.len();
        let (waiting, done) = (Vec::new(), Vec::new());
        let unread_of = Vec::new();
        Search {
            steps,
            events,
            uniques,
            all: false,
            places,
            rows,
            unread,
            unread_of,
            waiting,
            done,
        }
    }

    /// Whether each row's events are in order already. UNIQUE indexes do not count: an index may be
    /// newer than the events, and then no other order would be better.
    pub(super) fn is_in_order(&mut self) -> bool {
        let rows = self.rows.clone();
        let in_order = (0..self.events.len()).rev().all(|event| {
            let (at, len) = (self.events[event].at(), self.events[event].len());
            (0..len).rev().all(|half| {
                let (row, step) = (self.places[event][half], &self.steps[at + half]);
                let fits = self.rows.states[row].is_left_by(step);
                self.rows.undo(row, step, self.uniques, false, &mut Saved::default());
                fits
            })
        });
        self.rows = rows;
        in_order
    }

    /// Whether the events, in their present order, fit the rows and all UNIQUE indexes.
    pub(super) fn fits(mut self) -> bool {
        self.all = true;
        (0..self.events.len()).rev().all(|event| self.undo(event).is_some())
    }

    /// Takes an event off its rows, the insert of a key change first; `None` if the rows are not as
    /// the event left them.
    fn undo(&mut self, event: usize) -> Option<Saved> {
        let (at, len) = (self.events[event].at(), self.events[event].len());
        let mut saved = Saved::default();
        for half in (0..len).rev() {
            let (row, step) = (self.places[event][half], &self.steps[at + half]);
            let fits = self.rows.states[row].is_left_by(step)
                && self.rows.undo(row, step, self.uniques, self.all, &mut saved);
            if !fits {
                self.rows.restore(saved);
                return None;
            }
        }
        Some(saved)
    }

    /// Takes an event off its rows, whatever the rows are.
    fn force(&mut self, event: usize) {
        let (at, len) = (self.events[event].at(), self.events[event].len());
        for half in (0..len).rev() {
            let (row, step) = (self.places[event][half], &self.steps[at + half]);
            self.rows.undo(row, step, self.uniques, false, &mut Saved::default());
        }
    }

    /// Searches. If no order fits all events, it takes the last events for which one fits, and
    /// begins again before them. Returns the events that belong in front of others.
    pub(super) fn run(&mut self) -> Vec<Cause> {
        let mut steps = MAX_STEPS + STEPS_PER_EVENT * self.events.len();
        let (unread, rows) = (self.unread, self.rows.clone());
        self.all = true;
        if let Attempt::Complete = self.attempt(0, &mut steps.clone()) {
            return self.causes();
        }
        (self.unread, self.rows, self.all) = (unread, rows, false);
        let mut causes = Vec::new();
        while self.unread > 0 && steps > 0 {
            let (unread, rows) = (self.unread, self.rows.clone());
            match self.attempt(0, &mut steps) {
                Attempt::Complete => {}
                Attempt::Stopped(best) if best < unread => {
                    // Repeat the search up to the point that fitted.
                    (self.unread, self.rows) = (unread, rows);
                    let mut unlimited = usize::MAX;
                    self.attempt(best, &mut unlimited);
                }
                Attempt::Stopped(_) => {
                    // The last event fits nowhere. It stays, and the event before it is assumed to
                    // have left the row as this one found it.
                    (self.unread, self.rows) = (unread - 1, rows);
                    self.done.clear();
                    self.force(self.unread);
                }
            }
            causes.extend(self.causes());
        }
        causes
    }

    /// Searches until at most `until` events are unread and the stack is empty.
    fn attempt(&mut self, until: usize, steps: &mut usize) -> Attempt {
        self.done.clear();
        self.waiting.clear();
        self.count_unread();
        let mut seen: HashSet<(usize, Vec<usize>)> = HashSet::new();
        let mut best = self.unread;
        loop {
            if self.waiting.is_empty() {
                best = best.min(self.unread);
                if self.unread <= until {
                    return if until == 0 { Attempt::Complete } else { Attempt::Stopped(best) };
                }
            }
            *steps = steps.saturating_sub(1);
            if *steps == 0 {
                return Attempt::Stopped(best);
            }
            let is_new = seen.insert((self.unread, self.waiting.clone()));
            let goes_on = is_new && (self.take() || !self.is_stuck() && self.read());
            if !goes_on && !self.go_back() {
                return Attempt::Stopped(best);
            }
        }
    }

    /// Pops the top of the stack, if its rows are as that event left them.
    fn take(&mut self) -> bool {
        let Some(&event) = self.waiting.last() else { return false };
        let Some(saved) = self.undo(event) else { return false };
        self.waiting.pop();
        self.done.push(Done::Taken(event, saved));
        true
    }

    fn count_unread(&mut self) {
        self.unread_of = vec![0; self.rows.states.len()];
        for place in self.places[..self.unread].iter().flatten() {
            self.unread_of[*place] += 1;
        }
    }

    /// Whether the top of the stack will never fit: its row is not as the event left it, and no
    /// unread event could change that. Without this check a wrong choice shows only at the end, and
    /// the time doubles with each row that has one.
    fn is_stuck(&self) -> bool {
        let Some(&event) = self.waiting.last() else { return false };
        let (at, len) = (self.events[event].at(), self.events[event].len());
        let [first, last] = self.places[event];
        let halves = if first == last { len - 1..len } else { 0..len };
        halves.into_iter().any(|half| {
            let (row, step) = (self.places[event][half], &self.steps[at + half]);
            self.unread_of[row] == 0 && !self.rows.states[row].is_left_by(step)
        })
    }

    fn read(&mut self) -> bool {
        if self.unread == 0 || self.waiting.len() == MAX_DEPTH {
            return false;
        }
        self.unread -= 1;
        self.places[self.unread].iter().for_each(|&row| self.unread_of[row] -= 1);
        self.waiting.push(self.unread);
        self.done.push(Done::Read);
        true
    }

    /// Goes back to the last choice with another alternative, and takes that.
    fn go_back(&mut self) -> bool {
        loop {
            match self.done.pop() {
                None => return false,
                Some(Done::Read) => {
                    self.waiting.pop();
                    self.places[self.unread].iter().for_each(|&row| self.unread_of[row] += 1);
                    self.unread += 1;
                }
                Some(Done::Taken(event, saved)) => {
                    self.rows.restore(saved);
                    self.waiting.push(event);
                    if self.read() {
                        return true;
                    }
                }
            }
        }
    }

    /// The events that belong in front of others, from the steps of the search.
    fn causes(&mut self) -> Vec<Cause> {
        let mut causes = Vec::new();
        // The stack, with the first of the events that were popped above each.
        let mut waiting: Vec<Option<usize>> = Vec::new();
        for done in self.done.drain(..) {
            match done {
                Done::Read => waiting.push(None),
                Done::Taken(event, _) => {
                    let first = waiting.pop().expect("an event is read before it is taken off");
                    if let Some(first) = first {
                        let caused = self.events[first..event].to_vec();
                        causes.push(Cause::new(self.events[event], caused));
                    }
                    if let Some(below) = waiting.last_mut() {
                        let first = first.map_or(event, |first| first.min(event));
                        *below = Some(below.map_or(first, |known| known.min(first)));
                    }
                }
            }
        }
        causes
    }
}
