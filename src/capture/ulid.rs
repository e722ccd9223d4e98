//! A ULID's text, in SQL.

use super::replica::NOW_MS;
/// A ULID's text in SQL: ten digits of time, sixteen of chance. Hexadecimal digits are digits of
/// Crockford's base 32 too, so half of the random bits are fixed, and 64 are left.
pub(super) fn ulid() -> String {
    let digits: Vec<_> = (0..10)
        .rev()
        .map(|place| {
            format!(
                "substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', 1 + ((driftless_now.ms >> {}) & 31), 1)",
                place * 5
            )
        })
        .collect();
    format!(
        "(SELECT {} || hex(randomblob(8)) FROM (SELECT {NOW_MS} AS ms) AS driftless_now)",
        digits.join(" || ")
    )
}
