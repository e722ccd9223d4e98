//! One case of each identifier on all sides.
//!
//! For SQLite, `Members` and `members` are one table, and `plan` and `PLAN` one column. In the JSON
//! of an event they differ. So all sides use the remote's spelling. A [`Table`] gets that spelling
//! after it is read, and everything made from the table (triggers, events, messages) has it. SQL
//! may use any spelling.

use super::table::{Table, Term};

impl Table {
    /// Gives the table and its columns the case of `name` and `columns`, where they differ only
    /// in the case of A to Z.
    #[must_use]
    pub fn in_case_of(mut self, name: &str, columns: &[String]) -> Table {
        set_case(&mut self.name, &[name]);
        for column in &mut self.columns {
            set_case(&mut column.name, columns);
        }
        for term in self.uniques.iter_mut().flat_map(|unique| &mut unique.terms) {
            if let Term::Column(column, _) = term {
                set_case(column, columns);
            }
        }
        for (child, _) in self.foreign_keys.iter_mut().flat_map(|key| &mut key.columns) {
            set_case(child, columns);
        }
        self
    }
}

/// Sets `name` to the first of the spellings that equals it in any case.
fn set_case<S: AsRef<str>>(name: &mut String, names: &[S]) {
    let mut names = names.iter().map(S::as_ref);
    if let Some(other) = names.find(|other| other.eq_ignore_ascii_case(name)) {
        other.clone_into(name);
    }
}
