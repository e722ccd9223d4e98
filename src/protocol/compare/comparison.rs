//! The plan of a comparison: the next request, and what its answer leads to.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::behind::{AtCursor, Behind, replay};
use super::key_order::{Bound, KeyOrder, KeyRange};
use super::questions::{self, MAX_HASHED, MAX_MOVING, RemoteRow};
use super::sides::{Coverage, Difference, LocalDigest, LocalRow, LocalRows};
use super::table::ComparedTable;
use crate::error::{Code, Error, Result};
use crate::event::page::Page;
use crate::event::value::Value;
use crate::event::{Image, RowKey, Seq};
use crate::protocol::log_range::{LogRange, page, read_page};
use crate::protocol::meta::{HEAD, read_head, wrong};
use crate::protocol::{Rows, Statement};

/// The number of ranges in a request. With long keys, each costs about 150 bytes of traffic.
const RANGES: u64 = 320;
/// The number of rows that a request hashes: a server takes about 4 µs for each.
const REQUEST_ROWS: u64 = 1_100_000;
/// The least and the greatest number of rows of a range.
const RANGE_ROWS: std::ops::RangeInclusive<u64> = 100..=4_000;
/// The number of parts into which a differing range is split.
const PARTS: u64 = 32;
/// The most rows of a range that is read instead of being split.
const READ_ROWS: u64 = 100;
/// The number of rows that a request reads.
const PAGE_ROWS: usize = 2_000;
/// The number of events after the cursor that are read together with rows.
const EVENTS: usize = 2_000;
/// The most statements of a request, one for a table or for a range to read.
const STATEMENTS: usize = 64;

/// A range of a table that is still to be compared.
#[derive(Clone, Debug)]
struct Piece {
    table: usize,
    range: KeyRange,
    /// Its number of rows on the side with more; an estimate.
    rows: u64,
    /// The number of rows of the parts that it is to be split into.
    every: Option<u64>,
}

/// The last request.
#[derive(Debug)]
enum Asked {
    Digests(Vec<Piece>, Vec<LocalDigest>),
    Rows(Vec<Piece>, usize),
    Counts(Vec<Piece>),
}

/// The comparison of some tables on two sides.
#[derive(Debug)]
pub struct Comparison {
    tables: Arc<[ComparedTable]>,
    orders: Vec<KeyOrder>,
    coverage: Vec<Coverage>,
    /// The ranges to hash, and the ranges to read.
    to_hash: VecDeque<Piece>,
    to_read: VecDeque<Piece>,
    to_count: VecDeque<Piece>,
    asked: Option<Asked>,
    hashes: bool,
    /// The remote has a log, by which its rows are taken back to the cursor.
    has_log: bool,
    /// The statements bring the powers of two that spell a REAL, since the remote has none.
    brings_powers: bool,
    /// The local rows of each table, once they were counted.
    counts: Option<Vec<u64>>,
    page_rows: usize,
    events: usize,
    found: Vec<Difference>,
}

impl Comparison {
    /// Compares whole tables.
    pub fn new(tables: Arc<[ComparedTable]>) -> Comparison {
        let ranges = (0..tables.len()).map(|table| (table, KeyRange::default())).collect();
        Comparison::of_ranges(tables, ranges)
    }

    /// Compares ranges of some of the tables. Each range has the number of its table.
    pub fn of_ranges(tables: Arc<[ComparedTable]>, ranges: Vec<(usize, KeyRange)>) -> Comparison {
        let piece = |(table, range)| Piece { table, range, rows: 0, every: Some(0) };
        Comparison {
            orders: tables.iter().map(|table| KeyOrder::of(table.there())).collect(),
            coverage: vec![Coverage::default(); tables.len()],
            to_hash: ranges.into_iter().map(piece).collect(),
            to_read: VecDeque::new(),
            to_count: VecDeque::new(),
            asked: None,
            hashes: true,
            has_log: true,
            brings_powers: false,
            counts: None,
            page_rows: PAGE_ROWS,
            events: EVENTS,
            found: Vec::new(),
            tables,
        }
    }

    /// Compares whole tables as they are, by no log: the two sides have never met. Of a remote that
    /// has none of our tables, `brings_powers` is true.
    pub fn of_strangers(tables: Arc<[ComparedTable]>, brings_powers: bool) -> Comparison {
        Comparison { has_log: false, brings_powers, ..Comparison::new(tables) }
    }

