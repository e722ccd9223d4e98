//! Numbers that may only fall. A test fails if a number is larger than it is written here, and also
//! if it is smaller: then write the new number.

use std::cmp::Ordering;

/// The files that are in a circle: each imports another one, and is imported by it at last. How it
/// is counted: `imports`.
pub(super) const FILES_IN_CIRCLES: usize = 0;
/// The files of the largest circle.
pub(super) const LARGEST_CIRCLE: usize = 0;
/// The fields that other files may write: `pub(super)`, `pub(crate)` and `pub(in …)`.
pub(super) const WRITABLE_FIELDS: usize = 0;
/// The `pub` fields of structs that are not `pub`: the same, written in another way.
pub(super) const PUBLIC_FIELDS: usize = 0;
/// The structs with more than 15 fields that are flat records of a format, as their documentation
/// says.
pub(super) const LARGE_RECORDS: &[(&str, usize)] = &[
    ("Event", 16),
    ("Header", 16),
    ("EventView", 19),
    ("Line", 18),
    ("Outgoing", 17),
    ("Status", 25),
];
/// The other structs with more than 15 fields, by their names.
pub(super) const LARGE_STRUCTS: &[(&str, usize)] = &[];
/// The parameters of functions that are tuples.
pub(super) const TUPLES: usize = 0;
/// The folders of `src/` with more than 12 files.
pub(super) const LARGE_FOLDERS: &[(&str, usize)] = &[];
/// The lines of `src/`. This is a bound with some room, so it is not lowered with each change.
pub(super) const LINES: usize = 71_500;
/// The crates that the library alone pulls in, on Linux: a bound.
/// `cargo tree --edges normal --no-default-features --prefix none`, each line once.
pub(super) const EMBEDDED_CRATES: usize = 112;

/// A number beside the one that is written here.
pub(super) struct Ratchet<'a> {
    /// What is counted, in words.
    pub(super) what: &'a str,
    /// The constant that bounds it.
    pub(super) name: &'a str,
    pub(super) bound: usize,
    pub(super) found: usize,
    /// Where it is: lines to show if the number is not right.
    pub(super) places: &'a [String],
}

impl Ratchet<'_> {
    /// Fails if one of the numbers is not the one that is written here.
    pub(super) fn check(ratchets: &[Self]) {
        let wrong: Vec<_> = ratchets.iter().filter_map(Self::message).collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// What is wrong, if anything is.
    fn message(&self) -> Option<String> {
        let Self { what, name, bound, found, places } = self;
        let advice = match found.cmp(bound) {
            Ordering::Equal => return None,
            Ordering::Greater => "It may only fall",
            Ordering::Less => "It fell: write the new number",
        };
        Some(format!(
            "\n  {}\n{what}: {found}, not {bound}. {advice} (tests/it/tidy/ratchets.rs, {name}).",
            places.join("\n  "),
        ))
    }
}

/// Fails if what is larger than `limit` is not what `list` says.
pub(super) fn check_list(
    name: &str,
    limit: usize,
    found: impl Iterator<Item = (String, usize)>,
    list: &[(&str, usize)],
) {
    let mut found: Vec<_> = found.filter(|(_, count)| *count > limit).collect();
    let mut list: Vec<_> = list.iter().map(|(name, count)| (name.to_string(), *count)).collect();
    found.sort();
    list.sort();
    let new = found.iter().filter(|entry| !list.contains(entry));
    let old = list.iter().filter(|entry| !found.contains(entry));
    let new = new.map(|(of, count)| format!("{of} has {count}"));
    let old = old.map(|(of, count)| format!("no {of} with {count}"));
    let wrong: Vec<_> = new.chain(old).collect();
    let place = "tests/it/tidy/ratchets.rs";
    assert!(wrong.is_empty(), "{name} in {place} may only fall:\n  {}", wrong.join("\n  "));
}
