//! Opening a replica.

use std::cell::RefCell;
use std::path::Path;

use rusqlite::Connection;

use super::Store;
use super::connection::{OnConnect, check_version, connect, is_replica, setting};
use super::file_state::OpenFile;
use super::local::dependents::Dependents;
use super::outbox::Outbox;
use super::rows::trigger_guard::Guard;
use super::schema::notice::SchemaVersionsSeen;
use super::schema::upgrade::upgrade;
use crate::error::{Code, Error, Result};
use crate::event::ReplicaId;

impl Store {
    /// Opens a database that [`Store::init`] has turned into a replica.
    ///
    /// # Errors
    ///
    /// `Usage` when there is no such file or it is not a replica. `Storage`, naming the file, when
    /// it is not a database, is damaged, read-only or locked for more than 5 s, or was written by a
    /// newer driftless.
    pub fn open(path: &Path) -> Result<Store> {
        Store::open_with(path, &OnConnect::default())
    }

    /// The same, with the application's callback for its connections.
    ///
    /// # Errors
    ///
    /// As for [`Store::open`], and the errors of `on_connect`.
    pub fn open_with(path: &Path, on_connect: &OnConnect) -> Result<Store> {
        let mut db = connect(path, false)?;
        on_connect.run(&db)?;
        if !is_replica(&db)? {
            let message = format!("{} is not a replica yet", path.display());
            return Err(Error::new(Code::NotAReplica, message));
        }
        check_version(&db, path)?;
        upgrade(&mut db)?;
        Store::adopt_connection(db, path, on_connect)
    }

    /// A store over a connection to a replica.
    pub(super) fn adopt_connection(
        db: Connection,
        path: &Path,
        on_connect: &OnConnect,
    ) -> Result<Store> {
        let id: String = setting(&db, "replica")?.ok_or_else(|| {
            let message = format!("{} has lost its replica's identity", path.display());
            Error::new(Code::IdentityLost, message)
        })?;
        let id: ReplicaId = id.parse().map_err(|_| {
            let message = format!("{} has an identity that is not valid", path.display());
            Error::new(Code::IdentityLost, message)
        })?;
        let guard = Guard::new(&db)?;
        let mut store = Store {
            db,
            id,
            tables: Vec::new(),
            dependents: Dependents::default(),
            dangling: RefCell::default(),
            schema_version: -1,
            looks: SchemaVersionsSeen::default(),
            suspects: Vec::new(),
            guard,
            outbox: Outbox::default(),
            left_out: RefCell::default(),
            on_connect: on_connect.clone(),
            file: OpenFile::at(path),
        };
        store.load_definitions()?;
        Ok(store)
    }
}
