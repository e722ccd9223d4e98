//! A remote in memory, with what every test of its SQL asks of it.

use std::collections::{BTreeMap, HashSet};

use driftless::catalog::{Catalog, Table, ident};
use driftless::event::conflict::ConflictRule;
use driftless::event::value::Value;
use driftless::event::{EventId, Image, Op, RowKey, Seq};
use driftless::protocol::remote_tables::RemoteTables;
use driftless::protocol::{Outgoing, Statement, push};

use crate::support::engine::Engine;
use crate::support::remote_schema::{found, install};

/// An event on its way into the inbox. All texts are JSON, but for the ids and the reason.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pushed {
    pub(crate) id: String,
    pub(crate) table: String,
    pub(crate) key: String,
    pub(crate) op: String,
    pub(crate) before: Option<String>,
    pub(crate) after: Option<String>,
    pub(crate) base: i64,
    pub(crate) pair: Option<String>,
    pub(crate) via: Option<String>,
    pub(crate) other: Option<String>,
    pub(crate) image: Option<String>,
    pub(crate) defer_fk: bool,
    pub(crate) refuse: Option<String>,
}

impl Pushed {
    /// The event as the plan of a push sees it. Ids of a script are no ULIDs; what counts is which
    /// are equal.
    pub(super) fn outgoing(&self) -> Outgoing {
        let (key, op) = (RowKey(self.key.clone()), self.op.parse().unwrap());
        Outgoing {
            before: self.before.clone(),
            after: self.after.clone(),
            base: Seq(self.base),
            pair: self.pair.as_deref().map(id),
            via: self.via.as_deref().map(id),
            other: self.other.clone().map(RowKey),
            image: self.image.clone(),
            defer_fk: self.defer_fk,
            refuse: self.refuse.clone(),
            plain: false,
            ..Outgoing::new(0, id(&self.id), self.table.clone(), key, op)
        }
    }

    /// The insert of a key change of which this is the delete.
    pub(crate) fn second_half(&self) -> Pushed {
        Pushed {
            id: self.pair.clone().unwrap(),
            op: "insert".to_owned(),
            pair: Some(self.id.clone()),
            key: self.other.clone().unwrap(),
            other: Some(self.key.clone()),
            before: None,
            after: self.image.clone(),
            image: None,
            ..self.clone()
        }
    }

    fn fields(&self) -> String {
        let json = |text: &Option<String>| text.clone().unwrap_or_else(|| "null".to_owned());
        let text = |text: &Option<String>| serde_json::to_string(text).unwrap();
        let yes = |yes: bool| if yes { "1" } else { "null" }.to_owned();
        let fields = [
            text(&Some(self.id.clone())),
            text(&Some(self.table.clone())),
            self.key.clone(),
            text(&Some(self.op.clone())),
            json(&self.before),
            json(&self.after),
            self.base.to_string(),
            text(&self.pair),
            text(&self.via),
            json(&self.other),
            json(&self.image),
            yes(self.defer_fk),
            text(&self.refuse),
        ];
        format!("[{}]", fields.join(","))
    }
}

fn id(text: &str) -> EventId {
    let hash = blake3::hash(text.as_bytes());
    EventId(ulid::Ulid(u128::from_le_bytes(hash.as_bytes()[..16].try_into().unwrap())))
}

/// The statement that puts events into the inbox, all in one JSON text: who, and what.
const PUSH: &str = "INSERT INTO driftless_inbox (id, origin, unit, tbl, pk, op, \"before\", \"after\", \
    base, pair, via, other, image, late, refuse) SELECT value ->> 0, ?, 'unit', \
    value ->> 1, value -> 2, value ->> 3, nullif(value -> 4, 'null'), nullif(value -> 5, 'null'), \
    value ->> 6, value ->> 7, value ->> 8, nullif(value -> 9, 'null'), nullif(value -> 10, 'null'), \
    value ->> 11, value ->> 12 FROM json_each(?) ORDER BY key";

/// How a push is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Into runs.
    #[default]
    Runs,
    /// Every event by itself.
    Singles,
}

/// The statements that push events.
pub(crate) fn push_statements(
    tables: &RemoteTables,
    cut: Cut,
    origin: &str,
    events: &[Pushed],
) -> Vec<Statement> {
    let json: Vec<_> = events.iter().map(Pushed::fields).collect();
    let json = format!("[{}]", json.join(","));
    let outgoing: Vec<_> = events.iter().map(Pushed::outgoing).collect();
    let runs = match cut {
        Cut::Runs => push::runs(&outgoing, tables),
        Cut::Singles => push::singles(&outgoing, tables),
    };
    let mut statements = vec![Statement::new(PUSH, [origin.into(), json.as_str().into()])];
    statements.extend(push::of_runs(&runs, tables));
    statements
}

