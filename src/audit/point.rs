//! A point of the log: a moment at which the tables had one state.

use crate::error::{Code, Error, Result};
use crate::event::Seq;
use crate::store::LogReader;

/// A moment of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Behind this place in the log, without what was pending then.
    Seq(Seq),
    /// Now: the whole log that is here, with the pending changes on top.
    Now,
}

impl Point {
    /// The last place in the log that belongs to it.
    pub(crate) fn seq(self, log: &LogReader<'_>) -> Result<Seq> {
        match self {
            Point::Seq(seq) => Ok(seq.min(log.head()?)),
            Point::Now => log.head(),
        }
    }

    /// Checks that the log here goes back to it.
    ///
    /// # Errors
    ///
    /// `Usage`, with the first point that can be asked about, when it does not.
    pub(crate) fn check(self, log: &LogReader<'_>) -> Result<()> {
        let (Point::Seq(seq), begin) = (self, log.begin()?) else { return Ok(()) };
        if seq >= begin {
            return Ok(());
        }
        let message = format!(
            "this replica's log begins behind event {begin}, where its first sync ended; nothing \
             before that is known here"
        );
        Err(Error::new(Code::BeforeLog, message)
            .with_hint(format!("ask about {begin} or later, or ask an older replica")))
    }
}
