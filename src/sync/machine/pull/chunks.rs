//! Reads a line of the log, or a row of a first sync, in chunks because it does not fit into an
//! answer.
//!
//! A request may be larger than an answer, so an event can be in the log although no page can carry
//! it. Without chunks no replica could read on. The log never changes after the cursor, so the line
//! is read one chunk per request and put together here. A row may change between two chunks. Then
//! it is read from its beginning again.

use crate::error::{Code, Error, Result};
use crate::protocol::statements::Chunk;

/// The size of the first chunk, in bytes. In base64 it is a third larger, which is far below libSQL
/// server's limit. If a remote has a lower limit, of a megabyte, the second size fits.
const CHUNK_BYTES: usize = 1 << 20;

/// The smallest chunk, in bytes. A remote that sends less has a limit that nobody intended.
const MIN_CHUNK_BYTES: usize = 4 << 10;

/// The most bytes of a line, which is in memory as a whole. It is far more than a remote accepts in
/// one request.
const MAX_LINE_BYTES: usize = 256 << 20;

/// The chunks of one line that were read so far. `T` identifies the line and its state.
#[derive(Clone, Debug)]
pub(in crate::sync) struct Chunks<T> {
    /// The line and its length; known after the first chunk.
    of: Option<(T, usize)>,
    bytes: Vec<u8>,
    size: usize,
}

impl<T: PartialEq> Chunks<T> {
    pub(in crate::sync) fn new() -> Self {
        Chunks { of: None, bytes: Vec::new(), size: CHUNK_BYTES }
    }

    /// Starts again, with chunks of the same size.
    pub(in crate::sync) fn restart(&mut self) {
        self.of = None;
        self.bytes.clear();
    }

    /// The next chunk to read.
    pub(in crate::sync) fn next(&self) -> Chunk {
        Chunk { from: self.bytes.len(), bytes: self.size }
    }

    /// A chunk was too large. Returns false if there is no smaller size.
    pub(in crate::sync) fn too_large(&mut self) -> bool {
        self.size /= 2;
        self.size >= MIN_CHUNK_BYTES
    }

    /// Whether a chunk of `of` belongs to the line that was begun, if one was.
    pub(in crate::sync) fn is_of(&self, of: &T, size: usize) -> bool {
        self.of.as_ref().is_none_or(|(begun, whole)| begun == of && *whole == size)
    }

    /// Adds a chunk of a line of `size` bytes. Returns the line if it is complete.
    ///
    /// # Errors
    ///
    /// `Corrupt` when the chunk does not belong to this line, or the line is larger than any can
    /// be.
    pub(in crate::sync) fn came(
        &mut self,
        of: T,
        size: usize,
        bytes: &[u8],
    ) -> Result<Option<Vec<u8>>> {
        let wrong =
            |what: &str| Error::new(Code::AnswerInvalid, format!("a chunk of a line {what}"));
        if !self.is_of(&of, size) {
            return Err(wrong("is of another one"));
        }
        if size > MAX_LINE_BYTES {
            return Err(wrong("is of one that is larger than any event"));
        }
        let expected = self.size.min(size - self.bytes.len());
        if bytes.len() != expected || bytes.is_empty() {
            return Err(wrong("has another length than was asked for"));
        }
        self.of.get_or_insert((of, size));
        self.bytes.extend_from_slice(bytes);
        let whole = self.bytes.len() == size;
        Ok(whole.then(|| std::mem::take(&mut self.bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_whole_with_its_last_chunk() {
        let mut chunks = Chunks::new();
        assert!(chunks.too_large());
        let (half, size) = (CHUNK_BYTES / 2, CHUNK_BYTES / 2 * 2 + 7);
        assert_eq!(chunks.next(), Chunk { from: 0, bytes: half });
        assert_eq!(chunks.came(8, size, &vec![b'x'; half]).unwrap(), None);
        // The limit may be reached in the middle of a line, too.
        assert!(chunks.too_large());
        assert_eq!(chunks.next(), Chunk { from: half, bytes: half / 2 });
        for _ in 0..2 {
            assert_eq!(chunks.came(8, size, &vec![b'y'; half / 2]).unwrap(), None);
        }
        let line = chunks.came(8, size, &[b'z'; 7]).unwrap().unwrap();
        assert_eq!((line.len(), line[half], line[size - 1]), (size, b'y', b'z'));
    }

    #[test]
    fn what_is_no_chunk_of_it_is_refused() {
        let lines = [(100, 99), (100, 101), (0, 0), (MAX_LINE_BYTES + 1, CHUNK_BYTES)];
        for (size, bytes) in lines.into_iter().chain([(usize::MAX, CHUNK_BYTES)]) {
            let came = Chunks::new().came(8, size, &vec![b'x'; bytes]);
            assert!(came.is_err(), "{size}, {bytes}");
        }
        let (mut chunks, chunk) = (Chunks::new(), vec![b'x'; CHUNK_BYTES]);
        assert_eq!(chunks.clone().came(8, MAX_LINE_BYTES, &chunk).unwrap(), None, "the largest");
        chunks.came(8, 2 * CHUNK_BYTES, &chunk).unwrap();
        for (of, size) in [(9, 2 * CHUNK_BYTES), (8, CHUNK_BYTES)] {
            assert!(!chunks.is_of(&of, size));
            assert!(chunks.clone().came(of, size, &chunk).is_err(), "{of}, {size}");
        }
        chunks.restart();
        assert_eq!(chunks.next().from, 0);
        assert!(chunks.came(9, CHUNK_BYTES, &chunk).unwrap().is_some());
    }

    #[test]
    fn there_is_a_least_chunk() {
        let mut chunks = Chunks::<()>::new();
        assert_eq!((0..40).take_while(|_| chunks.too_large()).count(), 8);
    }
}