    /// The tables.
    pub fn tables(&self) -> Arc<[ComparedTable]> {
        Arc::clone(&self.tables)
    }

    /// The coverage so far, table by table.
    pub fn coverage(&self) -> &[Coverage] {
        &self.coverage
    }

    /// The number of rows that were compared so far, and of all local rows.
    pub fn progress(&self) -> (u64, u64) {
        let done = self.coverage.iter().map(|covered| covered.rows + covered.moving).sum();
        (done, self.total().max(done))
    }

    /// The local rows of all tables, as far as they were counted.
    fn total(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    /// Takes the differences that were found since the last call.
    pub fn take_found(&mut self) -> Vec<Difference> {
        std::mem::take(&mut self.found)
    }

    /// The statements of the next request, which only reads; `None` when everything is compared.
    /// After it, call [`Comparison::meanwhile`] and [`Comparison::answered`] with the same
    /// snapshot.
    ///
    /// # Errors
    ///
    /// The errors of the snapshot.
    pub fn ask(&mut self, local: &mut dyn LocalRows) -> Result<Option<Vec<Statement>>> {
        if self.counts.is_none() {
            let counts = (0..self.tables.len()).map(|table| local.count(table));
            self.counts = Some(counts.collect::<Result<_>>()?);
            if !self.has_log {
                self.part(local)?;
            }
        }
        let statements = self.statements(local)?;
        let with_powers = |statements: Vec<Statement>| {
            statements.into_iter().map(questions::with_powers).collect()
        };
        Ok(if self.brings_powers { statements.map(with_powers) } else { statements })
    }

    /// Parts the tables into what is beside the rows that are here, and the rest.
    fn part(&mut self, local: &mut dyn LocalRows) -> Result<()> {
        for piece in std::mem::take(&mut self.to_hash) {
            let bounds = match local.ends(piece.table)? {
                Some([first, last]) => vec![Bound::at(first), Bound::after(last)],
                None => Vec::new(),
            };
            let parts = piece.range.split(bounds);
            let last = parts.len() - 1;
            for (at, range) in parts.into_iter().enumerate() {
                let is_beside = at == 0 || at == last;
                let part = Piece { range, ..piece.clone() };
                match is_beside && self.is_only_there(&part, 0) {
                    true => self.to_count.push_back(part),
                    false => self.to_hash.push_back(part),
                }
            }
        }
        Ok(())
    }

    /// Whether a range of a table, of which `mine` rows are here, need only be counted: its rows
    /// can do nothing to those that are here.
    fn is_only_there(&self, piece: &Piece, mine: u64) -> bool {
        let table = &self.tables[piece.table];
        let is_empty = || self.counts.as_ref().is_some_and(|counts| counts[piece.table] == 0);
        let is_free = || table.here().uniques.is_empty() && table.there().uniques.is_empty();
        !self.has_log && mine == 0 && (is_empty() || is_free())
    }

    fn statements(&mut self, local: &mut dyn LocalRows) -> Result<Option<Vec<Statement>>> {
        let mut statements = Vec::new();
        if self.has_log {
            statements.extend([HEAD.into(), questions::moving(local.cursor())]);
        }
        if self.hashes && !self.to_hash.is_empty() {
            let pieces = self.next_to_hash(local)?;
            for group in groups(&pieces) {
                let ranges: Vec<_> = group.iter().map(|piece| &piece.range).collect();
                statements.push(questions::digests(&self.tables[group[0].table], &ranges));
            }
            self.asked = Some(Asked::Digests(pieces, Vec::new()));
            return Ok(Some(statements));
        }
        if !self.to_count.is_empty() {
            let end = self.to_count.len().min(STATEMENTS);
            let pieces: Vec<_> = self.to_count.drain(..end).collect();
            let tables = &self.tables;
            let asked = pieces.iter();
            statements
                .extend(asked.map(|piece| questions::count(&tables[piece.table], &piece.range)));
            self.asked = Some(Asked::Counts(pieces));
            return Ok(Some(statements));
        }
        self.to_read.append(&mut self.to_hash);
        let (mut pieces, mut rows) = (Vec::new(), 0);
        while let Some(piece) = self.to_read.front()
            && pieces.len() < STATEMENTS
            && (pieces.is_empty() || rows + piece.rows.max(1) <= self.page_rows as u64)
        {
            rows += piece.rows.max(1);
            pieces.extend(self.to_read.pop_front());
        }
        if pieces.is_empty() {
            return Ok(None);
        }
        let limit = self.page_rows;
        if self.has_log {
            statements.push(page(self.range(local.cursor()), None));
        }
        let tables = &self.tables;
        let asked = pieces.iter();
        statements
            .extend(asked.map(|piece| questions::rows(&tables[piece.table], &piece.range, limit)));
        self.asked = Some(Asked::Rows(pieces, limit));
        Ok(Some(statements))
    }

    fn range(&self, cursor: Seq) -> LogRange {
        LogRange { after: cursor, events: self.events, whole_units: false, chunk: None }
    }

    /// Takes as many ranges as fit into one request, and splits them. The ranges of a table are
    /// neighbours.
    fn next_to_hash(&mut self, local: &mut dyn LocalRows) -> Result<Vec<Piece>> {
        let least = (self.total() / RANGES + 1).clamp(*RANGE_ROWS.start(), *RANGE_ROWS.end());
        let (mut pieces, mut rows, mut tables) = (Vec::<Piece>::new(), 0, HashSet::new());
        while let Some(mut piece) = self.to_hash.pop_front() {
            if let Some(every) = piece.every.take() {
                let every = if every == 0 { least } else { every };
                let bounds = local.cut(piece.table, &piece.range, every)?;
                let parts = piece.range.split(bounds).into_iter();
                let part = |range| Piece { range, rows: every, ..piece.clone() };
                let parts: Vec<_> = parts.map(part).collect();
                parts.into_iter().rev().for_each(|part| self.to_hash.push_front(part));
                continue;
            }
            let is_full = pieces.len() as u64 >= 2 * RANGES || rows + piece.rows > REQUEST_ROWS;
            tables.insert(piece.table);
            if !pieces.is_empty() && (is_full || tables.len() > STATEMENTS) {
                self.to_hash.push_front(piece);
                break;
            }
            rows += piece.rows;
            pieces.push(piece);
        }
        // A statement has the ranges of one table that have the same ends: both bounds, or one, or
        // none.
        pieces.sort_by_key(|piece| (piece.table, ends(&piece.range)));
        Ok(pieces)
    }

    /// Does the local half of the work while the request is on its way.
    ///
    /// # Errors
    ///
    /// The errors of the snapshot.
    pub fn meanwhile(&mut self, local: &mut dyn LocalRows) -> Result<()> {
        if let Some(Asked::Digests(pieces, digests)) = &mut self.asked
            && digests.is_empty()
        {
            let made = pieces.iter().map(|piece| local.digest(piece.table, &piece.range));
            *digests = made.collect::<Result<_>>()?;
        }
        Ok(())
    }

    /// Takes the results of the statements of [`Comparison::ask`].
    ///
    /// # Errors
    ///
    /// `Corrupt` when `answer` is not a result of those statements; `Usage` when the replica is far
    /// behind the remote; the errors of the snapshot.
    pub fn answered(&mut self, local: &mut dyn LocalRows, answer: &[Rows]) -> Result<()> {
        self.meanwhile(local)?;
        let Some(asked) = self.asked.take() else { return Ok(()) };
        let (mut rest, mut moving) = (answer, Vec::new());
        if self.has_log {
            let [head, moved, others @ ..] = answer else { return Err(wrong("a comparison")) };
            (rest, moving) = (others, questions::read_moving(moved)?);
            if moving.len() > MAX_MOVING {
                return Err(behind(local.cursor(), read_head(head)?));
            }
        }
        match asked {
            Asked::Counts(pieces) => self.counted(&pieces, rest),
            Asked::Digests(pieces, digests) => self.hashed(pieces, &digests, &moving, rest),
            Asked::Rows(pieces, limit) => self.read(local, pieces, limit, &moving, rest),
        }
    }

    fn hashed(
        &mut self,
        pieces: Vec<Piece>,
        here: &[LocalDigest],
        moving: &[(String, RowKey)],
        answer: &[Rows],
    ) -> Result<()> {
        let mut there = Vec::with_capacity(pieces.len());
        let groups = groups(&pieces);
        if groups.len() != answer.len() {
            return Err(wrong("the number of results"));
        }
        for (group, rows) in groups.iter().zip(answer) {
            there.extend(questions::read_digests(rows, group.len())?);
        }
        let keys: Vec<_> = moving
            .iter()
            .filter_map(|(table, key)| Some((self.table(table)?, key.values().ok()?)))
            .collect();
        for ((piece, here), there) in pieces.into_iter().zip(here).zip(there) {
            let order = &self.orders[piece.table];
            let mut moved = keys.iter().filter(|(table, _)| *table == piece.table);
            let is_moving = moved.any(|(_, key)| order.is_in(key, &piece.range));
            if !is_moving && !here.must_read && here.digest == there {
                self.coverage[piece.table].rows += there.rows;
                continue;
            }
            let (mine, theirs) = (here.digest.rows, there.rows);
            let rows = mine.max(theirs);
            if self.is_only_there(&piece, mine) && !here.must_read {
                self.to_count.push_back(piece);
                continue;
            }
            // The range is split by local keys.
            if mine > READ_ROWS && mine.max(theirs) <= MAX_HASHED as u64 {
                let every = Some((mine / PARTS).max(READ_ROWS / 2));
                self.to_hash.push_back(Piece { rows, every, ..piece });
            } else {
                self.to_read.push_back(Piece { rows, every: None, ..piece });
            }
        }
        Ok(())
    }

    /// Takes the numbers of rows that only the remote has.
    fn counted(&mut self, pieces: &[Piece], answer: &[Rows]) -> Result<()> {
        if answer.len() != pieces.len() {
            return Err(wrong("the number of results"));
        }
        for (piece, rows) in pieces.iter().zip(answer) {
            let rows = questions::read_count(rows)?;
            let covered = &mut self.coverage[piece.table];
            covered.rows += rows;
            covered.differing += rows;
            covered.counted += rows;
        }
        Ok(())
    }

    fn read(
        &mut self,
        local: &mut dyn LocalRows,
        pieces: Vec<Piece>,
        limit: usize,
        moving: &[(String, RowKey)],
        answer: &[Rows],
    ) -> Result<()> {
        let (log, answer) = answer.split_at_checked(usize::from(self.has_log)).unwrap_or_default();
        if answer.len() != pieces.len() {
            return Err(wrong("the number of results"));
        }
        let log = match log.first() {
            Some(log) => Some(read_page(log.clone(), local.cursor(), None)?.0),
            None => None,
        };
        let lines = log.as_ref().map(Page::lines).transpose()?.unwrap_or_default();
        let is_cut = log.as_ref().is_some_and(|log| log.more);
        let is_cut = is_cut || lines.iter().any(|line| line.damaged.is_some());
        let mut behind = Behind::of_lines(&lines)?;
        for (mut piece, rows) in pieces.into_iter().zip(answer) {
            let rows = questions::read_rows(rows)?;
            if rows.len() > limit {
                return Err(wrong("the number of a table's rows"));
            }
            if rows.len() == limit
                && let Some((_, last)) = rows.last()
            {
                let last = Some(Bound::after(key_of(&self.tables[piece.table], last)?));
                let rest = KeyRange { from: last.clone(), to: piece.range.to.take() };
                if rest.from == piece.range.from {
                    return Err(wrong("a page of a table"));
                }
                piece.range.to = last;
                let rest = Piece { range: rest, every: None, ..piece.clone() };
                self.to_read.push_front(rest);
            }
            let moved: HashMap<_, _> = moving
                .iter()
                .filter(|(table, _)| self.table(table) == Some(piece.table))
                .filter_map(|(_, key)| Some((key, key.values().ok()?)))
                .collect();
            if is_cut {
                let table = self.tables[piece.table].name();
                moved.keys().for_each(|key| behind.lacks_events(table, key));
            }
            let here = local.rows(piece.table, &piece.range)?;
            self.compare_rows(&piece, here, rows, &moved, &behind, local.cursor())?;
        }
        Ok(())
    }

    /// Compares the rows of a range. `moved` are rows of the table with events after the cursor.
    fn compare_rows(
        &mut self,
        piece: &Piece,
        mut here: Vec<LocalRow>,
        rows: Vec<RemoteRow>,
        moved: &HashMap<&RowKey, Vec<Value>>,
        behind: &Behind,
        cursor: Seq,
    ) -> Result<()> {
        let (table, order) = (&self.tables[piece.table], &self.orders[piece.table]);
        let covered = &mut self.coverage[piece.table];
        let mut there = HashMap::with_capacity(rows.len());
        for (key, row) in rows {
            match key.filter(RowKey::is_utf8) {
                Some(key) => drop(there.insert(key, row)),
                None => covered.unnamed += 1,
            }
        }
        let known: HashSet<_> = here.iter().map(|row| row.key.clone()).collect();
        // A row may be absent on both sides now although the replica had it at its cursor.
        let gone = moved.iter().filter(|(_, values)| order.is_in(values, &piece.range));
        let gone = gone.map(|(key, _)| *key).filter(|key| !there.contains_key(key));
        let absent = there.keys().chain(gone).filter(|key| !known.contains(key)).cloned();
        let absent: Vec<_> = absent.collect();
        here.extend(absent.into_iter().map(|key| LocalRow { key, ..LocalRow::default() }));
        let mut keyed: Vec<_> =
            here.into_iter().map(|row| (row.key.values().unwrap_or_default(), row)).collect();
        keyed.sort_by(|(a, _), (b, _)| order.compare(a, b));
        for (_, row) in keyed {
            covered.rows += 1;
            if row.waits {
                covered.waiting += 1;
                continue;
            }
            let theirs = there.remove(&row.key);
            let theirs = match behind.at_cursor(table.name(), &row.key, theirs) {
                AtCursor::Row(row_then) => row_then,
                AtCursor::Unknown => {
                    covered.moving += 1;
                    continue;
                }
            };
            if let Some(found) = differs(table, theirs, row, cursor) {
                covered.differing += 1;
                self.found.push(found);
            }
        }
        Ok(())
    }

    fn table(&self, name: &str) -> Option<usize> {
        self.tables.iter().position(|table| table.name().eq_ignore_ascii_case(name))
    }

    /// Reads the rows instead of hashing them, because the remote lacks the function. Returns false
    /// if they are read already.
    pub fn without_digests(&mut self) -> bool {
        let hashed = std::mem::replace(&mut self.hashes, false);
        self.give_up();
        hashed
    }

    /// Makes the next request smaller, because the answer was too large. Returns false if it cannot
    /// be smaller.
    pub fn too_large(&mut self) -> bool {
        self.give_up();
        let less = self.page_rows > 1 || self.events > 1;
        self.page_rows = (self.page_rows / 2).max(1);
        self.events = (self.events / 2).max(1);
        less
    }

    /// The last request failed. The next one asks for the same.
    pub fn give_up(&mut self) {
        let (pieces, queue) = match self.asked.take() {
            Some(Asked::Digests(pieces, _)) => (pieces, &mut self.to_hash),
            Some(Asked::Rows(pieces, _)) => (pieces, &mut self.to_read),
            Some(Asked::Counts(pieces)) => (pieces, &mut self.to_count),
            None => return,
        };
        pieces.into_iter().rev().for_each(|piece| queue.push_front(piece));
    }
}

/// Whether a range has a first and a last bound, and their kinds.
fn ends(range: &KeyRange) -> [Option<bool>; 2] {
    [&range.from, &range.to].map(|bound| bound.as_ref().map(|bound| bound.behind))
}

/// The pieces, grouped by table and ends.
fn groups(pieces: &[Piece]) -> Vec<&[Piece]> {
    let alike = |a: &Piece, b: &Piece| a.table == b.table && ends(&a.range) == ends(&b.range);
    pieces.chunk_by(alike).collect()
}

/// The key's values in a row of the remote.
fn key_of(table: &ComparedTable, row: &Image) -> Result<Vec<Value>> {
    let value = |column: &crate::catalog::Column| row.get(&column.name).cloned();
    let values: Option<_> = table.there().key_columns().map(value).collect();
    values.ok_or_else(|| wrong("a row without its key"))
}

/// Compares a row of the remote with the local row.
fn differs(
    table: &ComparedTable,
    remote: Option<Image>,
    row: LocalRow,
    seq: Seq,
) -> Option<Difference> {
    let LocalRow { key, row: local, pending, waiting, .. } = row;
    let expected = replay(remote.clone(), &pending);
    let mut columns = Vec::new();
    match (&expected, &local) {
        (None, None) => return None,
        (Some(expected), Some(local)) => {
            columns = table.differing(expected, local);
            columns.retain(|name| !waiting.iter().any(|other| other.eq_ignore_ascii_case(name)));
            if columns.is_empty() {
                return None;
            }
        }
        _ => {}
    }
    let table = table.name().to_owned();
    Some(Difference { table, key, remote, expected, local, columns, seq })
}

/// The error for a replica that is far behind.
fn behind(cursor: Seq, head: Seq) -> Error {
    let message = format!(
        "the remote's log is at {head} and this replica at {cursor}: too many rows have changed in \
         between to compare them"
    );
    Error::new(Code::FarBehind, message).with_hint("run `driftless sync` first")
}
