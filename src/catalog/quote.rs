//! Names and text literals, quoted.

/// A name, quoted.
///
/// ```
/// assert_eq!(driftless::catalog::ident("a\"b"), "\"a\"\"b\"");
/// ```
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string literal. Nothing in it can end it early: a quote is doubled, and a NUL, which SQLite's
/// parser would stop at, cannot be in the JSON and the identifiers that this is used for.
///
/// ```
/// assert_eq!(driftless::catalog::literal("it's"), "'it''s'");
/// ```
///
/// # Panics
///
/// When `text` has a NUL.
pub fn literal(text: &str) -> String {
    assert!(!text.contains('\0'), "a NUL cannot stand in SQL text");
    format!("'{}'", text.replace('\'', "''"))
}
