//! The installation on the remote, in as many requests as needed.
//!
//! A table's triggers have about 3 kB for fourteen columns, so nearly every installation is one
//! request. With hundreds of tables, it is divided between two of them. Each request is one
//! transaction:
//!
//! * The first request drops all our triggers of any version before anything else. It creates the
//!   shared tables, the application's missing tables, and the triggers of each table that had some.
//!   So each write is captured, by the old triggers or by the new ones, and no trigger meets shared
//!   tables that it was not made for. The other tables may follow in later requests.
//! * Each request checks that the remote's schema is still the one that was read, or that the
//!   previous request has left. So if two installations run at the same time, one fails, and starts
//!   again on top of the other one's result. Nothing is created from definitions that the web
//!   application has changed meanwhile.
//! * The first request removes the fingerprints, and the last one writes them. A remote with a part
//!   of an installation counts as not installed, and the next `init` repeats all of it.
//! * The first request writes the version: a partial installation is of this version, and an
//!   earlier program pushes nothing from then on.
//!
//! A request whose answer was lost is not repeated. The definitions are read again.

use crate::capture::{RemoteCapture, Trigger};
use crate::catalog::{columns_json, ident};
use crate::error::{Code, Error, Result};
use crate::event::Seq;
use crate::event::json::names_json;
use crate::event::value::Value;
use crate::protocol::Statement;
use crate::protocol::meta::{HEAD, META, Meta, SCHEMA_VERSION, read_head, read_meta};
use crate::protocol::remote_tables::{Gap, RemoteTable, SCHEMA_COOKIE, read_schema_cookie};
use crate::protocol::statements::{GAPS, OWED};
use crate::remote::{Answer, Batch, Rows};
use crate::sync::first_sync::compare::Comparison;
use crate::sync::first_sync::drift::debts::{Owed, note, read_gaps, read_owed};
use crate::sync::first_sync::remote_schema::{
    FoundTrigger, INBOX, POWERS, REMOTE_SCHEMA, Schema, split,
};

/// The intended size of a request, in bytes of SQL. It is smaller than a server accepts, so that
/// the transaction is short: a server ends a write transaction after 5 s if another writer waits.
pub(in crate::sync) const REQUEST_BYTES: usize = 1 << 20;

/// Tables that are dropped: one of version 1 that no longer exists, and one that is created anew.
const DROPPED: [&str; 2] = ["driftless_values", "driftless_inbox"];

/// The table that a check inserts into. It is the first object that is created on a remote.
const INSTALLS: &str = "driftless_installs";

/// The statements for one table.
#[derive(Clone, Debug)]
struct Group {
    table: String,
    /// Whether the table has triggers of ours, which the first request drops.
    replaces: bool,
    /// They register it, drop its capture triggers, and create new ones.
    statements: Vec<Statement>,
    bytes: usize,
}

impl Group {
    fn of(there: &RemoteTable, made: &[Trigger], schema: &Schema) -> Group {
        let RemoteTable { table, rule, .. } = there;
        let sql = "INSERT INTO driftless_tables (name, conflict, triggers, columns) \
             VALUES (?, ?, '', ?) ON CONFLICT (name) DO UPDATE SET conflict = excluded.conflict, \
             triggers = excluded.triggers, columns = excluded.columns";
        let columns: Vec<_> = table.column_names().map(str::to_owned).collect();
        let columns = columns_json(&columns, &table.names());
        let row = [table.name.as_str(), rule.as_str(), &columns];
        let mut statements = vec![Statement::new(sql, row.map(Value::from))];
        for made in made {
            statements.extend([drop_trigger(&made.name), made.sql.as_str().into()]);
        }
        Group {
            table: table.name.clone(),
            replaces: schema.our_triggers().any(|old| old.is_on(&table.name)),
            bytes: statements.iter().map(|made| made.sql.len()).sum(),
            statements,
        }
    }
}

/// An installation that is in progress.
#[derive(Clone, Debug)]
pub(in crate::sync) struct Installation {
    /// Creates [`INSTALLS`] if it is missing.
    before: Option<Statement>,
    /// The statements of the first request that are neither checks nor for one table.
    first: Vec<Statement>,
    /// Those that the first request must have come first.
    groups: Vec<Group>,
    tail: Vec<Statement>,
    /// The version of the remote's schema that the next request must find.
    cookie: i64,
    /// The number of groups that are installed.
    done: usize,
    begun: bool,
    limit: usize,
}

