//! Events and conflicts as programs read them: the JSON of `--json`.

use serde::{Serialize, Serializer};

use super::log_position::rfc3339;
use crate::event::{Event, EventId, Image, Op, Origin, ReplicaId, RowKey, readable};
use crate::store::{Conflict, ConflictKind, ConflictState, Entry, PendingEntry};

/// An event, settled or pending. A flat record: each field is one of the JSON object.
#[derive(Clone, Debug, Serialize)]
pub struct EventView<'a> {
    /// Its place in the log; `None` while it is pending.
    pub seq: Option<i64>,
    /// Its id.
    pub id: EventId,
    /// When it was made, by its writer's clock: RFC 3339.
    pub made_at: String,
    /// Its writer.
    pub origin: Origin,
    /// Who was at work.
    pub actor: Option<&'a str>,
    /// What was pushed together has the same.
    pub unit: Option<String>,
    /// Its table.
    pub table: &'a str,
    /// Its row.
    #[serde(flatten, serialize_with = "readable::key")]
    pub key: &'a RowKey,
    /// What it did to the row.
    pub op: Op,
    /// The old values.
    #[serde(flatten, serialize_with = "readable::before")]
    pub before: Option<&'a Image>,
    /// The new values.
    #[serde(flatten, serialize_with = "readable::after")]
    pub after: Option<&'a Image>,
    /// What its writer had seen of the log.
    pub base: i64,
    /// On the remote: the event of which it is a consequence.
    pub cause: Option<EventId>,
    /// On a replica: the event of which it is a foreign key's consequence.
    pub via: Option<EventId>,
    /// The other half of a key change.
    pub pair: Option<EventId>,
    /// The verdict, or `pending`.
    pub verdict: &'static str,
    /// Why, if it has lost or will.
    pub reason: Option<&'a str>,
    /// When the remote took it in: RFC 3339. `None` while it is pending.
    pub received_at: Option<String>,
    /// Of a pending event: whether it is set aside, because it has probably lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aside: Option<bool>,
}

impl<'a> EventView<'a> {
    /// Of an event of the log of the replica `me`.
    pub fn of(entry: &'a Entry, me: ReplicaId) -> Self {
        match entry {
            Entry::Settled(event) => EventView::settled(event),
            Entry::Pending(event) => EventView::pending(event, me),
        }
    }

    /// Of a settled event.
    pub fn settled(event: &'a Event) -> Self {
        EventView {
            seq: Some(event.seq.0),
            id: event.id,
            made_at: rfc3339(event.id.ms()),
            origin: event.origin,
            actor: event.actor.as_deref(),
            unit: event.unit.map(|unit| unit.to_string()),
            table: &event.table,
            key: &event.key,
            op: event.op,
            before: event.before.as_ref(),
            after: event.after.as_ref(),
            base: event.base.0,
            cause: event.cause,
            via: event.via,
            pair: event.pair,
            verdict: event.verdict.as_str(),
            reason: event.verdict.reason().filter(|reason| !reason.is_empty()),
            received_at: Some(rfc3339(event.received_at)),
            aside: None,
        }
    }

    fn pending(event: &'a PendingEntry, me: ReplicaId) -> Self {
        EventView {
            seq: None,
            id: event.id,
            made_at: rfc3339(event.id.ms()),
            origin: Origin::Replica(me),
            actor: event.actor.as_deref(),
            unit: None,
            table: &event.table,
            key: &event.key,
            op: event.op,
            before: event.before.as_ref(),
            after: event.after.as_ref(),
            base: event.base.0,
            cause: None,
            via: None,
            pair: None,
            verdict: "pending",
            reason: event.refuse.as_deref(),
            received_at: None,
            aside: Some(event.aside),
        }
    }
}

impl Serialize for Conflict {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct View<'a> {
            id: EventId,
            kind: ConflictKind,
            state: ConflictState,
            noticed_at: String,
            group: EventId,
            event: EventView<'a>,
            insert: Option<EventView<'a>>,
            winner: Option<EventView<'a>>,
            #[serde(flatten, serialize_with = "readable::theirs")]
            theirs: Option<&'a Image>,
            #[serde(skip_serializing_if = "Option::is_none")]
            former: Option<i64>,
        }
        let view = View {
            id: self.event.id,
            kind: self.kind,
            state: self.state,
            noticed_at: rfc3339(self.noticed_ms),
            group: self.group,
            event: EventView::settled(&self.event),
            insert: self.insert.as_ref().map(EventView::settled),
            winner: self.winner.as_ref().map(EventView::settled),
            theirs: self.theirs.as_ref(),
            former: self.former,
        };
        view.serialize(to)
    }
}
