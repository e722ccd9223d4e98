//! The conflict inbox and the quarantine.

use serde::Serialize;
use serde_json::Value as Json;

use super::super::message::Failure;
use super::super::method::{Method, Reply};
use super::super::params::Params;
use super::super::sidecar::Sidecar;
use crate::event::Seq;
use crate::event::value::Value;
use crate::inspect::{
    Conflict, ConflictCount, ConflictFilter, ConflictKind, NewKey, Quarantined, Replica, Selection,
};

pub(super) const METHODS: &[Method] = &[
    Method::new("conflicts", conflicts),
    Method::new("conflict_counts", conflict_counts),
    Method::new("conflict", conflict),
    Method::new("restore", restore),
    Method::new("dismiss", dismiss),
    Method::new("quarantine", quarantine),
    Method::new("retry_quarantine", retry_quarantine),
    Method::new("dismiss_quarantined", dismiss_quarantined),
];

/// How many conflicts are listed, unless `limit` says another number.
const LISTED: usize = 100;

/// The filter by `table` and `kind`.
struct Filter {
    table: Option<String>,
    kind: Option<ConflictKind>,
}

impl Filter {
    fn take(params: &mut Params) -> Result<Filter, Failure> {
        let table = params.option("table")?;
        let word: Option<String> = params.option("kind")?;
        let kind = match word.as_deref() {
            None => None,
            Some("conflict") => Some(ConflictKind::Conflict),
            Some("collision") => Some(ConflictKind::Collision),
            Some("rejected") => Some(ConflictKind::Rejected),
            Some(_) => {
                return Err(params.wrong("kind", "is not `conflict`, `collision` or `rejected`"));
            }
        };
        Ok(Filter { table, kind })
    }

    fn of(self, replica: &Replica<'_>, closed: bool) -> Result<ConflictFilter, Failure> {
        Ok(replica.conflict_filter(self.table.as_deref(), self.kind, closed)?)
    }
}

/// Lists conflicts, each with both versions.
fn conflicts(sidecar: &mut Sidecar<'_>, params: &mut Params) -> Result<Reply, Failure> {
    #[derive(Serialize)]
    struct Listed<'a> {
        conflicts: &'a [Conflict],
        more: bool,
    }
    let filter = Filter::take(params)?;
    let closed = params.option("closed")?.unwrap_or(false);
    let skip = params.option("skip")?.unwrap_or(0);
    let limit: usize = params.option("limit")?.unwrap_or(LISTED);
    params.end()?;
    let replica = sidecar.replica()?;
    let filter = filter.of(&replica, closed)?;
    let found = replica.conflicts(&filter, skip, limit.saturating_add(1))?;
    let listed = &found[..found.len().min(limit)];
    Reply::now(&Listed { conflicts: listed, more: found.len() > limit })
}

/// Counts the conflicts of each table and kind.
fn conflict_counts(sidecar: &mut Sidecar<'_>, params: &mut Params) -> Result<Reply, Failure> {
    #[derive(Serialize)]
    struct Counted {
        counts: Vec<ConflictCount>,
    }
    let filter = Filter::take(params)?;
    let closed = params.option("closed")?.unwrap_or(false);
    params.end()?;
    let replica = sidecar.replica()?;
    let filter = filter.of(&replica, closed)?;
    Reply::now(&Counted { counts: replica.conflict_counts(&filter)? })
}

/// One conflict, by its event's id or the beginning or end of that.
fn conflict(sidecar: &mut Sidecar<'_>, params: &mut Params) -> Result<Reply, Failure> {
    let id: String = params.take("id")?;
    params.end()?;
    let replica = sidecar.replica()?;
    let id = replica.conflicts_named(&[id])?[0];
    Reply::now(&replica.conflict(id)?)
}

/// Which conflicts are meant: `ids`, or `all` that the filter takes.
fn selection(
    replica: &Replica<'_>,
    params: &mut Params,
    select: fn(Vec<crate::event::EventId>) -> Selection,
) -> Result<Selection, Failure> {
    let ids: Option<Vec<String>> = params.option("ids")?;
    let all = params.option("all")?.unwrap_or(false);
    let filter = Filter::take(params)?;
    match ids {
        Some(ids) if !all && filter.table.is_none() && filter.kind.is_none() => {
            Ok(select(replica.conflicts_named(&ids)?))
        }
        Some(_) => {
            Err(params.wrong("ids", "cannot be given together with `all`, `table` or `kind`"))
        }
        None if all => Ok(Selection::Matching(filter.of(replica, false)?)),
        None => Err(params.wrong("ids", "is missing, and `all` is not true")),
    }
}

/// Writes the values of lost events again.
fn restore(sidecar: &mut Sidecar<'_>, params: &mut Params) -> Result<Reply, Failure> {
    let replica = sidecar.replica()?;
    let alone = params.option("alone")?.unwrap_or(false);
    let select = if alone { Selection::Events } else { Selection::Together };
    let wanted = selection(&replica, params, select)?;
    let new_key: Option<Json> = params.option("new_key")?;
    let new_key = new_key.map(|key| {
        self::new_key(&key).ok_or_else(|| {
            params.wrong("new_key", "is neither \"fresh\" nor a list of numbers and strings")
        })
    });
    let new_key = new_key.transpose()?;
    params.end()?;
    let one =
        matches!(&wanted, Selection::Events(ids) | Selection::Together(ids) if ids.len() == 1);
    let done = sidecar.change(move |replica| replica.restore(&wanted, new_key))?;
    // Of one event its refusal is the error; of several the result names them.
    match done.refusal().filter(|_| one) {
        Some(error) => Err(error.into()),
        None => Reply::now(&done),
    }
}

/// A key: `"fresh"`, or its values.
fn new_key(json: &Json) -> Option<NewKey> {
    let values = match json {
        Json::String(word) if word == "fresh" => return Some(NewKey::Fresh),
        Json::Array(values) => values.iter().map(|value| match value {
            Json::String(text) => Some(Value::from(text.as_str())),
            Json::Number(number) => match number.as_i64() {
                Some(integer) => Some(Value::Integer(integer)),
                None => number.as_f64().map(Value::Real),
            },
            _ => None,
        }),
        _ => return None,
    };
    values.collect::<Option<Vec<_>>>().map(NewKey::Values)
}

/// Takes lost events off the list.
fn dismiss(sidecar: &mut Sidecar<'_>, params: &mut Params) -> Result<Reply, Failure> {
    let replica = sidecar.replica()?;
    let wanted = selection(&replica, params, Selection::Events)?;
    params.end()?;
    Reply::now(&sidecar.change(move |replica| replica.dismiss(&wanted))?)
}

/// Lists pulled events that cannot be applied here yet.
fn quarantine(sidecar: &mut Sidecar<'_>, params: &mut Params) -> Result<Reply, Failure> {
    #[derive(Serialize)]
    struct Listed {
        events: Vec<Quarantined>,
    }
    params.end()?;
    Reply::now(&Listed { events: sidecar.replica()?.quarantine()? })
}

/// Tries them once more.
fn retry_quarantine(sidecar: &mut Sidecar<'_>, params: &mut Params) -> Result<Reply, Failure> {
    params.end()?;
    Reply::now(&sidecar.change(|replica| replica.retry_quarantine())?)
}

/// Takes one off that is malformed.
fn dismiss_quarantined(sidecar: &mut Sidecar<'_>, params: &mut Params) -> Result<Reply, Failure> {
    let seq = Seq(params.take("seq")?);
    params.end()?;
    Reply::now(&sidecar.change(move |replica| replica.dismiss_quarantined(seq))?)
}
