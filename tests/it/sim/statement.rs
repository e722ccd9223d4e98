//! A statement of the protocol as text, for tests that look at what is asked.

use driftless::event::value::Value;
use driftless::remote::Statement;

/// The text with a literal in the place of each parameter.
pub(crate) fn inlined(statement: &Statement) -> String {
    let (mut text, mut rest) = (String::new(), statement.sql.as_str());
    for value in &statement.args {
        let at = parameter(rest).expect("there is a parameter for each value");
        text.push_str(&rest[..at]);
        text.push_str(&literal(value));
        rest = &rest[at + 1..];
    }
    assert_eq!(parameter(rest), None, "there is a value for each parameter: {}", statement.sql);
    text.push_str(rest);
    text
}

/// Where the next parameter is: a `?` that is not in a name or a literal.
fn parameter(sql: &str) -> Option<usize> {
    let mut quote = None;
    sql.bytes().position(|byte| {
        match quote {
            Some(open) if open == byte => quote = None,
            None if byte == b'\'' || byte == b'"' => quote = Some(byte),
            _ => {}
        }
        quote.is_none() && byte == b'?'
    })
}

fn literal(value: &Value) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>();
    match value {
        Value::Null => "NULL".to_owned(),
        // The text of the least integer would be read as a negated REAL.
        Value::Integer(i64::MIN) => "(-9223372036854775807 - 1)".to_owned(),
        Value::Integer(integer) => integer.to_string(),
        Value::Text(text) => {
            driftless::catalog::literal(std::str::from_utf8(text).expect("it is UTF-8"))
        }
        Value::Blob(blob) => format!("x'{}'", hex(blob)),
        Value::Real(real) => panic!("{real} would not arrive as it is"),
    }
}
