//! Reads the values of a page's events and seals their frames, in another thread than the writes.
//!
//! SQLite's work on an event needs the writing thread. Reading its JSON, encoding its frame and
//! hashing both need no database. So for a longer page [`decode`] does this in a thread of its own,
//! a few batches ahead of the writer. A short page, as is usual while the application writes too,
//! is decoded before the write lock is taken ([`Predecoded`]).

use std::ops::Range;

use crossbeam_channel::bounded;

use super::step::Step;
use crate::event::frame::{Hash, chain_header, seal_line};
use crate::event::page::Line;
use crate::event::{Column, Columns, read_columns_like};

/// The number of events in a batch. Their values and frames, about 100 KB, stay in the processor's
/// cache.
const BATCH: usize = 64;
/// The number of batches that may be ready before the writer needs them.
const BATCHES_AHEAD: usize = 4;
/// The fewest events for which a thread is started. Starting it costs as much as decoding a few of
/// them.
const THREAD_FROM: usize = 4 * BATCH;

/// The most events that are decoded before the first one is written. They take about 3 MB of
/// memory.
const PREDECODED_EVENTS: usize = 2_000;

/// An event of a page, decoded.
#[derive(Debug)]
pub(in crate::store) struct Decoded<'b, 'p> {
    /// Its new values, if it has any.
    after: &'b [Column<'p>],
    /// Its frame's header; empty if no frame was requested.
    header: &'b [u8],
    /// The frame's values; see `header`.
    values: &'b [u8],
    /// The chain's hash up to this frame.
    hash: Hash,
}

impl<'b, 'p> Decoded<'b, 'p> {
    pub(in crate::store) fn after(&self) -> &'b [Column<'p>] {
        self.after
    }

    /// The frame's header and values, and the chain's hash up to it.
    pub(in crate::store) fn frame(&self) -> (&'b [u8], &'b [u8], Hash) {
        (self.header, self.values, self.hash)
    }
}

struct Item {
    before: Range<usize>,
    after: Range<usize>,
    values: Range<usize>,
    header: Range<usize>,
    hash: Hash,
    /// The reason why it is not valid, if it is not.
    wrong: Option<String>,
}

/// Some decoded lines, with the bytes that the items refer to.
struct Batch<'p> {
    columns: Columns<'p>,
    bytes: Vec<u8>,
    items: Vec<Item>,
}

impl<'p> Batch<'p> {
    /// Decodes `lines`. `hash` is the chain's hash before them, and is set to the one after them.
    fn new(lines: &[Line<'p>], hash: &mut Hash, sealed: bool) -> Self {
        let mut batch = Batch {
            columns: Vec::new(),
            bytes: Vec::new(),
            items: Vec::with_capacity(lines.len()),
        };
        for line in lines {
            batch.push(line, hash, sealed);
        }
        batch
    }

    fn push(&mut self, line: &Line<'p>, hash: &mut Hash, sealed: bool) {
        let like = self.items.last().map_or((0, 0), |item| (item.before.start, item.after.start));
        let mut item = Item {
            before: 0..0,
            after: 0..0,
            values: 0..0,
            header: 0..0,
            hash: *hash,
            wrong: line.damaged.clone(),
        };
        if item.wrong.is_none() {
            let read = self.image(line.before, like.0).and_then(|before| {
                item.before = before;
                item.after = self.image(line.after, like.1)?;
                Ok(())
            });
            item.wrong = read.err();
        }
        if sealed && item.wrong.is_none() {
            let before = line.before.map(|_| &self.columns[item.before.clone()]);
            let after = line.after.map(|_| &self.columns[item.after.clone()]);
            let start = self.bytes.len();
            let header = seal_line(line, before, after, &mut self.bytes);
            item.values = start..header;
            item.header = header..self.bytes.len();
            *hash = chain_header(hash, &self.bytes[item.header.clone()]);
            item.hash = *hash;
        }
        self.items.push(item);
    }

    fn image(&mut self, json: Option<&'p [u8]>, like: usize) -> Result<Range<usize>, String> {
        let start = self.columns.len();
        if let Some(json) = json {
            read_columns_like(json, like, &mut self.columns)
                .map_err(|error| error.message().to_owned())?;
        }
        Ok(start..self.columns.len())
    }

    /// The event at a place, or the reason why it is not valid.
    fn get(&self, at: usize) -> Result<Decoded<'_, 'p>, &str> {
        let item = &self.items[at];
        match &item.wrong {
            Some(reason) => Err(reason),
            None => Ok(Decoded {
                after: &self.columns[item.after.clone()],
                header: &self.bytes[item.header.clone()],
                values: &self.bytes[item.values.clone()],
                hash: item.hash,
            }),
        }
    }
}

/// A page that was decoded before its transaction, for the state of the local log at that time.
pub(in crate::store) struct Predecoded<'l, 'p> {
    lines: &'l [Line<'p>],
    /// The chain's hash before the page.
    chain: Hash,
    batches: Vec<Batch<'p>>,
}

