//! The verdict on an event, in SQL: the arms of one CASE, in the order in which they are asked.
//!
//! # Caveats
//!
//! * A UNIQUE index over a generated column is not judged here: such an event makes the push fail
//!   as a whole, and the pusher singles it out.
//! * Nor is one whose predicate or expressions mention a generated column, or a value whose type is
//!   not that of its column (text in an INTEGER column).

use super::cell::{Cell, decode};
use super::triggers::Write as Kind;
use crate::catalog::affinity::Affinity;
use crate::catalog::quote::{ident, literal};
use crate::catalog::sql::of;
use crate::catalog::table::{Action, Collation, Column, ForeignKey, Table, Term, Unique};
use crate::event::conflict::ConflictRule;

/// A replicated table and its conflict rule.
#[derive(Clone, Copy, Debug)]
pub struct Replicated<'a> {
    /// The remote's definition of the table.
    pub table: &'a Table,
    /// What counts as a conflict.
    pub rule: ConflictRule,
}

/// The SQL for one table's events.
pub(super) struct Judge<'a> {
    table: &'a Table,
    rule: ConflictRule,
    all: &'a [Replicated<'a>],
}

/// What the parts of a key are called in `driftless_values`, before their number. No column has
/// such a name.
pub(super) fn key_name(json: &str) -> String {
    format!("driftless {json} ")
}

/// The image that an event brings: on the delete of a key change, its other half's.
pub(super) const IMAGE: &str = "coalesce(new.image, new.after)";

/// The row as it is, beside an update of it.
const BEFORE: &str = "driftless_before";

impl<'a> Judge<'a> {
    /// For the events of `table`, which is one of `all`.
    pub(super) fn new(table: &'a Table, rule: ConflictRule, all: &'a [Replicated<'a>]) -> Self {
        Judge { table, rule, all }
    }

    /// The table.
    pub(super) fn table(&self) -> &'a Table {
        self.table
    }

    pub(super) fn this(&self) -> String {
        ident(&self.table.name)
    }

    pub(super) fn name(&self) -> String {
        literal(&self.table.name)
    }

    pub(super) fn value(&self, json: &str, column: &Column) -> String {
        Cell::pushed(self.table, json, column).value()
    }

    /// That the row `alias` has the key that the event's `json` spells, which is `new.pk` or
    /// `new.other`. Its tagged values have been decoded.
    pub(super) fn has_key(&self, alias: &str, json: &str) -> String {
        self.key_is(alias, &|part| {
            let plain = format!("json_extract({json}, '$[{part}]')");
            if self.table.rowid_key {
                return plain;
            }
            format!(
                "CASE WHEN new.plain THEN {plain} ELSE (SELECT driftless_values.v FROM driftless_values \
                 WHERE driftless_values.name = {}) END",
                literal(&format!("{}{part}", key_name(json)))
            )
        })
    }

    /// The same before anything has been decoded.
    pub(super) fn has_spelled_key(&self, alias: &str, json: &str) -> String {
        self.key_is(alias, &|part| {
            let plain = format!("json_extract({json}, '$[{part}]')");
            if self.table.rowid_key {
                return plain;
            }
            format!(
                "CASE WHEN new.plain OR json_type({json}, '$[{part}]') <> 'object' THEN {plain} \
                 ELSE (SELECT {} FROM json_each({json}) AS driftless_part WHERE driftless_part.key = {part}) END",
                decode("driftless_part.value")
            )
        })
    }

    fn key_is(&self, alias: &str, value: &dyn Fn(usize) -> String) -> String {
        let parts: Vec<_> = self
            .table
            .key_columns()
            .zip(&self.table.key_collations)
            .enumerate()
            .map(|(part, (column, collation))| {
                format!(
                    "{} = ({}) COLLATE {}",
                    of(alias, &column.name),
                    value(part),
                    collation.name()
                )
            })
            .collect();
        parts.join(" AND ")
    }

    pub(super) fn exists(&self, json: &str) -> String {
        let this = self.this();
        format!("EXISTS (SELECT 1 FROM {this} WHERE {})", self.has_key(&this, json))
    }

    /// What a column will hold: the event's value, or the row's own where an update leaves it.
    pub(super) fn coming(&self, op: Kind, column: &Column) -> String {
        let cell = Cell::pushed(self.table, IMAGE, column);
        match op {
            Kind::Update => format!(
                "CASE WHEN {} IS NULL THEN (SELECT {} FROM {this} WHERE {}) ELSE {} END",
                cell.kind(),
                of(&self.this(), &column.name),
                self.has_key(&self.this(), "new.pk"),
                cell.value(),
                this = self.this(),
            ),
            _ => cell.value(),
        }
    }

