//! What a stretch of the log did to all rows, in bounded memory.
//!
//! An event's old values are those that its writer had seen. They are not the log's if an earlier
//! event of that writer was on the row, and lost. So rows that have an event that lost, in the
//! stretch or in front of it behind the base of one in it, are settled by their earlier events.
//!
//! The deltas of some thousands of rows are kept in memory. When there are more, they are put into
//! a temporary file, which SQLite removes, and come back one by one as their rows change again.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hasher};

use rusqlite::{Connection, OptionalExtension, Row};

use super::delta::{Delta, Known, Step, fold};
use super::point::Point;
use crate::error::Result;
use crate::event::frame::Glance;
use crate::event::{Event, Image, Op, Origin, RowKey, Seq};
use crate::store::LogReader;

/// Deltas that are kept in memory, of some hundred bytes to some kilobytes each.
const NEAR: usize = 10_000;
/// The cache of the temporary file, in KiB.
const CACHE_KIB: i64 = 8 << 10;
/// Events between two calls of the watcher.
const GLANCE: u64 = 10_000;

/// Which rows are wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    /// Of this table alone.
    table: Option<String>,
    /// This row alone.
    key: Option<RowKey>,
}

impl Scope {
    /// Rows of one table, or one row of it, if they are named.
    pub(crate) fn new(table: Option<String>, key: Option<RowKey>) -> Scope {
        Scope { table, key }
    }

    /// Whether a row is wanted.
    fn takes(&self, table: &str, key: &str) -> bool {
        self.table.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(table))
            && self.key.as_ref().is_none_or(|wanted| wanted.0 == key)
    }
}

/// The deltas of the rows that a stretch of the log touched.
pub(crate) struct Changes {
    near: BTreeMap<(String, String), (String, Delta)>,
    far: Option<Connection>,
    limit: usize,
    /// Hashes of rows with an event that lost.
    lost: HashSet<u64>,
    /// The lowest base of an event of the stretch that has old values.
    base: Seq,
}

impl Changes {
    /// What happened behind the point `from` up to `to`. With [`Point::Now`] the pending changes
    /// that are on their rows are the last ones. `watch` is told how many events were read.
    ///
    /// # Errors
    ///
    /// `Corrupt` when a frame is damaged.
    pub(crate) fn between(
        log: &LogReader<'_>,
        from: Seq,
        to: Point,
        scope: &Scope,
        watch: &mut dyn FnMut(u64),
    ) -> Result<Changes> {
        let mut all = Changes {
            near: BTreeMap::new(),
            far: None,
            limit: NEAR,
            lost: HashSet::new(),
            base: from,
        };
        let until = to.seq(log)?;
        match (&scope.table, &scope.key) {
            (Some(table), Some(key)) => {
                for event in log.of_row(table, key, Seq(0), until)?.events {
                    if !event.verdict.is_applied() {
                        all.lost.insert(row_hash(&event.table, &event.key.0));
                    } else if event.seq > from {
                        all.take_event(&event)?;
                    }
                }
            }
            _ => all.walk(log, from, until, scope, watch)?,
        }
        if to == Point::Now {
            log.pending(&mut |pending| {
                let event = &pending.event;
                if event.aside || !scope.takes(&event.table, &event.key.0) {
                    return Ok(());
                }
                let before = match event.op {
                    Op::Insert => None,
                    Op::Update | Op::Delete => pending.under.as_ref(),
                };
                let after = event.after.as_ref();
                all.take(&event.table, &event.key, Step::new(event.op, before, after))
            })?;
        }
        Ok(all)
    }

