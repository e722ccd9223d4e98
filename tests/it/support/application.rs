//! What only the application registers on its connections.

use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;

/// Registers the collation `FR` and the function `slug`.
pub(crate) fn register(db: &Connection) -> rusqlite::Result<()> {
    db.create_collation("FR", |a: &str, b: &str| b.cmp(a))?;
    let flags = FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_UTF8;
    db.create_scalar_function("slug", 1, flags, |context| {
        context.get::<Option<String>>(0).map(|text| text.map(|text| text.to_lowercase()))
    })
}
