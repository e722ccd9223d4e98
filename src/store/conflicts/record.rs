//! Records own events that lost, and finds out which of them are moot.
//!
//! An own event that is superseded or rejected is listed, unless it is *moot*: its effect is in the
//! row already. This is checked when the event arrives ([`record_lost`]), and again when a later
//! event of its row is applied ([`settle_moot`]): for example, the remote's own foreign keys may
//! have the same effect some pages after the verdict. A conflict that was moot once stays moot,
//! even if the row changes later.
//!
//! The check uses the *base row*: the row as the remote has it, without this replica's pending
//! events on top. A pending event may still lose, so its effect does not count.

use std::collections::{HashMap, HashSet};

use super::entry::{ConflictKind, ConflictState};
use super::selection::close;
use crate::error::Result;
use crate::event::page::Line;
use crate::event::verdict::{TOO_LARGE, Verdict};
use crate::event::{Event, EventId, Image, Op, RowKey, Seq};
use crate::store::Store;
use crate::store::apply::rebase::{Lost, Rebase};
use crate::store::apply::step::Step;
use crate::store::log::own_event;
use crate::store::outbox::pending::{load, row_hash};
use crate::store::rows::row::{Row, known_key};

/// The entry for a lost event, or for both halves of a key change.
struct Loss {
    seq: Seq,
    id: EventId,
    kind: ConflictKind,
    winner: Option<Seq>,
    theirs: Option<Image>,
    table: String,
    key: RowKey,
    /// The new key, for a key change.
    other: Option<RowKey>,
}

/// The base row, if it is known.
enum BaseRow {
    Known(Option<Image>),
    /// Unknown: its table is not replicated here, or cannot have such a key.
    Unknown,
}

impl BaseRow {
    fn image(&self) -> Option<&Image> {
        match self {
            BaseRow::Known(image) => image.as_ref(),
            BaseRow::Unknown => None,
        }
    }

    fn is_gone(&self) -> bool {
        matches!(self, BaseRow::Known(None))
    }

    fn holds(&self, after: Option<&Image>) -> bool {
        matches!((self.image(), after), (Some(row), Some(after)) if row.holds(after))
    }
}

/// The places of the rows of a rebase, by table and key.
type Places = HashMap<(usize, String), usize>;

fn places(rebase: &Rebase<'_, '_>) -> Places {
    let rows = rebase.rows().iter().enumerate();
    rows.filter_map(|(at, row)| Some(((row.table()?, row.key().0.clone()), at))).collect()
}

/// Lists the lost events of a page that are not moot. The page has been applied, and no pending
/// event is on the rows in question.
pub(in crate::store) fn record_lost(
    rebase: &mut Rebase<'_, '_>,
    lost: &[Lost],
    now_ms: i64,
) -> Step {
    if lost.is_empty() {
        return Ok(());
    }
    let (places, task) = (places(rebase), rebase.task());
    let lines = task.lines();
    let by_id: HashMap<_, _> = lost.iter().map(|one| (lines[one.line()].id, one)).collect();
    for one in lost {
        let line = &lines[one.line()];
        let other = |op| {
            let other = line.pair.and_then(|pair| by_id.get(&pair)).copied();
            other.filter(|other| line.op != op && lines[other.line()].op == op)
        };
        let loss = match (line.op, line.pair) {
            (Op::Delete, Some(_)) => match other(Op::Insert) {
                Some(insert) => classify(rebase, &places, one, Some(insert))?,
                // The second half is in a later page, and the change is listed with it.
                None => continue,
            },
            // The delete of a pair represents both halves.
            (Op::Insert, Some(_)) if other(Op::Delete).is_some() => continue,
            (Op::Insert, Some(delete)) => classify_second_half(rebase, &places, one, delete)?,
            _ => classify(rebase, &places, one, None)?,
        };
        let Some(loss) = loss else { continue };
        // A remote may claim that two inserts are the other half of one delete.
        let mut statement = task.db().prepare_cached(
            "INSERT INTO driftless_conflicts
                 (seq, id, kind, winner, theirs, noticed, tbl, pk, other, ends)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (seq) DO NOTHING",
        )?;
        statement.execute(rusqlite::params![
            loss.seq.0,
            loss.id.0.to_bytes().as_slice(),
            loss.kind.as_str(),
            loss.winner.map(|winner| winner.0),
            loss.theirs.as_ref().map(Image::to_json),
            now_ms,
            loss.table,
            loss.key.0,
            loss.other.map(|key| key.0),
            one.ends(),
        ])?;
        rebase.count_conflict();
    }
    Ok(())
}

