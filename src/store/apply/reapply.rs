//! Puts pending events back on top of what a page brought, or sets them aside.

use rusqlite::Connection;

use super::rebase::{AffectedRow, Rebase};
use super::step::{Step, Stop};
use crate::catalog::Table;
use crate::event::conflict::{Claim, loses_to};
use crate::event::{Image, Op, Seq};
use crate::store::outbox::pending::{PendingEvent, known_columns, load};
use crate::store::rows::refusal::{is_refusal, is_uncompiled};
use crate::store::rows::row::known_key;
use crate::store::rows::writer::Writer;

impl Rebase<'_, '_> {
    /// Step 4: the remaining pending events of the rows that were taken off, in their order.
    pub(in crate::store) fn reapply(&mut self) -> Step {
        let mut remaining: Vec<(i64, usize)> = Vec::new();
        for (at, row) in self.rows.iter().enumerate() {
            if !row.unchanged && (row.table.is_some() || row.unwritable.is_some()) {
                remaining.extend(row.pending.iter().map(|&(n, ..)| (n, at)));
            }
        }
        remaining.sort_unstable();
        let mut within: Vec<(PendingEvent, usize, i64)> = Vec::new();
        for (n, at) in remaining {
            let Some(event) = load(self.db, &self.store.layouts, n)? else { continue };
            let (claim, base) = event.claim();
            let winner = self.winner(at, claim, base);
            if event.is_aside() || winner.is_some() {
                self.turn_back_pending(&event, at)?;
                self.hold_row(at, event.is_aside())?;
                self.set_aside(&event, at, winner)?;
            } else if self.rows[at].unwritable.is_some() {
                // It stays on the row, which is as it was.
            } else if let Some(insert) = self.change_around(at, &event)? {
                within.push((event, at, insert));
            } else if !self.reapply_one(&event, at)? {
                self.turn_back_pending(&event, at)?;
                self.set_aside(&event, at, None)?;
            }
        }
        // What a key change did to its own row is on it as long as the key change is.
        for (event, at, insert) in within {
            if load(self.db, &self.store.layouts, insert)?.is_some_and(|insert| insert.is_aside()) {
                self.set_aside(&event, at, None)?;
            }
        }
        Ok(())
    }

    fn set_aside(&mut self, event: &PendingEvent, row: usize, winner: Option<Seq>) -> Step {
        event.set_aside(self.db, winner)?;
        if !event.is_aside() {
            self.note_undone(row, event.op());
            self.done.set_aside += 1;
        }
        Ok(())
    }

    /// Puts a pending event on top of its row. False if that cannot be.
    fn reapply_one(&mut self, event: &PendingEvent, at: usize) -> Step<bool> {
        let table = self.rows[at].table.expect("only rows of replicated tables are rebased");
        reapply_event(self.db, &mut self.writer, &self.store.tables[table].table, table, event)
    }

    /// The first event of the page that defeats an event of this row.
    pub(in crate::store) fn winner(&self, row: usize, event: Claim<'_>, base: Seq) -> Option<Seq> {
        let AffectedRow { table, unwritable, winners, .. } = &self.rows[row];
        let rule = table.or(*unwritable).map(|table| self.store.tables[table].rule);
        let others = winners.iter().map(|&at| &self.lines[at]);
        let others = others.map(|line| (line.seq, Claim { op: line.op, after: line.after }));
        loses_to(rule.unwrap_or_default(), event, base, others)
    }
}

/// Puts a pending event on top of its row, and records what is underneath. False if the row is not
/// as the event needs it, or a constraint refuses it.
pub(in crate::store) fn reapply_event(
    db: &Connection,
    writer: &mut Writer<'_>,
    definition: &Table,
    table: usize,
    event: &PendingEvent,
) -> Step<bool> {
    let Some(key) = known_key(definition, &event.key().0) else { return Ok(false) };
    let current = writer.row(table, &key)?;
    if (event.op() == Op::Insert) == current.is_some() {
        return Ok(false);
    }
    let after = event.after()?;
    let columns = known_columns(definition, &after);
    if columns.len() != after.0.len() {
        return Ok(false);
    }
    let under = current.as_ref().map(|row| match event.op() {
        Op::Delete => row.image.clone(),
        _ => part(&row.image, &after),
    });
    let written = match (event.op(), &current) {
        (Op::Insert, _) => writer.upsert(table, &event.key().0, &columns),
        (Op::Update, _) => writer.update(table, &key, &columns),
        (Op::Delete, Some(row)) => writer.remove_for_rewrite(table, event.key(), &key, row),
        (Op::Delete, None) => unreachable!("a delete needs its row"),
    };
    match written {
        Ok(_) => {}
        Err(_) if db.is_autocommit() => return Err(Stop::RolledBack),
        Err(error) if is_refusal(&error) || is_uncompiled(&error) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    event.set_on(db, under.as_ref())?;
    Ok(true)
}

/// The columns of `image` that `changed` has.
fn part(image: &Image, changed: &Image) -> Image {
    let mine = |name: &str| image.0.iter().find(|(mine, _)| mine.eq_ignore_ascii_case(name));
    let columns = changed
        .0
        .iter()
        .filter_map(|(name, _)| mine(name).map(|(_, value)| (name.clone(), value.clone())));
    Image(columns.collect())
}
