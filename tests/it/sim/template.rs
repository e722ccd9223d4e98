//! The databases of a shape, made once: the remote's after the first sync, a replica's, and a
//! desktop's before its first.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use driftless::event::ReplicaId;
use driftless::event::conflict::ConflictRule;
use driftless::sync::{Plan, Tables, initialise};
use rusqlite::Connection;
use tempfile::TempDir;

use super::server::Server;
use super::shape::{Shape, WORLDS_A_SHAPE};
use super::sql::Clock;

/// When worlds begin: ms since 1970.
pub(crate) const BEGIN_MS: i64 = 1_700_000_000_000;

/// Shapes whose databases are kept.
const KEPT: usize = 4;

/// What was made, by the shapes' numbers.
type Made = HashMap<u64, (Arc<Shape>, Arc<Template>)>;

/// See the module.
pub(crate) struct Template {
    pub(crate) remote: Vec<u8>,
    pub(crate) replica: Vec<u8>,
    pub(crate) bare: Vec<u8>,
    /// The remote's tables alone, without rows.
    pub(crate) blank: Vec<u8>,
}

/// A folder for databases: in memory, where the system has a place for that.
pub(crate) fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made =
        if memory.is_dir() { TempDir::with_prefix_in("sim-", memory) } else { tempfile::tempdir() };
    made.or_else(|_| tempfile::tempdir()).unwrap()
}

/// What a replica is to be.
pub(crate) fn plan(shape: &Shape, path: PathBuf, number: u128) -> Plan {
    let rule = if shape.columns_rule { ConflictRule::Columns } else { ConflictRule::Row };
    Plan {
        path,
        url: "memory://remote".to_owned(),
        tables: Tables::Named(shape.tables.iter().map(|table| table.name.clone()).collect()),
        rules: shape.tables.iter().map(|table| (table.name.clone(), rule)).collect(),
        prefer: driftless::store::Preferences::default(),
        replica: identity(number),
        epoch: ulid::Ulid::from_parts(BEGIN_MS as u64, 1 << 40 | number),
        on_connect: driftless::store::OnConnect::default(),
    }
}

/// The identity of a world's replica.
pub(crate) fn identity(number: u128) -> ReplicaId {
    ReplicaId(ulid::Ulid::from_parts(BEGIN_MS as u64, number))
}

impl Template {
    /// That of a shape, made now or before.
    pub(crate) fn of(shape: &Arc<Shape>, seed: u64) -> Arc<Template> {
        static MADE: Mutex<Option<Made>> = Mutex::new(None);
        let number = seed / WORLDS_A_SHAPE;
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        let made = made.get_or_insert_default();
        match made.get(&number) {
            Some((known, template)) if known == shape => return Arc::clone(template),
            _ => {}
        }
        if made.len() >= KEPT {
            let oldest = made.keys().copied().min().expect("there are some");
            made.remove(&oldest);
        }
        let template = Arc::new(Template::new(shape));
        made.insert(number, (Arc::clone(shape), Arc::clone(&template)));
        template
    }

    fn new(shape: &Shape) -> Self {
        let folder = folder();
        let at = |name: &str| folder.path().join(name);
        let clock = Clock::new(BEGIN_MS.into());
        let server = Arc::new(Server::new(at("remote.db"), clock, 1, true));
        server.with(|db| {
            db.execute_batch(&shape.schema()).unwrap();
            shape.rows.iter().for_each(|sql| db.execute_batch(sql).unwrap());
            let early: &[String] = if shape.late { &[] } else { &shape.web };
            early.iter().for_each(|sql| db.execute_batch(sql).unwrap());
        });
        let db = Connection::open(at("blank.db")).unwrap();
        db.execute_batch(&shape.schema()).unwrap();
        shape.web.iter().for_each(|sql| db.execute_batch(sql).unwrap());
        drop(db);
        let db = Connection::open(at("bare.db")).unwrap();
        db.pragma_update(None, "journal_mode", "WAL").unwrap();
        db.execute_batch(&shape.schema_of_desktop()).unwrap();
        shape.local.iter().for_each(|sql| db.execute_batch(sql).unwrap());
        drop(db);
        std::fs::copy(at("bare.db"), at("replica.db")).unwrap();
        drop(initialise(plan(shape, at("replica.db"), 0), server.clone(), &mut |_| {}).unwrap());
        if shape.late {
            server.with(|db| shape.web.iter().for_each(|sql| db.execute_batch(sql).unwrap()));
        }
        drop(server);
        let read = |name: &str| std::fs::read(at(name)).unwrap();
        Template {
            remote: read("remote.db"),
            replica: read("replica.db"),
            bare: read("bare.db"),
            blank: read("blank.db"),
        }
    }
}