/// The entry for a lost event. For the delete of a key change it includes the insert. `None` if it
/// is moot.
fn classify(
    rebase: &mut Rebase<'_, '_>,
    places: &Places,
    one: &Lost,
    insert: Option<&Lost>,
) -> Result<Option<Loss>> {
    let lines = rebase.task().lines();
    let line = &lines[one.line()];
    let theirs = base_row(rebase, places, &line.table, line.key)?;
    let mut moot = match line.op {
        Op::Delete => theirs.is_gone(),
        _ => theirs.holds(values(line)?.as_ref()),
    };
    if let Some(insert) = insert.map(|insert| &lines[insert.line()]) {
        let there = base_row(rebase, places, &insert.table, insert.key)?;
        moot = moot && there.holds(values(insert)?.as_ref());
    }
    if moot {
        return Ok(None);
    }
    let theirs = theirs.image().cloned();
    let won_by_insert = match one.winner() {
        Some(winner) => inserted(rebase, winner)?,
        None => true,
    };
    let exists = line.verdict.reason() == Some("exists");
    let collides = line.op == Op::Insert && theirs.is_some() && won_by_insert;
    let kind = match &line.verdict {
        Verdict::Superseded(_) if collides => ConflictKind::Collision,
        Verdict::Rejected(_) if exists && line.op == Op::Insert => ConflictKind::Collision,
        Verdict::Rejected(_) => ConflictKind::Rejected,
        _ => ConflictKind::Conflict,
    };
    let winner = one.winner().or(insert.and_then(Lost::winner));
    let other = insert.map(|insert| RowKey(lines[insert.line()].key.to_owned()));
    let (table, key) = (line.table.to_string(), RowKey(line.key.to_owned()));
    Ok(Some(Loss { seq: line.seq, id: line.id, kind, winner, theirs, table, key, other }))
}

/// The entry for the insert of a key change whose delete was in an earlier page. `None` if it is
/// moot.
fn classify_second_half(
    rebase: &mut Rebase<'_, '_>,
    places: &Places,
    one: &Lost,
    delete: EventId,
) -> Result<Option<Loss>> {
    let Some(delete) = own_event(rebase.task().db(), None, delete)? else {
        return classify(rebase, places, one, None);
    };
    let line = &rebase.task().lines()[one.line()];
    let theirs = base_row(rebase, places, &delete.table, &delete.key.0)?;
    let there = base_row(rebase, places, &line.table, line.key)?;
    if theirs.is_gone() && there.holds(values(line)?.as_ref()) {
        return Ok(None);
    }
    let kind = match &delete.verdict {
        Verdict::Rejected(_) => ConflictKind::Rejected,
        _ => ConflictKind::Conflict,
    };
    Ok(Some(Loss {
        seq: delete.seq,
        id: delete.id,
        kind,
        winner: one.winner(),
        theirs: theirs.image().cloned(),
        table: delete.table,
        key: delete.key,
        other: Some(RowKey(line.key.to_owned())),
    }))
}

/// The new values of a line, if it has them.
fn values(line: &Line<'_>) -> Result<Option<Image>> {
    let came = line.after.filter(|_| line.verdict.reason() != Some(TOO_LARGE));
    came.map(Image::parse).transpose()
}

/// The base row after the page.
fn base_row(
    rebase: &mut Rebase<'_, '_>,
    places: &Places,
    table: &str,
    key: &str,
) -> Result<BaseRow> {
    let task = rebase.task();
    let store = task.store();
    let Some(at) = store.table_index(table) else { return Ok(BaseRow::Unknown) };
    let Some(values) = known_key(&store.tables[at].table, key) else {
        return Ok(BaseRow::Unknown);
    };
    if !task.is_writable(at) {
        let mut rows = rebase.rows().iter();
        let row = rows.position(|row| row.unwritable() == Some(at) && row.key().0 == key);
        return match row {
            Some(row) => Ok(BaseRow::Known(rebase.remote_row(row)?)),
            None => Ok(BaseRow::Unknown),
        };
    }
    let mut image = rebase.row(at, &values)?.map(Row::into_image);
    let place = places.get(&(at, key.to_owned()));
    if place.is_some_and(|&row| !rebase.rows()[row].is_unchanged()) {
        return Ok(BaseRow::Known(image));
    }
    // Its pending events are still on it. Those that the page has settled are gone already.
    let numbers = store.outbox.pending().of_row(row_hash(table, key)).to_vec();
    for n in numbers.into_iter().rev() {
        let Some(event) = load(task.db(), store.outbox.layouts(), n)? else { continue };
        if !event.is_of(table, key) || event.is_aside() {
            continue;
        }
        // The row refers to itself. Finding the row under its events is not worth the effort for a
        // moot conflict.
        if event.parent().is_some() {
            return Ok(BaseRow::Unknown);
        }
        image = event.undo(image)?;
    }
    Ok(BaseRow::Known(image))
}

