//! Rows of tables that one replica alone has, and that refer to replicated ones: the actions of their
//! foreign keys are carried out for what a page does to their parents, and for nothing else.

use std::collections::{BTreeMap, BTreeSet};

use driftless::event::value::Value;
use driftless::event::{Event, Op, RowKey};

use super::rows::{Row, key_of, snapshot};
use super::sql::rows;
use super::watch::{Mutation, Writer};
use super::world::{Checked, World};

/// What is known of them from looking at them before.
#[derive(Clone, Default)]
pub(crate) struct Beside {
    /// What each row refers to.
    refers: BTreeMap<i64, Value>,
    /// Rows that the application itself has left without a parent.
    loose: BTreeSet<(String, i64)>,
}

impl World {
    /// The rows without a parent.
    fn loose(&self, at: usize) -> BTreeSet<(String, i64)> {
        let mut loose = BTreeSet::new();
        for table in ["l", "ll"] {
            let sql = format!("SELECT rowid FROM pragma_foreign_key_check('{table}')");
            let found = rows(&self.replicas[at].db, &sql).unwrap();
            let ids = found.iter().filter_map(|row| row[0].as_integer());
            loose.extend(ids.map(|id| (table.to_owned(), id)));
        }
        loose
    }

    /// Looks at them after a step.
    pub(super) fn observe_beside(
        &mut self,
        at: usize,
        writer: Writer,
        last: i64,
        cursor: i64,
    ) -> Checked {
        if self.shape.beside.is_empty() {
            return Ok(());
        }
        let found = rows(&self.replicas[at].db, "SELECT id, mid FROM l").unwrap();
        let refers: BTreeMap<i64, Value> = found
            .into_iter()
            .map(|row| (row[0].as_integer().unwrap_or(0), row[1].clone()))
            .collect();
        let before = std::mem::replace(&mut self.watches[at].beside.refers, refers);
        if writer != Writer::Nobody {
            self.watches[at].beside.loose = self.loose(at);
            return Ok(());
        }
        let here = snapshot(&self.replicas[at].db, &self.shape);
        let table = self.shape.table("m").expect("they refer to it");
        let mut acted = 0;
        for (id, value) in before {
            let now = &self.watches[at].beside.refers;
            if now.get(&id) == Some(&value) {
                continue;
            }
            acted += 1;
            let key = key_of(table, &Row::from([("id".to_owned(), value)]));
            let place = ("m".to_owned(), key);
            // It was deleted, or another row has its key now, as where a key change of its own lost.
            let is_other = |event: &Event| {
                event.table == "m" && event.key == RowKey(place.1.clone()) && event.op != Op::Update
            };
            // A page may end with the delete of a key change.
            let other = self.log.range(last.max(1) - 1..=cursor).any(|(_, event)| is_other(event));
            // A key change of this replica's own that is set aside takes local rows back along, before
            // the log tells of it.
            let own = |known: &Mutation| {
                known.at == at && known.event.pair.is_some() && is_other(&known.event)
            };
            let renamed = self.ledger.values().any(own);
            if here.contains_key(&place) && !other && !renamed {
                return Err(format!(
                    "local row {id} was changed, and its parent {} stays",
                    place.1
                ));
            }
        }
        if acted > 0 {
            self.seen.note("an action on a local row");
        }
        Ok(())
    }

    /// When all is quiet, each refers to a row that is there, unless the application itself parted
    /// them.
    pub(super) fn check_beside(&self, at: usize) -> Checked {
        if self.shape.beside.is_empty() {
            return Ok(());
        }
        let loose = self.loose(at);
        match loose.difference(&self.watches[at].beside.loose).next() {
            Some((table, id)) => {
                Err(format!("replica {at}: row {id} of {table} is without its parent"))
            }
            None => Ok(()),
        }
    }
}
