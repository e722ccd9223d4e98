//! Versions and blamed values as programs read them: the JSON of `--json`.

use serde::Serialize;

use super::EventView;
use crate::audit::history::{Blamed, Version};
use crate::event::value::Value;
use crate::event::{Image, ReplicaId, RowKey, readable};

/// A version of a row: its event, and the row behind it.
#[derive(Clone, Debug, Serialize)]
pub struct VersionView<'a> {
    /// The event.
    #[serde(flatten)]
    pub event: EventView<'a>,
    /// Whether it has changed the row.
    pub effective: bool,
    /// The key that the row had before, if the event changed it.
    pub moved_from: Option<String>,
    /// The key that the row has got, if the event took this one away.
    pub moved_to: Option<String>,
    /// The row behind it, as far as it is known.
    #[serde(flatten, serialize_with = "readable::row")]
    pub row: Option<&'a Image>,
}

impl<'a> VersionView<'a> {
    /// Of a version in the log of the replica `me`.
    pub fn of(version: &'a Version, me: ReplicaId) -> Self {
        VersionView {
            event: EventView::of(&version.entry, me),
            effective: version.is_effective,
            moved_from: version.moved_from.as_ref().map(RowKey::to_string),
            moved_to: version.moved_to.as_ref().map(RowKey::to_string),
            row: version.row.as_ref(),
        }
    }
}

/// A value, and who set it last.
#[derive(Clone, Debug, Serialize)]
pub struct BlamedView<'a> {
    /// Its row.
    #[serde(flatten, serialize_with = "readable::key")]
    pub key: &'a RowKey,
    /// Its column.
    pub column: &'a str,
    /// The value now.
    #[serde(flatten, serialize_with = "readable::value")]
    pub value: &'a Value,
    /// The event that set it; `None` if the value is older than the replica's log.
    pub event: Option<EventView<'a>>,
}

impl<'a> BlamedView<'a> {
    /// Of a value of the row `key` of the replica `me`.
    pub fn of(key: &'a RowKey, blamed: &'a Blamed, me: ReplicaId) -> Self {
        BlamedView {
            key,
            column: &blamed.column,
            value: &blamed.value,
            event: blamed.entry.as_ref().map(|entry| EventView::of(entry, me)),
        }
    }
}
