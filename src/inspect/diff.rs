//! Two points of the log compared, for the command and for programs.

use std::str::FromStr;

use serde::Serialize;

use super::{Condition, EventView, LogPosition, Replica};
use crate::audit::changes::Scope;
use crate::audit::condition::{EVENT_FIELDS, ROW_FIELDS};
use crate::audit::diff::{RowChange, diff};
use crate::audit::point::Point;
use crate::error::{Error, Result};
use crate::event::value::Value;
use crate::event::{Image, Op, RowKey, readable};

/// Two positions, as a person writes them: `A..B`; without B up to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PointRange {
    /// The first one.
    pub from: LogPosition,
    /// The second one.
    pub to: LogPosition,
}

impl FromStr for PointRange {
    type Err = Error;

    fn from_str(text: &str) -> Result<PointRange> {
        let (from, to) = text.split_once("..").unwrap_or((text, "now"));
        let to = if to.is_empty() { "now" } else { to };
        Ok(PointRange { from: from.parse()?, to: to.parse()? })
    }
}

/// A row that differs, as programs read it.
#[derive(Clone, Debug, Serialize)]
pub struct RowChangeView<'a> {
    /// Its table.
    pub table: &'a str,
    /// Its key.
    #[serde(flatten, serialize_with = "readable::key")]
    pub key: &'a RowKey,
    /// Whether the row came, went, or has other values.
    pub op: Op,
    /// The old values.
    #[serde(flatten, serialize_with = "readable::before")]
    pub before: Option<&'a Image>,
    /// The new values.
    #[serde(flatten, serialize_with = "readable::after")]
    pub after: Option<&'a Image>,
    /// Whether the earlier values are not sure.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub uncertain: bool,
}

impl<'a> RowChangeView<'a> {
    /// Of a row that differs.
    pub fn of(change: &'a RowChange) -> Self {
        RowChangeView {
            table: &change.table,
            key: &change.key,
            op: change.op,
            before: change.before.as_ref(),
            after: change.after.as_ref(),
            uncertain: change.is_uncertain,
        }
    }
}

/// The values of fields, in their order; JSON where a field has parts.
fn fields(of: &impl Serialize, names: &[&str]) -> Vec<Value> {
    let json = serde_json::to_value(of).expect("what we print has text as its keys");
    let value = |name: &&str| match json.get(if *name == "tbl" { "table" } else { name }) {
        None | Some(serde_json::Value::Null) => Value::Null,
        Some(serde_json::Value::String(text)) => Value::from(text.as_str()),
        Some(serde_json::Value::Number(number)) => {
            number.as_i64().map_or(Value::Null, Value::Integer)
        }
        Some(parts) => Value::from(parts.to_string().as_str()),
    };
    names.iter().map(value).collect()
}

impl Condition {
    /// A condition over events. It may name `seq`, `id`, `made_at`, `origin`, `actor`, `unit`,
    /// `tbl`, `key`, `op`, `verdict`, `reason`, and `before` and `after` as JSON.
    ///
    /// # Errors
    ///
    /// `Usage`, with SQLite's words, when it is not one.
    pub fn of_events(text: &str) -> Result<Condition> {
        Condition::new(text, &EVENT_FIELDS)
    }

    /// A condition over rows that differ. It may name `tbl`, `key`, `op`, and `before` and `after`
    /// as JSON.
    ///
    /// # Errors
    ///
    /// `Usage`, with SQLite's words, when it is not one.
    pub fn of_rows(text: &str) -> Result<Condition> {
        Condition::new(text, &ROW_FIELDS)
    }

    /// Whether it holds for an event.
    ///
    /// # Errors
    ///
    /// `Usage` when it cannot be computed.
    pub fn takes_event(&self, event: &EventView<'_>) -> Result<bool> {
        self.takes(&fields(event, &EVENT_FIELDS))
    }

    /// Whether it holds for a row that differs.
    ///
    /// # Errors
    ///
    /// `Usage` when it cannot be computed.
    pub fn takes_row(&self, change: &RowChange) -> Result<bool> {
        self.takes(&fields(&RowChangeView::of(change), &ROW_FIELDS))
    }
}

impl Replica<'_> {
    /// The rows that differ between two points, by table and key; of one table or one row, if it is
    /// named. If `to` is the earlier point, it is told what takes the later state back to it.
    /// `watch` is told how many events were read.
    ///
    /// # Errors
    ///
    /// `Usage` when the table is not replicated, or the log here does not go back so far. What
    /// `visit` returns ends the walk.
    pub fn diff(
        &self,
        from: Point,
        to: Point,
        table: Option<&str>,
        key: Option<&RowKey>,
        watch: &mut dyn FnMut(u64),
        visit: &mut dyn FnMut(RowChange) -> Result<()>,
    ) -> Result<()> {
        let table = table.map(|name| self.table(name)).transpose()?;
        let scope = Scope::new(table.map(str::to_owned), key.cloned());
        if from == to {
            return Ok(());
        }
        self.store.index_rows(&mut |_| {})?;
        let place = |point| match point {
            Point::Now => i64::MAX,
            Point::Seq(seq) => seq.0,
        };
        let backwards = place(from) > place(to);
        let (first, last) = if backwards { (to, from) } else { (from, to) };
        self.store.read_log(|log| {
            diff(log, first, last, &scope, watch, &mut |change| {
                visit(if backwards { change.reversed() } else { change })
            })
        })
    }

    /// The statement that makes a change in another database with the same tables.
    pub fn change_sql(&self, change: &RowChange) -> String {
        let mut tables = self.definitions();
        let table = tables.find(|table| table.name.eq_ignore_ascii_case(&change.table));
        change.to_sql(table)
    }
}
