//! Pulled events that cannot be applied here yet, each with its reason.
//!
//! An event comes here when this database does not know its table or a column, when it contradicts
//! itself, or when a constraint that this database alone has refuses its row. Its frame is in the
//! log all the same, and the cursor goes on. Later events of that row follow it, in their order,
//! until a retry applies them. A row that such a constraint keeps out as it was underneath one's
//! own lost events waits as a whole, in front of its first event here.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use super::Store;
use super::integrate::{Integrated, Pass, Step, Stop, begin};
use super::materialize::{column_index, key_matches};
use super::rebase::{Rebase, shorten};
use crate::capture::Table;
use crate::error::{Error, Result};
use crate::event::{Column, Event, Image, Op, RowKey, Seq};
use crate::page::{Line, MAX_KEY_BYTES, Page};
use crate::value::{ValueRef, write_string};

/// The setting that has the definitions under which the quarantine was last tried by itself.
const RETRIED: &str = "retried";
/// How many waiting events are tried in one transaction: an application's write waits for it.
const RETRY_EVENTS: usize = 2_000;

/// An event in quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Its place in the log.
    pub seq: Seq,
    /// Its table.
    pub table: String,
    /// Its row.
    pub key: RowKey,
    /// Why it waits.
    pub reason: String,
}

/// How the reason of an event begins that is none.
pub(super) const MALFORMED: &str = "malformed: ";

impl Quarantined {
    /// Whether it is no event, and will never be one. It has no frame in the log.
    pub fn is_malformed(&self) -> bool {
        self.reason.starts_with(MALFORMED)
    }
}

/// What a retry did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retried {
    /// Events that are applied now.
    pub applied: usize,
    /// Events that still wait.
    pub waiting: usize,
    /// The rows that changed.
    pub changes: Vec<(String, RowKey)>,
}