fn inserted(rebase: &Rebase<'_, '_>, winner: Seq) -> Result<bool> {
    let task = rebase.task();
    let at = task.lines().partition_point(|line| line.seq < winner);
    if let Some(line) = task.lines().get(at).filter(|line| line.seq == winner) {
        return Ok(line.op == Op::Insert);
    }
    Ok(task.store().settled(winner)?.is_some_and(|event| event.op == Op::Insert))
}

/// Closes open conflicts whose effect this page has brought.
pub(in crate::store) fn settle_moot(rebase: &mut Rebase<'_, '_>) -> Step {
    let sql = "SELECT EXISTS (SELECT 1 FROM driftless_conflicts WHERE state = 'open')
               OR EXISTS (SELECT 1 FROM driftless_old_conflicts WHERE state = 'open')";
    let task = rebase.task();
    if !task.db().prepare_cached(sql)?.query_row([], |row| row.get(0))? {
        return Ok(());
    }
    let (mut seen, mut index) = (HashSet::new(), None);
    for line in task.lines() {
        if !seen.insert((&line.table, line.key)) {
            continue;
        }
        for (former, seq) in open_of_row(rebase, &line.table, line.key)? {
            let places = index.get_or_insert_with(|| places(rebase));
            let (event, insert) = task.store().lost(former, seq)?;
            if is_moot(rebase, places, &event, insert.as_ref())? {
                close(task.db(), former, seq, ConflictState::Moot)?;
                rebase.count_moot();
            }
        }
    }
    Ok(())
}

/// The open conflicts of a row. A key change is a conflict of both its rows.
fn open_of_row(rebase: &Rebase<'_, '_>, table: &str, key: &str) -> Result<Vec<(Option<i64>, Seq)>> {
    let db = rebase.task().db();
    let mut statement = db.prepare_cached(
        "SELECT NULL, seq FROM driftless_conflicts
             WHERE state = 'open' AND tbl = ?1 AND pk = ?2
         UNION SELECT NULL, seq FROM driftless_conflicts
             WHERE state = 'open' AND tbl = ?1 AND other = ?2
         UNION SELECT former, seq FROM driftless_old_conflicts
             WHERE state = 'open' AND tbl = ?1 AND pk = ?2
         UNION SELECT former, seq FROM driftless_old_conflicts
             WHERE state = 'open' AND tbl = ?1 AND other = ?2",
    )?;
    let found = statement.query_map([table, key], |row| Ok((row.get(0)?, Seq(row.get(1)?))))?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

/// Whether the effect of a lost event is in the base row. For an update this is every column that
/// it set, for an insert the whole row, and for a delete that the row does not exist.
fn is_moot(
    rebase: &mut Rebase<'_, '_>,
    places: &Places,
    event: &Event,
    insert: Option<&Event>,
) -> Result<bool> {
    let row = base_row(rebase, places, &event.table, &event.key.0)?;
    let there = match event.op {
        Op::Delete => row.is_gone(),
        _ => row.holds(event.after.as_ref()),
    };
    match insert {
        Some(insert) if there => {
            let row = base_row(rebase, places, &insert.table, &insert.key.0)?;
            Ok(row.holds(insert.after.as_ref()))
        }
        // Half of a key change decides nothing.
        None if event.pair.is_some() => Ok(false),
        _ => Ok(there),
    }
}

impl Store {
    /// The first known boundary at the outbox number `n` or after it. `newest` is the outbox's
    /// newest number in this transaction, which is a boundary.
    pub(in crate::store) fn ends(&self, n: i64, newest: i64) -> Result<i64> {
        // A recorded boundary outlives the process that found it.
        let sql = "SELECT min(ends) FROM driftless_conflicts WHERE ends >= ?1";
        let noted: Option<i64> = self.db.prepare_cached(sql)?.query_row([n], |row| row.get(0))?;
        let seen = self.outbox.boundaries().ended(n).unwrap_or(newest.max(n));
        Ok(noted.map_or(seen, |noted| noted.min(seen)))
    }
}
