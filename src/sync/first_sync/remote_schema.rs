//! The remote's schema, as a first sync reads it: definitions, triggers, and the tables that other
//! replicas have registered.

use crate::capture::{GENERATOR, RemoteCapture, delete_trigger_there, present_names_there};
use crate::catalog::index_sql::trigger_op;
use crate::catalog::{Catalog, Names, PREFIX, Table, name_references};
use crate::error::{Code, Error, Result};
use crate::event::Op;
use crate::event::conflict::ConflictRule;
use crate::event::value::Value;
use crate::protocol::remote_tables::{RemoteTable, RemoteTables, read_schema_cookie};
use crate::remote::Rows;
use crate::store::Definition;

/// The remote schema's fixed part.
pub(in crate::sync) const REMOTE_SCHEMA: &str = include_str!("../../../schema/remote/tables.sql");
/// The definition of `driftless_inbox`, which is created anew.
pub(in crate::sync) const INBOX: &str = include_str!("../../../schema/remote/inbox.sql");
/// The statement that fills `driftless_pow2`.
pub(in crate::sync) const POWERS: &str = include_str!("../../../schema/pow2.sql");

/// The tables of driftless that a push needs, apart from the replicated ones. A missing one is
/// created again. The other tables have an identity or a log, so they cannot be created again.
const OURS: [&str; 12] = [
    "driftless_inbox",
    "driftless_capture",
    "driftless_told",
    "driftless_columns",
    "driftless_applying",
    "driftless_notes",
    "driftless_names",
    "driftless_one",
    "driftless_now",
    "driftless_pow2",
    "driftless_gaps",
    "driftless_owed",
];

/// A table of `driftless_tables` on the remote.
#[derive(Clone, Debug)]
pub(in crate::sync) struct Registered {
    name: String,
    rule: ConflictRule,
    fingerprint: String,
    columns: Vec<String>,
    /// The columns that have another name there.
    names: Names,
}

impl Registered {
    pub(in crate::sync) fn name(&self) -> &str {
        &self.name
    }

    pub(in crate::sync) fn rule(&self) -> ConflictRule {
        self.rule
    }

    /// The fingerprint of the triggers that were installed for it.
    pub(in crate::sync) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Whether a newer generator than this program's has made them.
    pub(in crate::sync) fn is_newer(&self) -> bool {
        let number = self.fingerprint.split_once('-').and_then(|(number, _)| number.parse().ok());
        number.is_some_and(|number: u32| number > GENERATOR)
    }
}

#[derive(Clone, Debug, Default)]
pub(in crate::sync) struct Schema {
    definitions: Vec<Definition>,
    triggers: Vec<FoundTrigger>,
    cookie: i64,
}

#[derive(Clone, Debug, Default)]
pub(in crate::sync) struct FoundTrigger {
    name: String,
    table: String,
    ours: bool,
    /// The op that a trigger of the application fires on, if it could be read.
    op: Option<Op>,
    /// Greater for a newer trigger.
    age: i64,
    /// Its text, if it is ours and not too long.
    sql: Option<String>,
}

impl FoundTrigger {
    pub(in crate::sync) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it has this text, as far as that is known.
    fn says(&self, sql: &str) -> bool {
        self.sql.as_ref().is_none_or(|text| text == sql)
    }

    /// Whether it is on this table.
    pub(in crate::sync) fn is_on(&self, table: &str) -> bool {
        self.table.eq_ignore_ascii_case(table)
    }
}

impl Schema {
    pub(in crate::sync) fn definitions(&self) -> &[Definition] {
        &self.definitions
    }

    /// The tables, with the names that events have for their columns.
    ///
    /// # Errors
    ///
    /// As for [`Catalog::of_remote`].
    pub(in crate::sync) fn catalog(&self, known: &[Registered]) -> Result<Catalog> {
        let mut theirs = Catalog::of_remote(&self.definitions)?;
        for table in &mut theirs.tables {
            let is = |known: &&Registered| known.name.eq_ignore_ascii_case(&table.name);
            if let Some(known) = known.iter().find(is) {
                *table = table.clone().named(&self.names(known, table));
            }
        }
        name_references(theirs.tables.iter_mut());
        Ok(theirs)
    }