/// What is left when capture is complete.
pub(in crate::sync) struct Left {
    gaps: Vec<Gap>,
    owed: Vec<Owed>,
}

impl Left {
    /// The tables for which capture may have missed writes, and the columns that are owed.
    pub(in crate::sync) fn into_parts(self) -> (Vec<Gap>, Vec<Owed>) {
        (self.gaps, self.owed)
    }
}

/// The result of an answer.
pub(in crate::sync) enum Installed {
    /// More requests are needed.
    Part,
    /// Everything is installed: the remote's identity, the end of its log, the version of its
    /// schema, and what is left.
    All(Meta, Seq, i64, Left),
}

impl Installation {
    /// `token` is this replica's. `all` are the tables to register, with the triggers of `capture`.
    /// A request has at most `limit` bytes, if that is possible.
    pub(in crate::sync) fn new(
        epoch: &str,
        token: &str,
        schema: &Schema,
        found: &Comparison,
        all: &[RemoteTable],
        capture: &RemoteCapture,
        limit: usize,
    ) -> Installation {
        let fixed = |sql| split(sql).into_iter().map(Statement::from);
        let mut first: Vec<_> =
            schema.our_triggers().map(FoundTrigger::name).map(drop_trigger).collect();
        first.extend(DROPPED.map(|name| format!("DROP TABLE IF EXISTS {name}").into()));
        first.extend(fixed(REMOTE_SCHEMA));
        if !schema.has("driftless_pow2") {
            first.extend(fixed(POWERS));
        }
        let meta = "INSERT INTO driftless_meta (one, epoch, version) VALUES (1, ?, ?) \
             ON CONFLICT (one) DO UPDATE SET version = excluded.version";
        first.push(Statement::new(meta, [epoch.into(), SCHEMA_VERSION.into()]));
        // A program of version 1 that has begun to install checks for its own token.
        let sign = "INSERT INTO driftless_installs (one, token) VALUES (1, ?) \
             ON CONFLICT (one) DO UPDATE SET token = excluded.token";
        first.push(Statement::new(sign, [token.into()]));
        first.push("UPDATE driftless_tables SET triggers = ''".into());
        first.extend(capture.shared().iter().map(|sql| Statement::from(sql.as_str())));
        first.extend(fixed(INBOX));
        let makers = found.make_there().iter().flat_map(|(_, makers)| makers.clone());
        first.extend(makers.map(Statement::from));
        let mut groups: Vec<_> = all
            .iter()
            .zip(capture.tables())
            .map(|(there, (_, made))| Group::of(there, made, schema))
            .collect();
        groups.sort_by_key(|group| !group.replaces);
        let registered = registration(all, capture.fingerprint());
        let tail = vec![registered, GAPS.into(), OWED.into(), META.into(), HEAD.into()];
        let before = split(REMOTE_SCHEMA).into_iter().find(|sql| sql.contains(INSTALLS));
        let before = before.filter(|_| !schema.has(INSTALLS)).map(Statement::from);
        // Creating the table has changed the schema's version.
        let cookie = schema.cookie() + i64::from(before.is_some());
        let (done, begun) = (0, false);
        Installation { before, first, groups, tail, cookie, done, begun, limit }
    }

    /// The same, which also records gaps in the transaction that completes capture.
    pub(in crate::sync) fn noting(mut self, gaps: &[Gap]) -> Installation {
        self.first.extend(gaps.iter().map(note));
        self
    }

    /// The same, which also fills columns when capture knows them.
    pub(in crate::sync) fn filling(mut self, fills: Vec<Statement>) -> Installation {
        self.tail.splice(0..0, fills);
        self
    }

    /// The statements of all requests, without the checks for other installations.
    pub(in crate::sync) fn rehearsal(&self) -> Vec<Statement> {
        let groups = self.groups.iter().flat_map(|group| &group.statements);
        self.first.iter().chain(groups).chain(&self.tail).cloned().collect()
    }

    /// Fails if the remote's schema is not the one that this installation left.
    fn check(&self) -> Statement {
        let sql = format!(
            "INSERT INTO {INSTALLS} (one, token) SELECT 1, NULL WHERE ({SCHEMA_COOKIE}) <> ?"
        );
        Statement::new(sql, [self.cookie.into()])
    }

