//! An outbox row that is being prepared for a push.

use rusqlite::Row;

use super::pending::event_id;
use super::reader::Reader;
use crate::error::Result;
use crate::event::page::MAX_KEY_BYTES;
use crate::event::verdict::{KEY_NOT_UTF8, KEY_TOO_LARGE};
use crate::event::{Image, RowKey, Seq};
use crate::protocol::Outgoing;

/// The columns of an event for [`read`].
pub(in crate::store) const EVENT: &str = "n, op, layout, tbl, pk, before, after, changes, \
    ms, tail, base, actor, pair, via, refuse";

/// An outbox row, as input of [`judging_order`](super::grouping::judging_order).
#[derive(Clone, Debug)]
pub(in crate::store) struct OutboxRow {
    event: Outgoing,
    /// 1: the delete of a key change, 2: its insert.
    key_change_half: Option<i64>,
    /// Table and key of the parent that was deleted or changed.
    parent: Option<(String, RowKey)>,
    /// Its size in bytes.
    size: usize,
}

impl OutboxRow {
    /// Its number in the outbox.
    pub(in crate::store) fn n(&self) -> i64 {
        self.event.n
    }

    pub(in crate::store) fn event(&self) -> &Outgoing {
        &self.event
    }

    pub(in crate::store) fn into_event(self) -> Outgoing {
        self.event
    }

    /// 1: the delete of a key change, 2: its insert.
    pub(in crate::store) fn key_change_half(&self) -> Option<i64> {
        self.key_change_half
    }

    /// Table and key of the parent that was deleted or changed.
    pub(in crate::store) fn parent(&self) -> Option<&(String, RowKey)> {
        self.parent.as_ref()
    }

    /// Its size in bytes.
    pub(in crate::store) fn size(&self) -> usize {
        self.size
    }

    /// If these consecutive rows are the halves of a key change, gives each the id and key of the
    /// other half.
    pub(super) fn join_key_change(delete: &mut OutboxRow, insert: &mut OutboxRow) {
        if delete.key_change_half != Some(1) || insert.key_change_half != Some(2) {
            return;
        }
        let (delete, insert) = (&mut delete.event, &mut insert.event);
        delete.pair = Some(insert.id);
        insert.pair = Some(delete.id);
        delete.other = Some(insert.key.clone());
        delete.image.clone_from(&insert.after);
        insert.other = Some(delete.key.clone());
        // Both halves have one verdict.
        let refuse = delete.refuse.take().or_else(|| insert.refuse.take());
        (delete.refuse, insert.refuse) = (refuse.clone(), refuse);
        let plain = delete.plain && insert.plain;
        (delete.plain, insert.plain) = (plain, plain);
    }
}

/// The JSON of an image in canonical form. The triggers of an older version write `\u0000`, and
/// text that is not UTF-8 unchanged. Everything else is canonical already.
fn canonical(json: Vec<u8>) -> Result<String> {
    if memchr::memmem::find(&json, b"\\u0000").is_some() {
        return Ok(Image::parse(&json)?.to_json());
    }
    match String::from_utf8(json) {
        Ok(text) => Ok(text),
        Err(error) => Ok(Image::parse(error.as_bytes())?.to_json()),
    }
}

/// Whether an image's JSON has a tagged value. A quote within a string is escaped, so a string
/// cannot contain this text.
fn has_tag(json: &str) -> bool {
    memchr::memmem::find(&json.as_bytes()[1..], b"{\"").is_some()
}

/// Reads the row of [`EVENT`].
pub(in crate::store) fn read(reader: &mut Reader<'_>, row: &Row<'_>) -> Result<OutboxRow> {
    let n: i64 = row.get(0)?;
    let mut read = reader.read(row, 0, Some(13))?;
    let ((before, after), made, parent) =
        (read.take_images(), read.take_made(), read.take_parent());
    let op = read.op();
    let (table, key) = read.into_row();
    let (before, after) = (before.map(canonical).transpose()?, after.map(canonical).transpose()?);
    let images = before.iter().chain(&after);
    let size = key.0.len() + images.clone().map(String::len).sum::<usize>();
    let mut refuse: Option<String> = row.get(14)?;
    if refuse.is_none() && !key.is_utf8() {
        refuse = Some(KEY_NOT_UTF8.to_owned());
    }
    if refuse.is_none() && key.0.len() > MAX_KEY_BYTES {
        refuse = Some(KEY_TOO_LARGE.to_owned());
    }
    let tagged = key.0.contains("{\"") || images.clone().any(|json| has_tag(json));
    let id = event_id(row.get(8)?, n, row.get(9)?);
    let event = Outgoing {
        actor: row.get(11)?,
        before,
        after,
        base: Seq(row.get(10)?),
        refuse,
        plain: !tagged,
        made,
        ..Outgoing::new(n, id, table, key, op)
    };
    Ok(OutboxRow { event, key_change_half: row.get(12)?, parent, size })
}

/// Which events of a push defer their foreign keys. A deferred key is checked by the database at
/// the end of the push.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FkDeferral {
    /// All events that wait for a later one. No event is moved.
    #[default]
    All,
    /// The events that wait in a cycle. The other events are moved after the events that they need,
    /// and are judged there.
    CyclesOnly,
    /// None. Events are moved nevertheless.
    Never,
}
