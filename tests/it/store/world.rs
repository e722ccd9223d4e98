//! A remote and its desktops, in one process: real stores, real capture triggers on both sides, and
//! between them the two statements that a push and a pull come to.

use std::collections::BTreeMap;

use driftless::catalog::{Catalog, Table};
use driftless::event::conflict::ConflictRule;
use driftless::event::page::{PULL_LINE, Page};
use driftless::event::{EventId, Image, Op, ReplicaId, RowKey, Seq};
use driftless::protocol::{Outgoing, push};
use driftless::store::{
    Entry, EventState, Integrated, LogFilter, Outcome, PushLimit, Setup, Store,
};
use rusqlite::Connection;
use tempfile::TempDir;
use ulid::Ulid;

use crate::support::local_remote::{rows as all_rows, rows_of};
use crate::support::remote_schema::{found, install};

/// Everything in one push.
pub(crate) const ALL: PushLimit = PushLimit::of(10_000, 10 << 20);
/// The time at which all tests take place: ms since 1970.
pub(crate) const NOW: i64 = 1_700_000_000_000;

/// Rows of a database, by table and key.
pub(crate) type Rows = BTreeMap<(String, String), Image>;

/// The remote: a database with our schema, which a web application writes to.
pub(crate) struct Remote {
    pub(crate) db: Connection,
    tables: Vec<Table>,
    rule: ConflictRule,
    units: u128,
}

impl Remote {
    /// A remote with these tables, and triggers of the web application's own.
    pub(crate) fn new(schema: &str, web: &str, rule: ConflictRule) -> Self {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch("PRAGMA foreign_keys = ON").unwrap();
        db.execute_batch(schema).unwrap();
        db.execute_batch(web).unwrap();
        let tables = Catalog::read(&db).unwrap().tables;
        for sql in install(&tables, |_| rule) {
            db.execute_batch(&sql).unwrap();
        }
        Remote { db, tables, rule, units: 1 }
    }

    /// Writes as the web application does. What a constraint refuses is rolled back.
    pub(crate) fn web(&self, sql: &str) {
        batch(&self.db, sql);
    }

