//! One SQLite value, and its exact form in JSON.
//!
//! JSON alone does not carry SQLite's values: a REAL loses digits, a BLOB has no form, and text may
//! hold what JSON cannot. So a value is written as `null`, a JSON integer, a JSON string, or an
//! object with one tag. [`Value::write_json`] has the spellings.

/// One SQLite value. There is no NaN in SQLite (it is NULL), and none here.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// NULL.
    #[default]
    Null,
    /// A 64-bit integer.
    Integer(i64),
    /// A double, infinities included. Compared by its bits.
    Real(f64),
    /// Text. The bytes are UTF-8 unless a program wrote something else: SQLite does not check.
    Text(Vec<u8>),
    /// Bytes.
    Blob(Vec<u8>),
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Integer(a), Value::Integer(b)) => a == b,
            (Value::Real(a), Value::Real(b)) => a.to_bits() == b.to_bits(),
            (Value::Text(a), Value::Text(b)) | (Value::Blob(a), Value::Blob(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}