    fn walk(
        &mut self,
        log: &LogReader<'_>,
        from: Seq,
        until: Seq,
        scope: &Scope,
        watch: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let (mut read, mut lost) = (0_u64, HashSet::new());
        let mut wanted = |_, glance: &Glance<'_>| {
            read += 1;
            if read.is_multiple_of(GLANCE) {
                watch(read);
            }
            if !glance.is_applied {
                lost.insert(row_hash(glance.table, glance.key));
            }
            glance.is_applied && scope.takes(glance.table, glance.key)
        };
        log.settled(from, until, &mut wanted, &mut |event| self.take_event(&event))?;
        let mut wanted = |_, glance: &Glance<'_>| {
            if !glance.is_applied {
                lost.insert(row_hash(glance.table, glance.key));
            }
            false
        };
        log.settled(self.base, from, &mut wanted, &mut |_| Ok(()))?;
        self.lost = lost;
        Ok(())
    }

    fn take_event(&mut self, event: &Event) -> Result<()> {
        if event.op != Op::Insert && event.origin != Origin::Web {
            self.base = self.base.min(event.base);
        }
        self.take(&event.table, &event.key, Step::of(event))
    }

    fn take(&mut self, table: &str, key: &RowKey, step: Step<'_>) -> Result<()> {
        let place = (table.to_ascii_lowercase(), key.0.clone());
        if let Some((_, delta)) = self.near.get_mut(&place) {
            delta.then(step);
            return Ok(());
        }
        let delta = match self.fetch(&place.0, &place.1)? {
            Some(mut delta) => {
                delta.then(step);
                delta
            }
            None => Delta::first(step),
        };
        self.near.insert(place, (table.to_owned(), delta));
        if self.near.len() > self.limit {
            self.put_away()?;
        }
        Ok(())
    }

    fn fetch(&self, table: &str, key: &str) -> Result<Option<Delta>> {
        let Some(far) = &self.far else { return Ok(None) };
        let sql = "SELECT name, start, first, end, last, unsure FROM delta WHERE t = ?1 AND k = ?2";
        let mut statement = far.prepare_cached(sql)?;
        let found = statement.query_row([table, key], |row| Ok(read(row)));
        found.optional()?.map(|found| found.map(|(_, delta)| delta)).transpose()
    }

    /// Moves all from memory into the file.
    fn put_away(&mut self) -> Result<()> {
        let far = match &mut self.far {
            Some(far) => far,
            none => none.insert(temporary()?),
        };
        let mut statement = far.prepare_cached(
            "INSERT INTO delta VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (t, k)
             DO UPDATE SET name = excluded.name, start = excluded.start, first = excluded.first,
                 end = excluded.end, last = excluded.last, unsure = excluded.unsure",
        )?;
        for ((table, key), (name, delta)) in std::mem::take(&mut self.near) {
            let (start, first) = spelled(delta.start());
            let (end, last) = spelled(delta.end());
            let unsure = delta.is_unsure();
            statement.execute((table, key, name, start, first, end, last, unsure))?;
        }
        Ok(())
    }

    /// Gives each row to `visit`, by table and key. What the events of the stretch do not tell of
    /// the row in front of it is asked of its earlier events.
    ///
    /// # Errors
    ///
    /// What `visit` returns ends the walk. `Corrupt` when a frame is damaged.
    pub(crate) fn each(
        mut self,
        log: &LogReader<'_>,
        from: Seq,
        visit: &mut dyn FnMut(&str, RowKey, Delta) -> Result<()>,
    ) -> Result<()> {
        let lost = std::mem::take(&mut self.lost);
        let mut give = |table: String, key: RowKey, delta: Delta| {
            let has_lost = !lost.is_empty() && lost.contains(&row_hash(&table, &key.0));
            let delta = match delta.is_unsure() || has_lost {
                false => delta,
                true => settle(log, &table, &key, from, delta.doubted())?,
            };
            visit(&table, key, delta)
        };
        if self.far.is_none() {
            for ((_, key), (table, delta)) in self.near {
                give(table, RowKey(key), delta)?;
            }
            return Ok(());
        }
        self.put_away()?;
        let far = self.far.as_ref().expect("it has just been written");
        let sql = "SELECT name, start, first, end, last, unsure, k FROM delta ORDER BY t, k";
        let mut statement = far.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (table, delta) = read(row)?;
            give(table, RowKey(row.get(6)?), delta)?;
        }
        Ok(())
    }
}

fn row_hash(table: &str, key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    table.bytes().for_each(|byte| hasher.write_u8(byte.to_ascii_lowercase()));
    hasher.write_u8(0xff);
    hasher.write(key.as_bytes());
    hasher.finish()
}

/// A delta with what the row's events up to `from` say of it there.
fn settle(
    log: &LogReader<'_>,
    table: &str,
    key: &RowKey,
    from: Seq,
    delta: Delta,
) -> Result<Delta> {
    let earlier = log.of_row(table, key, Seq(0), from)?;
    Ok(match fold(&earlier.events) {
        Some(start) => delta.with_start(start),
        None => delta,
    })
}

fn temporary() -> Result<Connection> {
    // Without a name it is a temporary file.
    let db = Connection::open("")?;
    db.pragma_update(None, "cache_size", -CACHE_KIB)?;
    db.pragma_update(None, "journal_mode", "OFF")?;
    db.execute_batch(
        "CREATE TABLE delta (t TEXT, k TEXT, name TEXT, start TEXT, first INTEGER, end TEXT,
         last INTEGER, unsure INTEGER, PRIMARY KEY (t, k)) WITHOUT ROWID; BEGIN",
    )?;
    Ok(db)
}

/// What is known of a row, as its image and whether that is whole; NULL if the row is absent.
fn spelled(known: &Known) -> (Option<String>, bool) {
    match known {
        Known::Absent => (None, true),
        Known::Row { image, whole } => (Some(image.to_json()), *whole),
    }
}

fn read(row: &Row<'_>) -> Result<(String, Delta)> {
    let known = |image: Option<String>, whole: bool| -> Result<Known> {
        Ok(match image {
            None => Known::Absent,
            Some(json) => Known::Row { image: Image::parse(json.as_bytes())?, whole },
        })
    };
    let start = known(row.get(1)?, row.get(2)?)?;
    let end = known(row.get(3)?, row.get(4)?)?;
    Ok((row.get(0)?, Delta::from_parts(start, end, row.get(5)?)))
}