    /// Delivers events; those that make it fail are isolated and recorded as rejected.
    pub(crate) fn deliver(&mut self, origin: ReplicaId, events: &[Outgoing]) {
        self.units += 1;
        let unit = Ulid(self.units);
        let json: Vec<_> = events.iter().map(spell).collect();
        self.db.execute_batch("BEGIN IMMEDIATE").unwrap();
        let written = self.db.execute(
            "INSERT INTO driftless_inbox (origin, unit, id, actor, tbl, pk, op, before, after, base,
                 pair, via, other, image, late, refuse)
             SELECT ?1, ?2, value ->> 0, value ->> 1, value ->> 2, value -> 3, value ->> 4,
                 nullif(value -> 5, 'null'), nullif(value -> 6, 'null'), value ->> 7, value ->> 8,
                 value ->> 9, nullif(value -> 10, 'null'), nullif(value -> 11, 'null'),
                 value ->> 12, value ->> 13
             FROM json_each(?3) ORDER BY key",
            [origin.to_string(), unit.to_string(), format!("[{}]", json.join(","))],
        );
        let tables = found(&self.tables, |_| self.rule, |sql| all_rows(&self.db, sql).unwrap());
        let planned = push::of_runs(&push::runs(events, &tables), &tables);
        let run = |statement| rows_of(&self.db, statement).map(drop);
        let written = written.and_then(|_| planned.iter().try_for_each(run));
        let written = written.and_then(|()| self.db.execute_batch("COMMIT"));
        let Err(error) = written else { return };
        if !self.db.is_autocommit() {
            self.db.execute_batch("ROLLBACK").unwrap();
        }
        let mut events = events.to_vec();
        if events.iter().any(|event| event.defer_fk) {
            events.iter_mut().for_each(|event| event.defer_fk = false);
            return self.deliver(origin, &events);
        }
        let paired = |at: usize| events[at].op == Op::Insert && events[at].pair.is_some();
        if events.len() == 1 || events.len() == 2 && paired(1) {
            assert!(events[0].refuse.is_none(), "cannot even be refused: {error}");
            events.iter_mut().for_each(|event| event.refuse = Some(error.to_string()));
            return self.deliver(origin, &events);
        }
        let half = events.len() / 2;
        let half = half + usize::from(paired(half));
        self.deliver(origin, &events[..half]);
        if half < events.len() {
            self.deliver(origin, &events[half..]);
        }
    }

    /// The next `limit` events of the log, units or not.
    pub(crate) fn page(&self, after: Seq, limit: usize) -> Page {
        let sql = format!(
            "SELECT {PULL_LINE}, seq FROM driftless_events WHERE seq > ?1 ORDER BY seq LIMIT ?2"
        );
        let mut statement = self.db.prepare(&sql).unwrap();
        let mut rows = statement.query((after.0, limit as i64)).unwrap();
        let mut page = Page { last: after, ..Page::default() };
        while let Some(row) = rows.next().unwrap() {
            if page.count > 0 {
                page.bytes.push(b'\n');
            }
            page.bytes.extend_from_slice(row.get_ref(0).unwrap().as_bytes().unwrap());
            page.last = Seq(row.get(1).unwrap());
            page.count += 1;
        }
        let head: i64 = self
            .db
            .query_row("SELECT coalesce(max(seq), 0) FROM driftless_events", [], |row| row.get(0))
            .unwrap();
        page.more = head > page.last.0;
        page
    }

    /// What the log has of a row.
    pub(crate) fn history(&self, place: &(String, String)) -> Vec<String> {
        let sql = format!(
            "SELECT {PULL_LINE} FROM driftless_events WHERE tbl = '{}' AND pk = '{}' ORDER BY seq",
            place.0, place.1
        );
        rows(&self.db, &sql)
    }

    /// The rows as the log up to `until` says they are.
    pub(crate) fn fold(&self, until: Seq) -> Rows {
        let mut rows = Rows::new();
        let all = self.page(Seq(0), usize::MAX >> 1);
        for line in all.lines().unwrap() {
            if line.seq > until || !line.verdict.is_applied() {
                continue;
            }
            let place = (line.table.to_string(), line.key.to_owned());
            let after = line.after.map(|json| Image::parse(json).unwrap());
            // What a foreign key did to the very row whose key changes is logged in front of its
            // insert, which has it already.
            if line.op == Op::Update && !rows.contains_key(&place) {
                continue;
            }
            apply(&mut rows, place, line.op, after.as_ref());
        }
        rows
    }
}

/// Does to `rows` what an event does.
pub(crate) fn apply(rows: &mut Rows, place: (String, String), op: Op, after: Option<&Image>) {
    match op {
        Op::Insert => {
            rows.insert(place, after.unwrap().clone());
        }
        Op::Update => {
            let row = rows.get_mut(&place);
            row.unwrap_or_else(|| panic!("an update of {place:?}, which is not there"))
                .overlay(after.unwrap())
        }
        Op::Delete => {
            rows.remove(&place);
        }
    }
}

fn spell(event: &Outgoing) -> String {
    let text = |text: Option<&str>| serde_json::to_string(&text).unwrap();
    let json = |json: Option<&str>| json.unwrap_or("null").to_owned();
    let id = |id: Option<EventId>| text(id.map(|id| id.to_string()).as_deref());
    format!(
        "[{},{},{},{},{},{},{},{},{},{},{},{},{},{}]",
        id(Some(event.id)),
        text(event.actor.as_deref()),
        text(Some(&event.table)),
        event.key.0,
        text(Some(event.op.as_str())),
        json(event.before.as_deref()),
        json(event.after.as_deref()),
        event.base,
        id(event.pair),
        id(event.via),
        json(event.other.as_ref().map(|key| key.0.as_str())),
        json(event.image.as_deref()),
        if event.defer_fk { "1" } else { "null" },
        text(event.refuse.as_deref()),
    )
}

