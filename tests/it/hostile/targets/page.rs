//! A page from a remote: whatever it says, it is integrated or refused, and nothing else is
//! touched.
//!
//! An input is a line with the last seq, the count, whether more follows (0 or 1) and whether the
//! application has triggers of its own (0 or 1), and below it the page's lines. The replica has
//! members `m1` and `m2`, with an update of the one and a delete of the other pending, and an
//! insert of `m3`; their ids are those of [`OWN`]. Lines may be lean, or the short ones of echoes.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeSet;

use driftless::event::conflict::ConflictRule;
use driftless::event::frame::{Sealed, seal, seal_line};
use driftless::event::page::unfold::{Layout, unfold};
use driftless::event::page::{Line, Page};
use driftless::event::{Columns, EventId, ReplicaId, Seq, read_columns};
use driftless::store::{Connection, Entry, EventState, LogFilter, Outcome, Setup, Store};
use tempfile::TempDir;
use ulid::Ulid;

/// The replicated tables, in all kinds, and others that are none of a remote's business.
const SCHEMA: &str = "
    CREATE TABLE members (id TEXT PRIMARY KEY, name TEXT, email TEXT UNIQUE);
    CREATE TABLE visits (member TEXT COLLATE NOCASE, day INTEGER, n REAL CHECK (n > 0),
        PRIMARY KEY (member, day)) WITHOUT ROWID;
    CREATE TABLE things (id INTEGER PRIMARY KEY, body BLOB, \"odd \"\"name\" NOT NULL DEFAULT 1,
        twice AS (id * 2));
    CREATE TABLE secrets (id TEXT PRIMARY KEY, v);
    CREATE TABLE seen (what TEXT);
    INSERT INTO secrets VALUES ('s1', 'not replicated');";

/// What an application may have beside it.
const TRIGGERS: &str = "
    CREATE TRIGGER watch AFTER INSERT ON members BEGIN INSERT INTO seen VALUES (new.id); END;
    CREATE TRIGGER refuse BEFORE UPDATE ON members WHEN new.name = 'refuse'
        BEGIN SELECT RAISE(ABORT, 'refused'); END;
    CREATE TRIGGER rollback BEFORE UPDATE ON members WHEN new.name = 'rollback'
        BEGIN SELECT RAISE(ROLLBACK, 'rolled back'); END;
    CREATE TRIGGER meddle AFTER UPDATE ON members
        BEGIN UPDATE visits SET n = n + 1; DELETE FROM things; END;";

/// The replica as each input finds it.
const RESET: &str = "
    BEGIN IMMEDIATE;
    UPDATE driftless_state SET replaying = 1, cursor = 0, clock = 0, sent = 0, chain = zeroblob(32);
    DELETE FROM members; DELETE FROM visits; DELETE FROM things; DELETE FROM seen;
    DELETE FROM driftless_log; DELETE FROM driftless_quarantine; DELETE FROM driftless_conflicts;
    DELETE FROM driftless_outbox; DELETE FROM driftless_notes; DELETE FROM driftless_staging;
    INSERT INTO members VALUES ('m1', 'Ana', 'a@x'), ('m2', 'Bea', 'b@x');
    INSERT INTO visits VALUES ('m1', 1, 1.5);
    INSERT INTO things VALUES (1, x'00', 'x');
    UPDATE driftless_state SET replaying = 0;
    UPDATE members SET name = 'Anna' WHERE id = 'm1';
    DELETE FROM members WHERE id = 'm2';
    INSERT INTO members VALUES ('m3', 'Cleo', 'c@x');
    UPDATE driftless_outbox SET ms = 1700000000000, tail = n;
    COMMIT;";

/// The ids of the pending events.
pub(crate) const OWN: [&str; 3] =
    ["01HF7YAT000000000100000001", "01HF7YAT000000000200000002", "01HF7YAT000000000300000003"];

/// What must stay as it is, whatever comes: the tables that are not replicated, our own settings,
/// and the schema.
const OTHERS: &str = "SELECT
    (SELECT group_concat(id || '=' || v) FROM secrets) || '/' ||
    (SELECT group_concat(name || '=' || value) FROM driftless_settings
     WHERE name NOT IN ('row_secret', 'rows_indexed')) || '/' ||
    (SELECT group_concat(name || '=' || conflict || triggers) FROM driftless_tables) || '/' ||
    (SELECT group_concat(name || coalesce(sql, '')) FROM sqlite_schema)";

