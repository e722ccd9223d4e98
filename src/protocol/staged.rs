//! A push that is larger than a request.
//!
//! First its parts are stored in `driftless_staged`, one with each request, under a token that was
//! drawn for the push. The last request has no events. It moves all parts into the inbox, in one
//! transaction, with the same guards as any push, and only if all parts are there. So events that
//! belong together are judged together, whatever their size.
//!
//! A part may be sent again, and so may the last request: events that are in the log are recognised
//! by their ids. Parts that a replica has left behind are removed by its next push of this kind or,
//! after a day, by that of any replica.

use ulid::Ulid;

use super::incarnation::Place;
use super::meta::{NOW_MS, guard, number};
use super::payload::PushPayload;
use super::{Statement, text};
use crate::event::ReplicaId;
use crate::event::value::Value;

/// The definition of the table, for a remote that was installed by an earlier version.
const TABLES: &str = include_str!("../../schema/remote/tables.sql");

/// How long staged parts are kept, in ms. A replica that was cut off sends them again anyway.
const KEPT_MS: u64 = 24 * 60 * 60 * 1_000;

/// A part of a push that is larger than a request.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// The whole push.
    pub payload: &'a PushPayload,
    /// The number of this part, from 0.
    pub part: usize,
    /// The name of the push. It is unique for this replica.
    pub token: Ulid,
    /// Who pushes.
    pub replica: ReplicaId,
    /// The epoch of the remote that the push is meant for.
    pub epoch: &'a str,
    /// Whether the remote lacks `driftless_staged`.
    pub create: bool,
}

/// The definition of `driftless_staged`.
fn definition() -> &'static str {
    let begin = TABLES.find("CREATE TABLE IF NOT EXISTS driftless_staged").expect("it is there");
    let length = TABLES[begin..].find(");").expect("the statement ends");
    &TABLES[begin..=begin + length]
}

impl Part<'_> {
    /// The statements that store it, if the remote is the right one.
    pub(crate) fn statements(&self, place: Place) -> Vec<Statement> {
        let Part { payload, part, token, replica, epoch, create } = self;
        let guard = guard(epoch, place);
        let mut statements = Vec::new();
        if *create {
            // A definition cannot have a condition, so on a wrong remote the statement before it
            // fails.
            let sql = format!(
                "SELECT CASE WHEN {} THEN 1 ELSE abs(-9223372036854775807 - 1) END",
                guard.sql
            );
            statements.push(Statement::new(sql, guard.args.clone()));
            statements.push(definition().into());
        }
        if *part == 0 {
            let sql = format!(
                "DELETE FROM driftless_staged WHERE (name = ? AND token <> ?) \
                 OR staged_at < {NOW_MS} - {KEPT_MS}"
            );
            statements.push(Statement::new(sql, [text(replica), text(token)]));
        }
        let sql = format!(
            "INSERT INTO driftless_staged (name, token, part, events, staged_at) \
             SELECT ?, ?, ?, ?, {NOW_MS} WHERE {} \
             ON CONFLICT (name, token, part) DO UPDATE SET events = excluded.events, \
             staged_at = excluded.staged_at",
            guard.sql
        );
        let events = Value::from(payload.part(*part));
        let row = [text(replica), text(token), number(*part), events];
        statements.push(Statement::new(sql, row.into_iter().chain(guard.args)));
        statements
    }

    /// The number of these statements.
    pub(crate) fn count(&self) -> usize {
        1 + usize::from(self.part == 0) + 2 * usize::from(self.create)
    }
}

/// The source of a push's events, with one row and the column `value` for each, in their order; and
/// the condition that all of them are there.
pub(crate) fn source(
    payload: &PushPayload,
    replica: ReplicaId,
    token: Ulid,
) -> (Statement, Statement) {
    let rows = "driftless_staged.name = ? AND driftless_staged.token = ?";
    let whose = [text(replica), text(token)];
    let source = format!(
        "SELECT driftless_event.value AS value FROM driftless_staged \
         CROSS JOIN json_each(driftless_staged.events) AS driftless_event WHERE {rows} \
         ORDER BY driftless_staged.part, driftless_event.key LIMIT -1"
    );
    let complete = format!(" AND (SELECT count(*) FROM driftless_staged WHERE {rows}) = ?");
    let parts = whose.clone().into_iter().chain([number(payload.parts())]);
    (Statement::new(source, whose), Statement::new(complete, parts))
}

/// The statement that removes the parts that a replica has staged.
pub(crate) fn forget(replica: ReplicaId) -> Statement {
    Statement::new("DELETE FROM driftless_staged WHERE name = ?", [text(replica)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_one_statement() {
        let definition = definition();
        assert!(definition.ends_with(')') && !definition.contains(';'), "{definition}");
        assert_eq!(definition.matches("CREATE").count(), 1);
        let db = rusqlite::Connection::open_in_memory().unwrap();
        db.execute_batch(definition).unwrap();
    }
}
