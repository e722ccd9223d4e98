//! The expressions that make the lines of a long page, in which little is said twice:
//! [`unfold`](crate::event::page::unfold) has the forms.
//!
//! The line of an event is made beside the event one place before it. Most of what the two have is
//! the same, and need not be spelled. A whole row travels as an array of its values, but only where
//! that is proved to lose nothing: its JSON has the names of the layout, in their order
//! (a pattern says so), and is longer than the array by exactly these names, so it has no other.

use super::{Statement, text};
use crate::catalog::literal;
use crate::event::page::PULL_LINE;
use crate::event::page::echo::SHORT_LINE;
use crate::event::page::unfold::{ID, ID_TAIL, Layout};
use crate::event::value::Value;
use crate::event::{EventId, ReplicaId, Seq};

/// Own events that are in the outbox: those of a replica with numbers in a range. The remote knows
/// them by their ids, in which the number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Who made them.
    pub replica: ReplicaId,
    /// The number of the oldest that has no verdict yet.
    pub first: i64,
    /// The number of the newest.
    pub last: i64,
}

impl Held {
    /// How many numbers there are.
    pub(crate) fn len(&self) -> usize {
        usize::try_from(self.last - self.first).map_or(0, |more| more.saturating_add(1))
    }
}

/// How the lines of a page may come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lean {
    /// The events whose values who asks has. They come as echoes.
    pub held: Option<Held>,
    /// The tables whose rows may come as arrays.
    pub layouts: Vec<Layout>,
}

/// The columns of an event.
const FIELDS: [&str; 17] = [
    "seq",
    "id",
    "origin",
    "actor",
    "unit",
    "tbl",
    "pk",
    "op",
    "before",
    "after",
    "base",
    "cause",
    "via",
    "pair",
    "verdict",
    "reason",
    "received_at",
];

/// What an event shares with the one before it, or has no lean line.
const SHARED: [&str; 9] =
    ["origin", "actor", "unit", "base", "cause", "via", "pair", "verdict", "reason"];

/// The most columns of a row that comes as an array: a function of SQLite takes 127 arguments.
const MOST_COLUMNS: usize = 100;

/// The columns, of an event by this alias.
fn of(alias: &str, columns: &[&str]) -> String {
    let columns: Vec<_> = columns.iter().map(|column| format!("{alias}.{column}")).collect();
    columns.join(", ")
}

/// Whether a name stands in JSON, in a path and in a pattern as it is.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Whether rows of the table may come as arrays.
fn is_fit(layout: &Layout) -> bool {
    let columns = &layout.columns;
    (2..=MOST_COLUMNS).contains(&columns.len()) && columns.iter().all(|name| is_plain(name))
}

/// The condition that the values of the event `alias` need not travel. The halves of a key change
/// and consequences are told whole, for the outbox does not say which belong together, and so are
/// events that were pushed without values.
fn holds(held: Option<&Held>, alias: &str) -> Statement {
    let Some(Held { replica, first, last }) = held else { return "0".into() };
    let sql = "(x.origin = ? AND x.cause IS NULL AND x.via IS NULL AND x.pair IS NULL \
         AND x.unit IS NOT NULL AND substr(x.id, 11, 8) BETWEEN ? AND ? \
         AND coalesce(x.before, '') <> '{}' AND coalesce(x.after, '') <> '{}')";
    let number = |n| Value::from(EventId::spelled_number(n).as_str());
    let args = [text(replica), number(*first), number(*last)];
    Statement::new(sql.replace("x.", &format!("{alias}.")), args)
}

/// For each table the row of the event `e` as an array, and how much longer its JSON is.
fn arrays(layouts: &[Layout]) -> [String; 2] {
    let (mut arrays, mut longer) = (String::new(), String::new());
    for layout in layouts.iter().filter(|layout| is_fit(layout)) {
        let table = literal(&layout.table);
        let names = &layout.columns;
        let pattern: Vec<_> = names.iter().map(|name| format!("\"{name}\":*")).collect();
        let paths: Vec<_> = names.iter().map(|name| format!("'$.{name}'")).collect();
        let more: usize = names.iter().map(|name| name.len() + "\"\":".len()).sum();
        arrays.push_str(&format!(
            " WHEN {table} THEN CASE WHEN coalesce(e.after, e.before) GLOB '{{{}}}' \
             THEN json_extract(coalesce(e.after, e.before), {}) END",
            pattern.join(","),
            paths.join(",")
        ));
        longer.push_str(&format!(" WHEN {table} THEN {more}"));
    }
    match arrays.is_empty() {
        true => ["NULL".to_owned(), "NULL".to_owned()],
        false => [
            format!(
                "CASE WHEN b.seq IS NOT NULL AND e.op <> 'update' \
                 AND json_valid(coalesce(e.after, e.before)) THEN CASE e.tbl{arrays} END END"
            ),
            format!("CASE e.tbl{longer} END"),
        ],
    }
}

/// The lean line of an event, or NULL.
fn lean_line() -> String {
    let keyed = |image: &str| {
        format!(
            "CASE WHEN length({image}) = length(packed) + longer THEN CASE WHEN instr(pk, ',') = 0 \
             AND substr(packed, 1, length(pk)) = substr(pk, 1, length(pk) - 1) || ',' THEN '0' \
             ELSE pk END || ',' || packed ELSE pk || ',' || {image} END"
        )
    };
    format!(
        "'[\"' || CASE WHEN near THEN substr(id, {}) ELSE id END || '\",' || later || ',' || \
         CASE WHEN alike THEN '' ELSE json_quote(tbl) || ',\"' || op || '\",' END || CASE op \
         WHEN 'insert' THEN CASE WHEN before IS NULL THEN {} END \
         WHEN 'delete' THEN CASE WHEN after IS NULL THEN {} END \
         ELSE pk || ',' || before || ',' || after END || ']'",
        ID - ID_TAIL + 1,
        keyed("after"),
        keyed("before")
    )
}

/// The SELECT for the lines of a range of the log, with their seqs. The range is a condition on
/// `e.seq`, with an order and a limit.
pub(super) fn lines(lean: &Lean, after: Seq, range: Statement) -> Statement {
    let [this, that] = ["e", "b"].map(|alias| holds(lean.held.as_ref(), alias));
    let [row, longer] = arrays(&lean.layouts);
    let lean_line = lean_line();
    let sql = format!(
        "SELECT seq, CASE WHEN mine THEN {SHORT_LINE} \
         ELSE coalesce(CASE WHEN same THEN {lean_line} END, {PULL_LINE}) END AS line \
         FROM (SELECT {}, {} AS mine, ({}) IS ({}) AND {} = {} AS same, \
         substr(e.id, 1, {prefix}) = substr(b.id, 1, {prefix}) AS near, \
         e.tbl = b.tbl AND e.op = b.op AS alike, e.received_at - b.received_at AS later, \
         {row} AS packed, {longer} AS longer \
         FROM driftless_events AS e LEFT JOIN driftless_events AS b \
         ON b.seq = e.seq - 1 AND b.seq > ? WHERE {})",
        FIELDS.map(|field| format!("e.{field} AS {field}")).join(", "),
        this.sql,
        of("e", &SHARED),
        of("b", &SHARED),
        this.sql,
        that.sql,
        range.sql,
        prefix = ID - ID_TAIL,
    );
    let args = this.args.iter().chain(&this.args).chain(&that.args).cloned();
    Statement::new(sql, args.chain([after.0.into()]).chain(range.args))
}
