//! The installation on the remote, in as many requests as are needed.
//!
//! A table's triggers come to some 160 kB for fourteen columns, and a server takes 10 MB in a
//! request. So an installation is cut between two tables. Each request is one transaction:
//!
//! * The first request makes the missing tables: a trigger may name any of them.
//! * A table's triggers, and those of the inbox that judge its events, are replaced in one request.
//!   So each write is captured, by the old triggers or by the new ones.
//! * The first request takes the fingerprints away, and the last one writes them: a remote with a
//!   part of an installation counts as not installed, and the next `init` does all of it again.
//! * The first request leaves a token, if the registered tables are still those that were looked
//!   at. Each further one asks for it. So of two installations at the same time one fails, and
//!   starts again on top of what the other one has made.
//!
//! Each request may be repeated: what is made is dropped first, where it is there.

use crate::capture::{RemoteTriggers, Replicated, Trigger};
use crate::catalog::ident;
use crate::error::{Code, Error, Result};
use crate::event::Seq;
use crate::event::json::names_json;
use crate::event::value::Value;
use crate::protocol::Statement;
use crate::protocol::meta::{Meta, SCHEMA_VERSION};
use crate::remote::{Answer, Batch, Rows};
use crate::sync::first_sync::compare::Comparison;
use crate::sync::first_sync::remote_schema::{
    FoundTrigger, POWERS, REMOTE_SCHEMA, Registered, Schema, split,
};

/// The size of a request to aim at, in bytes of SQL. Smaller than a server takes, so that the
/// transaction is short: a server takes the write lock away after 5 s if another writer waits.
const REQUEST_BYTES: usize = 1 << 20;

/// The statements for one table.
#[derive(Clone, Debug)]
struct Group {
    table: String,
    /// Drop its capture triggers, and make new ones.
    capture: Vec<Statement>,
    /// Make its triggers of the inbox: those for rare events, and those for common ones.
    inbox: [Vec<Statement>; 2],
    bytes: usize,
}

/// An installation that is in progress.
#[derive(Clone, Debug)]
pub(in crate::sync) struct Installation {
    head: Vec<Statement>,
    begin: Vec<Statement>,
    /// Makes the missing tables, and what the log says of those that are not replicated.
    makers: Vec<Statement>,
    guard: Statement,
    groups: Vec<Group>,
    /// Replace what must be newer than the triggers of all tables.
    first: Vec<Statement>,
    tail: Vec<Statement>,
    /// Groups that are installed.
    done: usize,
    begun: bool,
    limit: usize,
}

/// The result of an answer.
pub(in crate::sync) enum Installed {
    /// There is more.
    Part,
    /// All is there: the remote's identity, and the end of its log.
    All(Meta, Seq),
}

