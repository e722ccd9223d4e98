//! The triggers of the remote: they judge what is pushed, materialize what is applied, and capture
//! what the web application and the remote's own triggers write.
//!
//! A push is one `INSERT INTO driftless_inbox SELECT … FROM json_each(…)`. For each event the
//! inbox's BEFORE INSERT trigger of its table and op
//!
//! 1. decodes the event's tagged values into `driftless_values`;
//! 2. logs a row that is here from before the log, if the event would collide with it;
//! 3. judges the event, and appends it to the log with its verdict;
//! 4. if it is applied, names it in `driftless_meta`, writes it to the table, and looks whether the
//!    write took place;
//! 5. ends in `RAISE(IGNORE)`, so that the inbox stays empty.
//!
//! Judging stands in the trigger and not in the pushing SELECT, since SQLite evaluates the whole of
//! a SELECT before the first row goes in: a verdict could not see what an earlier event of the same
//! push did. No trigger stands on the log itself, since the Turso engine compiles nested triggers at
//! a cost that explodes.
//!
//! While an event is being materialized, capture keeps silent **once**: for that row going from the
//! image recorded before the write to the event's values. What the remote's own triggers and
//! foreign keys do in consequence is captured, with the event as its cause and the event's origin.
//! To see whether a write is that one, the JSON texts are compared first, which is quick and nearly
//! always enough, and the values only where the texts differ.
//!
//! # Caveats
//!
//! * A UNIQUE index over a generated column is not judged here: such an event makes the push fail
//!   as a whole, and the pusher singles it out.
//! * The predicate and the expressions of an index are evaluated over the event's values without
//!   the columns' collations, unless they name one.

use std::fmt::Write as _;

use super::replica::{NOW_MS, fingerprint};
use super::sql::*;
use super::table::*;
use super::triggers::{Capture, Generator, Side, Trigger, Write as Kind};
use crate::verdict::ConflictRule;

/// A replicated table and its conflict rule.
#[derive(Clone, Copy, Debug)]
pub struct Replicated<'a> {
    /// The remote's definition of the table.
    pub table: &'a Table,
    /// What counts as a conflict.
    pub rule: ConflictRule,
}

/// A ULID's text in SQL: ten digits of time, sixteen of chance. Hexadecimal digits are digits of
/// Crockford's base 32 too, so half of the random bits are fixed, and 64 are left.
fn ulid() -> String {
    let digits: Vec<_> = (0..10)
        .rev()
        .map(|place| {
            format!(
                "substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', 1 + ((t.ms >> {}) & 31), 1)",
                place * 5
            )
        })
        .collect();
    format!(
        "(SELECT {} || hex(randomblob(8)) FROM (SELECT {NOW_MS} AS ms) AS t)",
        digits.join(" || ")
    )
}

struct Remote;

impl Side for Remote {
    fn append(&self, table: &Table, capture: &Capture<'_>) -> String {
        let mut condition = match capture.silent {
            // A row that was replaced is never what is being materialized.
            Some(Kind::Insert) => {
                format!("(n.img IS NOT NULL OR NOT coalesce({}, 0))", expected(table, Kind::Insert))
            }
            Some(kind) => format!("NOT coalesce({}, 0)", expected(table, kind)),
            None => "1".to_owned(),
        };
        if !capture.condition.is_empty() {
            let _ = write!(condition, " AND {}", capture.condition);
        }
        format!(
            "INSERT INTO driftless_events (id, origin, unit, tbl, pk, op, \"before\", \"after\", base, \
             cause, verdict, received_at) SELECT {id}, coalesce(m.corigin, 'web'), m.cunit, {tbl}, \
             {key}, {op}, {before}, {after}, 0, m.cid, 'applied', {NOW_MS} \
             FROM driftless_meta AS m{from} WHERE {condition};",
            id = ulid(),
            tbl = literal(&table.name),
            key = capture.key,
            op = match capture.silent {
                Some(Kind::Insert) =>
                    "CASE WHEN n.img IS NULL THEN 'insert' ELSE 'update' END".to_owned(),
                _ => format!("'{}'", capture.op),
            },
            before = capture.before,
            after = capture.after,
            from = capture.from,
        )
    }

    fn calm(&self, table: &Table, kind: Kind) -> String {
        // A trigger's UPDATE cannot give its table another name.
        format!(
            "UPDATE driftless_meta SET hush = 0 WHERE hush = 1 \
             AND (SELECT {} FROM driftless_meta AS m);",
            expected(table, kind)
        )
    }
}

