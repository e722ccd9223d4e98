//! One spelling of each name on all sides.
//!
//! For SQLite `Members` and `members` are one table, and `plan` and `PLAN` one column; in the JSON
//! of an event they differ. So all sides use the remote's spelling. A [`Table`] gets that spelling
//! after it is read, and everything made from it (triggers, events, messages) has it. SQL may use
//! any.

use super::table::{Table, Term};

impl Table {
    /// Gives the table and its columns the spelling of `name` and `columns`, where they differ only
    /// in the case of A to Z.
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

/// The first of the spellings that equals `name` in any case.
fn respell<S: AsRef<str>>(name: &mut String, spellings: &[S]) {
    let mut spellings = spellings.iter().map(S::as_ref);
    if let Some(spelling) = spellings.find(|spelling| spelling.eq_ignore_ascii_case(name)) {
        spelling.clone_into(name);
    }
}