    /// That an update brings one of these columns; always so for the other ops.
    pub(super) fn touches<'c>(
        &self,
        op: Kind,
        columns: impl Iterator<Item = &'c Column>,
    ) -> Option<String> {
        if op != Kind::Update {
            return None;
        }
        let parts: Vec<_> = columns
            .map(|column| {
                format!("{} IS NOT NULL", Cell::pushed(self.table, "new.after", column).kind())
            })
            .collect();
        Some(format!("({})", parts.join(" OR ")))
    }

    // ---- the verdict

    /// Another writer's newer event of the row `key`.
    pub(super) fn lost(&self, key: &str) -> String {
        let over = match self.rule {
            ConflictRule::Row => "",
            ConflictRule::Columns => {
                " AND (driftless_events.op <> 'update' OR new.op <> 'update' OR EXISTS (SELECT 1 \
                 FROM json_each(driftless_events.after) AS driftless_theirs, json_each(new.after) AS driftless_ours WHERE driftless_theirs.key = driftless_ours.key))"
            }
        };
        format!(
            "EXISTS (SELECT 1 FROM driftless_events WHERE driftless_events.tbl = {} AND driftless_events.pk = {key} \
             AND driftless_events.seq > new.base AND driftless_events.origin <> new.origin AND driftless_events.verdict = 'applied'{over})",
            self.name()
        )
    }

    /// The arms of the judging CASE, in their order.
    pub(super) fn arms(&self, op: Kind) -> Vec<String> {
        let mut arms = vec!["new.refuse IS NOT NULL THEN new.refuse".to_owned()];
        let verdict_of = |id: &str| {
            format!(
                "(SELECT driftless_events.verdict FROM driftless_events WHERE driftless_events.id = {id}) IS NOT 'applied'"
            )
        };
        arms.push(format!("new.via IS NOT NULL AND {} THEN 'via'", verdict_of("new.via")));
        arms.push(format!("{} THEN 'conflict'", self.lost("new.pk")));
        match op {
            Kind::Insert => arms.push(format!("{} THEN 'exists'", self.exists("new.pk"))),
            Kind::Update => arms.push(format!("NOT {} THEN 'missing'", self.exists("new.pk"))),
            Kind::Delete => arms
                .push(format!("new.via IS NULL AND NOT {} THEN 'missing'", self.exists("new.pk"))),
            Kind::Move => {
                arms.push(format!("{} THEN 'conflict'", self.lost("new.other")));
                arms.push(format!("NOT {} THEN 'missing'", self.exists("new.pk")));
                arms.push(format!("{} THEN 'exists'", self.exists("new.other")));
            }
        }
        if op != Kind::Delete {
            arms.extend(self.table.uniques.iter().filter_map(|unique| self.unique(op, unique)));
            arms.extend(self.table.foreign_keys.iter().filter_map(|key| self.foreign(op, key)));
        }
        arms.extend(self.children(op));
        arms
    }

    pub(super) fn unique(&self, op: Kind, unique: &Unique) -> Option<String> {
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
        // What is not this row. A key change's new key is another row, and was looked for already.
        let other = format!("({}) IS NOT 1", self.has_key(&this, "new.pk"));
        let same = match (&plain, &unique.predicate) {
            (Some(columns), None) => {
                conditions.extend(self.touches(op, columns.iter().copied()));
                let mut same = Vec::new();
                for (column, term) in columns.iter().zip(&unique.terms) {
                    let Term::Column(_, collation) = term else { unreachable!("all are columns") };
                    let coming = self.coming(op, column);
                    same.push(format!(
                        "{} = ({coming}) COLLATE {}",
                        of(&this, &column.name),
                        collation.name()
                    ));
                    names.push(column.name.clone());
                }
                same.join(" AND ")
            }
            _ => {
                names.push(unique.name.clone());
                self.unique_by_expression(op, unique)?
            }
        };
        conditions.push(format!("EXISTS (SELECT 1 FROM {this} WHERE {same} AND {other})"));
        Some(format!("{} THEN {}", conditions.join(" AND "), reason("unique", &names)))
    }

    /// The condition for an index with a WHERE or with expressions: both are evaluated over the
    /// table's rows, and over a subquery that has the coming row under the table's name. There a
    /// CAST gives each value its column's affinity, and changes nothing, for a value of another
    /// type makes the whole condition false: then the write itself will tell.
    pub(super) fn unique_by_expression(&self, op: Kind, unique: &Unique) -> Option<String> {
        let this = self.this();
        if self.table.generated.iter().any(|name| unique.mentions(name)) {
            return None;
        }
        let (mut columns, mut fitting) = (Vec::new(), Vec::new());
        for column in self.table.columns.iter().filter(|column| unique.mentions(&column.name)) {
            let value = self.coming_beside(op, column);
            columns.push(format!("{} AS {}", typed(column, &value), ident(&column.name)));
            fitting.extend(fits(column, &value));
        }
        let from = match op {
            Kind::Update => {
                format!(" FROM {this} AS {BEFORE} WHERE {}", self.has_key(BEFORE, "new.pk"))
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
                    self.table.column(column)?;
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

    /// What a column will hold, where the row as it is stands beside.
    fn coming_beside(&self, op: Kind, column: &Column) -> String {
        let cell = Cell::pushed(self.table, IMAGE, column);
        match op {
            Kind::Update => format!(
                "CASE WHEN {} IS NULL THEN {} ELSE {} END",
                cell.kind(),
                of(BEFORE, &column.name),
                cell.value()
            ),
            _ => format!("({})", cell.value()),
        }
    }

    /// A missing parent.
    pub(super) fn foreign(&self, op: Kind, key: &ForeignKey) -> Option<String> {
        let children: Option<Vec<&Column>> =
            key.columns.iter().map(|(child, _)| self.table.column(child)).collect();
        let children = children?;
        let mut conditions = vec!["new.late IS NULL".to_owned()];
        conditions.extend(self.touches(op, children.iter().copied()));
        let parent = ident(&key.parent);
        let (mut same, mut own) = (Vec::new(), Vec::new());
        for (child, (_, to)) in children.iter().zip(&key.columns) {
            let coming = self.coming(op, child);
            conditions.push(format!("({coming}) IS NOT NULL"));
            same.push(format!("driftless_parent.{} = ({coming})", ident(to)));
            if let Some(to) = self.table.column(to) {
                // SQLite makes an integer of what is to be a rowid; others it compares as they are.
                let is_rowid = self.table.rowid_key && self.table.key_columns().any(|k| k == to);
                let own_value = match is_rowid {
                    true => format!("CAST({} AS INTEGER)", self.coming(op, to)),
                    false => format!("({})", self.coming(op, to)),
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

    /// Children that keep this row as it is.
    pub(super) fn children(&self, op: Kind) -> Vec<String> {
        let this = self.this();
        let mut arms = Vec::new();
        if op == Kind::Insert {
            return arms;
        }
        for child in self.all.iter().map(|replicated| replicated.table) {
            for key in &child.foreign_keys {
                if !key.parent.eq_ignore_ascii_case(&self.table.name) {
                    continue;
                }
                let action = if op == Kind::Delete { key.on_delete } else { key.on_update };
                if !action.refuses() {
                    continue;
                }
                let mut conditions = Vec::new();
                if action == Action::NoAction || op == Kind::Move {
                    conditions.push("new.late IS NULL".to_owned());
                }
                if op != Kind::Delete {
                    let Some(changed) = self.parent_changes(op, key) else { continue };
                    conditions.push(changed);
                }
                let mut same: Vec<_> = key
                    .columns
                    .iter()
                    .map(|(from, to)| {
                        format!("{this}.{} = driftless_child.{}", ident(to), ident(from))
                    })
                    .collect();
                same.push(self.has_key(&this, "new.pk"));
                if child.name == self.table.name {
                    same.push(format!("({}) IS NOT 1", self.has_key("driftless_child", "new.pk")));
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

    /// That an event changes what children refer to.
    pub(super) fn parent_changes(&self, op: Kind, key: &ForeignKey) -> Option<String> {
        let columns: Option<Vec<&Column>> =
            key.columns.iter().map(|(_, to)| self.table.column(to)).collect();
        let columns = columns?;
        let this = self.this();
        let parts: Vec<_> = columns
            .iter()
            .map(|column| {
                format!(
                    "(SELECT {} FROM {this} WHERE {}) IS NOT ({})",
                    of(&this, &column.name),
                    self.has_key(&this, "new.pk"),
                    self.coming(op, column)
                )
            })
            .collect();
        let changed = format!("({})", parts.join(" OR "));
        Some(match self.touches(op, columns.into_iter()) {
            Some(touched) => format!("{touched} AND {changed}"),
            None => changed,
        })
    }
}

fn reason(word: &str, names: &[String]) -> String {
    literal(&format!("{word}: {}", names.join(", ")))
}

/// A value with its column's affinity and collation. The CAST changes no value that [`fits`].
fn typed(column: &Column, value: &str) -> String {
    let collate = match &column.collation {
        Collation::Binary => String::new(),
        other => format!(" COLLATE {}", other.name()),
    };
    match column.affinity {
        Affinity::Blob => format!("{value}{collate}"),
        Affinity::Text => format!("CAST({value} AS TEXT){collate}"),
        Affinity::Real => format!("CAST({value} AS REAL){collate}"),
        // An INTEGER column may hold 7.5, which a CAST to INTEGER would cut.
        Affinity::Integer | Affinity::Numeric => format!("CAST({value} AS NUMERIC){collate}"),
    }
}

/// That a value is of the type that its column's affinity wants; `None` for a column without one.
pub(super) fn fits(column: &Column, value: &str) -> Option<String> {
    let types = match column.affinity {
        Affinity::Blob => return None,
        Affinity::Text => "'text', 'null'",
        Affinity::Real => "'real', 'null'",
        Affinity::Integer | Affinity::Numeric => "'integer', 'real', 'null'",
    };
    Some(format!("typeof({value}) IN ({types})"))
}
