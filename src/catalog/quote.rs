//! Names and text literals, quoted.

/// A name, quoted.
///
/// ```
/// assert_eq!(driftless::catalog::ident("a\"b"), "\"a\"\"b\"");
/// ```
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string literal. No text can end it early: a quote is doubled. A NUL would stop SQLite's
/// parser, but the JSON and the identifiers that are quoted here have none.
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
