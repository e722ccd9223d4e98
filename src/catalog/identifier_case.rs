//! One spelling of each name on all sides.
//!
//! To SQLite `Members` and `members` are one table, and so are columns `plan` and `PLAN`; to the
//! JSON of an event they are different. So the remote's spelling is everybody's: a [`Table`] is
//! respelled after it is read, and all that is made of it (triggers, events, messages) has the one
//! spelling. SQL may name a table or column in any.

use super::table::{Table, Term};

impl Table {
    /// Spells the table's name and those of its columns as `name` and `columns` do, where they
    /// differ in nothing but the case of letters A to Z.
    #[must_use]
    pub fn respelled(mut self, name: &str, columns: &[String]) -> Table {
        respell(&mut self.name, &[name]);
        for column in &mut self.columns {
            respell(&mut column.name, columns);
        }
        for term in self.uniques.iter_mut().flat_map(|unique| &mut unique.terms) {
            if let Term::Column(column, _) = term {
                respell(column, columns);
            }
        }
        for (child, _) in self.foreign_keys.iter_mut().flat_map(|key| &mut key.columns) {
            respell(child, columns);
        }
        self
    }
}

/// The first of the spellings that is one of `name`.
fn respell<S: AsRef<str>>(name: &mut String, spellings: &[S]) {
    let mut spellings = spellings.iter().map(S::as_ref);
    if let Some(spelling) = spellings.find(|spelling| spelling.eq_ignore_ascii_case(name)) {
        spelling.clone_into(name);
    }
}
