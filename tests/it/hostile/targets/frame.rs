//! The sealed frame: any bytes are an event or an error, and an event has one form.
//!
//! An input is two bytes, which say where the header ends, the header, and the values.

use driftless::event::Seq;
use driftless::event::frame::{Sealed, open, seal};

/// The place in the log for which every frame is opened: those of the corpus say it.
const SEQ: Seq = Seq(7);

/// The bytes of the hash of the values, which stand last in a header.
const HASH_BYTES: usize = 32;

/// Opens what `data` says.
///
/// # Panics
///
/// When an event that opens is not the same after it was sealed again.
pub(crate) fn run(data: &[u8]) {
    let Some((cut, rest)) = data.split_first_chunk::<2>() else { return };
    let cut = usize::from(u16::from_le_bytes(*cut)) % (rest.len() + 1);
    let (header, values) = rest.split_at(cut);
    check(header, None);
    check(header, Some(values));
    // Values are read only if their hash is right, so that chance would never get there.
    if let Some(end) = header.len().checked_sub(HASH_BYTES) {
        let header = [&header[..end], blake3::hash(values).as_bytes()].concat();
        check(&header, Some(values));
    }
}

fn check(header: &[u8], values: Option<&[u8]>) {
    let sealed = Sealed { header: header.to_vec(), values: values.map(<[u8]>::to_vec) };
    let Ok(event) = open(&sealed, SEQ) else { return };
    let once = seal(&event);
    let again = open(&once, SEQ).expect("what was sealed here opens");
    assert_eq!(again, event, "an event is what was sealed");
    assert_eq!(seal(&again), once, "an event has one form");
}
