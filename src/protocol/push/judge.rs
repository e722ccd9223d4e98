//! The verdict on an event, as SQL: the arms of one CASE, in the order in which they are tried.
//!
//! An arm is a condition on the event `driftless_e`, a row of `driftless_inbox`, and on the tables
//! as they are before the run's writes. An event loses if, when it arrives, another writer's
//! applied event of the same row has a seq greater than the event's base
//! ([`conflict`](crate::event::conflict) has the rule as a function).
//!
//! # Caveats
//!
//! * A UNIQUE index over a generated column is not judged here. An event that violates it makes the
//!   whole push fail, and the pusher finds it by bisection.
//! * The same is true of an index whose predicate or expressions mention a generated column, and of
//!   a value whose type is not that of its column (text in an INTEGER column).

use super::shape::Shape;
use super::words::{E, Kind};
use crate::catalog::affinity::Affinity;
use crate::catalog::quote::{ident, literal};
use crate::catalog::sql::of;
use crate::catalog::table::{Action, Collation, Column, ForeignKey, Table, Term, Unique};
use crate::event::conflict::ConflictRule;
use crate::protocol::remote_tables::{RemoteTable, RemoteTables};

/// The alias of the present row, next to an update of it.
const BEFORE: &str = "driftless_before";

/// Judges the events of one run.
pub(super) struct Judge<'a> {
    run: &'a Shape<'a>,
    table: &'a Table,
    rule: ConflictRule,
    all: &'a RemoteTables,
}

impl<'a> Judge<'a> {
    /// For the events of `run`, whose table is `there`.
    pub(super) fn new(run: &'a Shape<'a>, there: &'a RemoteTable, all: &'a RemoteTables) -> Self {
        Judge { run, table: &there.table, rule: there.rule, all }
    }

    fn this(&self) -> String {
        ident(&self.table.name)
    }

    /// SQL condition: the row `alias` has the key in the event's field `json`, which is `pk` or
    /// `other`.
    fn has_key(&self, alias: &str, json: &str) -> String {
        self.run.has_key(self.table, alias, json)
    }

    fn exists(&self, json: &str) -> String {
        let this = self.this();
        format!("EXISTS (SELECT 1 FROM {this} WHERE {})", self.has_key(&this, json))
    }

    fn value(&self, column: &Column) -> String {
        self.run.value(column)
    }

    /// The value that a column will have: the event's or, if an update leaves the column, the
    /// row's.
    fn coming(&self, column: &Column) -> String {
        if self.run.kind() == Kind::Update && !self.run.brings(column) {
            let this = self.this();
            let key = self.has_key(&this, "pk");
            return format!("(SELECT {} FROM {this} WHERE {key})", of(&this, &column.present));
        }
        self.value(column)
    }

