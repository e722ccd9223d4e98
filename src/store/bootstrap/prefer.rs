//! Which side's version a first sync takes of a row that both sides have and that differs.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use rusqlite::Connection;

use crate::catalog::Table;
use crate::error::{Code, Error, Result};
use crate::event::Image;
use crate::event::value::Value;

/// Which version of a row that differs a first sync takes. The other one goes to the conflict
/// inbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Prefer {
    /// The remote's.
    #[default]
    Remote,
    /// The local one.
    Local,
    /// The one with the greater value in this column, a time or a number. The remote's where the
    /// two are equal or cannot be compared.
    Newest(String),
}

impl FromStr for Prefer {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.split_once(':') {
            None if text == "remote" => Ok(Prefer::Remote),
            None if text == "local" => Ok(Prefer::Local),
            Some(("newest", column)) if !column.is_empty() => Ok(Prefer::Newest(column.to_owned())),
            _ => Err(format!("`{text}` is neither `remote` nor `local` nor `newest:COLUMN`")),
        }
    }
}

impl fmt::Display for Prefer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Prefer::Remote => f.write_str("remote"),
            Prefer::Local => f.write_str("local"),
            Prefer::Newest(column) => write!(f, "newest:{column}"),
        }
    }
}

/// What a first sync prefers, table by table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preferences {
    rest: Prefer,
    tables: Vec<(String, Prefer)>,
}

impl Preferences {
    /// Sets what is preferred in one table, or in all tables of which nothing else is said.
    pub fn set(&mut self, table: Option<String>, prefer: Prefer) {
        match table {
            Some(table) => self.tables.push((table, prefer)),
            None => self.rest = prefer,
        }
    }

    /// What is preferred in a table.
    pub fn of(&self, table: &str) -> &Prefer {
        let mut named = self.tables.iter().rev();
        let named = named.find(|(name, _)| name.eq_ignore_ascii_case(table));
        named.map_or(&self.rest, |(_, prefer)| prefer)
    }

    /// Refuses a preference that cannot be followed: for a table that is not among these, or by a
    /// column that a table does not have.
    ///
    /// # Errors
    ///
    /// `Usage`, naming the table.
    pub fn require(&self, tables: &[Table]) -> Result<()> {
        let is = |name: &str| tables.iter().any(|table| table.name.eq_ignore_ascii_case(name));
        if let Some((name, _)) = self.tables.iter().find(|(name, _)| !is(name)) {
            let message = format!("table `{name}` has a preference, and is not replicated");
            return Err(Error::new(Code::TableNotReplicated, message)
                .with_hint("check the spelling, or replicate it too"));
        }
        for table in tables {
            if let Prefer::Newest(column) = self.of(&table.name)
                && table.column(column).is_none()
            {
                let name = &table.name;
                let message = format!(
                    "table `{name}` has no column `{column}` that tells which row is newer"
                );
                return Err(Error::new(Code::PreferenceUnusable, message).with_hint(format!(
                    "say what is preferred there: --prefer {name}=remote, {name}=local, or \
                     {name}=newest:COLUMN"
                )));
            }
        }
        Ok(())
    }
}

/// Decides by [`Preferences`]. It has a database in memory, which reads times.
pub struct Judge<'p> {
    preferences: &'p Preferences,
    times: Connection,
}

impl<'p> Judge<'p> {
    /// A judge by these preferences.
    ///
    /// # Errors
    ///
    /// `Storage` when SQLite fails.
    pub fn new(preferences: &'p Preferences) -> Result<Judge<'p>> {
        Ok(Judge { preferences, times: Connection::open_in_memory()? })
    }

    /// Whether the local version of a row is taken.
    ///
    /// # Errors
    ///
    /// `Storage` when SQLite fails.
    pub fn takes_local(&self, table: &str, mine: &Image, theirs: &Image) -> Result<bool> {
        match self.preferences.of(table) {
            Prefer::Remote => Ok(false),
            Prefer::Local => Ok(true),
            Prefer::Newest(column) => {
                let value = |image: &Image| {
                    let found = image.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(column));
                    found.map(|(_, value)| value.clone()).unwrap_or_default()
                };
                self.is_newer(&value(mine), &value(theirs))
            }
        }
    }