    /// The names of a table's columns: as our trigger for its deletes tells them, which a RENAME
    /// COLUMN has rewritten, and else as they were when the trigger was made.
    fn names(&self, known: &Registered, table: &Table) -> Names {
        let name = delete_trigger_there(&known.name);
        let trigger = self.our_triggers().find(|it| it.name == name && it.is_on(&table.name));
        let present = trigger.and_then(|it| present_names_there(it.sql.as_ref()?));
        let present = present.filter(|present| present.len() == known.columns.len());
        let pairs = known.columns.iter().cloned().zip(present.unwrap_or_default());
        Names::new(pairs.collect()).of(table).over(known.names.clone().of(table))
    }

    /// Its version when the definitions were read.
    pub(in crate::sync) fn cookie(&self) -> i64 {
        self.cookie
    }

    /// The ops for which the application has a trigger on a table.
    pub(in crate::sync) fn triggered(&self, table: &str) -> Vec<Op> {
        let theirs = || self.triggers.iter().filter(|found| !found.ours && found.is_on(table));
        let fires = |op: &Op| theirs().any(|found| found.op.is_none_or(|on| on == *op));
        [Op::Insert, Op::Update, Op::Delete].into_iter().filter(fires).collect()
    }

    /// These tables, with the other facts that a push needs.
    pub(in crate::sync) fn tables(&self, tables: Vec<RemoteTable>) -> RemoteTables {
        let has_triggers = self.triggers.iter().any(|trigger| !trigger.ours);
        RemoteTables { cookie: self.cookie, has_triggers, tables, gaps: Vec::new() }
    }

    /// The triggers that are driftless's own.
    pub(in crate::sync) fn our_triggers(&self) -> impl Iterator<Item = &FoundTrigger> {
        self.triggers.iter().filter(|trigger| trigger.ours)
    }

    /// Whether there is a table or a view with this name.
    pub(in crate::sync) fn has(&self, name: &str) -> bool {
        self.definitions.iter().any(|(kind, found, ..)| {
            ["table", "view"].contains(&kind.as_str()) && found.eq_ignore_ascii_case(name)
        })
    }

    /// Whether all tables and triggers of driftless exist. A table that was dropped and created
    /// again has no triggers.
    pub(in crate::sync) fn is_whole(&self, capture: &RemoteCapture) -> bool {
        let mut tables = capture.tables().iter();
        self.has_shared(capture)
            && tables.all(|(table, all)| {
                all.iter().all(|new| self.has_trigger(&new.name, table, &new.sql))
            })
    }

    fn has_trigger(&self, name: &str, table: &str, sql: &str) -> bool {
        let is = |found: &FoundTrigger| found.name == name && found.is_on(table);
        self.our_triggers().any(|found| is(found) && found.says(sql))
    }

    /// Whether the tables and triggers exist that all tables share.
    fn has_shared(&self, capture: &RemoteCapture) -> bool {
        let mut shared = capture.shared().iter().filter_map(|sql| {
            let words = sql.strip_prefix("CREATE TRIGGER ")?.split_whitespace();
            let mut words = words.filter(|word| word.starts_with(PREFIX));
            Some((words.next()?, words.next()?, sql))
        });
        OURS.iter().all(|name| self.has(name))
            && shared.all(|(name, table, sql)| self.has_trigger(name, table, sql))
    }

    /// The registered tables for which capture may have missed a write: a trigger is missing or has
    /// another text than it was created with.
    pub(in crate::sync) fn suspects(
        &self,
        capture: &RemoteCapture,
        known: &[Registered],
    ) -> Vec<String> {
        let mut found = Vec::new();
        for (name, triggers) in capture.tables() {
            let Some(known) = known.iter().find(|known| known.name == *name) else { continue };
            // Triggers for another definition or of another generator have another text.
            let is_same = known.fingerprint == capture.fingerprint();
            let is_there = |new: &crate::capture::Trigger| match is_same {
                true => self.has_trigger(&new.name, name, &new.sql),
                false => self.our_triggers().any(|old| old.name == new.name && old.is_on(name)),
            };
            let whole = !is_same || self.has_shared(capture);
            if !whole || !triggers.iter().all(is_there) {
                found.push(name.clone());
            }
        }
        found
    }

