//! A table of both sides, with the columns that are compared.

use std::borrow::Cow;

use crate::catalog::{Column, Table};
use crate::event::Image;
use crate::event::value::Value;

/// A table as both sides have it.
#[derive(Clone, Debug)]
pub struct ComparedTable {
    here: Table,
    there: Table,
    /// The places of each common column on both sides, in the order of the remote.
    columns: Vec<Shared>,
}

/// The places of a column on the two sides.
#[derive(Clone, Copy, Debug)]
struct Shared {
    here: usize,
    there: usize,
}

impl ComparedTable {
    /// A table to compare. The two definitions use the same spelling of names.
    ///
    /// # Errors
    ///
    /// A sentence, if the keys of the two sides differ: then rows cannot be matched by their keys.
    pub fn new(here: Table, there: Table) -> Result<ComparedTable, String> {
        let key = |table: &Table| -> Vec<_> {
            table.key_columns().map(|column| column.name.to_ascii_lowercase()).collect()
        };
        if key(&here) != key(&there) || here.key_collations != there.key_collations {
            return Err(format!("table `{}` has another key on the remote", here.name));
        }
        let shared = |(there, column): (usize, &Column)| {
            let same = |mine: &Column| mine.name.eq_ignore_ascii_case(&column.name);
            here.columns.iter().position(same).map(|here| Shared { here, there })
        };
        let columns = there.columns.iter().enumerate().filter_map(shared).collect();
        Ok(ComparedTable { here, there, columns })
    }

    /// Its name in events.
    pub fn name(&self) -> &str {
        &self.here.name
    }

    /// The local definition.
    pub fn here(&self) -> &Table {
        &self.here
    }

    /// The remote's definition.
    pub fn there(&self) -> &Table {
        &self.there
    }

    /// The places in the remote's definition of the columns that are compared.
    pub(super) fn columns_there(&self) -> impl Iterator<Item = usize> + '_ {
        self.columns.iter().map(|shared| shared.there)
    }

    /// The compared values of a local row, as the remote's columns would store them, in the order
    /// of the digest. `row` has the values of all local columns in their order.
    pub fn digested<'a>(&'a self, row: &'a [Value]) -> impl Iterator<Item = Cow<'a, Value>> + 'a {
        self.columns.iter().map(|shared| {
            let (here, there) =
                (&self.here.columns[shared.here], &self.there.columns[shared.there]);
            let value = &row[shared.here];
            match here.affinity == there.affinity {
                true => Cow::Borrowed(value),
                false => Cow::Owned(there.affinity.convert(value.clone())),
            }
        })
    }

    /// The compared columns in which two rows differ, by their local names.
    pub fn differing(&self, remote: &Image, local: &Image) -> Vec<String> {
        let differs = |shared: &&Shared| {
            let (here, there) =
                (&self.here.columns[shared.here], &self.there.columns[shared.there]);
            let mine = value(local, &here.name);
            let theirs = value(remote, &here.name);
            !(alike(&mine, &theirs)
                || alike(&there.affinity.convert(mine.clone()), &theirs)
                || alike(&mine, &here.affinity.convert(theirs.clone())))
        };
        let found = self.columns.iter().filter(differs);
        found.map(|shared| self.here.columns[shared.here].name.clone()).collect()
    }

    /// The compared columns of a row, by their local names.
    pub fn shared(&self, row: &Image) -> Image {
        let columns = self.columns.iter().map(|shared| &self.here.columns[shared.here].name);
        Image(columns.map(|name| (name.clone(), value(row, name))).collect())
    }
}

/// A column's value; NULL if the row has none.
fn value(row: &Image, column: &str) -> Value {
    let found = row.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(column));
    found.map(|(_, value)| value.clone()).unwrap_or_default()
}

/// Whether two values are equal. SQL cannot distinguish −0.0 from 0.0.
fn alike(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Real(a), Value::Real(b)) => a == b,
        (a, b) => a == b,
    }
}
