//! Checks the local log by itself: each frame, and the chain. It also prepares the comparison with
//! the remote's log.

use rusqlite::Connection;

use crate::error::Result;
use crate::event::Seq;
use crate::event::frame::{GENESIS, Sealed, chain_header, open, outline};
use crate::protocol::compare::{Digest, Lines};
use crate::store::Store;
use crate::store::apply::step::hash;

/// The most damaged frames that are named.
const NAMED: usize = 100;

/// The result of checking the local log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogCheck {
    /// The number of frames.
    pub events: u64,
    /// The first and the last seq.
    pub range: Option<(Seq, Seq)>,
    /// The first damaged frames, each with the error.
    pub damaged: Vec<(Seq, String)>,
    /// The number of damaged frames.
    pub damages: u64,
    /// Whether the chain ends in the hash of the replica's state.
    pub is_whole: bool,
    /// The digests of the log's ranges. Each begins with this seq and ends before the next range.
    pub ranges: Vec<(Seq, Digest)>,
}

impl LogCheck {
    fn damage(&mut self, seq: Seq, what: String) {
        self.damages += 1;
        if self.damaged.len() < NAMED {
            self.damaged.push((seq, what));
        }
    }
}

impl Store {
    /// Checks the local log. A damaged frame is recorded, and the check continues. Each digest
    /// covers `every` events.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub fn check_log(&self, every: u64) -> Result<LogCheck> {
        let tx = self.db.unchecked_transaction()?;
        let mut check = LogCheck::default();
        let head: Vec<u8> = tx.query_row("SELECT chain FROM driftless_state", [], |r| r.get(0))?;
        let (mut chained, mut lines, mut from) = (GENESIS, Lines::default(), Seq(0));
        {
            let sql = "SELECT seq, header, vals, hash FROM driftless_log ORDER BY seq";
            let mut statement = tx.prepare(sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let seq = Seq(row.get(0)?);
                let sealed = Sealed { header: row.get(1)?, values: row.get(2)? };
                check.range = Some((check.range.map_or(seq, |(first, _)| first), seq));
                check.events += 1;
                if let Err(error) = open(&sealed, seq) {
                    check.damage(seq, error.message().to_owned());
                }
                chained = chain_header(&chained, &sealed.header);
                if row.get_ref(3)?.as_bytes().map_err(rusqlite::Error::from)? != chained {
                    check.damage(seq, format!("the chain of the local log breaks at event {seq}"));
                    // A break counts once: the following frames are compared with the hash that is
                    // stored here.
                    chained = hash(row.get(3)?)?;
                }
                if lines.count() == 0 {
                    from = seq;
                }
                // A damaged frame cannot agree with the remote's.
                lines.add(&outline(&sealed.header, seq).unwrap_or_default());
                if lines.count() == every {
                    check.ranges.push((from, std::mem::take(&mut lines).finish()));
                }
            }
        }
        if lines.count() > 0 {
            check.ranges.push((from, lines.finish()));
        }
        check.is_whole = head == chained;
        Ok(check)
    }

    /// The number of events in the local log.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub fn logged(&self) -> Result<u64> {
        let count: i64 =
            self.db.query_row("SELECT count(*) FROM driftless_log", [], |row| row.get(0))?;
        Ok(count as u64)
    }

    /// The outlines of the events from `from` on, before `to`. The remote's log must have the same
    /// ones.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub fn outlines(&self, from: Seq, to: Seq) -> Result<Vec<(Seq, String)>> {
        let sql = "SELECT seq, header FROM driftless_log WHERE seq >= ?1 AND seq < ?2 ORDER BY seq";
        let mut statement = self.db.prepare_cached(sql)?;
        let rows = statement.query_map((from.0, to.0), |row| {
            let (seq, header): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
            Ok((Seq(seq), outline(&header, Seq(seq)).unwrap_or_default()))
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Whether an event was not valid, and so has no frame.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub fn is_malformed(&self, seq: Seq) -> Result<bool> {
        is_malformed(&self.db, seq)
    }
}

fn is_malformed(db: &Connection, seq: Seq) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM driftless_quarantine WHERE seq = ?1)";
    Ok(db.prepare_cached(sql)?.query_row([seq.0], |row| row.get(0))?)
}
