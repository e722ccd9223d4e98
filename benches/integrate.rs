//! Pages of the remote log against the local database, with a plain SQLite twin: the same rows by
//! prepared statements in transactions of the same size.

use divan::Bencher;
use divan::counter::ItemsCount;
use driftless::event::{ReplicaId, Seq};
use driftless::page::Page;
use driftless::store::{Outcome, Setup, Store};
use driftless::verdict::ConflictRule;
use rusqlite::Connection;
use tempfile::TempDir;
use ulid::Ulid;

fn main() {
    divan::main();
}

const EVENTS: usize = 100_000;
const PAGE: usize = 5_000;

const SCHEMA: &str = "CREATE TABLE visits (id TEXT PRIMARY KEY, member INTEGER, at TEXT, door TEXT,
    plan TEXT, cents INTEGER, note TEXT, flags INTEGER, weight REAL, updated TEXT) WITHOUT ROWID;
    CREATE INDEX visits_member ON visits (member, at); CREATE INDEX visits_at ON visits (at);";

struct Item {
    id: String,
    member: usize,
    at: String,
    cents: usize,
}

fn items() -> Vec<Item> {
    let mut random = fastrand::Rng::with_seed(1);
    (0..EVENTS)
        .map(|index| Item {
            id: Ulid(random.u128(..) >> 1).to_string(),
            member: random.usize(0..500),
            at: format!(
                "2026-{:02}-{:02}T{:02}:15:00Z",
                index % 12 + 1,
                index % 28 + 1,
                index % 24
            ),
            cents: random.usize(0..10_000),
        })
        .collect()
}

fn pages() -> Vec<Page> {
    let mut random = fastrand::Rng::with_seed(2);
    let mut seq = 0_i64;
    items()
        .chunks(PAGE)
        .map(|items| {
            let mut page = Page { more: true, ..Page::default() };
            for item in items {
                seq += 1;
                if page.count > 0 {
                    page.bytes.push(b'\n');
                }
                let id = Ulid(random.u128(..) >> 1);
                let line = format!(
                    r#"[{seq},"{id}","web",null,null,"visits",["{0}"],"insert",null,{{"id":"{0}","member":{1},"at":"{2}","door":"front","plan":"monthly","cents":{3},"note":"came in with a guest","flags":3,"weight":{{"r":"7205759403792794p-50"}},"updated":"{2}"}},0,null,null,null,"applied",null,1700000000000]"#,
                    item.id, item.member, item.at, item.cents
                );
                page.bytes.extend_from_slice(line.as_bytes());
                page.count += 1;
                page.last = Seq(seq);
            }
            page
        })
        .collect()
}

fn replica() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("desk.db");
    Connection::open(&path).unwrap().execute_batch(SCHEMA).unwrap();
    let tables = vec![("visits".to_owned(), ConflictRule::Row)];
    let setup = Setup { url: "bench".to_owned(), tables, epoch: None };
    let store = Store::init(&path, &setup, ReplicaId(Ulid(1))).unwrap();
    (dir, store)
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn integrate(bencher: Bencher<'_, '_>) {
    let pages = pages();
    bencher.counter(ItemsCount::new(EVENTS)).with_inputs(replica).bench_local_values(
        |(dir, mut store)| {
            for page in &pages {
                let done = store.integrate(page, None, 0).unwrap();
                assert!(matches!(done, Outcome::Done(_)));
            }
            (dir, store)
        },
    );
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn plain(bencher: Bencher<'_, '_>) {
    let items = items();
    let open = || {
        let dir = tempfile::tempdir().unwrap();
        let db = Connection::open(dir.path().join("plain.db")).unwrap();
        db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL").unwrap();
        db.execute_batch("PRAGMA cache_size = -16384").unwrap();
        db.execute_batch(SCHEMA).unwrap();
        (dir, db)
    };
    bencher.counter(ItemsCount::new(EVENTS)).with_inputs(open).bench_local_values(|(dir, db)| {
        for items in items.chunks(PAGE) {
            let tx = db.unchecked_transaction().unwrap();
            let sql = "INSERT INTO visits VALUES (?1, ?2, ?3, 'front', 'monthly', ?4, \
                       'came in with a guest', 3, 6.4, ?3)";
            let mut insert = tx.prepare_cached(sql).unwrap();
            for item in items {
                insert
                    .execute((&item.id, item.member as i64, &item.at, item.cents as i64))
                    .unwrap();
            }
            drop(insert);
            tx.commit().unwrap();
        }
        (dir, db)
    });
}
