//! An application's database, and the reader of its outbox.

use driftless::capture;
use driftless::capture::{BEFORE_IMAGES, ChainStep, Layout, Uniques, names_table, untangle};
use driftless::catalog::{PREFIX, Table, ident};
use rusqlite::Connection;

use super::fold::{Change, Rows, read_outbox};

const REPLICA: &str = include_str!("../../../schema/replica/tables.sql");
const POW2: &str = include_str!("../../../schema/pow2.sql");

/// A database whose tables are captured, with the rows that its outbox folds to.
pub(crate) struct Desk {
    pub(crate) db: Connection,
    pub(crate) tables: Vec<Table>,
    rows: Rows,
    read_to: i64,
    /// How many events were put in front of others.
    pub(crate) reordered: usize,
}

impl Desk {
    /// A desk over a database that holds an application's tables. Nothing is captured yet.
    pub(crate) fn new(db: Connection) -> Self {
        db.execute_batch(REPLICA).unwrap();
        db.execute_batch(POW2).unwrap();
        db.execute_batch("INSERT INTO driftless_state (one, chain) VALUES (1, x'')").unwrap();
        Desk { db, tables: Vec::new(), rows: Rows::default(), read_to: 0, reordered: 0 }
    }

    /// Installs the triggers of these tables, in place of all that were there.
    pub(crate) fn capture(&mut self, names: &[&str]) -> driftless::Result<()> {
        let tables = names.iter().map(|name| Table::read(&self.db, name));
        self.tables = tables.collect::<driftless::Result<_>>()?;
        install(&self.db, &self.tables);
        self.rows = Rows::read(&self.db, &self.tables);
        Ok(())
    }

    /// What the outbox has gained since it was last read. It must fold to what stands in the
    /// tables.
    pub(crate) fn read(&mut self) -> Result<Vec<Change>, (Vec<Change>, String)> {
        let changes = read_outbox(&self.db, self.read_to);
        self.read_to = changes.last().map_or(self.read_to, |last| last.n);
        let real = Rows::read(&self.db, &self.tables);
        let uniques = Uniques::of(self.tables.iter());
        let (changes, moves) = in_order(changes, &real, &uniques);
        self.reordered += moves;
        let folded = pairs(&changes)
            .and_then(|()| changes.iter().try_for_each(|change| self.rows.apply(change)))
            .and_then(|()| self.rows.difference(&real).map_or(Ok(()), Err));
        // The next statement is judged by itself.
        self.rows = real;
        match folded {
            Ok(()) => Ok(changes),
            Err(error) => Err((changes, error)),
        }
    }

    /// How many rows there are in all captured tables.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }
}

/// The changes as the store puts them in order.
fn in_order(mut changes: Vec<Change>, real: &Rows, uniques: &Uniques) -> (Vec<Change>, usize) {
    let step = |change: &Change| ChainStep {
        n: change.n,
        table: change.table.clone(),
        key: change.key.clone(),
        op: change.op,
        before: change.before.clone(),
        after: change.after.clone(),
        pair: change.pair,
    };
    let steps: Vec<_> = changes.iter().map(step).collect();
    let now = steps.iter().map(|step| (step.row(), real.image(&step.table, &step.key))).collect();
    let moves = untangle(&steps, &now, uniques);
    for made in &moves {
        changes.iter_mut().for_each(|change| change.n = made.renumber(change.n));
    }
    changes.sort_by_key(|change| change.n);
    (changes, moves.len())
}

/// Installs the capture triggers, in one transaction.
pub(crate) fn install(db: &Connection, tables: &[Table]) {
    let mut statement = db
        .prepare(
            "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND substr(name, 1, 10) = ?1",
        )
        .unwrap();
    let old = statement.query_map([PREFIX], |row| row.get(0)).unwrap();
    let old: Vec<String> = old.map(Result::unwrap).collect();
    db.execute_batch("SAVEPOINT install").unwrap();
    for name in old {
        db.execute_batch(&format!("DROP TRIGGER {}", ident(&name))).unwrap();
    }
    for notes in BEFORE_IMAGES {
        db.execute_batch(&format!("DELETE FROM {notes}")).unwrap();
    }
    let all: Vec<_> = tables.iter().collect();
    for statement in names_table(&all) {
        db.execute_batch(&statement).unwrap();
    }
    for table in tables {
        for statement in Layout::of(table, &all).statements(db).unwrap() {
            db.execute_batch(&statement).unwrap();
        }
    }
    for trigger in tables.iter().flat_map(|table| capture::triggers(table, &all)) {
        db.execute_batch(&trigger.sql).unwrap_or_else(|e| panic!("{e}: {}", trigger.sql));
    }
    db.execute_batch("RELEASE install").unwrap();
}

/// The insert of a key change stands right behind its delete.
fn pairs(changes: &[Change]) -> Result<(), String> {
    for (index, change) in changes.iter().enumerate() {
        let partner = match change.pair {
            None => continue,
            Some(1) => changes.get(index + 1),
            _ => index.checked_sub(1).map(|before| &changes[before]),
        };
        let matches = partner.is_some_and(|partner| {
            partner.pair == change.pair.map(|half| 3 - half)
                && partner.table == change.table
                && partner.n.abs_diff(change.n) == 1
        });
        if !matches {
            return Err(format!("half a pair: {}", super::fold::line(change)));
        }
    }
    Ok(())
}
