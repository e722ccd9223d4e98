//! The conflict inbox of a store, one conflict at a time.

use driftless::Result;
use driftless::event::EventId;
use driftless::store::{Conflict, ConflictFilter, NewKey, Restored, Selection, Store};

pub(crate) trait Inbox {
    /// What is open, or `all`.
    fn conflicts(&self, all: bool) -> Result<Vec<Conflict>>;
    /// Restores what is open of the group of an event: all of it, or nothing.
    fn restore(&mut self, id: EventId, new_key: Option<NewKey>) -> Result<Restored>;
    fn dismiss(&mut self, id: EventId) -> Result<()>;
}

impl Inbox for Store {
    fn conflicts(&self, all: bool) -> Result<Vec<Conflict>> {
        let filter = ConflictFilter { closed: all, ..ConflictFilter::default() };
        self.conflict_page(&filter, 0, usize::MAX)
    }

    fn restore(&mut self, id: EventId, new_key: Option<NewKey>) -> Result<Restored> {
        let done = self.restore_selected(&Selection::Together(vec![id]), new_key)?;
        done.refusal().map_or(Ok(done), Err)
    }

    fn dismiss(&mut self, id: EventId) -> Result<()> {
        self.dismiss_selected(&Selection::Events(vec![id])).map(drop)
    }
}
