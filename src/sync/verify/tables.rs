//! The comparison of a replica's tables with the remote's, as a machine: one request after the
//! other.
//!
//! [`TableCheck::ask`] returns a request, [`TableCheck::meanwhile`] does the local half of the work
//! while it is on its way, and [`TableCheck::answered`] handles the answer. These three use one
//! [`Snapshot`] of the store. The next request may use another one, so no snapshot is open for
//! longer than a request. The remote is checked with each answer, as everywhere, because it may be
//! another database meanwhile.

use std::sync::Arc;

use crate::error::{Code, Error, Kind, Result};
use crate::protocol::compare::{ComparedTable, Comparison, Coverage, Difference};
use crate::protocol::incarnation::Incarnations;
use crate::protocol::meta::{Asker, meta, read_meta};
use crate::protocol::remote_tables::{RemoteTables, SCHEMA_COOKIE, read_schema_cookie};
use crate::protocol::statements::{DEFINITIONS, TABLES};
use crate::remote::{Answer, Batch};
use crate::store::{Snapshot, State, Store};
use crate::sync::first_sync::remote_schema::{all_tables, read_registered, read_schema};
use crate::sync::remote_check::examine;

/// The request for the remote's tables, where none were kept or its schema has changed.
pub(in crate::sync) fn tables_batch() -> Batch {
    let statements = vec![DEFINITIONS.into(), SCHEMA_COOKIE.into(), TABLES.into()];
    Batch { statements, writes: false }
}

/// Reads the answer to [`tables_batch`].
///
/// # Errors
///
/// `Corrupt` when it is not one; `Usage` when a definition cannot be read.
pub(in crate::sync) fn read_tables(answer: &Answer) -> Result<RemoteTables> {
    let [definitions, cookie, registered] = answer.rows.as_slice() else {
        return Err(Error::new(Code::AnswerInvalid, "the remote's definitions are not complete"));
    };
    let schema = read_schema(definitions, cookie)?;
    let registered = read_registered(registered)?;
    let theirs = schema.catalog(&registered)?;
    Ok(schema.tables(all_tables(&[], &theirs, &registered, &schema)))
}

/// A comparison of a replica's tables with those of its remote.
pub struct TableCheck {
    comparison: Comparison,
    /// The version of the remote's schema for which the tables are known.
    cookie: i64,
    /// The replica, when the last request was made.
    known: Option<(State, Incarnations)>,
    /// Tables that cannot be compared, each with the reason.
    left_out: Vec<(String, String)>,
}

/// What an answer was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// Ask again.
    More,
    /// The remote's schema is another one than the tables are known for. Nothing was compared.
    SchemaChanged,
}

impl TableCheck {
    /// Compares the replicated tables, or those among them that are named.
    pub fn new(store: &Store, remote: &RemoteTables, named: &[String]) -> TableCheck {
        let is_named = |name: &str| {
            named.is_empty() || named.iter().any(|named| named.eq_ignore_ascii_case(name))
        };
        let (mut tables, mut left_out) = (Vec::new(), Vec::new());
        for known in store.tables().iter().filter(|known| is_named(&known.table.name)) {
            let name = &known.table.name;
            let there = remote.tables.iter().find(|t| t.table.name.eq_ignore_ascii_case(name));
            let table = match there {
                Some(there) => ComparedTable::new(known.table.clone(), there.table.clone()),
                None => Err(format!("the remote has no table `{name}`")),
            };
            match table {
                Ok(table) => tables.push(table),
                Err(reason) => left_out.push((name.clone(), reason)),
            }
        }
        let comparison = Comparison::new(tables.into());
        TableCheck { comparison, cookie: remote.cookie, known: None, left_out }
    }

    /// The tables that are compared, for [`Store::snapshot`].
    pub fn tables(&self) -> Arc<[ComparedTable]> {
        self.comparison.tables()
    }

    /// The next request, which only reads; `None` when all is compared. `state` and `incarnations`
    /// are the store's, from before the snapshot.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub fn ask(
        &mut self,
        snapshot: &mut Snapshot<'_>,
        state: State,
        incarnations: Incarnations,
    ) -> Result<Option<Batch>> {
        let Some(mut statements) = self.comparison.ask(snapshot)? else { return Ok(None) };
        let asker = Asker { replica: state.replica, place: state.place };
        statements.extend([meta(asker), SCHEMA_COOKIE.into()]);
        self.known = Some((state, incarnations));
        Ok(Some(Batch { statements, writes: false }))
    }

    /// Does the local half of the work, while the request is on its way.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub fn meanwhile(&mut self, snapshot: &mut Snapshot<'_>) -> Result<()> {
        self.comparison.meanwhile(snapshot)
    }

    /// Takes the answer to the request.
    ///
    /// # Errors
    ///
    /// `Refused` when the remote is not the one of this replica, `Corrupt` when the answer is not
    /// one, `Usage` when the replica is far behind, `Storage` when the database fails.
    pub fn answered(&mut self, snapshot: &mut Snapshot<'_>, answer: &Answer) -> Result<Checked> {
        let [results @ .., meta, cookie] = answer.rows.as_slice() else {
            return Err(Error::new(Code::AnswerInvalid, "the answer to a comparison is not one"));
        };
        let meta = read_meta(meta)?;
        if let Some((state, incarnations)) = &self.known {
            let examined =
                examine(state.epoch.as_deref(), state.place, incarnations, meta.as_ref());
            examined.map_err(|(error, _)| error)?;
        }
        if read_schema_cookie(cookie)? != self.cookie {
            self.comparison.give_up();
            return Ok(Checked::SchemaChanged);
        }
        self.comparison.answered(snapshot, results)?;
        Ok(Checked::More)
    }

    /// After an error of the remote: whether another request may work, which asks for less or in
    /// another way.
    pub fn recover(&mut self, error: &Error) -> bool {
        match error.kind() {
            Kind::Rejected => self.comparison.without_digests(),
            Kind::TooLarge => self.comparison.too_large(),
            _ => {
                self.comparison.give_up();
                false
            }
        }
    }

    /// Nothing came of the last request: it is asked again.
    pub fn give_up(&mut self) {
        self.comparison.give_up();
    }

    /// Takes the differences that were found since the last call.
    pub fn take_found(&mut self) -> Vec<Difference> {
        self.comparison.take_found()
    }

    /// How many rows are compared so far, and how many there are here.
    pub fn progress(&self) -> (u64, u64) {
        self.comparison.progress()
    }

    /// What was compared, by the name of each table.
    pub fn coverage(&self) -> Vec<(String, Coverage)> {
        let names = self.comparison.tables();
        let covered = self.comparison.coverage().iter().cloned();
        names.iter().map(|table| table.name().to_owned()).zip(covered).collect()
    }

    /// The tables that cannot be compared, each with the reason.
    pub fn left_out(&self) -> &[(String, String)] {
        &self.left_out
    }
}