    /// Refuses a remote that lacks the object that a rejection has named (`sought`). Objects of
    /// driftless are created again instead.
    pub(in crate::sync) fn require(&self, sought: Option<&str>) -> Result<()> {
        match sought.filter(|name| !name.starts_with(PREFIX) && !self.has(name)) {
            Some(name) => Err(missing_object(name)),
            None => Ok(()),
        }
    }

    /// Whether all our triggers are newer than the application's, so that they fire first.
    pub(in crate::sync) fn ours_are_newest(&self) -> bool {
        let ages = |wanted: bool| {
            let mine = self.triggers.iter().filter(move |trigger| trigger.ours == wanted);
            mine.map(|trigger| trigger.age)
        };
        // Our triggers are created together, so it is enough to check the oldest one.
        match (ages(false).max(), ages(true).min()) {
            (Some(theirs), Some(ours)) => ours > theirs,
            (_, None) => false,
            (None, Some(_)) => true,
        }
    }
}

/// A table with the remote's case of names: as in its events so far, or else as in the remote's
/// definition, or else as in this one.
pub(in crate::sync) fn in_remote_case(
    table: Table,
    theirs: &Catalog,
    known: &[Registered],
) -> Table {
    let registered = known.iter().find(|known| known.name.eq_ignore_ascii_case(&table.name));
    let there = theirs.table(&table.name);
    let name = registered.map(|known| &known.name).or(there.map(|there| &there.name));
    let name = name.unwrap_or(&table.name).clone();
    let mut columns = registered.map(|known| known.columns.clone()).unwrap_or_default();
    columns.extend(there.iter().flat_map(|there| there.column_names().map(str::to_owned)));
    table.in_case_of(&name, &columns)
}

