//! A remote in memory, with what every test of its SQL asks of it.

use std::collections::{BTreeMap, HashSet};

use driftless::capture::{Replicated, remote_triggers};
use driftless::catalog::{Catalog, Table, ident, literal};
use driftless::event::conflict::ConflictRule;
use driftless::event::value::Value;
use driftless::event::{Image, Op, RowKey};

use crate::support::engine::{Engine, message};

pub(crate) const TABLES: &str = include_str!("../../../schema/remote/tables.sql");
pub(crate) const POW2: &str = include_str!("../../../schema/pow2.sql");

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
    pub(crate) late: bool,
    pub(crate) refuse: Option<String>,
}

impl Pushed {
    /// Whether no value has a tag. None of the tests' texts have a brace within a string.
    fn plain(&self) -> bool {
        let image = [&self.after, &self.image].into_iter().flatten();
        let key = [Some(&self.key), self.other.as_ref()].into_iter().flatten();
        !image.chain(key).any(|json| json[1..].contains('{'))
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
            yes(self.late),
            text(&self.refuse),
            yes(self.plain()),
        ];
        format!("[{}]", fields.join(","))
    }
}

/// The statement that pushes events, all in one JSON text: who, and what.
const PUSH: &str = "INSERT INTO driftless_inbox (id, origin, unit, tbl, pk, op, \"before\", \"after\", \
    base, pair, via, other, image, late, refuse, plain) SELECT value ->> 0, ?1, 'unit', \
    value ->> 1, value -> 2, value ->> 3, nullif(value -> 4, 'null'), nullif(value -> 5, 'null'), \
    value ->> 6, value ->> 7, value ->> 8, nullif(value -> 9, 'null'), nullif(value -> 10, 'null'), \
    value ->> 11, value ->> 12, value ->> 13 FROM json_each(?2) ORDER BY key";

/// The events as that JSON text.
fn json(events: &[Pushed]) -> String {
    let events: Vec<_> = events.iter().map(Pushed::fields).collect();
    format!("[{}]", events.join(","))
}

/// The statement with its texts in it.
pub(crate) fn push_sql(origin: &str, events: &[Pushed]) -> String {
    PUSH.replace("?1", &literal(origin)).replace("?2", &literal(&json(events)))
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
        db.execute_batch(TABLES).unwrap();
        db.execute_batch(POW2).unwrap();
        db.execute_batch("INSERT INTO driftless_meta (one, epoch, version) VALUES (1, 'e', 1)")
            .unwrap();
        // The tables are as the bundled SQLite reads them, whose definitions are the same.
        let Engine::Bundled(twin) = Engine::bundled() else { unreachable!("it is bundled") };
        twin.execute_batch(schema).unwrap();
        let catalog = Catalog::read(&twin).unwrap();
        assert!(catalog.skipped.is_empty(), "{:?}", catalog.skipped);
        let tables = catalog.tables;
        let all: Vec<_> =
            tables.iter().map(|table| Replicated { table, rule: rule(&table.name) }).collect();
        for trigger in remote_triggers(&all) {
            if let Err(error) = db.execute_batch(&trigger.sql) {
                panic!("{error}\n{}", trigger.sql);
            }
        }
        let mut remote = Remote { db, tables, before: Rows::new(), late: false };
        remote.before = remote.standing();
        remote
    }

    /// Pushes events in one request. What it fails with is the server's message.
    pub(crate) fn push(&self, origin: &str, events: &[Pushed]) -> Result<(), String> {
        self.run(|| match &self.db {
            // Compiled once: the compilation of all the triggers is what a push costs here.
            Engine::Bundled(db) => {
                let mut push = db.prepare_cached(PUSH).map_err(message)?;
                push.execute([origin, &json(events)]).map(drop).map_err(message)
            }
            Engine::Libsql(_) => self.db.execute_batch(&push_sql(origin, events)),
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
            assert!(fits || self.late, "{event:?} of {:?}", rows.get(&place));
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
        for empty in ["driftless_inbox", "driftless_values"] {
            let sql = format!("SELECT count(*) FROM {empty}");
            assert_eq!(self.number(&sql), 0, "rows are left in {empty}");
        }
        let sql = "SELECT cid IS NULL AND cafter IS NULL AND cold IS NULL AND hush IS NULL
                   FROM driftless_meta";
        assert_eq!(self.number(sql), 1, "an event is still named in driftless_meta");
        let sql = "SELECT count(*) FROM pragma_foreign_key_check";
        assert_eq!(self.number(sql), 0, "foreign keys are broken");
        let mut ids = HashSet::new();
        assert!(self.log(0).into_iter().all(|event| ids.insert(event.id)), "an id is there twice");
    }
}
