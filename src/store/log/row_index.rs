//! The index of the local log by row.
//!
//! `driftless_log_rows` has the places of each row's events, under a 40-bit hash of table and key.
//! The hash is keyed by a secret of the file, so the index tells nothing of a row that was erased.
//! Two rows may share a hash: whoever reads compares the key in the frame.
//!
//! A tree in the order of hashes alone would make a page of the log touch all of the index. So the
//! number of the block of 65,536 seqs stands above the hash: new entries go into one small part of
//! the tree, and a search looks once in each block, some 2 µs each.
//!
//! The index follows the log instead of being a part of each append:
//!
//! * `rows_indexed` says up to which seq it is complete. It only rises.
//! * A short page, as pages are while people work, brings it up to date, together with some frames
//!   that were left ([`follow`]). A long page, as of a replica that catches up, leaves it alone.
//! * A question about a row brings it up to date first ([`Store::index_rows`]), and reads the rest
//!   of the log frame by frame if another program keeps the write lock.
//! * So a log from before there was an index is indexed a piece at a time. An interruption costs
//!   nothing: the next piece begins where the last transaction ended.

use rusqlite::{Connection, OptionalExtension};

use crate::error::{Code, Result};
use crate::event::Seq;
use crate::event::frame::glance;
use crate::event::page::Line;
use crate::store::Store;
use crate::store::connection::{set_setting, setting};

/// The setting with the last seq up to which the index is complete.
pub(in crate::store) const INDEXED: &str = "rows_indexed";
/// The setting with the key of the hash, in hex.
const SECRET: &str = "row_secret";
const HASH_BITS: u32 = 40;
const BLOCK_BITS: u32 = 16;
/// The hash of frames whose header cannot be read: no row has it.
const UNREADABLE: i64 = 0;
/// The most events of a page that brings the index up to date.
const SHORT_PAGE: usize = 1_000;
/// How many frames that were left a short page indexes beside its own.
const CATCH_UP: usize = 1_000;
/// Frames that are indexed in one transaction: some 30 ms of the write lock.
const BATCH: usize = 20_000;
/// The most frames behind the index that are read one by one rather than indexed: some 2 ms.
const TAIL: i64 = 4_000;

/// The hash of rows, with this file's secret.
struct Hash([u8; 32]);

impl Hash {
    /// That of a file whose index has begun.
    fn known(db: &Connection) -> Result<Option<Hash>> {
        let hex = setting(db, SECRET)?;
        Ok(hex.and_then(|hex| blake3::Hash::from_hex(hex).ok()).map(|key| Hash(*key.as_bytes())))
    }

    /// The same; it is drawn if there is none yet.
    fn drawn(db: &Connection) -> Result<Hash> {
        if let Some(hash) = Hash::known(db)? {
            return Ok(hash);
        }
        let mut bytes = [0; 32];
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&fastrand::u64(..).to_le_bytes());
        }
        let chance: Vec<u8> = db.query_row("SELECT randomblob(32)", [], |row| row.get(0))?;
        bytes.iter_mut().zip(chance).for_each(|(byte, other)| *byte ^= other);
        set_setting(db, SECRET, Some(blake3::Hash::from_bytes(bytes).to_hex().as_str()))?;
        Ok(Hash(bytes))
    }

    /// The hash of a row, of 40 bits; never [`UNREADABLE`].
    fn of(&self, table: &str, key: &str) -> i64 {
        let mut row = Vec::with_capacity(table.len() + key.len() + 1);
        row.extend(table.bytes().map(|byte| byte.to_ascii_lowercase()));
        row.push(0xff);
        row.extend_from_slice(key.as_bytes());
        let hash = blake3::keyed_hash(&self.0, &row);
        let low: [u8; 8] = hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes");
        let low = u64::from_le_bytes(low) & ((1 << HASH_BITS) - 1);
        (low as i64).max(UNREADABLE + 1)
    }
}

/// The entry of a hash in the block of a place in the log.
fn entry(block: i64, hash: i64) -> i64 {
    block << HASH_BITS | hash
}

/// Up to which seq the index is complete.
fn indexed(db: &Connection) -> Result<i64> {
    Ok(setting(db, INDEXED)?.and_then(|text| text.parse().ok()).unwrap_or(0))
}

/// Indexes up to `most` frames, within a transaction. True if more are left.
fn index_some(db: &Connection, most: usize) -> Result<bool> {
    let from = indexed(db)?;
    let hash = Hash::drawn(db)?;
    let (mut entries, mut last) = (Vec::with_capacity(most.min(BATCH)), from);
    {
        let sql = "SELECT seq, header FROM driftless_log WHERE seq > ?1 ORDER BY seq LIMIT ?2";
        let mut statement = db.prepare_cached(sql)?;
        let mut rows = statement.query((from, most as i64))?;
        while let Some(row) = rows.next()? {
            last = row.get(0)?;
            let header = row.get_ref(1)?.as_bytes().map_err(rusqlite::Error::from)?;
            let hash = match glance(header, Seq(last)) {
                Ok(glance) => hash.of(glance.table, glance.key),
                Err(_) => UNREADABLE,
            };
            entries.push((entry(last >> BLOCK_BITS, hash), last));
        }
    }
    let all = entries.len() < most;
    entries.sort_unstable();
    let mut insert = db.prepare_cached(
        "INSERT INTO driftless_log_rows (row, seq) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
    )?;
    for entry in entries {
        insert.execute(entry)?;
    }
    if last > from {
        set_setting(db, INDEXED, Some(&last.to_string()))?;
    }
    Ok(!all)
}