    /// Whether an event sets one of these columns. Always true if it is not an update.
    fn touches<'c>(&self, mut columns: impl Iterator<Item = &'c Column>) -> bool {
        self.run.kind() != Kind::Update || columns.any(|column| self.run.brings(column))
    }

    /// SQL condition: the row in the event's field `key` has an applied event of another writer
    /// with a seq greater than the event's base.
    fn lost(&self, key: &str) -> String {
        let over = match (self.rule, self.run.kind()) {
            (ConflictRule::Columns, Kind::Update) => format!(
                " AND (driftless_events.op<>'update' OR EXISTS (SELECT 1 \
                 FROM json_each(driftless_events.after) AS driftless_theirs,\
                 json_each({E}.after) AS driftless_ours \
                 WHERE driftless_theirs.key=driftless_ours.key))"
            ),
            _ => String::new(),
        };
        format!(
            "EXISTS (SELECT 1 FROM driftless_events WHERE driftless_events.tbl={E}.tbl \
             AND driftless_events.pk={E}.{key} AND driftless_events.seq>{E}.base \
             AND driftless_events.origin<>{E}.origin \
             AND driftless_events.verdict='applied'{over})"
        )
    }

    /// The arms of the CASE, in order.
    pub(super) fn arms(&self) -> Vec<String> {
        let mut arms = Vec::new();
        let verdict_of = |id: &str| {
            format!(
                "(SELECT driftless_events.verdict FROM driftless_events \
                 WHERE driftless_events.id={E}.{id}) IS NOT 'applied'"
            )
        };
        if self.run.has_refused() {
            arms.push(format!("{E}.refuse IS NOT NULL THEN {E}.refuse"));
        }
        let kind = self.run.kind();
        if kind == Kind::Arrive {
            arms.push(format!("{} THEN 'pair'", verdict_of("pair")));
            return arms;
        }
        let via = self.run.has_causes();
        if via {
            arms.push(format!("{E}.via IS NOT NULL AND {} THEN 'via'", verdict_of("via")));
        }
        arms.push(format!("{} THEN 'conflict'", self.lost("pk")));
        match kind {
            Kind::Insert => arms.push(format!("{} THEN 'exists'", self.exists("pk"))),
            Kind::Delete if via => {
                let missing = self.exists("pk");
                arms.push(format!("{E}.via IS NULL AND NOT {missing} THEN 'missing'"));
            }
            Kind::Update | Kind::Delete => {
                arms.push(format!("NOT {} THEN 'missing'", self.exists("pk")));
            }
            Kind::Move | Kind::Arrive => {
                arms.push(format!("{} THEN 'conflict'", self.lost("other")));
                arms.push(format!("NOT {} THEN 'missing'", self.exists("pk")));
                arms.push(format!("{} THEN 'exists'", self.exists("other")));
            }
        }
        if kind != Kind::Delete {
            arms.extend(self.table.uniques.iter().filter_map(|unique| self.unique(unique)));
            let keys = self.table.foreign_keys.iter().enumerate();
            arms.extend(keys.filter_map(|(number, key)| self.foreign(number, key)));
        }
        arms.extend(self.children());
        arms
    }

    fn unique(&self, unique: &Unique) -> Option<String> {
        let this = self.this();
        let mut conditions = Vec::new();
        let mut names = Vec::new();
        let plain: Option<Vec<&Column>> = unique
            .terms
            .iter()
            .map(|term| match term {
                Term::Column(column, _) => self.table.column(column),
                Term::Expression(_) => None,
            })
            .collect();
        // Only other rows count. The new key of a key change is another row, and was checked above.
        let other = format!("({}) IS NOT 1", self.has_key(&this, "pk"));
        let same = match (&plain, &unique.predicate) {
            (Some(columns), None) => {
                if !self.touches(columns.iter().copied()) {
                    return None;
                }
                let mut same = Vec::new();
                for (column, term) in columns.iter().zip(&unique.terms) {
                    let Term::Column(_, collation) = term else { unreachable!("all are columns") };
                    let coming = self.coming(column);
                    same.push(format!(
                        "{} = ({coming}) COLLATE {}",
                        of(&this, &column.present),
                        collation.name()
                    ));
                    names.push(column.name.clone());
                }
                same.join(" AND ")
            }
            _ => {
                names.push(unique.name.clone());
                self.unique_by_expression(unique)?
            }
        };
        conditions.push(format!("EXISTS (SELECT 1 FROM {this} WHERE {same} AND {other})"));
        Some(format!("{} THEN {}", conditions.join(" AND "), reason("unique", &names)))
    }

    /// The condition for an index with a WHERE or with expressions. Both are evaluated over the
    /// table's rows, and over a subquery that has the coming row under the table's name. A CAST
    /// gives each value in the subquery its column's affinity. It changes no value: a value of
    /// another type makes the whole condition false, and then the write itself finds the violation.
    fn unique_by_expression(&self, unique: &Unique) -> Option<String> {
        let this = self.this();
        if self.table.generated.iter().any(|name| unique.mentions(name)) {
            return None;
        }
        let (mut columns, mut fitting) = (Vec::new(), Vec::new());
        for column in self.table.columns.iter().filter(|column| unique.mentions(&column.present)) {
            let value = self.coming_beside(column);
            columns.push(format!("{} AS {}", typed(column, &value), ident(&column.present)));
            fitting.extend(fits(column, &value));
        }
        let from = match self.run.kind() {
            Kind::Update => {
                format!(" FROM {this} AS {BEFORE} WHERE {}", self.has_key(BEFORE, "pk"))
            }
            _ => String::new(),
        };
        let coming = format!("(SELECT {}{from}) AS {this}", columns.join(", "));
        let mut parts = Vec::new();
        if !fitting.is_empty() {
            parts.push(format!("(SELECT {}{from})", fitting.join(" AND ")));
        }
        for term in &unique.terms {
            let (text, collation) = match term {
                Term::Column(column, collation) => {
                    let column = &self.table.column(column)?.present;
                    (of(&this, column), format!(" COLLATE {}", collation.name()))
                }
                Term::Expression(text) => (format!("({text})"), String::new()),
            };
            parts.push(format!("{text} = (SELECT {text} FROM {coming}){collation}"));
        }
        if let Some(predicate) = &unique.predicate {
            parts.push(format!("({predicate})"));
            parts.push(format!("(SELECT ({predicate}) FROM {coming})"));
        }
        Some(parts.join(" AND "))
    }

    /// The value that a column will have, for a query that also reads the present row.
    fn coming_beside(&self, column: &Column) -> String {
        if self.run.kind() == Kind::Update && !self.run.brings(column) {
            return of(BEFORE, &column.present);
        }
        format!("({})", self.value(column))
    }

    /// The arm for a missing parent.
    fn foreign(&self, number: usize, key: &ForeignKey) -> Option<String> {
        let children: Option<Vec<&Column>> =
            key.columns.iter().map(|(child, _)| self.table.column(child)).collect();
        let children = children?;
        if !self.touches(children.iter().copied()) {
            return None;
        }
        let mut conditions = self.not_deferred();
        if self.run.parents_key() == Some(number) {
            conditions.push(format!("{E}.parent IS NULL"));
        }
        let parent = ident(&key.parent);
        let parents = |to: &str| match self.all.get_any_case(&key.parent) {
            Some(parent) => parent.table.present(to).to_owned(),
            None => to.to_owned(),
        };
        let (mut same, mut own) = (Vec::new(), Vec::new());
        for (child, (_, to)) in children.iter().zip(&key.columns) {
            let coming = self.coming(child);
            conditions.push(format!("({coming}) IS NOT NULL"));
            same.push(format!("driftless_parent.{} = ({coming})", ident(&parents(to))));
            if let Some(to) = self.table.column(to) {
                // SQLite converts a value for a rowid to an integer. It compares other values
                // unchanged.
                let is_rowid = self.table.rowid_key && self.table.key_columns().any(|k| k == to);
                let own_value = match is_rowid {
                    true => format!("CAST({} AS INTEGER)", self.coming(to)),
                    false => format!("({})", self.coming(to)),
                };
                own.push(format!("({coming}) = {own_value}"));
            }
        }
        if key.parent.eq_ignore_ascii_case(&self.table.name) && !own.is_empty() {
            conditions.push(format!("({}) IS NOT 1", own.join(" AND ")));
        }
        conditions.push(format!(
            "NOT EXISTS (SELECT 1 FROM {parent} AS driftless_parent WHERE {})",
            same.join(" AND ")
        ));
        let names: Vec<_> = key.columns.iter().map(|(child, _)| child.clone()).collect();
        Some(format!("{} THEN {}", conditions.join(" AND "), reason("foreign", &names)))
    }

    /// SQL condition: no later event of the push may supply what the event's foreign keys miss.
    fn not_deferred(&self) -> Vec<String> {
        let deferred = self.run.has_deferred();
        deferred.then(|| format!("{E}.late IS NULL")).into_iter().collect()
    }

    /// The arms for children whose foreign key refuses the change of this row.
    fn children(&self) -> Vec<String> {
        let this = self.this();
        let mut arms = Vec::new();
        let kind = self.run.kind();
        if kind == Kind::Insert {
            return arms;
        }
        for (child, key) in self.all.children(&self.table.name) {
            {
                let action = if kind == Kind::Delete { key.on_delete } else { key.on_update };
                if !action.refuses() {
                    continue;
                }
                let mut conditions = Vec::new();
                if action == Action::NoAction || kind == Kind::Move {
                    conditions.extend(self.not_deferred());
                }
                if kind != Kind::Delete {
                    let Some(changed) = self.parent_changes(key) else { continue };
                    conditions.push(changed);
                }
                let mut same: Vec<_> = key
                    .columns
                    .iter()
                    .map(|(from, to)| {
                        let (to, from) = (self.table.present(to), child.present(from));
                        format!("{this}.{} = driftless_child.{}", ident(to), ident(from))
                    })
                    .collect();
                same.push(self.has_key(&this, "pk"));
                if child.name == self.table.name {
                    same.push(format!("({}) IS NOT 1", self.has_key("driftless_child", "pk")));
                }
                conditions.push(format!(
                    "EXISTS (SELECT 1 FROM {this} CROSS JOIN {} AS driftless_child WHERE {})",
                    ident(&child.name),
                    same.join(" AND ")
                ));
                let names = [child.name.clone()];
                arms.push(format!(
                    "{} THEN {}",
                    conditions.join(" AND "),
                    reason("children", &names)
                ));
            }
        }
        arms
    }

    /// SQL condition: the event changes columns that children refer to.
    fn parent_changes(&self, key: &ForeignKey) -> Option<String> {
        let columns: Option<Vec<&Column>> =
            key.columns.iter().map(|(_, to)| self.table.column(to)).collect();
        let columns = columns?;
        let this = self.this();
        let parts: Vec<_> = columns
            .iter()
            .map(|column| {
                format!(
                    "(SELECT {} FROM {this} WHERE {}) IS NOT ({})",
                    of(&this, &column.present),
                    self.has_key(&this, "pk"),
                    self.coming(column)
                )
            })
            .collect();
        let changed = format!("({})", parts.join(" OR "));
        self.touches(columns.into_iter()).then_some(changed)
    }
}

