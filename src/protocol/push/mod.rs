//! A push as SQL: the statements that judge its events and write what is applied. All pure.
//!
//! The events stand in `driftless_inbox` for the length of the transaction, numbered in their
//! order. They are taken in [`Run`]s: neighbours of the same table, op and columns that cannot
//! influence one another's verdict. A run is a few statements, whatever its length:
//!
//! 1. log rows that stand here from before the log, where an insert meets them ([`Run::adopt`]);
//! 2. name the event as the cause of what follows, if it is alone ([`Run::announce`]);
//! 3. append all events to the log, each with its verdict ([`Run::judge`], [`judge`]);
//! 4. enter the rows of the applied ones into `driftless_applying`, as they are and as they will
//!    be, so that capture keeps silent about exactly that ([`Run::enter`]);
//! 5. write them ([`Run::write`]);
//! 6. look at what was written in another way ([`Run::inspect`]): if the row does not hold the
//!    event's values, a trigger of the application's refused it.
//!
//! The text of a statement depends on the table, the op and the columns alone, so that a server
//! may keep it compiled. What is applied is written to the event's columns only, so that the
//! application's `UPDATE OF` triggers fire as they should.
//!
//! # The two halves of a key change
//!
//! The delete is judged for both keys, and writes nothing. The insert shares its verdict and is
//! written as an UPDATE of the old key, so that children follow.
//!
//! # Source
//!
//! A sketch that runs has the same statements, and compares runs with single events over random
//! histories; `tests/it/verdict` does so here.

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

/// The statements that judge and write the events of `driftless_inbox`, and leave all scratch
/// tables empty.
pub fn statements(push: &Push, tables: &RemoteTables) -> Vec<Statement> {
    of_runs(&runs(&push.events, tables), tables)
}

/// The same for events that were put into runs already.
pub fn of_runs(runs: &[Run<'_>], tables: &RemoteTables) -> Vec<Statement> {
    let mut statements = Vec::new();
    if runs.iter().any(|run| run.shape().has_deferred()) {
        // What waits for a later event of the push is looked at when all is done.
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
