//! The names that events have for tables and columns.
//!
//! For SQLite `Members` and `members` are one table, and `plan` and `PLAN` one column; in the JSON
//! of an event they differ. So all sides use the remote's spelling. A [`Table`] gets that spelling
//! after it is read, and everything made from it (triggers, events, messages) has it. SQL may use
//! any.
//!
//! A column's name in events stays the same for life. Either side may rename the column, at any
//! time: then it has another name in the database there ([`Column::present`](super::Column)). So
//! events from before and after a rename, of sides that have renamed and of sides that have not,
//! mean the same column. [`Names`] are the columns of which the two names differ.

use super::table::{Table, Term};
use crate::event::json::names_json;

/// Columns by their names in events, each with its present name in a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(Vec<(String, String)>);

impl Names {
    /// These pairs: the name in events, and the present name.
    pub fn new(pairs: Vec<(String, String)>) -> Names {
        Names(pairs)
    }

    /// Reads what [`columns_json`] has written: the columns of a table, and their names. What is
    /// not such a text has none.
    pub fn read(json: &str) -> (Vec<String>, Names) {
        let all: Vec<serde_json::Value> = serde_json::from_str(json).unwrap_or_default();
        let (mut columns, mut names) = (Vec::new(), Names::default());
        for value in all {
            match value {
                serde_json::Value::String(name) => columns.push(name),
                serde_json::Value::Object(pairs) => {
                    let pair = |(name, present): (String, serde_json::Value)| {
                        present.as_str().map(|present| (name, present.to_owned()))
                    };
                    names.0.extend(pairs.into_iter().filter_map(pair));
                }
                _ => return (Vec::new(), Names::default()),
            }
        }
        (columns, names)
    }

    /// Whether no column has another name at present.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The present name of a column.
    pub fn present(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, present)| present.as_str())
    }

    /// The name in events of a column.
    pub fn name_of(&self, present: &str) -> Option<&str> {
        let found = self.0.iter().find(|(_, known)| known.eq_ignore_ascii_case(present));
        found.map(|(name, _)| name.as_str())
    }

    /// These, and of `older` what they say nothing about: neither of the name nor of the present
    /// one.
    #[must_use]
    pub fn over(mut self, older: Names) -> Names {
        let more: Vec<_> = older
            .0
            .into_iter()
            .filter(|(name, present)| {
                self.present(name).is_none() && self.name_of(present).is_none()
            })
            .collect();
        self.0.extend(more);
        self
    }

    /// Only those whose two names differ.
    #[must_use]
    pub fn differing(mut self) -> Names {
        self.0.retain(|(name, present)| !name.eq_ignore_ascii_case(present));
        self
    }

    /// Only those whose present name is one of the table's.
    #[must_use]
    pub fn of(mut self, table: &Table) -> Names {
        self.0.retain(|(_, present)| {
            table.columns.iter().any(|column| column.present.eq_ignore_ascii_case(present))
        });
        self
    }
}

/// The columns of a table, as they are stored: a JSON array of their names in events, and behind
/// them an object with the present names of those that were renamed.
pub fn columns_json(columns: &[String], names: &Names) -> String {
    let mut json = names_json(columns.iter().map(String::as_str));
    if names.0.is_empty() {
        return json;
    }
    let object: serde_json::Map<_, _> =
        names.0.iter().map(|(name, present)| (name.clone(), present.as_str().into())).collect();
    json.pop();
    if !columns.is_empty() {
        json.push(',');
    }
    json.push_str(&serde_json::Value::Object(object).to_string());
    json.push(']');
    json
}

impl Table {
    /// Gives the table and its columns the spelling of `name` and `columns`, where they differ only
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

    /// The name in the database of a column, or the same name if there is no such column.
    pub fn present<'n>(&'n self, name: &'n str) -> &'n str {
        self.column(name).map_or(name, |column| &column.present)
    }

    /// The name in events of a column, or the same name if there is no such column.
    pub fn name_of<'n>(&'n self, present: &'n str) -> &'n str {
        let is = |column: &&super::Column| column.present.eq_ignore_ascii_case(present);
        self.columns.iter().find(is).map_or(present, |column| &column.name)
    }

