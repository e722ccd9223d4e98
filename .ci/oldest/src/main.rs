//! A client with SQLite 3.35: `oldest FILE`.
//!
//! Each line of standard input is a statement, or several, in hex; then, parted by spaces, values to
//! bind to a single one: `n`, `i` and a number, `r` and a double's bits, `t` or `b` and bytes in hex.
//! Each is answered with a line: `ok` or `error`, whether no transaction is open (0 or 1), and the
//! result code and the message of an error. `version` is answered with SQLite's.

use std::io::{BufRead, Write};

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{params_from_iter, Connection, Error};

enum Value {
    Null,
    Integer(i64),
    Real(f64),
    /// Not always UTF-8.
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Integer(integer) => ValueRef::Integer(*integer),
            Value::Real(real) => ValueRef::Real(*real),
            Value::Text(text) => ValueRef::Text(text),
            Value::Blob(blob) => ValueRef::Blob(blob),
        }))
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn value(word: &str) -> Value {
    let rest = &word[1..];
    match &word[..1] {
        "n" => Value::Null,
        "i" => Value::Integer(rest.parse().expect("an integer")),
        "r" => Value::Real(f64::from_bits(u64::from_str_radix(rest, 16).expect("bits"))),
        "t" => Value::Text(bytes(rest)),
        "b" => Value::Blob(bytes(rest)),
        other => panic!("no value begins with {other}"),
    }
}

fn main() {
    let path = std::env::args_os().nth(1).expect("a file");
    let db = Connection::open(path).expect("the file opens");
    db.busy_timeout(std::time::Duration::from_secs(10)).expect("SQLite waits");
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a line");
        let mut out = std::io::stdout();
        if line == "version" {
            writeln!(out, "{}", rusqlite::version()).expect("somebody reads");
            continue;
        }
        let mut words = line.split(' ');
        let sql = String::from_utf8(bytes(words.next().unwrap_or(""))).expect("UTF-8");
        let values: Vec<_> = words.map(value).collect();
        let done = match values.is_empty() {
            true => db.execute_batch(&sql),
            false => db.execute(&sql, params_from_iter(values)).map(drop),
        };
        let open = i32::from(db.is_autocommit());
        match done {
            Ok(()) => writeln!(out, "ok {open}"),
            Err(Error::SqliteFailure(code, message)) => {
                let message = message.unwrap_or_default().replace('\n', " ");
                writeln!(out, "error {open} {} {message}", code.extended_code & 0xff)
            }
            Err(other) => writeln!(out, "error {open} -1 {other}"),
        }
        .expect("somebody reads");
    }
}
