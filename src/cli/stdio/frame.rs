//! Messages on standard input: a line each, of a bounded length.

use std::io::{BufRead, ErrorKind, Result};
use std::sync::Arc;

use super::slots::{Slot, Slots};

/// The most bytes of a message.
pub(super) const MAX_BYTES: usize = 1 << 20;

/// A line of standard input, with the slot of its answer.
pub(super) enum Frame {
    /// A message.
    Message(Vec<u8>, Slot),
    /// A line of more than [`MAX_BYTES`]. Its bytes were not kept.
    TooLong(Slot),
}

/// Reads lines until `input` ends or fails, and gives each to `give`. Empty lines are left out, and
/// so is a last line without an end: its writer has died in the middle of it.
///
/// `is_over` says whether the client is gone. It is asked while too many answers wait for it.
pub(super) fn read(
    mut input: impl BufRead,
    slots: &Arc<Slots>,
    is_over: impl Fn() -> bool,
    mut give: impl FnMut(Frame),
) {
    // After an error nothing more arrives.
    while let Ok(Some(line)) = read_line(&mut input) {
        if line.as_ref().is_some_and(|bytes| bytes.iter().all(u8::is_ascii_whitespace)) {
            continue;
        }
        let Some(slot) = slots.take(&is_over) else { return };
        give(match line {
            Some(bytes) => Frame::Message(bytes, slot),
            None => Frame::TooLong(slot),
        });
    }
}

/// The next line without its end, or `Some(None)` if it is too long. `None` at the end.
#[allow(clippy::option_option, reason = "the end of the input, and a line that is not kept")]
fn read_line(input: &mut impl BufRead) -> Result<Option<Option<Vec<u8>>>> {
    let (mut line, mut is_long) = (Vec::new(), false);
    loop {
        let bytes = match input.fill_buf() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if bytes.is_empty() {
            return Ok(None);
        }
        let end = memchr::memchr(b'\n', bytes);
        let part = &bytes[..end.unwrap_or(bytes.len())];
        is_long |= line.len() + part.len() > MAX_BYTES;
        if !is_long {
            line.extend_from_slice(part);
        }
        let read = part.len() + usize::from(end.is_some());
        input.consume(read);
        if end.is_some() {
            return Ok(Some((!is_long).then_some(line)));
        }
        if is_long {
            line = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lengths of the lines of `input`, read by so many bytes at a time; `None` if too long.
    fn lengths(input: &[u8], by: usize) -> Vec<Option<usize>> {
        let (slots, mut found) = (Arc::new(Slots::default()), Vec::new());
        read(
            std::io::BufReader::with_capacity(by, input),
            &slots,
            || false,
            |frame| {
                found.push(match frame {
                    Frame::Message(bytes, _) => Some(bytes.len()),
                    Frame::TooLong(_) => None,
                });
            },
        );
        found
    }

    #[test]
    fn lines_of_every_length() {
        for by in [1, 7, 8_192] {
            assert_eq!(lengths(b"{}\n\n \r\n[1]\r\nrest", by), [Some(2), Some(4)]);
        }
        for (more, found) in [(0, Some(MAX_BYTES)), (1, None), (MAX_BYTES, None)] {
            let mut input = vec![b'x'; MAX_BYTES + more];
            input.extend(b"\n{}\n");
            assert_eq!(lengths(&input, 8_192), [found, Some(2)]);
        }
    }
}