/// Reads the definitions, and the version of the schema.
pub(in crate::sync) fn read_schema(rows: &Rows, cookie: &Rows) -> Result<Schema> {
    let mut schema = Schema { cookie: read_schema_cookie(cookie)?, ..Schema::default() };
    for row in rows {
        let [kind, name, table, sql, rowid] = row.as_slice() else {
            return Err(Error::new(
                Code::AnswerInvalid,
                "the remote's definitions have other columns",
            ));
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (kind, name, table) = (text(kind), text(name), text(table));
        if kind == "trigger" {
            let ours = name.starts_with(PREFIX);
            let age = rowid.as_integer().unwrap_or(0);
            let op = sql.as_str().and_then(trigger_op);
            let (name, table) = (name.clone(), table.clone());
            let sql = sql.as_str().filter(|_| ours).map(str::to_owned);
            schema.triggers.push(FoundTrigger { name, table, ours, op, age, sql });
        }
        let sql = sql.as_str().filter(|_| kind != "trigger").map(str::to_owned);
        schema.definitions.push((kind, name, table, sql));
    }
    Ok(schema)
}

pub(in crate::sync) fn read_registered(rows: &Rows) -> Result<Vec<Registered>> {
    let read = |row: &Vec<Value>| {
        let [name, rule, fingerprint, columns] = row.as_slice() else { return None };
        let (columns, names) = Names::read(columns.as_str()?);
        Some(Registered {
            name: name.as_str()?.to_owned(),
            rule: rule.as_str()?.parse().ok()?,
            fingerprint: fingerprint.as_str()?.to_owned(),
            columns,
            names,
        })
    };
    let all: Option<Vec<_>> = rows.iter().map(read).collect();
    all.ok_or_else(|| Error::new(Code::AnswerInvalid, "the remote's list of tables is not one"))
}

/// The tables to replicate on the remote, by name: those of this replica, and those that other
/// replicas have registered. Each has the remote's definition, unless it is to be created there.
pub(in crate::sync) fn all_tables(
    ours: &[(Table, ConflictRule)],
    theirs: &Catalog,
    known: &[Registered],
    schema: &Schema,
) -> Vec<RemoteTable> {
    let is_ours = |name: &str| ours.iter().any(|(table, _)| table.name.eq_ignore_ascii_case(name));
    let others = known.iter().filter(|known| !is_ours(known.name()));
    let others =
        others.filter_map(|known| Some((theirs.table(known.name())?.clone(), known.rule())));
    let as_there = |(table, rule): (Table, ConflictRule)| {
        let there = theirs.table(&table.name).unwrap_or(&table).clone();
        let table = in_remote_case(there, theirs, known);
        let triggered = schema.triggered(&table.name);
        RemoteTable { table, rule, triggered }
    };
    let mut all: Vec<_> = ours.iter().cloned().chain(others).map(as_there).collect();
    all.sort_by(|a, b| a.table.name.cmp(&b.table.name));
    all
}

/// Whether the remote has registered a table with this rule, and with triggers of this fingerprint.
pub(in crate::sync) fn is_registered(
    there: &RemoteTable,
    fingerprint: &str,
    known: &[Registered],
) -> bool {
    known.iter().any(|known| {
        known.name() == there.table.name
            && known.rule() == there.rule
            && known.fingerprint() == fingerprint
    })
}

/// The error for a replicated table that the remote has lost.
pub(crate) fn missing_table(name: &str) -> Error {
    let message = format!(
        "the remote no longer has table `{name}`: it was dropped or renamed there; its changes wait"
    );
    Error::new(Code::RemoteTableMissing, message).with_hint(
        "nothing is lost here, and other tables continue; restore the table there with that name \
         and with its rows: from a backup, or from this file",
    )
}

/// The error for capture that a newer program has installed and of which a part is missing.
pub(in crate::sync) fn installed_by_newer(table: &str) -> Error {
    let message = format!(
        "a newer driftless has created the triggers of table `{table}` on the remote, and some of \
         them are missing; this program is too old to create them again"
    );
    Error::new(Code::RemoteSchemaNewer, message).with_hint("update this program")
}

/// The error for another object that the remote has lost.
fn missing_object(name: &str) -> Error {
    let message = format!(
        "a trigger or a view of the remote refers to `{name}`, which does not exist; nothing can \
         be pushed"
    );
    Error::new(Code::RemoteObjectMissing, message).with_hint(
        "nothing is lost, and pulls continue; create it there, or drop the object that refers to \
         it on the remote",
    )
}

/// The statements of one of our own files, without its comments. None of them has a semicolon or
/// two hyphens in a literal.
pub(in crate::sync) fn split(sql: &str) -> Vec<String> {
    let code: Vec<_> =
        sql.lines().map(|line| line.split_once("--").map_or(line, |(code, _)| code)).collect();
    let code = code.join("\n");
    let statements = code.split(';').map(str::trim).filter(|statement| !statement.is_empty());
    statements.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_memory() -> rusqlite::Connection {
        let db = rusqlite::Connection::open_in_memory().unwrap();
        db.execute_batch("CREATE TABLE t (id PRIMARY KEY)").unwrap();
        db
    }

    #[test]
    fn every_trigger_of_ours_is_looked_for() {
        let table = Table::read(&in_memory(), "t").unwrap();
        let capture = RemoteCapture::of(&[&table]);
        let tables = OURS.map(|name| ("table".into(), name.into(), name.into(), None));
        let trigger = |name: &str, table: &str| {
            let (name, table) = (name.to_owned(), table.to_owned());
            FoundTrigger { name, table, ours: true, ..FoundTrigger::default() }
        };
        let shared = [("tell", "told"), ("log", "capture"), ("quiet", "capture")];
        let shared = shared.into_iter().chain(["note", "gone"].map(|name| (name, "notes")));
        let own =
            ["bi", "bu", "ai", "au", "ad"].map(|name| trigger(&format!("{PREFIX}{name}_t"), "t"));
        let all: Vec<_> = shared
            .map(|(name, table)| trigger(&format!("{PREFIX}{name}"), &format!("{PREFIX}{table}")))
            .chain(own)
            .collect();
        let is_whole = |triggers: &[FoundTrigger]| {
            let (definitions, triggers) = (tables.to_vec(), triggers.to_vec());
            Schema { definitions, triggers, cookie: 0 }.is_whole(&capture)
        };
        assert!(is_whole(&all));
        for at in 0..all.len() {
            let mut fewer = all.clone();
            let lacking = fewer.remove(at);
            assert!(!is_whole(&fewer), "{lacking:?}");
        }
    }

    #[test]
    fn the_schema_files_are_split_into_statements() {
        let tables = split(REMOTE_SCHEMA);
        assert!(tables.iter().all(|statement| statement.starts_with("CREATE ")), "{tables:?}");
        assert!(tables.len() >= 8, "{}", tables.len());
        let inbox = split(INBOX);
        assert_eq!(inbox.len(), 1, "{inbox:?}");
        let table = Table::read(&in_memory(), "t").unwrap();
        let capture = RemoteCapture::of(&[&table]);
        let made = |name: &&str| {
            let all = tables.iter().chain(&inbox).chain(capture.shared());
            all.into_iter().any(|sql| sql.starts_with("CREATE TABLE ") && sql.contains(*name))
        };
        assert!(OURS.iter().all(made), "{OURS:?}");
        let powers = split(POWERS);
        assert!(powers.iter().all(|statement| statement.starts_with("INSERT INTO")), "{powers:?}");
    }

    #[test]
    fn ours_are_newest_if_none_of_theirs_is_newer_than_any_of_ours() {
        let is = |triggers: &[(bool, i64)]| {
            let found =
                |&(ours, age): &(bool, i64)| FoundTrigger { ours, age, ..FoundTrigger::default() };
            let triggers = triggers.iter().map(found).collect();
            Schema { triggers, ..Schema::default() }.ours_are_newest()
        };
        assert!(is(&[(true, 5)]) && is(&[(true, 5), (false, 4), (true, 6)]));
        assert!(!is(&[(true, 5), (false, 6), (true, 7)]), "one of ours fires too late");
        assert!(!is(&[]) && !is(&[(false, 1)]), "there are none");
    }

    #[test]
    fn what_the_remote_says_of_itself_is_read() {
        let text = |words: &[&str]| -> Vec<Value> { words.iter().map(|w| (*w).into()).collect() };
        let row = |words: &[&str], rowid: i64| [text(words), vec![rowid.into()]].concat();
        let rows = vec![
            row(&["table", "t", "t", "CREATE TABLE t(id)"], 2),
            row(&["trigger", "driftless_x", "t", "CREATE TRIGGER"], 9),
            row(&["trigger", "touch", "t", "CREATE TRIGGER touch AFTER UPDATE ON t"], 8),
        ];
        let found = read_schema(&rows, &vec![vec![7.into()]]).unwrap();
        assert_eq!((found.definitions.len(), found.cookie()), (3, 7));
        assert_eq!(found.definitions[2].3, None, "nobody runs it");
        assert_eq!((found.triggered("T"), found.triggered("u")), (vec![Op::Update], vec![]));
        assert_eq!(found.definitions[0].3.as_deref(), Some("CREATE TABLE t(id)"));
        let triggers: Vec<_> = found.triggers.iter().map(|found| (found.ours, found.age)).collect();
        assert_eq!(triggers, [(true, 9), (false, 8)]);
        assert!(read_schema(&vec![text(&["table", "t"])], &vec![vec![7.into()]]).is_err());
        assert!(read_schema(&rows, &Rows::new()).is_err());
        let known = read_registered(&vec![text(&["t", "columns", "f", r#"["id"]"#])]).unwrap();
        assert_eq!((known[0].name.as_str(), known[0].rule), ("t", ConflictRule::Columns));
        assert_eq!(
            (known[0].fingerprint.as_str(), &known[0].columns[..]),
            ("f", &["id".into()][..])
        );
        assert!(read_registered(&vec![text(&["t", "odd", "f", "[]"])]).is_err());
    }
}