/// Runs statements in one transaction; a constraint that refuses one rolls all back.
fn batch(db: &Connection, sql: &str) {
    let done = db.execute_batch(&format!("BEGIN IMMEDIATE; {sql}; COMMIT"));
    if let Err(error) = done {
        let constraint = rusqlite::ErrorCode::ConstraintViolation;
        assert_eq!(error.sqlite_error_code(), Some(constraint), "{error} in {sql}");
        if !db.is_autocommit() {
            db.execute_batch("ROLLBACK").unwrap();
        }
    }
}

/// A desktop: a replica and the application that writes to it.
pub(crate) struct Desk {
    pub(crate) store: Store,
    pub(crate) app: Connection,
    pub(crate) id: ReplicaId,
    dir: TempDir,
}

impl Desk {
    /// A fresh desktop with these tables, and local ones and triggers of the application's.
    pub(crate) fn new(number: u128, schema: &str, local: &str, rule: ConflictRule) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("desk.db");
        let app = Connection::open(&path).unwrap();
        app.execute_batch("PRAGMA foreign_keys = ON; PRAGMA synchronous = OFF").unwrap();
        app.execute_batch(schema).unwrap();
        let catalog = Catalog::read(&app).unwrap();
        app.execute_batch(local).unwrap();
        let tables = catalog.tables.iter().map(|table| (table.name.clone(), rule)).collect();
        let setup = Setup { url: "test".to_owned(), tables, epoch: None };
        let id = ReplicaId(Ulid(number));
        let store = Store::init(&path, &setup, id).unwrap();
        Desk { store, app, id, dir }
    }

    /// A desktop whose database another driftless has left: its dump, without the powers of two.
    pub(crate) fn of_dump(dump: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("desk.db");
        let app = Connection::open(&path).unwrap();
        app.execute_batch(dump).unwrap();
        app.execute_batch(include_str!("../../../schema/pow2.sql")).unwrap();
        app.execute_batch("PRAGMA foreign_keys = ON; PRAGMA synchronous = OFF").unwrap();
        let store = Store::open(&path).unwrap();
        let id = "SELECT value FROM driftless_settings WHERE name = 'replica'";
        let id: String = app.query_row(id, [], |row| row.get(0)).unwrap();
        Desk { store, app, id: id.parse().unwrap(), dir }
    }

    /// The replicator's process ends, and another one begins.
    pub(crate) fn reopen(&mut self) {
        let path = self.dir.path().join("desk.db");
        self.store = Store::open(&path).unwrap();
    }

    /// Its file.
    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("desk.db")
    }

    /// Writes as the application does. What a constraint refuses is rolled back.
    pub(crate) fn write(&self, sql: &str) {
        batch(&self.app, sql);
    }

    /// Pushes what fits into the limit.
    pub(crate) fn push(&mut self, remote: &mut Remote, limit: PushLimit) -> usize {
        let Some(push) = self.store.outgoing(limit).unwrap() else { return 0 };
        remote.deliver(self.id, &push.events);
        self.store.sent(push.last_n).unwrap();
        push.events.len()
    }

    /// Pulls one page, made longer until it can be applied.
    pub(crate) fn pull(&mut self, remote: &Remote, mut limit: usize) -> Integrated {
        loop {
            let page = remote.page(self.store.state().unwrap().cursor(), limit);
            match self.store.integrate(&page, None, NOW).unwrap() {
                Outcome::Done(done) => return done,
                Outcome::NeedsLonger => limit *= 4,
                Outcome::NeedsWholeLines => panic!("the page has whole lines"),
            }
        }
    }

    /// Pushes and pulls everything.
    pub(crate) fn sync(&mut self, remote: &mut Remote) -> Integrated {
        while self.push(remote, ALL) > 0 {}
        self.pull(remote, 1_000_000)
    }

    /// A query's rows, values joined with a bar.
    pub(crate) fn rows(&self, sql: &str) -> Vec<String> {
        rows(&self.app, sql)
    }

    /// The rows as they should be: the remote's log up to the cursor, pending events on top.
    pub(crate) fn expected(&self, remote: &Remote) -> Rows {
        let mut rows = remote.fold(self.store.state().unwrap().cursor());
        let filter = LogFilter { verdict: Some(EventState::Pending), ..LogFilter::default() };
        self.store
            .log(&filter, &mut |entry| {
                let Entry::Pending(event) = entry else { panic!("it is pending") };
                let place = (event.table.clone(), event.key.0.clone());
                // A foreign key's action on the very row whose key changes is captured under the
                // new key, before that key's insert, which has the effect in it already.
                let early = event.op == Op::Update && !rows.contains_key(&place);
                if !event.aside && !early {
                    apply(&mut rows, place, event.op, event.after.as_ref());
                }
                Ok(())
            })
            .unwrap();
        rows
    }

    /// The rows as they are.
    pub(crate) fn actual(&self) -> Rows {
        actual(&self.app)
    }
}