/// Whether the write that a trigger sees is the one that is being materialized: over `old`, `new`
/// and the meta row `m`. It may be NULL for no.
fn expected(table: &Table, kind: Kind) -> String {
    let (row, word) = match kind {
        Kind::Insert => ("new", "insert"),
        Kind::Update => ("new", "update"),
        Kind::Delete => ("old", "delete"),
        Kind::Move => ("new", "move"),
    };
    let this = format!(
        "m.hush = 1 AND m.ctbl = {} AND m.cop = '{word}' AND m.cpk = {}",
        literal(&table.name),
        key_json(table, row)
    );
    let equal = |column: &Column| {
        let new = of("new", &column.name);
        format!("NOT ({})", differs(column, &new, &Cell::stored("m.cafter", column).value()))
    };
    let rest = match kind {
        Kind::Delete => return format!("CASE WHEN {this} THEN 1 ELSE 0 END"),
        Kind::Insert | Kind::Move => {
            let all: Vec<_> = table.columns.iter().map(equal).collect();
            format!("CASE WHEN m.cafter = {} THEN 1 ELSE {} END", row_json(table, "new"), and(&all))
        }
        Kind::Update => {
            let each: Vec<_> = table
                .columns
                .iter()
                .map(|column| {
                    let (new, old) = (of("new", &column.name), of("old", &column.name));
                    format!(
                        "(NOT ({}) OR ({} IS NOT NULL AND {}))",
                        differs(column, &new, &old),
                        Cell::stored("m.cafter", column).kind(),
                        equal(column)
                    )
                })
                .collect();
            format!(
                "CASE WHEN m.cold IS NOT {} THEN 0 WHEN m.cafter = {} THEN 1 ELSE {} END",
                row_json(table, "old"),
                changes_json(table, "old", "new", "new"),
                and(&each)
            )
        }
    };
    format!("CASE WHEN {this} THEN {rest} ELSE 0 END")
}

/// A conjunction in groups: a wide table's would be too deep an expression otherwise.
fn and(parts: &[String]) -> String {
    let groups: Vec<_> =
        parts.chunks(40).map(|group| format!("({})", group.join(" AND "))).collect();
    groups.join(" AND ")
}

/// A column's place in an event's JSON object.
struct Cell<'a> {
    json: &'a str,
    column: &'a Column,
    /// Whether `new.plain` says that no value has a tag.
    knows_plain: bool,
    tagged: bool,
}

impl<'a> Cell<'a> {
    /// In an event of the inbox.
    fn pushed(table: &Table, json: &'a str, column: &'a Column) -> Self {
        let tagged = !(table.rowid_key && table.key_columns().any(|key| key == column));
        Cell { json, column, knows_plain: true, tagged }
    }

    /// In the meta row.
    fn stored(json: &'a str, column: &'a Column) -> Self {
        Cell { json, column, knows_plain: false, tagged: true }
    }

    /// The JSON path, if the name can stand in one.
    fn path(&self) -> Option<String> {
        let name = &self.column.name;
        let fits = !name.chars().any(|c| c == '"' || c == '\\' || c.is_control());
        fits.then(|| literal(&format!("$.\"{name}\"")))
    }

    /// The type of the value there; NULL when the object does not have the column.
    fn kind(&self) -> String {
        match self.path() {
            Some(path) => format!("json_type({}, {path})", self.json),
            None => self.lookup("type"),
        }
    }

    fn lookup(&self, what: &str) -> String {
        format!(
            "(SELECT {what} FROM json_each({}) WHERE key = {})",
            self.json,
            literal(&self.column.name)
        )
    }

    /// The value.
    fn value(&self) -> String {
        let plain = match self.path() {
            Some(path) => format!("json_extract({}, {path})", self.json),
            None => self.lookup("value"),
        };
        if !self.tagged {
            return plain;
        }
        let decoded = format!(
            "CASE {} WHEN 'object' THEN (SELECT v FROM driftless_values WHERE name = {}) \
             ELSE {plain} END",
            self.kind(),
            literal(&self.column.name)
        );
        if self.knows_plain {
            format!("CASE WHEN new.plain THEN {plain} ELSE {decoded} END")
        } else {
            format!("({decoded})")
        }
    }
}

