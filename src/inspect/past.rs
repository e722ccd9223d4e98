//! Former states of the tables: asked, copied and searched.

use std::path::Path;

use serde::Serialize;

use super::Replica;
use crate::audit::as_of::Past;
use crate::audit::bisect::{Found, Search};
use crate::audit::point::Point;
use crate::audit::replay::{CopiedTable, Replayed, check_target, into_file};
use crate::error::{Error, Result};
use crate::event::{Image, Seq, readable};

/// A row of an answer, as programs read it.
#[derive(Clone, Debug, Serialize)]
pub struct AnswerRow<'a> {
    /// Its values, by the names of the columns.
    #[serde(flatten, serialize_with = "readable::row")]
    pub row: Option<&'a Image>,
}

impl Replica<'_> {
    /// The tables as they were at a point, on a connection of its own. `watch` is told how many
    /// events were read.
    ///
    /// # Errors
    ///
    /// `Usage` when the log here does not go back so far.
    pub fn as_of(&self, point: Point, watch: &mut dyn FnMut(u64)) -> Result<Past> {
        self.store.index_rows(&mut |_| {})?;
        self.past(point, watch)
    }

    fn past(&self, point: Point, watch: &mut dyn FnMut(u64)) -> Result<Past> {
        let tables = self.definitions().cloned().collect();
        Past::open(self.path(), self.store.on_connect(), tables, point, watch)
    }

    /// Copies the replicated tables, as they were at a point, into a new file. `watch` is told how
    /// many events were read, and `copied` of each table.
    ///
    /// # Errors
    ///
    /// `Usage` when the file exists already, or the log here does not go back so far.
    pub fn replay_into(
        &self,
        point: Point,
        path: &Path,
        watch: &mut dyn FnMut(u64),
        copied: &mut dyn FnMut(&CopiedTable),
    ) -> Result<Replayed> {
        check_target(path)?;
        into_file(&self.as_of(point, watch)?, path, copied)
    }

    /// Finds a change behind `from` up to `to` after which a query's first value is no longer
    /// true: at the ends of what was pushed together or, with `every`, at each event. There may be
    /// others if it became true again in between. `watch` is told the number of the question, and
    /// how many there are at the most.
    ///
    /// # Errors
    ///
    /// `Usage` when the query is not true at `from`, not false at `to`, or fails; and when the log
    /// here does not go back so far.
    pub fn bisect(
        &self,
        query: &str,
        from: Option<Point>,
        to: Point,
        every: bool,
        watch: &mut dyn FnMut(u64, u64),
    ) -> Result<Found> {
        self.store.index_rows(&mut |_| {})?;
        self.store.read_log(|log| {
            let from = match from {
                Some(from) => from,
                None => Point::Seq(log.begin()?),
            };
            from.check(log)?;
            let range = from.seq(log)?..to.seq(log)?;
            if range.start >= range.end {
                let message = format!(
                    "there is no event between the points, {} and {}",
                    range.start, range.end
                );
                return Err(Error::usage(message).with_hint("--since must be before --until"));
            }
            let mut asked = 0;
            let most = std::cell::Cell::new(0);
            let mut ask = |point: Point| {
                asked += 1;
                watch(asked, most.get());
                self.past(point, &mut |_| {})
            };
            let search = Search::new(log, range, every, query, &mut ask)?;
            most.set(u64::from(search.most()));
            search.run(log)
        })
    }

    /// The place in the log where this replica's begins, and the last one that it has integrated.
    pub fn log_range(&self) -> Result<std::ops::Range<Seq>> {
        self.store.read_log(|log| Ok(log.begin()?..log.head()?))
    }
}
