//! The pending events that are held back, and why.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::catalog::{ForeignKey, Table};
use crate::event::value::Value;
use crate::event::{Image, Op};
use crate::protocol::Outgoing;

/// Why events of a table cannot be pushed now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obstacle {
    /// The table.
    pub table: String,
    /// Why, in a sentence.
    pub reason: String,
    /// Which of them are held back.
    pub holds: Holds,
}

/// Which events of a table are held back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Holds {
    /// All.
    All,
    /// Inserts without a value for one of these columns, and the events that depend on them.
    Inserts(Vec<String>),
    /// None: the reason is only shown.
    Nothing,
}

/// A table with events that are held back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The table.
    pub table: String,
    /// Why, in a sentence.
    pub reason: String,
    /// The number of pending events that are held back.
    pub events: u64,
}

/// The pending events that are held back.
///
/// * It has every pending event up to `seen` that has an obstacle.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Held {
    /// `None` if they were not read yet.
    obstacles: Option<Vec<Obstacle>>,
    seen: i64,
    /// The number of each event, and the index of its obstacle.
    numbers: BTreeMap<i64, usize>,
    /// Rows whose later events are held back too, by table and key.
    rows: HashMap<(String, String), usize>,
    /// The rows of held inserts, as foreign keys refer to them.
    offered: HashMap<String, usize>,
}

impl Held {
    /// For these obstacles. No event was examined yet.
    pub(in crate::store) fn of(obstacles: Vec<Obstacle>) -> Held {
        Held { obstacles: Some(obstacles), ..Held::default() }
    }

    /// Whether the event `n` is held back, if it was examined.
    pub(in crate::store) fn has(&self, n: i64) -> bool {
        self.numbers.contains_key(&n)
    }

    /// Whether no event can be held back.
    pub(in crate::store) fn is_idle(&self) -> bool {
        let holds_none = |all: &Vec<Obstacle>| all.iter().all(|it| it.holds == Holds::Nothing);
        self.obstacles.as_ref().is_some_and(holds_none)
    }

    /// The obstacles; empty if they were not read yet.
    pub(in crate::store) fn known(&self) -> &[Obstacle] {
        self.obstacles.as_deref().unwrap_or_default()
    }

    /// Whether the obstacles were read.
    pub(in crate::store) fn is_read(&self) -> bool {
        self.obstacles.is_some()
    }

    /// The number up to which events were examined.
    pub(in crate::store) fn seen(&self) -> i64 {
        self.seen
    }

    /// Records that all events up to `to` were examined.
    pub(in crate::store) fn looked_up_to(&mut self, to: i64) {
        self.seen = to;
    }

    /// Records that the event `n` is held back by the obstacle at this index.
    pub(in crate::store) fn hold(&mut self, n: i64, obstacle: usize) {
        self.numbers.insert(n, obstacle);
    }

    /// The first event that is held back here and not in `other`.
    pub(in crate::store) fn first_beside(&self, other: &Held) -> Option<i64> {
        self.numbers.keys().copied().find(|&n| !other.has(n))
    }

    /// Whether an event is held back because a value is missing, or because it depends on such an
    /// event.
    pub(in crate::store) fn look(
        &mut self,
        event: &Outgoing,
        key_change_half: Option<i64>,
        tables: &[&Table],
    ) -> Option<usize> {
        let name = event.table.to_ascii_lowercase();
        let after = event.after.as_ref().and_then(|json| Image::parse(json.as_bytes()).ok());
        let after = after.unwrap_or_default();
        let is_new = event.op == Op::Insert && key_change_half.is_none();
        let lacks = |obstacle: &Obstacle| match &obstacle.holds {
            Holds::Inserts(columns) if obstacle.table.eq_ignore_ascii_case(&name) => {
                columns.iter().any(|column| after.get(column).is_none())
            }
            _ => false,
        };
        let own = self.known().iter().position(|obstacle| is_new && lacks(obstacle));
        let own = own.or_else(|| self.rows.get(&(name.clone(), event.key.0.clone())).copied());
        // The insert of a key change comes directly after its delete.
        let other =
            || self.numbers.get(&(event.n - 1)).copied().filter(|_| key_change_half == Some(2));
        let table = tables.iter().find(|table| table.name.eq_ignore_ascii_case(&name));
        let parent = || {
            let keys = table.iter().flat_map(|table| &table.foreign_keys);
            let mut needed = keys.filter_map(|key| reference(key, &after, true));
            needed.find_map(|row| self.offered.get(&row).copied())
        };
        let obstacle = own.or_else(other).or_else(parent)?;
        self.rows.insert((name.clone(), event.key.0.clone()), obstacle);
        let children = tables.iter().flat_map(|child| &child.foreign_keys);
        let children = children.filter(|key| key.parent.eq_ignore_ascii_case(&name));
        let offered = children.filter_map(|key| reference(key, &after, false));
        self.offered.extend(offered.map(|row| (row, obstacle)));
        Some(obstacle)
    }

    /// The number of events for each obstacle. `is_pending` says which are not settled.
    pub(in crate::store) fn counted(&self, is_pending: impl Fn(i64) -> bool) -> Vec<Waiting> {
        let count = |at: usize| {
            let all = self.numbers.iter().filter(|(_, found)| **found == at);
            all.filter(|(n, _)| is_pending(**n)).count() as u64
        };
        let one = |(at, obstacle): (usize, &Obstacle)| {
            let Obstacle { table, reason, .. } = obstacle.clone();
            Waiting { table, reason, events: count(at) }
        };
        self.known().iter().enumerate().map(one).collect()
    }
}

/// A text for the row that a foreign key of an image refers to or, if not `child`, for the image's
/// own row. Texts of possibly equal rows are equal. `None` for NULL, and if the image lacks a
/// column.
fn reference(key: &ForeignKey, image: &Image, child: bool) -> Option<String> {
    let mut text = key.parent.to_ascii_lowercase();
    for (from, to) in &key.columns {
        let value = match image.get(if child { from } else { to })? {
            Value::Null => return None,
            Value::Integer(integer) => (*integer as f64).to_string(),
            Value::Real(real) => real.to_string(),
            Value::Blob(bytes) => format!("x{bytes:?}"),
            Value::Text(text) => {
                let text = String::from_utf8_lossy(text).trim().to_ascii_lowercase();
                text.parse::<f64>().map_or(text, |real| real.to_string())
            }
        };
        text.push('\0');
        text.push_str(&to.to_ascii_lowercase());
        text.push('\0');
        text.push_str(&value);
    }
    Some(text)
}