/// Everything that an error must leave as it was.
const ALL: &str = "SELECT
    (SELECT cursor || '/' || clock || '/' || sent || '/' || hex(chain) FROM driftless_state) || ';' ||
    coalesce((SELECT group_concat(id || name || email) FROM members), '') || ';' ||
    coalesce((SELECT group_concat(member || day || n) FROM visits), '') || ';' ||
    coalesce((SELECT group_concat(id || hex(body)) FROM things), '') || ';' ||
    (SELECT count(*) FROM seen) || ';' ||
    (SELECT group_concat(n || aside || settled || coalesce(undo, '')) FROM driftless_outbox) || ';' ||
    (SELECT count(*) FROM driftless_log) || ';' || (SELECT count(*) FROM driftless_conflicts) || ';' ||
    (SELECT count(*) FROM driftless_quarantine)";

const NOW_MS: i64 = 1_700_000_000_000;

/// A replica, and its application's connection.
struct Replica {
    store: Store,
    app: Connection,
    others: String,
    _folder: TempDir,
}

thread_local! {
    static REPLICAS: RefCell<[Option<Replica>; 2]> = const { RefCell::new([None, None]) };
}

impl Replica {
    fn new(triggers: bool) -> Replica {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("replica.db");
        let app = Connection::open(&path).unwrap();
        app.execute_batch("PRAGMA synchronous = OFF").unwrap();
        app.execute_batch(SCHEMA).unwrap();
        if triggers {
            app.execute_batch(TRIGGERS).unwrap();
        }
        let tables = ["members", "visits", "things"];
        let tables = tables.map(|name| (name.to_owned(), ConflictRule::Row)).to_vec();
        let setup = Setup { url: "test".to_owned(), tables, epoch: Some("e".to_owned()) };
        let store = Store::init(&path, &setup, ReplicaId(Ulid(5))).unwrap();
        let others = text(&app, OTHERS);
        Replica { store, app, others, _folder: folder }
    }

    fn integrate(&mut self, page: &Page) {
        self.app.execute_batch(RESET).unwrap();
        let before = text(&self.app, ALL);
        let whole = self.store.completed(page).expect("the outbox can be read");
        let whole = whole.map(Cow::into_owned);
        match self.store.integrate(page, None, NOW_MS) {
            Ok(Outcome::Done(done)) => {
                let whole = whole.expect("its echoes are pending here");
                let lines = whole.lines().expect("it was integrated");
                assert_eq!(done.cursor, page.last.max(Seq(0)));
                assert_eq!(
                    (done.pulled, self.store.state().unwrap().cursor()),
                    (lines.len(), done.cursor)
                );
                self.check_outbox(&lines);
                self.check_log(&lines);
            }
            Ok(Outcome::NeedsWholeLines) => {
                assert!(whole.is_none(), "an echo is pending nowhere");
                assert_eq!(text(&self.app, ALL), before, "nothing has changed");
            }
            Ok(Outcome::NeedsLonger) => {
                assert!(page.more, "a page that is the last is taken as it is");
                assert_eq!(text(&self.app, ALL), before, "nothing has changed");
            }
            Err(error) => {
                assert_ne!(
                    error.kind(),
                    driftless::Kind::Storage,
                    "a page is no fault of ours: {error:?}"
                );
                assert_eq!(text(&self.app, ALL), before, "nothing has changed");
            }
        }
        assert_eq!(text(&self.app, OTHERS), self.others, "nothing else is touched");
        self.store.retry_quarantine(NOW_MS).expect("what waits can be tried again");
        assert_eq!(text(&self.app, OTHERS), self.others, "nothing else is touched");
        self.write();
    }