/// A query's rows, values joined with a bar.
pub(crate) fn rows(db: &Connection, sql: &str) -> Vec<String> {
    let mut statement = db.prepare(sql).unwrap();
    let width = statement.column_count();
    let mut found = statement.query([]).unwrap();
    let mut rows = Vec::new();
    while let Some(row) = found.next().unwrap() {
        let values: Vec<_> = (0..width)
            .map(|column| match row.get_ref(column).unwrap() {
                rusqlite::types::ValueRef::Null => "-".to_owned(),
                rusqlite::types::ValueRef::Integer(integer) => integer.to_string(),
                rusqlite::types::ValueRef::Real(real) => format!("{real:?}"),
                rusqlite::types::ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
                rusqlite::types::ValueRef::Blob(blob) => format!("{blob:?}"),
            })
            .collect();
        rows.push(values.join("|"));
    }
    rows
}

/// All rows of all tables that can be replicated, under their keys as they stand (the tests' keys
/// are text; where a collation folds them, in lower case).
pub(crate) fn actual(db: &Connection) -> Rows {
    let mut rows = Rows::new();
    for table in Catalog::read(db).unwrap().tables {
        let names: Vec<_> = table.column_names().map(driftless::catalog::ident).collect();
        let sql = format!("SELECT {} FROM {}", names.join(", "), table.name);
        let mut statement = db.prepare(&sql).unwrap();
        let mut found = statement.query([]).unwrap();
        while let Some(row) = found.next().unwrap() {
            let mut image = Image::default();
            for (index, column) in table.columns.iter().enumerate() {
                use driftless::event::value::Value;
                let value = match row.get_ref(index).unwrap() {
                    rusqlite::types::ValueRef::Null => Value::Null,
                    rusqlite::types::ValueRef::Integer(integer) => Value::Integer(integer),
                    rusqlite::types::ValueRef::Real(real) => Value::Real(real),
                    rusqlite::types::ValueRef::Text(text) => Value::Text(text.to_vec()),
                    rusqlite::types::ValueRef::Blob(blob) => Value::Blob(blob.to_vec()),
                };
                image.0.push((column.name.clone(), value));
            }
            let key: Vec<_> = table
                .key
                .iter()
                .zip(&table.key_collations)
                .map(|(&index, collation)| match &image.0[index].1 {
                    driftless::event::value::Value::Text(text) if collation.name() == "NOCASE" => {
                        driftless::event::value::Value::Text(text.to_ascii_lowercase())
                    }
                    other => other.clone(),
                })
                .collect();
            rows.insert((table.name.clone(), RowKey::from_values(&key).0), image);
        }
    }
    rows
}