impl Installation {
    /// `token` is this replica's, `known` are the tables that are registered on the remote, and
    /// `all` those that are to be, in the remote's definitions.
    pub(in crate::sync) fn new(
        epoch: &str,
        token: &str,
        schema: &Schema,
        known: &[Registered],
        found: &Comparison,
        all: &[Replicated<'_>],
    ) -> (Installation, String) {
        let triggers = RemoteTriggers::of(all);
        let fingerprint = triggers.fingerprint();
        let fixed = |sql| split(sql).into_iter().map(Statement::from);
        let mut head: Vec<_> = fixed(REMOTE_SCHEMA).collect();
        if !schema.definitions().iter().any(|(_, name, ..)| name == "driftless_pow2") {
            head.extend(fixed(POWERS));
        }
        let meta = "INSERT INTO driftless_meta (one, epoch, version) VALUES (1, ?, ?) \
             ON CONFLICT (one) DO NOTHING";
        head.push(Statement::new(meta, [epoch.into(), SCHEMA_VERSION.into()]));
        let begin = begin(token, known);
        let makers = found.make_there().iter().flat_map(|(_, makers)| makers.clone());
        let mut makers: Vec<_> = makers.map(Statement::from).collect();
        makers.extend(made_anew(std::slice::from_ref(&triggers.unknown)));
        let guard = "INSERT INTO driftless_installs (one, token) SELECT 1, NULL WHERE NOT EXISTS \
             (SELECT 1 FROM driftless_installs WHERE token = ?)";
        let guard = Statement::new(guard, [token.into()]);
        let first = made_anew(&triggers.first);
        let mut groups = Vec::new();
        let mut kept: Vec<String> = [&triggers.unknown].map(|made| made.name.clone()).into();
        kept.extend(triggers.first.iter().map(|made| made.name.clone()));
        for (Replicated { table, .. }, made) in all.iter().zip(triggers.tables) {
            let new = made.capture.iter().chain(&made.rare).chain(&made.common);
            kept.extend(new.map(|made| made.name.clone()));
            let name = &table.name;
            let mut capture = Vec::new();
            // Those of an earlier version may have other names.
            for old in schema.our_triggers().filter(|old| old.is_on(name)) {
                kept.push(old.name().to_owned());
                capture.push(drop_trigger(old.name()));
            }
            capture.extend(made_anew(&made.capture));
            let inbox = [made_anew(&made.rare), made_anew(&made.common)];
            let bytes =
                capture.iter().chain(inbox.iter().flatten()).map(|made| made.sql.len()).sum();
            groups.push(Group { table: name.clone(), capture, inbox, bytes });
        }
        let old = schema.our_triggers().map(FoundTrigger::name);
        let old = old.filter(|old| !kept.iter().any(|kept| kept == old));
        let mut tail: Vec<_> = old.map(drop_trigger).collect();
        tail.extend(registration(all, &fingerprint));
        tail.extend([crate::protocol::meta::META.into(), crate::protocol::meta::HEAD.into()]);
        let (done, begun, limit) = (0, false, REQUEST_BYTES);
        let whole =
            Installation { head, begin, makers, guard, groups, first, tail, done, begun, limit };
        (whole, fingerprint)
    }

    /// The statements of all requests, but for those that ask whether another replica is at work.
    pub(in crate::sync) fn rehearsal(&self) -> Vec<Statement> {
        let mut statements = [self.head.as_slice(), &self.makers].concat();
        for group in &self.groups {
            statements.extend(group.capture.iter().chain(group.inbox.iter().flatten()).cloned());
        }
        statements.extend(self.first.iter().chain(&self.tail).cloned());
        statements
    }

    /// Where the next request ends: a group at least.
    fn end(&self) -> usize {
        let mut bytes = 0;
        let fits = |group: &&Group| {
            let first = bytes == 0;
            bytes += group.bytes;
            first || bytes <= self.limit
        };
        self.done + self.groups[self.done..].iter().take_while(fits).count()
    }

    /// The next request.
    pub(in crate::sync) fn batch(&self) -> Batch {
        let mut statements = Vec::new();
        if self.begun {
            statements.push(self.guard.clone());
        } else {
            statements.extend(self.head.iter().chain(&self.begin).chain(&self.makers).cloned());
        }
        let end = self.end();
        let groups = &self.groups[self.done..end];
        statements.extend(groups.iter().flat_map(|group| &group.capture).cloned());
        for rank in 0..2 {
            statements.extend(groups.iter().flat_map(|group| &group.inbox[rank]).cloned());
        }
        statements.extend(self.first.iter().cloned());
        if end == self.groups.len() {
            statements.extend(self.tail.iter().cloned());
        }
        Batch { statements, writes: true }
    }

    /// The last request was too large: whether a smaller one can be made.
    pub(in crate::sync) fn too_large(&mut self) -> bool {
        if self.end() - self.done < 2 {
            return false;
        }
        let bytes: usize = self.groups[self.done..self.end()].iter().map(|group| group.bytes).sum();
        self.limit = bytes / 2;
        true
    }

    /// The error for a request that is too large, and cannot be made smaller.
    pub(in crate::sync) fn larger_than_any(&self, error: Error) -> Error {
        let Some(group) = self.groups.get(self.done) else { return error };
        let message = format!(
            "the triggers of table `{}` are {} bytes, and the remote does not take so much in one \
             request",
            group.table, group.bytes
        );
        error
            .in_words(message)
            .with_hint("raise the remote's limit for a request, or leave the table out")
    }

    /// Takes the answer to the last request.
    pub(in crate::sync) fn answered(&mut self, answer: &Answer) -> Result<Installed> {
        let results = answer.rows.len();
        if results != self.batch().statements.len() {
            let message = "the remote's answer has another number of results";
            return Err(Error::new(Code::AnswerInvalid, message));
        }
        self.done = self.end();
        self.begun = true;
        if self.done < self.groups.len() {
            tracing::debug!(tables = self.done, of = self.groups.len(), "a part is installed");
            return Ok(Installed::Part);
        }
        let row = |at: usize| -> &Rows { &answer.rows[at] };
        let meta = crate::protocol::meta::read_meta(row(results - 2))?;
        let head = crate::protocol::meta::read_head(row(results - 1))?;
        let meta =
            meta.ok_or_else(|| Error::new(Code::AnswerInvalid, "the remote has no identity"))?;
        tracing::info!(epoch = meta.epoch, "the remote's tables and triggers are installed");
        Ok(Installed::All(meta, head))
    }
}

/// Begins: fails if the registered tables are no longer those that were looked at, unless it was
/// this installation that has begun already.
fn begin(token: &str, known: &[Registered]) -> Vec<Statement> {
    let number = Value::Integer(known.len() as i64);
    let mut others = "(SELECT count(*) FROM driftless_tables) <> ?".to_owned();
    let mut args = vec![token.into(), number.clone()];
    if !known.is_empty() {
        others = format!(
            "{others} OR (SELECT count(*) FROM driftless_tables \
             WHERE (name, triggers) IN (VALUES {})) <> ?",
            vec!["(?, ?)"; known.len()].join(", ")
        );
        let row = |known: &Registered| [known.name(), known.fingerprint()].map(Value::from);
        args.extend(known.iter().flat_map(row).chain([number]));
    }
    let alone = format!(
        "INSERT INTO driftless_installs (one, token) SELECT 1, NULL WHERE NOT EXISTS \
         (SELECT 1 FROM driftless_installs WHERE token = ?) AND ({others})"
    );
    let sign = "INSERT INTO driftless_installs (one, token) VALUES (1, ?) \
         ON CONFLICT (one) DO UPDATE SET token = excluded.token";
    vec![
        Statement::new(alone, args),
        Statement::new(sign, [token.into()]),
        "UPDATE driftless_tables SET triggers = ''".into(),
    ]
}

/// Ends: says that all is there.
fn registration(all: &[Replicated<'_>], fingerprint: &str) -> Vec<Statement> {
    let one = |&Replicated { table, rule }: &Replicated<'_>| {
        let sql = "INSERT INTO driftless_tables (name, conflict, triggers, columns) \
             VALUES (?, ?, ?, ?) \
             ON CONFLICT (name) DO UPDATE SET conflict = excluded.conflict, \
             triggers = excluded.triggers, columns = excluded.columns";
        let columns = names_json(table.column_names());
        let row = [table.name.as_str(), rule.as_str(), fingerprint, &columns];
        Statement::new(sql, row.map(Value::from))
    };
    let mut statements: Vec<_> = all.iter().map(one).collect();
    let version = "UPDATE driftless_meta SET version = ? WHERE one = 1";
    statements.push(Statement::new(version, [SCHEMA_VERSION.into()]));
    statements
}

fn drop_trigger(name: &str) -> Statement {
    format!("DROP TRIGGER IF EXISTS {}", ident(name)).into()
}

fn made_anew(triggers: &[Trigger]) -> Vec<Statement> {
    let both = |made: &Trigger| [drop_trigger(&made.name), made.sql.as_str().into()];
    triggers.iter().flat_map(both).collect()
}
