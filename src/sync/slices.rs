//! A line of the log that does not fit into an answer, read in slices.
//!
//! A request may be larger than an answer: so an event can reach the log that no page can bring. It
//! would keep every replica from reading on. The log never changes behind the cursor, so its line
//! can be taken a slice a request, and is put together here.

use crate::error::{Error, Result};
use crate::event::Seq;
use crate::page::Page;
use crate::remote::statements::{Part, Slice};

/// The first slice that is tried, in bytes. A third more in base64, it is far below libSQL server's
/// limit; where a lower one was seen, of a megabyte, the second fits.
const SLICE_BYTES: usize = 1 << 20;

/// The least slice, in bytes. A remote that sends less than this has a limit that nobody meant.
const MIN_SLICE_BYTES: usize = 4 << 10;

/// The most bytes of a line, all of it in memory: far more than a remote takes in as one request.
const MAX_LINE_BYTES: usize = 256 << 20;

/// The slices of one line so far.
#[derive(Clone, Debug)]
pub(super) struct Slices {
    /// Which event it is, and how long its line; known with the first slice.
    event: Option<(Seq, usize)>,
    bytes: Vec<u8>,
    size: usize,
}

impl Slices {
    pub(super) fn new() -> Self {
        Slices { event: None, bytes: Vec::new(), size: SLICE_BYTES }
    }

    /// What to ask for next.
    pub(super) fn next(&self) -> Slice {
        Slice { from: self.bytes.len(), bytes: self.size }
    }

    /// A slice is too large. Gives false if there is no smaller one.
    pub(super) fn too_large(&mut self) -> bool {
        self.size /= 2;
        self.size >= MIN_SLICE_BYTES
    }

    /// A slice came. Gives the page of the one line if it is whole now.
    ///
    /// # Errors
    ///
    /// `Corrupt` when it is none of this line, or the line is larger than any is.
    pub(super) fn came(&mut self, part: Part, after: Seq) -> Result<Option<Page>> {
        let Part { seq, size, bytes, head } = part;
        let (event, whole) = *self.event.get_or_insert((seq, size));
        let wrong = |what: &str| Error::corrupt(format!("a slice of event {event} {what}"));
        if seq <= after || (seq, size) != (event, whole) {
            return Err(wrong("is of another line"));
        }
        if whole > MAX_LINE_BYTES {
            return Err(wrong("is of a line that is larger than any event"));
        }
        let expected = self.size.min(whole - self.bytes.len());
        if bytes.len() != expected || bytes.is_empty() {
            return Err(wrong("has another length than was asked for"));
        }
        self.bytes.extend_from_slice(&bytes);
        if self.bytes.len() < whole {
            return Ok(None);
        }
        let bytes = std::mem::take(&mut self.bytes);
        Ok(Some(Page { bytes, last: event, count: 1, more: head > event }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(seq: i64, size: usize, bytes: usize) -> Part {
        Part { seq: Seq(seq), size, bytes: vec![b'x'; bytes], head: Seq(9) }
    }

    #[test]
    fn a_line_is_whole_with_its_last_slice() {
        let mut slices = Slices::new();
        assert!(slices.too_large());
        let (half, whole) = (SLICE_BYTES / 2, SLICE_BYTES / 2 * 2 + 7);
        assert_eq!(slices.next(), Slice { from: 0, bytes: half });
        assert_eq!(slices.came(part(8, whole, half), Seq(7)).unwrap(), None);
        // A limit may be met in the middle of it, too.
        assert!(slices.too_large());
        assert_eq!(slices.next(), Slice { from: half, bytes: half / 2 });
        for _ in 0..2 {
            assert_eq!(slices.came(part(8, whole, half / 2), Seq(7)).unwrap(), None);
        }
        let page = slices.came(part(8, whole, 7), Seq(7)).unwrap().unwrap();
        assert_eq!((page.bytes.len(), page.last, page.count, page.more), (whole, Seq(8), 1, true));
    }

    #[test]
    fn what_is_no_slice_of_it_is_refused() {
        let wrong = [
            part(7, 100, 100),
            part(8, 100, 99),
            part(8, 100, 101),
            part(8, 0, 0),
            part(8, MAX_LINE_BYTES + 1, SLICE_BYTES),
            part(8, usize::MAX, SLICE_BYTES),
        ];
        for part in wrong {
            assert!(Slices::new().came(part.clone(), Seq(7)).is_err(), "{part:?}");
        }
        let mut slices = Slices::new();
        slices.came(part(8, 2 * SLICE_BYTES, SLICE_BYTES), Seq(7)).unwrap();
        for part in [part(9, 2 * SLICE_BYTES, SLICE_BYTES), part(8, SLICE_BYTES, SLICE_BYTES)] {
            assert!(slices.clone().came(part.clone(), Seq(7)).is_err(), "{part:?}");
        }
    }

    #[test]
    fn there_is_a_least_slice() {
        let mut slices = Slices::new();
        assert_eq!((0..40).take_while(|_| slices.too_large()).count(), 8);
    }
}