impl Store {
    /// The events in quarantine, in the order of the log.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub fn quarantine(&self) -> Result<Vec<Quarantined>> {
        let sql = "SELECT seq, tbl, pk, reason FROM driftless_quarantine ORDER BY seq";
        let mut statement = self.db.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| {
            Ok(Quarantined {
                seq: Seq(row.get(0)?),
                table: row.get(1)?,
                key: RowKey(row.get(2)?),
                reason: row.get(3)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Takes an event off the quarantine that is malformed: nothing can come of it here.
    ///
    /// # Errors
    ///
    /// `Usage` when none waits at that place, or one that may still be applied; `Storage` when the
    /// database fails.
    pub fn dismiss_quarantined(&mut self, seq: Seq) -> Result<()> {
        let waiting = self.quarantine()?.into_iter().find(|event| event.seq == seq);
        let Some(event) = waiting else {
            return Err(Error::usage(format!("no event {seq} waits in quarantine")));
        };
        if !event.is_malformed() {
            return Err(Error::usage(format!("event {seq} waits, and can still be applied"))
                .with_hint("once its reason is gone: driftless quarantine retry"));
        }
        self.db.execute("DELETE FROM driftless_quarantine WHERE seq = ?1", [seq.0])?;
        Ok(())
    }

    /// Tries to apply the events in quarantine, in the order of the log: after a migration, or when
    /// a person asks for it. `now_ms` is the time of notices, in ms since 1970.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails, `Corrupt` when a waiting event's frame is damaged. What
    /// was applied before stays applied.
    pub fn retry_quarantine(&mut self, now_ms: i64) -> Result<Retried> {
        let mut retried = Retried::default();
        let mut after = Seq(0);
        loop {
            self.check_triggers()?;
            let page = self.waiting_page(after)?;
            if page.count == 0 {
                return Ok(retried);
            }
            let lines = page.lines()?;
            let mut pass = Pass::Quick;
            let done = loop {
                pass = match self.retry(&lines, pass, now_ms) {
                    Ok(done) => break done,
                    Err(Stop::Failed(error)) => return Err(error),
                    Err(Stop::SchemaChanged) => {
                        self.check_triggers()?;
                        pass
                    }
                    Err(Stop::Taken) if pass == Pass::Quick => Pass::Slow,
                    Err(Stop::Taken | Stop::Refused) if pass != Pass::Fold => Pass::Fold,
                    Err(_) => return Err(Error::storage("the transaction was rolled back")),
                };
            };
            retried.applied += page.count - done.quarantined;
            retried.waiting += done.quarantined;
            retried.changes.extend(done.changes);
            after = page.last;
        }
    }

    /// Tries the quarantine again if the replicated tables' definitions have changed since that
    /// was last done: an event may have waited for a column that is here now. `None` if there was
    /// nothing to try. It follows [`Store::check_triggers`], and costs nothing while the schema
    /// stays as it is.
    ///
    /// # Errors
    ///
    /// As for [`Store::retry_quarantine`].
    pub fn retry_after_migration(&mut self, now_ms: i64) -> Result<Option<Retried>> {
        if self.retried == self.checked {
            return Ok(None);
        }
        let sql = "SELECT EXISTS (SELECT 1 FROM driftless_quarantine)";
        let mut done = None;
        if self.db.query_row(sql, [], |row| row.get(0))? {
            // The fingerprints of the triggers stand for the definitions that they were made from.
            let sql = "SELECT group_concat(name || ' ' || triggers, char(10)) FROM \
                       (SELECT name, triggers FROM driftless_tables ORDER BY name)";
            let now: Option<String> = self.db.query_row(sql, [], |row| row.get(0))?;
            if self.setting(RETRIED)? != now {
                done = Some(self.retry_quarantine(now_ms)?);
                self.set_setting(RETRIED, now.as_deref())?;
            }
        }
        self.retried = self.checked;
        Ok(done)
    }

    fn retry(&self, lines: &[Line<'_>], pass: Pass, now_ms: i64) -> Step<Integrated> {
        let tx = Transaction::new_unchecked(&self.db, TransactionBehavior::Immediate)?;
        if self.current_schema_version()? != self.schema_version {
            return Err(Stop::SchemaChanged);
        }
        let start = begin(&tx)?;
        self.pending.borrow_mut().refresh(&tx, &self.layouts, start.cursor)?;
        let whole = take_out(&tx, lines, pass)?;
        let mut rebase = Rebase::new(self, lines, pass, false, start)?.again(whole);
        rebase.run(now_ms)?;
        let finished = rebase.finish(start.cursor, None)?;
        tx.commit()?;
        Ok(finished.done)
    }

    /// The next waiting events as a page.
    fn waiting_page(&self, after: Seq) -> Result<Page> {
        // What was malformed has no frame, and stays where it is.
        let sql = "SELECT seq FROM driftless_quarantine WHERE seq > ?1 \
                   AND seq IN (SELECT seq FROM driftless_log) ORDER BY seq LIMIT ?2";
        let mut statement = self.db.prepare_cached(sql)?;
        let seqs = statement
            .query_map((after.0, RETRY_EVENTS as i64), |row| row.get(0))?
            .collect::<rusqlite::Result<Vec<i64>>>()?;
        let mut page = Page::default();
        for seq in seqs {
            let event = self.settled(Seq(seq))?.ok_or_else(|| {
                Error::corrupt(format!("event {seq} is in quarantine, but not in the log"))
            })?;
            write_line(&event, &mut page.bytes);
            page.last = event.seq;
            page.count += 1;
        }
        Ok(page)
    }
}

/// Rows that are not here at all, as they are to be before an event that waited.
pub(super) type Whole = HashMap<Seq, Image>;

/// Takes these events out of quarantine, and gives the rows that waited with them. Those are for
/// the fold: in another pass the page is refused if there are any.
pub(super) fn take_out(db: &Connection, lines: &[Line<'_>], pass: Pass) -> Step<Whole> {
    let sql = "DELETE FROM driftless_quarantine WHERE seq = ?1 RETURNING img";
    let mut take = db.prepare_cached(sql)?;
    let mut whole = Whole::new();
    for line in lines {
        let image: Option<Option<String>> =
            take.query_row([line.seq.0], |row| row.get(0)).optional()?;
        if let Some(image) = image.flatten() {
            whole.insert(line.seq, Image::parse(image.as_bytes())?);
        }
    }
    if !whole.is_empty() && pass != Pass::Fold {
        return Err(Stop::Taken);
    }
    Ok(whole)
}

/// Appends an event's line, as a page has it.
pub(super) fn write_line(event: &Event, out: &mut Vec<u8>) {
    let id = |id: Option<String>| id.map_or("null".to_owned(), |id| format!("\"{id}\""));
    let text = |text: Option<&str>, out: &mut Vec<u8>| match text {
        Some(text) => write_string(text.as_bytes(), out),
        None => out.extend_from_slice(b"null"),
    };
    if !out.is_empty() {
        out.push(b'\n');
    }
    out.extend_from_slice(
        format!("[{},\"{}\",\"{}\",", event.seq, event.id, event.origin).as_bytes(),
    );
    text(event.actor.as_deref(), out);
    out.extend_from_slice(format!(",{},", id(event.unit.map(|id| id.to_string()))).as_bytes());
    text(Some(&event.table), out);
    out.extend_from_slice(format!(",{},\"{}\"", event.key.0, event.op).as_bytes());
    for image in [&event.before, &event.after] {
        out.push(b',');
        match image {
            Some(image) => image.write_json(out),
            None => out.extend_from_slice(b"null"),
        }
    }
    out.extend_from_slice(format!(",{}", event.base).as_bytes());
    for other in [event.cause, event.via, event.pair] {
        out.extend_from_slice(format!(",{}", id(other.map(|id| id.to_string()))).as_bytes());
    }
    out.extend_from_slice(format!(",\"{}\",", event.verdict.as_str()).as_bytes());
    text(event.verdict.reason(), out);
    out.extend_from_slice(format!(",{}]", event.received_at).as_bytes());
}

/// Whether an applied event can be written into its table at all; reads its key into `key`.
///
/// An event is input: its key must have the table's arity and no NULL, its columns must be the
/// table's, and the key columns among its values must be what its key says.
///
/// # Errors
///
/// The reason, which names the table and the column, and holds no value.
pub(super) fn admit<'p>(
    table: &Table,
    line: &Line<'p>,
    after: &[Column<'p>],
    key: &mut Vec<ValueRef<'p>>,
) -> std::result::Result<(), String> {
    let name = &table.name;
    if line.key.len() > MAX_KEY_BYTES {
        let most = MAX_KEY_BYTES >> 10;
        return Err(format!("the event's key in table `{name}` is larger than {most} KiB"));
    }
    let whole = RowKey::read(line.key, key).is_ok()
        && key.len() == table.key.len()
        && !key.iter().any(|value| matches!(value, ValueRef::Null));
    if !whole {
        return Err(format!(
            "the event's key is none of table `{name}`, which has {} part(s)",
            table.key.len()
        ));
    }
    if !is_canonical(table, line.key, key) {
        return Err(format!("the event's key is not spelled as keys of table `{name}` are"));
    }
    if line.op == Op::Delete {
        return Ok(());
    }
    let mut parts = 0;
    let mut next = 0;
    for (place, (column, value)) in after.iter().enumerate() {
        let Some(index) = column_index(table, column, place) else {
            return Err(format!("table `{name}` has no column `{}` here", shorten(column)));
        };
        if let Some(part) = table.key.iter().position(|&column| column == index) {
            parts += 1;
            if !key_matches(table, part, &key[part], value) {
                let column = &table.columns[index].name;
                return Err(format!(
                    "the event's key and its value of column `{column}` of table `{name}` differ"
                ));
            }
        }
        // In the table's own order, which is usual, none comes twice.
        let in_order = index >= next;
        next = next.max(index + 1);
        if !in_order && after[..place].iter().any(|(other, _)| other.eq_ignore_ascii_case(column)) {
            return Err(format!("the event names column `{}` twice", shorten(column)));
        }
    }
    if line.op == Op::Insert && parts != table.key.len() {
        return Err(format!("the event inserts into table `{name}` without its whole key"));
    }
    Ok(())
}

/// Whether a key, which is whole, has the one spelling that its row's key has. A row under another
/// one would be the same to SQLite, and another to whoever asks for its pending events.
fn is_canonical(table: &Table, text: &str, key: &[ValueRef<'_>]) -> bool {
    // Most keys are one plain word, and cannot be spelled in another way.
    let word = text.strip_prefix("[\"").and_then(|rest| rest.strip_suffix("\"]"));
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if word.is_some_and(|word| word.bytes().all(plain)) {
        return true;
    }
    let values: Vec<_> = key.iter().cloned().map(ValueRef::into_value).collect();
    let mut parts = key.iter().enumerate();
    parts.all(|(part, value)| key_matches(table, part, value, value))
        && RowKey::from_values(&values).0 == text
}
