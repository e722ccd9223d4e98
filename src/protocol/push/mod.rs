//! A push as SQL: the statements that judge its events and write the applied ones. All pure.
//!
//! During the transaction, `driftless_inbox` has the events, numbered in their order. They are
//! processed in [`Run`]s: neighbours with the same table, op and columns that cannot influence one
//! another's verdict. A run needs a few statements, whatever its length:
//!
//! 1. log rows that are older than the log, if an insert meets one ([`Run::adopt`]);
//! 2. if the event is alone, name it as the cause of the writes that follow ([`Run::announce`]);
//! 3. append all events to the log, each with its verdict ([`Run::judge`], [`judge`]);
//! 4. enter the rows of the applied events into `driftless_applying`, as they are and as they will
//!    be, so that capture is silent about exactly these changes ([`Run::enter`]);
//! 5. write them ([`Run::write`]);
//! 6. check the rows that were written differently ([`Run::inspect`]): if a row does not have the
//!    event's values, a trigger of the application has refused the event.
//!
//! The text of a statement depends only on the table, the op and the columns, so a server may keep
//! it compiled. Only the event's columns are written, so the application's `UPDATE OF` triggers
//! fire exactly when they should.
//!
//! # The two halves of a key change
//!
//! The delete is judged for both keys, and writes nothing. The insert gets the same verdict, and is
//! written as an UPDATE of the old key, so that children follow.
//!
//! # Tests
//!
//! `tests/it/verdict` compares runs with single events over random histories.

mod arrange;
pub(in crate::protocol) mod cell;
mod found;
mod judge;
mod judged;
mod owed;
mod run;
mod shape;
mod split;
mod words;

pub use self::arrange::{FEW_RUNS, arrange};
pub use self::found::{Compared, close, restore, tell};
pub use self::owed::fill;
pub use self::run::Run;
pub use self::split::runs;
#[cfg(feature = "internals")]
pub use self::split::singles;
pub use self::words::Kind;

use super::{Push, Statement};
use crate::protocol::remote_tables::RemoteTables;

/// The statements that judge and write the events of `driftless_inbox`. They leave all working
/// tables empty.
pub fn statements(push: &Push, tables: &RemoteTables) -> Vec<Statement> {
    of_runs(&runs(&push.events, tables), tables)
}

/// The same, for events that are in runs already.
pub fn of_runs(runs: &[Run<'_>], tables: &RemoteTables) -> Vec<Statement> {
    let mut statements = Vec::new();
    if runs.iter().any(|run| run.shape().has_deferred()) {
        // SQLite then checks foreign keys when the transaction commits, and a later event of the
        // push may supply the missing row.
        statements.push(Statement::from("PRAGMA defer_foreign_keys=ON"));
    }
    let mut is_reset = true;
    for run in runs {
        run.statements(tables, &mut is_reset, &mut statements);
    }
    let mut owing = std::collections::BTreeSet::new();
    for there in runs.iter().filter_map(|run| run.shape().owing()) {
        if owing.insert(&there.table.name) {
            statements.push(owed::note(&there.table));
        }
    }
    let end = ["DELETE FROM driftless_inbox", "DELETE FROM driftless_notes", run::RESET];
    statements.extend(end.map(Statement::from));
    statements
}