    /// A pending event stays until the remote has spoken of it.
    fn check_outbox(&self, lines: &[Line<'_>]) {
        let spoken: BTreeSet<_> = lines.iter().map(|line| line.id).collect();
        let mut left = BTreeSet::new();
        let filter = LogFilter { verdict: Some(EventState::Pending), ..LogFilter::default() };
        let mut note = |entry: Entry| {
            left.insert(entry.id());
            Ok(())
        };
        self.store.log(&filter, &mut note).expect("the outbox can be read");
        for id in OWN.map(|id| id.parse::<EventId>().unwrap()) {
            assert!(left.contains(&id) || spoken.contains(&id), "pending event {id} is gone");
        }
    }

    /// Each event is in the log, as it came.
    fn check_log(&self, lines: &[Line<'_>]) {
        let filter = LogFilter::default();
        let mut found = 0;
        let mut count = |entry: Entry| {
            found += usize::from(matches!(entry, Entry::Settled(_)));
            Ok(())
        };
        self.store.log(&filter, &mut count).expect("every frame opens");
        let events = lines.iter().filter(|line| line.event().is_ok() && line.damaged.is_none());
        assert_eq!(found, events.count(), "every event is sealed");
    }

    /// The application goes on, and what it does is captured.
    fn write(&self) {
        let before =
            text(&self.app, "SELECT count(*) || '' FROM driftless_outbox WHERE NOT settled");
        let insert =
            "INSERT OR REPLACE INTO things (id, body, \"odd \"\"name\") VALUES (-99, x'', 0)";
        self.app.execute(insert, []).expect("the application is not stopped");
        let after =
            text(&self.app, "SELECT count(*) || '' FROM driftless_outbox WHERE NOT settled");
        assert_ne!(before, after, "the application's write is captured");
    }
}

fn text(db: &Connection, sql: &str) -> String {
    let text: Option<Vec<u8>> =
        db.query_row(&format!("SELECT CAST(({sql}) AS BLOB)"), [], |row| row.get(0)).unwrap();
    String::from_utf8_lossy(&text.unwrap_or_default()).into_owned()
}

/// Integrates what `data` says.
///
/// # Panics
///
/// When one of the invariants does not hold.
pub(crate) fn run(data: &[u8]) {
    let end = data.iter().position(|&byte| byte == b'\n').unwrap_or(data.len());
    let head = String::from_utf8_lossy(&data[..end]);
    let mut words = head.split(' ').map(|word| word.parse::<i64>().unwrap_or(0));
    let mut next = || words.next().unwrap_or(0);
    let (last, count, more, triggers) = (next(), next(), next() == 1, next() == 1);
    let bytes = data.get(end + 1..).unwrap_or_default().to_vec();
    let count = usize::try_from(count).unwrap_or(0);
    let page = Page { bytes: unfold(bytes, &layouts()), last: Seq(last), count, more };
    if let Ok(lines) = page.lines() {
        lines.iter().for_each(check_line);
    }
    // An empty page never reaches the store with another end than the cursor.
    if count > 0 {
        REPLICAS.with_borrow_mut(|replicas| {
            let replica = &mut replicas[usize::from(triggers)];
            replica.get_or_insert_with(|| Replica::new(triggers)).integrate(&page);
        });
    }
}

/// The columns of the tables, as a request has them.
fn layouts() -> Vec<Layout> {
    let of = |table: &str, columns: &[&str]| Layout {
        table: table.to_owned(),
        columns: columns.iter().map(|&name| name.to_owned()).collect(),
    };
    vec![of("members", &["id", "name", "email"]), of("visits", &["member", "day", "n"])]
}

/// A line and the event that it is are sealed alike.
fn check_line(line: &Line<'_>) {
    let (Ok(event), None) = (line.event(), &line.damaged) else { return };
    let (mut before, mut after) = (Columns::new(), Columns::new());
    if let Some(json) = line.before {
        read_columns(json, &mut before).expect("it was read before");
    }
    if let Some(json) = line.after {
        read_columns(json, &mut after).expect("it was read before");
    }
    let mut bytes = Vec::new();
    let (before, after) = (line.before.map(|_| &before[..]), line.after.map(|_| &after[..]));
    let header = seal_line(line, before, after, &mut bytes);
    let sealed = Sealed { header: bytes.split_off(header), values: Some(bytes) };
    assert_eq!(sealed, seal(&event), "a line is sealed as its event is");
}