    /// The earliest end of the next request.
    fn least(&self) -> usize {
        let replaced = self.groups.iter().filter(|group| group.replaces).count();
        let least = if self.begun { self.done + 1 } else { replaced.max(1) };
        least.min(self.groups.len())
    }

    fn bytes(&self, end: usize) -> usize {
        self.groups[self.done..end].iter().map(|group| group.bytes).sum()
    }

    /// The end of the next request.
    fn end(&self) -> usize {
        let mut end = self.least();
        while end < self.groups.len() && self.bytes(end + 1) <= self.limit {
            end += 1;
        }
        end
    }

    /// The next request.
    pub(in crate::sync) fn batch(&self) -> Batch {
        let mut statements = Vec::new();
        if !self.begun {
            statements.extend(self.before.clone());
        }
        statements.push(self.check());
        if !self.begun {
            statements.extend(self.first.iter().cloned());
        }
        let end = self.end();
        let groups = self.groups[self.done..end].iter();
        statements.extend(groups.flat_map(|group| &group.statements).cloned());
        if end == self.groups.len() {
            statements.extend(self.tail.iter().cloned());
        }
        statements.push(SCHEMA_COOKIE.into());
        Batch { statements, writes: true }
    }

    /// The last request was too large. Returns whether a smaller one is possible.
    pub(in crate::sync) fn too_large(&mut self) -> bool {
        let end = self.end();
        if end == self.least() {
            return false;
        }
        self.limit = self.bytes(end) / 2;
        true
    }

    /// The error for a request that is too large and cannot be smaller.
    pub(in crate::sync) fn larger_than_any(&self, error: Error) -> Error {
        let groups = &self.groups[self.done..self.least()];
        let which = match groups {
            [] => return error,
            [group] => format!("table `{}`", group.table),
            groups => format!("{} tables", groups.len()),
        };
        let message = format!(
            "the triggers of {which} have {} bytes, which is more than the remote accepts in one \
             request",
            self.bytes(self.least())
        );
        error
            .in_words(message)
            .with_hint("raise the remote's limit for a request, or leave the table out")
    }

    /// Handles the answer to the last request.
    pub(in crate::sync) fn answered(&mut self, answer: &Answer) -> Result<Installed> {
        let results = answer.rows.len();
        if results != self.batch().statements.len() {
            let message = "the remote's answer has another number of results";
            return Err(Error::new(Code::AnswerInvalid, message));
        }
        let row = |at: usize| -> &Rows { &answer.rows[at] };
        let cookie = read_schema_cookie(row(results - 1))?;
        self.cookie = cookie;
        self.done = self.end();
        self.begun = true;
        if self.done < self.groups.len() {
            tracing::debug!(tables = self.done, of = self.groups.len(), "a part is installed");
            return Ok(Installed::Part);
        }
        let left = Left { gaps: read_gaps(row(results - 5))?, owed: read_owed(row(results - 4))? };
        let meta = read_meta(row(results - 3))?;
        let head = read_head(row(results - 2))?;
        let meta =
            meta.ok_or_else(|| Error::new(Code::AnswerInvalid, "the remote has no identity"))?;
        tracing::info!(epoch = meta.epoch, "the remote's tables and triggers are installed");
        Ok(Installed::All(meta, head, cookie, left))
    }
}

/// The last statement, which records that everything is installed.
fn registration(all: &[RemoteTable], fingerprint: &str) -> Statement {
    let names = names_json(all.iter().map(|there| there.table.name.as_str()));
    let sql = "UPDATE driftless_tables SET triggers = ? \
         WHERE name IN (SELECT value FROM json_each(?))";
    Statement::new(sql, [fingerprint.into(), Value::from(names.as_str())])
}

fn drop_trigger(name: &str) -> Statement {
    format!("DROP TRIGGER IF EXISTS {}", ident(name)).into()
}

/// An error of a first sync, in words that fit it.
pub(in crate::sync) fn in_other_words(error: Error) -> Error {
    if error.code() != Code::InstalledByAnother {
        return error;
    }
    error
        .in_words(
            "another replica was initialised at the same time, or the remote's tables were changed",
        )
        .with_hint("run it again: it continues")
}