/// The value that a tagged object's text spells, in SQL: `value::read_real` and hex.
fn decode(json: &str) -> String {
    let text = format!("substr({json}, 7, length({json}) - 8)");
    format!(
        "CASE substr({json}, 3, 1) WHEN 'x' THEN unhex({text}) \
         WHEN 't' THEN CAST(unhex({text}) AS TEXT) \
         ELSE CASE WHEN {text} = 'inf' THEN 9e999 WHEN {text} = '-inf' THEN -9e999 \
         WHEN instr({text}, 'p') THEN CAST({text} AS INTEGER) / 4503599627370496.0 * \
         (SELECT p FROM driftless_pow2 WHERE e = 52 + CAST(substr({text}, instr({text}, 'p') + 1) AS INTEGER)) \
         ELSE CAST(CAST({text} AS INTEGER) AS REAL) END END"
    )
}

/// The SQL for one table's events.
struct Judge<'a> {
    table: &'a Table,
    rule: ConflictRule,
    all: &'a [Replicated<'a>],
}

/// The image that an event brings: on the delete of a key change, its other half's.
const IMAGE: &str = "coalesce(new.image, new.after)";

impl Judge<'_> {
    fn this(&self) -> String {
        ident(&self.table.name)
    }

    fn name(&self) -> String {
        literal(&self.table.name)
    }

    fn value(&self, json: &str, column: &Column) -> String {
        Cell::pushed(self.table, json, column).value()
    }

    /// That the row `alias` has the key that the JSON array `json` spells.
    fn has_key(&self, alias: &str, json: &str) -> String {
        let parts: Vec<_> = self
            .table
            .key_columns()
            .zip(&self.table.key_collations)
            .enumerate()
            .map(|(part, (column, collation))| {
                let plain = format!("json_extract({json}, '$[{part}]')");
                let value = if self.table.rowid_key {
                    plain
                } else {
                    format!(
                        "CASE WHEN new.plain OR json_type({json}, '$[{part}]') <> 'object' THEN {plain} \
                         ELSE (SELECT {} FROM json_each({json}) AS k WHERE k.key = {part}) END",
                        decode("k.value")
                    )
                };
                format!("{} = ({value}) COLLATE {}", of(alias, &column.name), collation.name())
            })
            .collect();
        parts.join(" AND ")
    }

    fn exists(&self, json: &str) -> String {
        let this = self.this();
        format!("EXISTS (SELECT 1 FROM {this} WHERE {})", self.has_key(&this, json))
    }

    /// What a column will hold: the event's value, or the row's own where an update leaves it.
    fn coming(&self, op: Kind, column: &Column) -> String {
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
    fn touches<'c>(&self, op: Kind, columns: impl Iterator<Item = &'c Column>) -> Option<String> {
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
    fn lost(&self, key: &str) -> String {
        let over = match self.rule {
            ConflictRule::Row => "",
            ConflictRule::Columns => {
                " AND (x.op <> 'update' OR new.op <> 'update' OR EXISTS (SELECT 1 \
                 FROM json_each(x.after) AS a, json_each(new.after) AS b WHERE a.key = b.key))"
            }
        };
        format!(
            "EXISTS (SELECT 1 FROM driftless_events AS x WHERE x.tbl = {} AND x.pk = {key} \
             AND x.seq > new.base AND x.origin <> new.origin AND x.verdict = 'applied'{over})",
            self.name()
        )
    }

    /// The arms of the judging CASE, in their order.
    fn arms(&self, op: Kind) -> Vec<String> {
        let mut arms = vec!["new.refuse IS NOT NULL THEN new.refuse".to_owned()];
        let verdict_of = |id: &str| {
            format!(
                "(SELECT e.verdict FROM driftless_events AS e WHERE e.id = {id}) IS NOT 'applied'"
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

    fn unique(&self, op: Kind, unique: &Unique) -> Option<String> {
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
    /// table's rows, and over a subquery that has the coming row under the table's name.
    fn unique_by_expression(&self, op: Kind, unique: &Unique) -> Option<String> {
        let this = self.this();
        let columns: Vec<_> = self
            .table
            .columns
            .iter()
            .map(|column| format!("({}) AS {}", self.coming(op, column), ident(&column.name)))
            .collect();
        let coming = format!("(SELECT {}) AS {this}", columns.join(", "));
        let mut parts = Vec::new();
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

    /// A missing parent.
    fn foreign(&self, op: Kind, key: &ForeignKey) -> Option<String> {
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
            same.push(format!("p.{} = ({coming})", ident(to)));
            if let Some(to) = self.table.column(to) {
                own.push(format!("({coming}) = ({})", self.coming(op, to)));
            }
        }
        if key.parent.eq_ignore_ascii_case(&self.table.name) && !own.is_empty() {
            conditions.push(format!("({}) IS NOT 1", own.join(" AND ")));
        }
        conditions
            .push(format!("NOT EXISTS (SELECT 1 FROM {parent} AS p WHERE {})", same.join(" AND ")));
        let names: Vec<_> = key.columns.iter().map(|(child, _)| child.clone()).collect();
        Some(format!("{} THEN {}", conditions.join(" AND "), reason("foreign", &names)))
    }

    /// Children that keep this row as it is.
    fn children(&self, op: Kind) -> Vec<String> {
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
                    .map(|(from, to)| format!("{this}.{} = c.{}", ident(to), ident(from)))
                    .collect();
                same.push(self.has_key(&this, "new.pk"));
                if child.name == self.table.name {
                    same.push(format!("({}) IS NOT 1", self.has_key("c", "new.pk")));
                }
                conditions.push(format!(
                    "EXISTS (SELECT 1 FROM {this} CROSS JOIN {} AS c WHERE {})",
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
    fn parent_changes(&self, op: Kind, key: &ForeignKey) -> Option<String> {
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

    // ---- the trigger

    /// Decodes the tagged values, once for the event.
    fn decode_values(&self) -> String {
        format!(
            "INSERT INTO driftless_values (name, v) SELECT j.key, {} \
             FROM json_each({IMAGE}) AS j WHERE new.plain IS NULL AND j.type = 'object';",
            decode("j.value")
        )
    }

    /// A row that is here from before the log is the web's: log it, so that the replica gets it.
    fn adopt(&self, key: &str) -> String {
        let this = self.this();
        format!(
            "INSERT INTO driftless_events (id, origin, tbl, pk, op, \"after\", base, verdict, received_at) \
             SELECT {}, 'web', {name}, {}, 'insert', {}, 0, 'applied', {NOW_MS} FROM {this} \
             WHERE {} AND NOT EXISTS (SELECT 1 FROM driftless_events AS e WHERE e.tbl = {name} \
             AND e.pk = {key});",
            ulid(),
            key_json(self.table, &this),
            row_json(self.table, &this),
            self.has_key(&this, key),
            name = self.name(),
        )
    }

    fn judge(&self, arms: &[String]) -> String {
        format!(
            "INSERT INTO driftless_events (id, origin, actor, unit, tbl, pk, op, \"before\", \"after\", \
             base, via, pair, verdict, reason, received_at) SELECT new.id, new.origin, new.actor, \
             new.unit, new.tbl, new.pk, new.op, new.before, new.after, new.base, new.via, new.pair, \
             CASE WHEN j.r IS NULL THEN 'applied' WHEN j.r IN ('conflict', 'pair', 'via') \
             THEN 'superseded' ELSE 'rejected' END, j.r, {NOW_MS} FROM (SELECT CASE\n    WHEN {}\n    \
             END AS r) AS j;",
            arms.join("\n    WHEN ")
        )
    }

    /// Names the event, if it was applied; `key` is the row that the write will find.
    fn announce(&self, word: &str, key: &str) -> String {
        let this = self.this();
        let old = match word {
            "update" => format!(
                "(SELECT {} FROM {this} WHERE {})",
                row_json(self.table, &this),
                self.has_key(&this, key)
            ),
            _ => "NULL".to_owned(),
        };
        format!(
            "UPDATE driftless_meta SET cid = new.id, cunit = new.unit, corigin = new.origin, \
             ctbl = new.tbl, cpk = new.pk, cop = '{word}', cafter = new.after, cold = {old}, hush = 1 \
             WHERE (SELECT e.verdict FROM driftless_events AS e WHERE e.id = new.id) = 'applied';"
        )
    }

    /// If the silence was not used up and the row does not hold the values, a trigger of the web's
    /// refused the write without a word.
    fn refused(&self, held: &str) -> String {
        format!(
            "UPDATE driftless_events SET verdict = 'rejected', reason = 'refused' \
             WHERE id IN (new.id, new.pair) AND (SELECT m.hush FROM driftless_meta AS m) = 1 \
             AND NOT {held};"
        )
    }

    fn holds(&self) -> String {
        let this = self.this();
        let parts: Vec<_> = self
            .table
            .columns
            .iter()
            .map(|column| {
                let cell = Cell::pushed(self.table, "new.after", column);
                let same =
                    differs(column, &of(&this, &column.name), &format!("({})", cell.value()));
                format!("({} IS NULL OR NOT ({same}))", cell.kind())
            })
            .collect();
        format!(
            "EXISTS (SELECT 1 FROM {this} WHERE {} AND {})",
            self.has_key(&this, "new.pk"),
            and(&parts)
        )
    }

    fn assignments(&self, partly: bool) -> String {
        let parts: Vec<_> = self
            .table
            .columns
            .iter()
            .map(|column| {
                let cell = Cell::pushed(self.table, "new.after", column);
                let name = ident(&column.name);
                if partly {
                    format!(
                        "{name} = CASE WHEN {} IS NULL THEN {name} ELSE {} END",
                        cell.kind(),
                        cell.value()
                    )
                } else {
                    format!("{name} = {}", cell.value())
                }
            })
            .collect();
        parts.join(", ")
    }

    fn trigger(&self, word: &str, when: &str, body: &[String]) -> Trigger {
        let name = format!("{PREFIX}inbox_{word}_{}", self.table.name);
        let mut sql = format!(
            "CREATE TRIGGER {} BEFORE INSERT ON driftless_inbox WHEN new.tbl = {} AND {when}\nBEGIN\n",
            ident(&name),
            self.name(),
        );
        let end = [
            "UPDATE driftless_meta SET cid = NULL, cunit = NULL, corigin = NULL, ctbl = NULL, \
             cpk = NULL, cop = NULL, cafter = NULL, cold = NULL, hush = NULL WHERE cid IS NOT NULL;"
                .to_owned(),
            "DELETE FROM driftless_values WHERE new.plain IS NULL;".to_owned(),
            "SELECT RAISE(IGNORE);".to_owned(),
        ];
        for statement in body.iter().chain(&end) {
            let _ = writeln!(sql, "  {statement}");
        }
        sql.push_str("END");
        Trigger { name, sql }
    }

    fn insert(&self) -> Trigger {
        let columns: Vec<_> = self.table.column_names().map(ident).collect();
        let values: Vec<_> =
            self.table.columns.iter().map(|column| self.value("new.after", column)).collect();
        let body = [
            self.decode_values(),
            self.adopt("new.pk"),
            self.judge(&self.arms(Kind::Insert)),
            self.announce("insert", "new.pk"),
            format!(
                "INSERT INTO {} ({}) SELECT {} FROM driftless_meta AS m WHERE m.cid = new.id;",
                self.this(),
                columns.join(", "),
                values.join(", ")
            ),
            self.refused(&self.holds()),
        ];
        self.trigger("insert", "new.op = 'insert' AND new.pair IS NULL", &body)
    }

    fn update(&self) -> Trigger {
        let this = self.this();
        let body = [
            self.decode_values(),
            self.judge(&self.arms(Kind::Update)),
            self.announce("update", "new.pk"),
            format!(
                "UPDATE {this} SET {} WHERE {} AND {APPLIED};",
                self.assignments(true),
                self.has_key(&this, "new.pk")
            ),
            self.refused(&self.holds()),
        ];
        self.trigger("update", "new.op = 'update'", &body)
    }

    fn delete(&self) -> Trigger {
        let this = self.this();
        let body = [
            self.judge(&self.arms(Kind::Delete)),
            self.announce("delete", "new.pk"),
            format!("DELETE FROM {this} WHERE {} AND {APPLIED};", self.has_key(&this, "new.pk")),
            self.refused(&format!("NOT {}", self.exists("new.pk"))),
        ];
        self.trigger("delete", "new.op = 'delete' AND new.pair IS NULL", &body)
    }

    /// The delete of a key change is judged for both halves; nothing is written yet.
    fn leave(&self) -> Trigger {
        let body =
            [self.decode_values(), self.adopt("new.other"), self.judge(&self.arms(Kind::Move))];
        self.trigger("leave", "new.op = 'delete' AND new.pair IS NOT NULL", &body)
    }

    /// The insert of a key change shares the delete's verdict, and is materialized as an UPDATE of
    /// the old key, so that children follow.
    fn arrive(&self) -> Trigger {
        let this = self.this();
        let arm = "new.refuse IS NOT NULL THEN new.refuse".to_owned();
        let pair = "(SELECT e.verdict FROM driftless_events AS e WHERE e.id = new.pair) \
                    IS NOT 'applied' THEN 'pair'";
        let body = [
            self.decode_values(),
            self.judge(&[arm, pair.to_owned()]),
            self.announce("move", "new.other"),
            format!(
                "UPDATE {this} SET {} WHERE {} AND {APPLIED};",
                self.assignments(false),
                self.has_key(&this, "new.other")
            ),
            self.refused(&self.holds()),
        ];
        self.trigger("arrive", "new.op = 'insert' AND new.pair IS NOT NULL", &body)
    }

    fn triggers(&self) -> Vec<Trigger> {
        vec![self.arrive(), self.leave(), self.delete(), self.update(), self.insert()]
    }
}

const APPLIED: &str = "(SELECT m.cid FROM driftless_meta AS m) = new.id";

fn reason(word: &str, names: &[String]) -> String {
    literal(&format!("{word}: {}", names.join(", ")))
}

/// All triggers of the remote, in the order in which they are to be made: those of the tables, so
/// that capture is newer than the application's own, and those of the inbox.
pub fn remote_triggers(all: &[Replicated<'_>]) -> Vec<Trigger> {
    let tables: Vec<_> = all.iter().map(|replicated| replicated.table).collect();
    let mut triggers = Vec::new();
    for table in &tables {
        triggers.extend(Generator { side: &Remote, table, replicated: &tables }.triggers());
    }
    let names: Vec<_> = tables.iter().map(|table| literal(&table.name)).collect();
    triggers.push(Trigger {
        name: format!("{PREFIX}inbox"),
        sql: format!(
            "CREATE TRIGGER {PREFIX}inbox BEFORE INSERT ON driftless_inbox \
             WHEN new.tbl NOT IN ({})\nBEGIN\n  INSERT INTO driftless_events (id, origin, actor, unit, \
             tbl, pk, op, \"before\", \"after\", base, via, pair, verdict, reason, received_at) \
             VALUES (new.id, new.origin, new.actor, new.unit, new.tbl, new.pk, new.op, new.before, \
             new.after, new.base, new.via, new.pair, 'rejected', 'table', {NOW_MS});\n  \
             SELECT RAISE(IGNORE);\nEND",
            names.join(", ")
        ),
    });
    for replicated in all {
        let judge = Judge { table: replicated.table, rule: replicated.rule, all };
        triggers.extend(judge.triggers());
    }
    // The newest fires first: an event that is in the log already is looked at no further.
    triggers.push(Trigger {
        name: format!("{PREFIX}inbox_again"),
        sql: format!(
            "CREATE TRIGGER {PREFIX}inbox_again BEFORE INSERT ON driftless_inbox \
             WHEN EXISTS (SELECT 1 FROM driftless_events AS e WHERE e.id = new.id)\nBEGIN\n  \
             SELECT RAISE(IGNORE);\nEND"
        ),
    });
    triggers
}

/// A short text that changes when any trigger of the remote would.
pub fn remote_fingerprint(all: &[Replicated<'_>]) -> String {
    fingerprint(&remote_triggers(all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    fn remote(schema: &str, web: &str, rule: ConflictRule) -> Connection {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch("PRAGMA foreign_keys = ON").unwrap();
        db.execute_batch(schema).unwrap();
        db.execute_batch(web).unwrap();
        db.execute_batch(include_str!("../../schema/remote/tables.sql")).unwrap();
        db.execute_batch(include_str!("../../schema/pow2.sql")).unwrap();
        db.execute_batch("INSERT INTO driftless_meta (one, epoch, version) VALUES (1, 'e', 1)")
            .unwrap();
        let catalog = Catalog::read(&db).unwrap();
        let all: Vec<_> = catalog.tables.iter().map(|table| Replicated { table, rule }).collect();
        for trigger in remote_triggers(&all) {
            if let Err(error) = db.execute_batch(&trigger.sql) {
                panic!("{error}\n{}", trigger.sql);
            }
        }
        db
    }

    /// Pushes events, each `[id, tbl, pk, op, before, after, base]`, and gives all verdicts.
    fn push(db: &Connection, origin: &str, events: &str) {
        db.execute(
            "INSERT INTO driftless_inbox (id, origin, tbl, pk, op, before, after, base, plain)
             SELECT value ->> 0, ?1, value ->> 1, value -> 2, value ->> 3, nullif(value -> 4, 'null'), nullif(value -> 5, 'null'),
             value ->> 6, value ->> 7 FROM json_each(?2) ORDER BY key",
            [origin, events],
        )
        .unwrap();
    }

    fn rows(db: &Connection, sql: &str) -> Vec<String> {
        let mut statement = db.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.map(|row| row.unwrap()).collect()
    }

    const LOG: &str = "SELECT concat_ws(' ', CASE WHEN length(id) > 3 THEN '-' ELSE id END, \
        origin, tbl, pk, op, after, verdict, reason, cause) FROM driftless_events ORDER BY seq";

    #[test]
    fn events_are_judged_one_after_the_other() {
        let schema = "CREATE TABLE m (id TEXT PRIMARY KEY, u TEXT UNIQUE, n REAL);
            CREATE TABLE p (id TEXT PRIMARY KEY, m TEXT REFERENCES m, x INTEGER);";
        let db = remote(schema, "", ConflictRule::Row);
        push(
            &db,
            "A",
            r#"[["1","m",["a"],"insert",null,{"id":"a","u":"x","n":{"r":"7205759403792794p-56"}},0,null],
            ["2","m",["b"],"insert",null,{"id":"b","u":"x","n":null},0,1],
            ["3","m",["a"],"update",{"u":"x"},{"u":"y"},0,1],
            ["4","m",["b"],"insert",null,{"id":"b","u":"x","n":null},0,1],
            ["5","p",["p"],"insert",null,{"id":"p","m":"c","x":1},0,1],
            ["6","p",["p"],"insert",null,{"id":"p","m":"b","x":1},0,1],
            ["7","m",["b"],"delete",{"id":"b","u":"x","n":null},null,0,1],
            ["8","q",["b"],"delete",{"id":"b"},null,0,1],
            ["8","q",["b"],"delete",{"id":"b"},null,0,1]]"#,
        );
        let expected = [
            r#"1 A m ["a"] insert {"id":"a","u":"x","n":{"r":"7205759403792794p-56"}} applied"#,
            r#"2 A m ["b"] insert {"id":"b","u":"x","n":null} rejected unique: u"#,
            r#"3 A m ["a"] update {"u":"y"} applied"#,
            r#"4 A m ["b"] insert {"id":"b","u":"x","n":null} applied"#,
            r#"5 A p ["p"] insert {"id":"p","m":"c","x":1} rejected foreign: m"#,
            r#"6 A p ["p"] insert {"id":"p","m":"b","x":1} applied"#,
            r#"7 A m ["b"] delete rejected children: p"#,
            r#"8 A q ["b"] delete rejected table"#,
        ];
        assert_eq!(rows(&db, LOG), expected);
        assert_eq!(
            rows(&db, "SELECT id || u || (n = 0.1 IS NOT 0) FROM m ORDER BY 1"),
            ["ay1", "bx1"]
        );
        assert_eq!(rows(&db, "SELECT count(*) || '' FROM driftless_inbox"), ["0"]);
    }

    #[test]
    fn the_web_wins_and_its_triggers_are_consequences() {
        let schema = "CREATE TABLE m (id TEXT PRIMARY KEY, a, t INTEGER DEFAULT 0);";
        let web = "CREATE TRIGGER touch AFTER UPDATE OF a ON m BEGIN \
                   UPDATE m SET t = t + 1 WHERE id = new.id; END;";
        let db = remote(schema, web, ConflictRule::Row);
        db.execute_batch("INSERT INTO m (id, a) VALUES ('a', 1); UPDATE m SET a = 2").unwrap();
        push(
            &db,
            "A",
            r#"[["1","m",["a"],"update",{"a":1},{"a":3},1,1],["2","m",["a"],"update",{"a":2},{"a":3},9,1]]"#,
        );
        let expected = [
            r#"- web m ["a"] insert {"id":"a","a":1,"t":0} applied"#,
            r#"- web m ["a"] update {"a":2} applied"#,
            r#"- web m ["a"] update {"t":1} applied"#,
            r#"1 A m ["a"] update {"a":3} superseded conflict"#,
            r#"2 A m ["a"] update {"a":3} applied"#,
            r#"- A m ["a"] update {"t":2} applied 2"#,
        ];
        assert_eq!(rows(&db, LOG), expected);
    }
}