/// A row of the log.
#[derive(Clone, Debug)]
pub(crate) struct Logged {
    pub(crate) seq: i64,
    pub(crate) id: String,
    pub(crate) origin: String,
    pub(crate) table: String,
    pub(crate) key: String,
    pub(crate) op: Op,
    pub(crate) before: Option<String>,
    pub(crate) after: Option<String>,
    pub(crate) via: Option<String>,
    pub(crate) verdict: String,
    pub(crate) reason: Option<String>,
    pub(crate) cause: Option<String>,
}

type Rows = BTreeMap<(String, String), Image>;

pub(crate) struct Remote {
    pub(crate) db: Engine,
    pub(crate) tables: Vec<Table>,
    rules: BTreeMap<String, ConflictRule>,
    pub(crate) cut: Cut,
    /// What stood in the tables before there was a log.
    before: Rows,
    /// Whether the web application has made triggers since, which fire before ours: what they do
    /// to a row is then logged before what was done to it first.
    pub(crate) late: bool,
}

impl Remote {
    /// A remote whose web application made `schema`, its own triggers included, before driftless
    /// came. `rule` gives each table's rule.
    pub(crate) fn new(schema: &str, rule: impl Fn(&str) -> ConflictRule) -> Self {
        Remote::over(Engine::bundled(), schema, rule)
    }

    /// The same over an empty database.
    pub(crate) fn over(db: Engine, schema: &str, rule: impl Fn(&str) -> ConflictRule) -> Self {
        db.execute_batch("PRAGMA foreign_keys = ON").unwrap();
        db.execute_batch(schema).unwrap();
        // The tables are as the bundled SQLite reads them, whose definitions are the same.
        let Engine::Bundled(twin) = Engine::bundled() else { unreachable!("it is bundled") };
        twin.execute_batch(schema).unwrap();
        let catalog = Catalog::read(&twin).unwrap();
        assert!(catalog.skipped.is_empty(), "{:?}", catalog.skipped);
        let tables = catalog.tables;
        for sql in install(&tables, &rule) {
            if let Err(error) = db.execute_batch(&sql) {
                panic!("{error}\n{sql}");
            }
        }
        let rules = tables.iter().map(|table| (table.name.clone(), rule(&table.name))).collect();
        let (before, late, cut) = (Rows::new(), false, Cut::default());
        let mut remote = Remote { db, tables, rules, cut, before, late };
        remote.before = remote.standing();
        remote
    }

    /// The tables as a replica that looks now finds them.
    pub(crate) fn remote_tables(&self) -> RemoteTables {
        found(&self.tables, |name| self.rules[name], |sql| self.db.look(sql))
    }

    /// Pushes events in one request. What it fails with is the server's message.
    pub(crate) fn push(&self, origin: &str, events: &[Pushed]) -> Result<(), String> {
        let statements = push_statements(&self.remote_tables(), self.cut, origin, events);
        self.run(|| {
            for statement in &statements {
                self.db.rows(statement)?;
            }
            Ok(())
        })?;
        // What a statement of the web's left there is gone, too, or every later write would have
        // to look through it.
        let left = self.number("SELECT count(*) FROM driftless_notes");
        assert!(left == 0 || events.is_empty(), "rows are left in driftless_notes");
        Ok(())
    }

    /// Runs SQL in one transaction, as the web application does.
    pub(crate) fn transaction(&self, sql: &str) -> Result<(), String> {
        self.run(|| self.db.execute_batch(sql))
    }

    fn run(&self, write: impl Fn() -> Result<(), String>) -> Result<(), String> {
        self.db.execute_batch("BEGIN IMMEDIATE").unwrap();
        let done = write().and_then(|()| self.db.execute_batch("COMMIT"));
        if done.is_err() && !self.db.is_autocommit() {
            self.db.execute_batch("ROLLBACK").unwrap();
        }
        done
    }

    /// The number that a query gives.
    fn number(&self, sql: &str) -> i64 {
        let rows = self.db.look(sql);
        let Value::Integer(number) = rows[0][0] else { panic!("{sql} gives no number") };
        number
    }

    /// The log after `seq`.
    pub(crate) fn log(&self, after: i64) -> Vec<Logged> {
        let rows = self.db.look(&format!(
            "SELECT seq, id, origin, tbl, pk, op, after, verdict, reason, cause, before, via
             FROM driftless_events WHERE seq > {after} ORDER BY seq"
        ));
        let logged = |row: Vec<Value>| {
            let text = |at: usize| row[at].as_str().map(str::to_owned);
            let Value::Integer(seq) = row[0] else { panic!("a place in the log is a number") };
            Logged {
                seq,
                id: text(1).unwrap(),
                origin: text(2).unwrap(),
                table: text(3).unwrap(),
                key: text(4).unwrap(),
                op: text(5).unwrap().parse().unwrap(),
                after: text(6),
                verdict: text(7).unwrap(),
                reason: text(8),
                cause: text(9),
                before: text(10),
                via: text(11),
            }
        };
        rows.into_iter().map(logged).collect()
    }