    /// The names of the columns in the database.
    pub fn present_names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| column.present.as_str())
    }

    /// Gives the columns their names in events. `self` was read from its database, and has the
    /// present ones. A column that nothing is known of has its present name in events too, or, if
    /// another column has that for life, the first free one of `NAME (2)`, `NAME (3)` and so on.
    #[must_use]
    pub fn named(mut self, names: &Names) -> Table {
        let names = names.clone().of(&self);
        if names.0.iter().all(|(name, present)| name.eq_ignore_ascii_case(present)) {
            return self;
        }
        let mut taken: Vec<String> = names.0.iter().map(|(name, _)| name.clone()).collect();
        let is_in = |all: &[String], name: &str| all.iter().any(|it| it.eq_ignore_ascii_case(name));
        for column in &mut self.columns {
            if let Some(name) = names.name_of(&column.present) {
                name.clone_into(&mut column.name);
            } else if is_in(&taken, &column.present) {
                let mut free = (2..).map(|number| format!("{} ({number})", column.present));
                column.name = free.find(|name| !is_in(&taken, name)).unwrap_or_default();
                taken.push(column.name.clone());
            }
        }
        let mut uniques = std::mem::take(&mut self.uniques);
        for term in uniques.iter_mut().flat_map(|unique| &mut unique.terms) {
            if let Term::Column(column, _) = term {
                *column = self.name_of(column).to_owned();
            }
        }
        self.uniques = uniques;
        let mut keys = std::mem::take(&mut self.foreign_keys);
        for (child, _) in keys.iter_mut().flat_map(|key| &mut key.columns) {
            *child = self.name_of(child).to_owned();
        }
        self.foreign_keys = keys;
        self
    }

    /// Gives the columns the names that they have in `known`, the same table.
    #[must_use]
    pub fn named_like(self, known: &Table) -> Table {
        self.named(&known.all_names())
    }

    /// The names of all columns.
    pub fn all_names(&self) -> Names {
        Names(self.columns.iter().map(|it| (it.name.clone(), it.present.clone())).collect())
    }

    /// The same table with the present names of `there`, which is another database's.
    #[must_use]
    pub fn presented_as(mut self, there: &Table) -> Table {
        for column in &mut self.columns {
            there.present(&column.name).clone_into(&mut column.present);
        }
        self
    }

    /// The name in events of a column that `old`, an earlier state of the table, knows by `name`.
    pub fn renamed_from<'n>(&'n self, old: &'n Table, name: &'n str) -> &'n str {
        let same = old.column(name).and_then(|column| {
            self.columns.iter().find(|it| it.present.eq_ignore_ascii_case(&column.present))
        });
        same.or_else(|| self.column(name)).map_or(name, |column| &column.name)
    }

    /// The columns whose name in events is not the present one.
    pub fn names(&self) -> Names {
        self.all_names().differing()
    }

    /// The names that the columns of `there`, the same table in another database, suggest for
    /// columns here of which nothing is known: a column with the same present name is the same
    /// column, unless either side has one with that name in events.
    pub fn suggested(&self, there: &Table) -> Names {
        let has = |table: &Table, name: &str| table.column(name).is_some();
        let is_free = |theirs: &&super::Column| {
            !theirs.name.eq_ignore_ascii_case(&theirs.present) && !has(self, &theirs.name)
        };
        let same = |theirs: &super::Column| {
            let mine = self.columns.iter().find(|mine| {
                mine.present.eq_ignore_ascii_case(&theirs.present)
                    && mine.name.eq_ignore_ascii_case(&mine.present)
                    && !has(there, &mine.name)
            })?;
            Some((theirs.name.clone(), mine.present.clone()))
        };
        Names(there.columns.iter().filter(is_free).filter_map(same).collect())
    }
}

/// Gives the columns of parents, to which foreign keys lead, their names in events. The tables were
/// read from one database, and their own columns have these names.
pub fn name_references<'t>(tables: impl Iterator<Item = &'t mut Table>) {
    let mut tables: Vec<_> = tables.collect();
    let is_renamed = |table: &&mut Table| !table.names().is_empty();
    let named = tables.iter().filter(|table| is_renamed(table));
    let renamed: Vec<Table> = named.map(|table| (**table).clone()).collect();
    if renamed.is_empty() {
        return;
    }
    for key in tables.iter_mut().flat_map(|table| &mut table.foreign_keys) {
        let is = |parent: &&Table| parent.name.eq_ignore_ascii_case(&key.parent);
        let Some(parent) = renamed.iter().find(is) else { continue };
        for (_, to) in &mut key.columns {
            *to = parent.name_of(to).to_owned();
        }
    }
}

/// The first of the spellings that equals `name` in any case.
fn set_case<S: AsRef<str>>(name: &mut String, spellings: &[S]) {
    let mut spellings = spellings.iter().map(S::as_ref);
    if let Some(spelling) = spellings.find(|spelling| spelling.eq_ignore_ascii_case(name)) {
        spelling.clone_into(name);
    }
}
