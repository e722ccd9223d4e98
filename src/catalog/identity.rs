//! The identity of a row in the remote's capture, and the id of an event that SQL makes.

use std::fmt::Write as _;

use super::affinity::Affinity;
use super::sql::{folded, of};
use super::table::{Collation, Table};

/// The identity of a row within its table, as `driftless_capture` stores it, computed from the
/// values of the key. It is NULL if one of them is NULL. All spellings of one key have one
/// identity. Different keys have different identities.
pub(crate) fn capture_key_of(table: &Table, value: &dyn Fn(usize) -> String) -> String {
    // Returns the text of a part, and a text whose length determines that of the part.
    let part = |part: usize| {
        let raw = value(part);
        let affinity = table.columns[table.key[part]].affinity;
        // A BLOB is another key than the text with the same bytes. A BLOB is greater than any text,
        // and text is not greater than the constant that is compared with it here. A STRICT column
        // has no BLOB.
        let is_mixed = !table.strict && affinity != Affinity::Blob;
        let text = |text: String| match is_mixed {
            true => format!("max({text},{raw})"),
            false => text,
        };
        let x = match (&table.key_collations[part], affinity) {
            // NOCASE compares the text before a NUL, and the lengths. `length` stops at a NUL.
            (Collation::NoCase, Affinity::Text) => {
                text(format!("lower(substr({raw},1,length({raw})))||'/'||length(hex({raw}))"))
            }
            (Collation::RTrim, Affinity::Text) => text(format!("rtrim({raw},' ')")),
            (Collation::NoCase | Collation::RTrim, _) => folded(table, part, &raw),
            _ => raw.clone(),
        };
        match affinity {
            // 1 and 1.0 are one key with two texts. 1 and '1' are two keys with one text.
            Affinity::Blob | Affinity::Real if table.key.len() > 1 => {
                let text = format!(
                    "iif(typeof({x})='real' AND CAST({x} AS INTEGER)={x},\
                     'integer'||CAST({x} AS INTEGER),typeof({x})||{x})"
                );
                (text.clone(), text)
            }
            _ if is_mixed && table.key.len() > 1 => {
                (format!("({raw}>=x'')||{x}"), format!("hex({x})"))
            }
            _ => (x.clone(), format!("hex({x})")),
        }
    };
    match table.key.len() {
        1 => part(0).0,
        parts => {
            let (mut lengths, mut texts) = (String::new(), Vec::new());
            for at in 0..parts {
                let (text, as_long) = part(at);
                if at + 1 < parts {
                    let _ = write!(lengths, "length({as_long})||':'||");
                }
                texts.push(text);
            }
            format!("{lengths}{}", texts.join("||"))
        }
    }
}

/// The identity of the row `alias`.
pub(crate) fn capture_key(table: &Table, alias: &str) -> String {
    capture_key_of(table, &|part| of(alias, &table.columns[table.key[part]].present))
}

/// The remote's time, in ms since 1970: 1970 began at the Julian day 2440587.5; half a millisecond
/// is added for rounding.
const NOW_MS: &str = "CAST(julianday()*86400000.0-210866759999999.5 AS INTEGER)";

/// A ULID's text in SQL: ten digits of time and sixteen random digits. Hexadecimal digits are
/// digits of Crockford's base 32 too, so half of the random bits are fixed, and 64 are left.
pub(crate) fn ulid() -> String {
    format!(
        "(SELECT group_concat(substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ',\
         1+((m.ms>>(45-5*p.key))&31),1),'')||hex(randomblob(8)) \
         FROM (SELECT {NOW_MS} AS ms) AS m,json_each('[0,0,0,0,0,0,0,0,0,0]') AS p)"
    )
}