    /// The rows of every table, read with plain SELECTs.
    pub(crate) fn standing(&self) -> Rows {
        let mut rows = Rows::new();
        for table in &self.tables {
            let names: Vec<_> = table.column_names().map(ident).collect();
            let keys: Vec<_> = table
                .key_columns()
                .zip(&table.key_collations)
                .map(|(column, collation)| {
                    let name = ident(&column.name);
                    match collation.name() {
                        "NOCASE" => format!("lower({name})"),
                        "RTRIM" => format!("rtrim({name}, ' ')"),
                        _ => name,
                    }
                })
                .collect();
            let sql = format!(
                "SELECT {}, {} FROM {}",
                names.join(", "),
                keys.join(", "),
                ident(&table.name)
            );
            for row in self.db.look(&sql) {
                let value = |index: usize| row[index].clone();
                let columns = table.column_names().enumerate();
                let image: Vec<_> =
                    columns.map(|(at, name)| (name.to_owned(), value(at))).collect();
                let key: Vec<_> = (0..keys.len()).map(|at| value(names.len() + at)).collect();
                let key = RowKey::from_values(&key).0;
                rows.insert((table.name.clone(), key), Image(image));
            }
        }
        rows
    }

    /// What the applied events of the log make of the rows that were there before. Each must find
    /// its row as it says that it was.
    pub(crate) fn folded(&self) -> Rows {
        let mut rows = self.before.clone();
        for event in self.log(0).into_iter().filter(|event| event.verdict == "applied") {
            let place = (event.table.clone(), event.key.clone());
            let read = |json: &Option<String>| {
                json.as_ref().map(|json| Image::parse(json.as_bytes()).unwrap())
            };
            let (before, after) = (read(&event.before), read(&event.after));
            let captured = event.id.len() == 26;
            let fits = match (event.op, rows.get(&place)) {
                // A row from before the log is logged as it is.
                (Op::Insert, Some(row)) => event.cause.is_none() && Some(row) == after.as_ref(),
                (Op::Insert, None) => true,
                (Op::Update, row) => {
                    row.is_some_and(|row| !captured || row.holds(before.as_ref().unwrap()))
                }
                (Op::Delete, row) => {
                    row.map_or(event.via.is_some(), |row| !captured || Some(row) == before.as_ref())
                }
            };
            // A foreign key's action on the very row whose key changes is told under the new key,
            // before that key's insert.
            let is_early = || {
                let next = self.log(event.seq);
                let mut next = next.iter().take(4);
                event.op == Op::Update
                    && next
                        .any(|e| e.op == Op::Insert && (&e.table, &e.key) == (&place.0, &place.1))
            };
            assert!(
                fits || self.late || is_early() || self.refers_to_itself(&event.table),
                "{event:?} of {:?}",
                rows.get(&place)
            );
            match event.op {
                Op::Insert => {
                    rows.insert(place, after.unwrap());
                }
                Op::Update => {
                    if let Some(row) = rows.get_mut(&place) {
                        row.overlay(&after.unwrap());
                    }
                }
                Op::Delete => {
                    rows.remove(&place);
                }
            }
        }
        rows
    }

    /// Whether a foreign key leads from a table to itself. A REPLACE there may evict a row after an
    /// action has changed it, and is told with the row's image from before.
    fn refers_to_itself(&self, table: &str) -> bool {
        let own = self.tables.iter().filter(|own| own.name == table);
        own.flat_map(|own| &own.foreign_keys).any(|key| key.parent == table)
    }

    /// What holds whenever no statement runs.
    pub(crate) fn check(&self) {
        let (folded, standing) = (self.folded(), self.standing());
        let differing: Vec<_> = folded
            .keys()
            .chain(standing.keys())
            .filter(|place| folded.get(place) != standing.get(place))
            .map(|place| (place, folded.get(place), standing.get(place)))
            .collect();
        assert!(differing.is_empty(), "the log folds to other rows than there are: {differing:?}");
        for empty in ["driftless_inbox", "driftless_applying", "driftless_told"] {
            let sql = format!("SELECT count(*) FROM {empty}");
            assert_eq!(self.number(&sql), 0, "rows are left in {empty}");
        }
        let sql = "SELECT count(*) FROM driftless_now WHERE id IS NULL AND unit IS NULL
                   AND origin = 'web'";
        assert_eq!(self.number(sql), 1, "an event is still named in driftless_now");
        let sql = "SELECT count(*) FROM pragma_foreign_key_check";
        assert_eq!(self.number(sql), 0, "foreign keys are broken");
        let mut ids = HashSet::new();
        assert!(self.log(0).into_iter().all(|event| ids.insert(event.id)), "an id is there twice");
    }
}