impl<'l, 'p> Predecoded<'l, 'p> {
    /// Decodes `lines`, and seals them after `chain`. A long page is not predecoded.
    pub(in crate::store) fn new(lines: &'l [Line<'p>], chain: Hash) -> Self {
        let mut hash = chain;
        let short = if lines.len() <= PREDECODED_EVENTS { lines } else { &[] };
        let batches = short.chunks(BATCH).map(|lines| Batch::new(lines, &mut hash, true));
        Predecoded { lines, chain, batches: batches.collect() }
    }

    /// The lines of the page.
    pub(in crate::store) fn lines(&self) -> &'l [Line<'p>] {
        self.lines
    }

    /// The batches, if they fit a transaction whose log ends with `chain`.
    fn fitting(&self, chain: Hash, sealed: bool) -> &[Batch<'p>] {
        if sealed && self.chain == chain { &self.batches } else { &[] }
    }
}

/// Calls `take` with each line's place and its event, or the reason why it is not valid, in order.
/// If `sealed`, they are sealed after `hash`. Events in `predecoded` are used from there.
pub(in crate::store) fn decode<'p>(
    lines: &[Line<'p>],
    mut hash: Hash,
    sealed: bool,
    predecoded: Option<&Predecoded<'_, 'p>>,
    mut take: impl FnMut(usize, Result<Decoded<'_, 'p>, &str>) -> Step,
) -> Step {
    let mut all = |first: usize, batch: &Batch<'p>| -> Step {
        (0..batch.items.len()).try_for_each(|at| take(first + at, batch.get(at)))
    };
    let mut from = 0;
    for batch in predecoded.map_or(&[][..], |predecoded| predecoded.fitting(hash, sealed)) {
        all(from, batch)?;
        from += batch.items.len();
    }
    if from == lines.len() {
        return Ok(());
    }
    assert_eq!(from, 0, "a page is predecoded as a whole");
    std::thread::scope(|scope| {
        if lines.len() >= THREAD_FROM {
            let (sender, batches) = bounded(BATCHES_AHEAD);
            let ahead = std::thread::Builder::new().name("driftless-decode".to_owned());
            let ahead = ahead.spawn_scoped(scope, move || {
                for lines in lines.chunks(BATCH) {
                    // The receiver is gone if the writer has given up.
                    if sender.send(Batch::new(lines, &mut hash, sealed)).is_err() {
                        return;
                    }
                }
            });
            // If no thread can be started, this one does all the work.
            if ahead.is_ok() {
                for batch in batches {
                    all(from, &batch)?;
                    from += batch.items.len();
                }
            }
        }
        for lines in lines[from..].chunks(BATCH) {
            let batch = Batch::new(lines, &mut hash, sealed);
            all(from, &batch)?;
            from += batch.items.len();
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Seq;
    use crate::event::frame::{GENESIS, Sealed, chain, open, seal};
    use crate::event::page::Page;

    /// A page in which every seventh line is damaged and the columns sometimes change.
    fn page(count: usize) -> Page {
        let lines: Vec<_> = (1..=count)
            .map(|seq| {
                let id = ulid::Ulid(seq as u128);
                let image = match seq % 5 {
                    0 => format!(r#"{{"k":{seq}, "a\n":null}}"#),
                    1 => "{}".to_owned(),
                    _ => format!(r#"{{"k":{seq},"b":"x{seq}"}}"#),
                };
                let after = if seq % 7 == 0 { "{\"k\":}" } else { &image };
                format!(
                    r#"[{seq},"{id}","web",null,null,"t",[{seq}],"update",{image},{after},3,null,null,null,"applied",null,17]"#
                )
            })
            .collect();
        let last = Seq(count as i64);
        Page { bytes: lines.join("\n").into_bytes(), last, count, more: false }
    }

    #[test]
    fn every_event_comes_in_its_order_with_its_frame() {
        for count in [0, 1, BATCH, THREAD_FROM - 1, THREAD_FROM, THREAD_FROM + 100] {
            for behind in [None, Some([7; 32]), Some(GENESIS)] {
                comes_in_order(count, behind);
            }
        }
    }

    /// Decodes a page that was predecoded after `behind`.
    fn comes_in_order(count: usize, behind: Option<Hash>) {
        let page = page(count);
        let lines = page.lines().unwrap();
        let predecoded = behind.map(|chain| Predecoded::new(&lines, chain));
        let (mut hash, mut next) = (GENESIS, 0);
        let done = decode(&lines, GENESIS, true, predecoded.as_ref(), |at, event| {
            assert_eq!(at, next);
            next += 1;
            let Ok(expected) = lines[at].event() else {
                assert!(event.is_err());
                return Ok(());
            };
            let event = event.expect("it is an event");
            let sealed = seal(&expected);
            assert_eq!(event.header, sealed.header);
            assert_eq!(Some(event.values), sealed.values.as_deref());
            hash = chain(&hash, &sealed);
            assert_eq!(event.hash, hash);
            let sealed = Sealed { header: sealed.header, values: Some(event.values.to_vec()) };
            assert_eq!(open(&sealed, lines[at].seq).unwrap(), expected);
            Ok(())
        });
        assert!(done.is_ok());
        assert_eq!(next, count);
    }

    #[test]
    fn a_writer_that_gives_up_is_not_waited_for() {
        let page = page(50 * BATCH);
        let lines = page.lines().unwrap();
        let mut taken = 0;
        let done = decode(&lines, GENESIS, false, None, |_, _| {
            taken += 1;
            if taken == 3 { Err(crate::store::apply::step::Stop::Refused) } else { Ok(()) }
        });
        assert!(done.is_err());
        assert_eq!(taken, 3);
    }
}