/// Indexes the frames of a page that was just appended, if it is a short one, and some that were
/// left.
pub(in crate::store) fn follow(db: &Connection, events: usize) -> Result<()> {
    if (1..=SHORT_PAGE).contains(&events) {
        index_some(db, events + CATCH_UP)?;
    }
    Ok(())
}

/// Indexes an event that was sealed behind others of higher seqs.
pub(in crate::store) fn add_late(db: &Connection, line: &Line<'_>) -> Result<()> {
    let seq = line.seq.0;
    if seq > indexed(db)? {
        return Ok(());
    }
    let entry = entry(seq >> BLOCK_BITS, Hash::drawn(db)?.of(&line.table, line.key));
    let sql = "INSERT INTO driftless_log_rows (row, seq) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    db.prepare_cached(sql)?.execute((entry, seq))?;
    Ok(())
}

/// Places in the log that may be of a row, and those of frames that cannot be read, both rising.
#[derive(Debug, Default)]
pub(super) struct Places {
    of_row: Vec<Seq>,
    unreadable: Vec<Seq>,
}

impl Places {
    /// Those that may be of the row.
    pub(super) fn of_row(&self) -> &[Seq] {
        &self.of_row
    }

    /// Those of frames that cannot be read.
    pub(super) fn unreadable(&self) -> &[Seq] {
        &self.unreadable
    }
}

/// The places of a row's events, as far as the index tells. What stands behind the index is read
/// frame by frame.
pub(super) fn places(db: &Connection, table: &str, key: &str) -> Result<Places> {
    let mut found = Places::default();
    let (last, first) = (indexed(db)?, first_seq(db)?.unwrap_or(0));
    if let Some(hash) = Hash::known(db)? {
        let of_row = hash.of(table, key);
        let sql = "SELECT seq FROM driftless_log_rows WHERE row = ?1 AND seq <= ?2 ORDER BY seq";
        let mut statement = db.prepare_cached(sql)?;
        for block in first >> BLOCK_BITS..=last >> BLOCK_BITS {
            for (hash, to) in [(of_row, &mut found.of_row), (UNREADABLE, &mut found.unreadable)] {
                let mut rows = statement.query([entry(block, hash), last])?;
                while let Some(row) = rows.next()? {
                    to.push(Seq(row.get(0)?));
                }
            }
        }
    }
    let sql = "SELECT seq, header FROM driftless_log WHERE seq > ?1 ORDER BY seq";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([last])?;
    while let Some(row) = rows.next()? {
        let seq = Seq(row.get(0)?);
        let header = row.get_ref(1)?.as_bytes().map_err(rusqlite::Error::from)?;
        match glance(header, seq) {
            Ok(frame) if frame.key == key && frame.table.eq_ignore_ascii_case(table) => {
                found.of_row.push(seq);
            }
            Ok(_) => {}
            Err(_) => found.unreadable.push(seq),
        }
    }
    Ok(found)
}

/// The first frame's seq.
fn first_seq(db: &Connection) -> Result<Option<i64>> {
    let sql = "SELECT seq FROM driftless_log ORDER BY seq LIMIT 1";
    Ok(db.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?)
}

impl Store {
    /// Brings the index of the log by row up to date, a piece at a time, unless little is left.
    /// `watch` is told up to which seq it is. If another program keeps the write lock, it stays as
    /// it is: a search reads the rest of the log then.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub fn index_rows(&self, watch: &mut dyn FnMut(Seq)) -> Result<()> {
        let left = "SELECT count(*) FROM (SELECT 1 FROM driftless_log WHERE seq > ?1 LIMIT ?2)";
        let left: i64 =
            self.db.query_row(left, (indexed(&self.db)?, TAIL + 1), |row| row.get(0))?;
        if left <= TAIL {
            return Ok(());
        }
        loop {
            let tx = match self.begin_write() {
                Ok(tx) => tx,
                Err(error) if error.code() == Code::DatabaseLocked => return Ok(()),
                Err(error) => return Err(error),
            };
            let more = index_some(&tx, BATCH)?;
            self.commit_write(tx)?;
            watch(Seq(indexed(&self.db)?));
            if !more {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_one_hash_whatever_the_case_of_its_table() {
        let hash = Hash([7; 32]);
        assert_eq!(hash.of("Members", "[\"m1\"]"), hash.of("members", "[\"m1\"]"));
        assert_ne!(hash.of("members", "[\"m1\"]"), hash.of("members", "[\"M1\"]"));
        assert_ne!(hash.of("members", "[1]"), Hash([8; 32]).of("members", "[1]"));
        assert!((0..1_000).all(|n| (1..1 << HASH_BITS).contains(&hash.of("t", &n.to_string()))));
    }

    #[test]
    fn entries_of_a_block_stand_together() {
        let highest = (1 << HASH_BITS) - 1;
        assert!(entry(0, highest) < entry(1, 1) && entry(1, highest) < entry(2, UNREADABLE));
    }
}