    /// Whether one value is known to be a later time, or a greater number, than another. NULL is
    /// earlier than everything.
    fn is_newer(&self, mine: &Value, theirs: &Value) -> Result<bool> {
        let order = match (mine, theirs) {
            (Value::Null, _) => None,
            (_, Value::Null) => Some(Ordering::Greater),
            (Value::Integer(mine), Value::Integer(theirs)) => Some(mine.cmp(theirs)),
            (Value::Text(mine), Value::Text(theirs)) => self.texts(mine, theirs)?,
            (mine, theirs) => match (number(mine), number(theirs)) {
                (Some(mine), Some(theirs)) => mine.partial_cmp(&theirs),
                _ => None,
            },
        };
        Ok(order == Some(Ordering::Greater))
    }

    /// Compares two texts: as times where both are, whatever their form, else by their bytes.
    fn texts(&self, mine: &[u8], theirs: &[u8]) -> Result<Option<Ordering>> {
        let by_bytes = mine.cmp(theirs);
        match (self.time(mine)?, self.time(theirs)?) {
            (Some(a), Some(b)) if a == b => {
                // Times of one form may differ by less than SQLite reads.
                let same_form = mine.len() == theirs.len();
                Ok(Some(if same_form { by_bytes } else { Ordering::Equal }))
            }
            (Some(a), Some(b)) => Ok(a.partial_cmp(&b)),
            (None, None) => Ok(Some(by_bytes)),
            _ => Ok(None),
        }
    }

    /// A text's time as a Julian day, if it is one. `now` is none.
    fn time(&self, text: &[u8]) -> Result<Option<f64>> {
        let Ok(text) = std::str::from_utf8(text) else { return Ok(None) };
        if !text.starts_with(|first: char| first.is_ascii_digit()) {
            return Ok(None);
        }
        let mut statement = self.times.prepare_cached("SELECT julianday(?1)")?;
        Ok(statement.query_row([text], |row| row.get(0))?)
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(integer) => Some(*integer as f64),
        Value::Real(real) => Some(*real),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preference_is_read() {
        assert_eq!("remote".parse(), Ok(Prefer::Remote));
        assert_eq!("local".parse(), Ok(Prefer::Local));
        assert_eq!("newest:at".parse(), Ok(Prefer::Newest("at".to_owned())));
        for word in ["remote", "local", "newest:a b"] {
            assert_eq!(word.parse::<Prefer>().unwrap().to_string(), word);
        }
        for wrong in ["", "Local", "newest", "newest:", "latest:at", "local:at"] {
            assert!(wrong.parse::<Prefer>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_last_word_about_a_table_counts() {
        let mut preferences = Preferences::default();
        preferences.set(Some("T".to_owned()), Prefer::Remote);
        preferences.set(None, Prefer::Local);
        preferences.set(Some("t".to_owned()), Prefer::Newest("at".to_owned()));
        assert_eq!(preferences.of("t"), &Prefer::Newest("at".to_owned()));
        assert_eq!(preferences.of("u"), &Prefer::Local);
    }

    #[test]
    fn the_newer_version_is_told_by_times_of_any_form_and_by_numbers() {
        let mut preferences = Preferences::default();
        preferences.set(None, Prefer::Newest("At".to_owned()));
        let judge = Judge::new(&preferences).unwrap();
        let image = |value: &Value| Image(vec![("at".to_owned(), value.clone())]);
        let is_newer = |a: &Value, b: &Value| judge.takes_local("t", &image(a), &image(b)).unwrap();
        // Each is newer than the one before it.
        for pair in [
            ["2024-05-01 10:00:00", "2024-05-01T10:00:01Z"],
            ["2024-05-01T12:00:00+02:00", "2024-05-01 10:00:01"],
            ["2024-05-01 10:00:00.123456", "2024-05-01 10:00:00.123999"],
            ["2024-05-01", "2024-05-01 00:00:01"],
            ["a", "b"],
        ] {
            let [a, b] = pair.map(Value::from);
            assert!(is_newer(&b, &a) && !is_newer(&a, &b), "{pair:?}");
        }
        let numbers = [Value::Null, Value::Integer(1), Value::Real(1.5), Value::Integer(2)];
        for pair in numbers.windows(2) {
            assert!(is_newer(&pair[1], &pair[0]) && !is_newer(&pair[0], &pair[1]), "{pair:?}");
        }
        // Equal, or not comparable.
        for [a, b] in [
            [Value::from("2024-05-01 10:00:00"), Value::from("2024-05-01T10:00:00Z")],
            [Value::from("2024-05-01"), Value::Integer(1_714_521_600)],
            [Value::from("2024-05-01"), Value::from("soon")],
            [Value::Blob(vec![1]), Value::Integer(1)],
            [Value::Null, Value::Null],
            [Value::from("now"), Value::from("2024-05-01")],
        ] {
            assert!(!is_newer(&a, &b) && !is_newer(&b, &a), "{a:?} {b:?}");
        }
    }
}
