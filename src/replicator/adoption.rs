//! What a first sync is to do with rows that both sides have.

use super::Builder;
use crate::inspect::Prefer;

impl Builder {
    /// Which version the first sync takes of rows that both sides have and that differ: the
    /// remote's, unless it is called. The other one goes to the conflict inbox. What is changed
    /// here after [`Builder::start`] and before the first sync is judged as any other change.
    pub fn prefer(mut self, prefer: Prefer) -> Self {
        self.prefer.set(None, prefer);
        self
    }

    /// The same for one table.
    pub fn prefer_in(mut self, table: impl Into<String>, prefer: Prefer) -> Self {
        self.prefer.set(Some(table.into()), prefer);
        self
    }
}