pub(super) fn reason(word: &str, names: &[String]) -> String {
    literal(&format!("{word}: {}", names.join(", ")))
}

/// A value with its column's affinity and collation. The CAST changes no value for which [`fits`]
/// is true.
fn typed(column: &Column, value: &str) -> String {
    let collate = match &column.collation {
        Collation::Binary => String::new(),
        other => format!(" COLLATE {}", other.name()),
    };
    match column.affinity {
        Affinity::Blob => format!("{value}{collate}"),
        Affinity::Text => format!("CAST({value} AS TEXT){collate}"),
        Affinity::Real => format!("CAST({value} AS REAL){collate}"),
        // An INTEGER column may have 7.5, which a CAST to INTEGER would truncate.
        Affinity::Integer | Affinity::Numeric => format!("CAST({value} AS NUMERIC){collate}"),
    }
}

/// SQL condition: a value has the type that its column's affinity stores. `None` for a column
/// without affinity.
fn fits(column: &Column, value: &str) -> Option<String> {
    let types = match column.affinity {
        Affinity::Blob => return None,
        Affinity::Text => "'text', 'null'",
        Affinity::Real => "'real', 'null'",
        Affinity::Integer | Affinity::Numeric => "'integer', 'real', 'null'",
    };
    Some(format!("typeof({value}) IN ({types})"))
}
