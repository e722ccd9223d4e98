//! Values as JSON that every reader can read, for `--json`; `docs/operations.md` has the table. A
//! value that this form changes is also in a field named `…_exact`, as the protocol spells it.

use std::borrow::Borrow;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Value as Json;

use super::value::Value;
use super::{Image, Origin, RowKey};

/// The largest integer that JavaScript represents exactly together with all smaller ones: 2^53 − 1.
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// Whether [`readable`] gives the value exactly.
fn is_exact(value: &Value) -> bool {
    match value {
        Value::Integer(integer) => integer.unsigned_abs() <= MAX_SAFE_INTEGER,
        value => !value.is_tagged(),
    }
}

/// A value as JSON: a number, a string or null.
fn readable(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Integer(integer) if is_exact(value) => (*integer).into(),
        Value::Integer(integer) => integer.to_string().into(),
        Value::Real(real) if real.is_infinite() => {
            if *real > 0.0 { "Infinity" } else { "-Infinity" }.into()
        }
        Value::Real(real) => (*real).into(),
        Value::Text(text) => String::from_utf8_lossy(text).into(),
        Value::Blob(blob) => {
            blob.iter().map(|byte| format!("{byte:02X}")).collect::<String>().into()
        }
    }
}

/// A value as the protocol spells it. A large integer is an object, because JavaScript would round
/// it.
fn exact(value: &Value) -> Json {
    if let Value::Integer(integer) = value
        && !is_exact(value)
    {
        return serde_json::json!({ "i": integer.to_string() });
    }
    let mut json = Vec::new();
    value.write_json(&mut json);
    serde_json::from_slice(&json).expect("a value's spelling is JSON")
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// A flattened field: the key as `key` and, if that is not exact, also as `key_exact`.
pub(crate) fn key<K: Borrow<RowKey>, S: Serializer>(key: &K, to: S) -> Result<S::Ok, S::Error> {
    let key = key.borrow();
    let mut map = to.serialize_map(None)?;
    match key.values() {
        Ok(values) => {
            map.serialize_entry("key", &values.iter().map(readable).collect::<Json>())?;
            if !values.iter().all(is_exact) {
                map.serialize_entry("key_exact", &values.iter().map(exact).collect::<Json>())?;
            }
        }
        Err(_) => {
            let text = serde_json::from_str(&key.0).unwrap_or_else(|_| Json::from(key.0.clone()));
            map.serialize_entry("key", &text)?;
        }
    }
    map.end()
}

/// Columns in their order.
struct Columns<'a>(Vec<(&'a str, Json)>);

impl Serialize for Columns<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(column, value)| (column, value)))
    }
}

/// A flattened field: the image as `names[0]` and, as `names[1]`, its values that are not exact
/// there.
fn image<S: Serializer>(
    names: [&'static str; 2],
    image: Option<&Image>,
    to: S,
) -> Result<S::Ok, S::Error> {
    let columns = image.iter().flat_map(|image| &image.0);
    let all = columns.clone().map(|(column, value)| (column.as_str(), readable(value))).collect();
    let mut map = to.serialize_map(None)?;
    map.serialize_entry(names[0], &image.map(|_| Columns(all)))?;
    let inexact = columns.filter(|(_, value)| !is_exact(value));
    let inexact: Vec<_> = inexact.map(|(column, value)| (column.as_str(), exact(value))).collect();
    if !inexact.is_empty() {
        map.serialize_entry(names[1], &Columns(inexact))?;
    }
    map.end()
}

/// The old values of an event: see [`image`].
pub(crate) fn before<S: Serializer>(of: &Option<&Image>, to: S) -> Result<S::Ok, S::Error> {
    image(["before", "before_exact"], *of, to)
}

/// The new values of an event: see [`image`].
pub(crate) fn after<S: Serializer>(of: &Option<&Image>, to: S) -> Result<S::Ok, S::Error> {
    image(["after", "after_exact"], *of, to)
}

/// The remote's row of a comparison: see [`image`].
pub(crate) fn remote<S: Serializer>(of: &Option<Image>, to: S) -> Result<S::Ok, S::Error> {
    image(["remote", "remote_exact"], of.as_ref(), to)
}

/// The row that must be there: see [`image`].
pub(crate) fn expected<S: Serializer>(of: &Option<Image>, to: S) -> Result<S::Ok, S::Error> {
    image(["expected", "expected_exact"], of.as_ref(), to)
}

/// The local row of a comparison: see [`image`].
pub(crate) fn local<S: Serializer>(of: &Option<Image>, to: S) -> Result<S::Ok, S::Error> {
    image(["local", "local_exact"], of.as_ref(), to)
}

/// The remote's row of a conflict: see [`image`].
pub(crate) fn theirs<S: Serializer>(of: &Option<&Image>, to: S) -> Result<S::Ok, S::Error> {
    image(["theirs", "theirs_exact"], *of, to)
}

/// A version of a row: see [`image`].
pub(crate) fn row<S: Serializer>(of: &Option<&Image>, to: S) -> Result<S::Ok, S::Error> {
    image(["row", "row_exact"], *of, to)
}

/// A field that is flattened: one value as `value`, and as `value_exact` where that is not exact.
pub(crate) fn value<V: Borrow<Value>, S: Serializer>(value: &V, to: S) -> Result<S::Ok, S::Error> {
    let value = value.borrow();
    let mut map = to.serialize_map(None)?;
    map.serialize_entry("value", &readable(value))?;
    if !is_exact(value) {
        map.serialize_entry("value_exact", &exact(value))?;
    }
    map.end()
}
