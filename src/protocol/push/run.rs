//! A run of events, and its statements.

use super::cell::and;
use super::judge::Judge;
use super::judged::{Judged, plain_default};
use super::shape::{Shape, key_value};
use super::words::{E, Kind};
use crate::catalog::identity::{capture_key, capture_key_of};
use crate::catalog::quote::ident;
use crate::catalog::sql::{any_row_json, differs, of};
use crate::catalog::table::Table;
use crate::event::value::Value;
use crate::protocol::Statement;
use crate::protocol::meta::NOW_MS;
use crate::protocol::remote_tables::{RemoteTable, RemoteTables};

/// Names no event as the cause: other writes are the web application's.
pub(super) const RESET: &str = "UPDATE driftless_now SET id=NULL,unit=NULL,origin='web'";

/// The row as it is.
const ROW: &str = "driftless_r";
/// The row that is about to be written.
const APPLYING: &str = "driftless_a";

/// Neighbouring events of one table, op and list of columns.
///
/// * No event influences the verdict of another one, with the exception that [`Run::repair`]
///   handles.
pub struct Run<'a> {
    shape: Shape<'a>,
    /// The number of the first event in `driftless_inbox`.
    first: i64,
    /// For each event, the number of the event in this run that brings its parent, a row of the
    /// same table.
    parents: Vec<Option<i64>>,
}

impl<'a> Run<'a> {
    /// A run of one event, the one at `at` in the push.
    pub(super) fn begin(at: usize, first: &Judged<'a>) -> Run<'a> {
        Run { shape: Shape::of(first), first: at as i64 + 1, parents: vec![None] }
    }

    /// What the events have in common.
    pub(super) fn shape(&self) -> &Shape<'a> {
        &self.shape
    }

    /// Adds the next event. If this run brings its parent, `parent` is the foreign key's number and
    /// that event's.
    pub(super) fn push(&mut self, next: &Judged<'a>, parent: Option<(usize, i64)>) {
        self.shape.add(next);
        self.parents.push(parent.map(|(_, number)| number));
        if let Some((key, _)) = parent {
            self.shape.refer_by(key);
        }
    }

    /// How many events there are.
    pub fn events(&self) -> usize {
        self.parents.len()
    }

    /// The number of the last event.
    pub(super) fn last(&self) -> i64 {
        self.first + self.parents.len() as i64 - 1
    }

    /// Appends the statements. `is_reset` is true if `driftless_now` names no event.
    pub(super) fn statements(
        &self,
        tables: &RemoteTables,
        is_reset: &mut bool,
        out: &mut Vec<Statement>,
    ) {
        let Some(there) = self.shape.there() else {
            out.push(self.log("'rejected'", "'table'", "NULL"));
            return;
        };
        let table = &there.table;
        if tables.has_triggers {
            // A statement that was ignored leaves before-images. A trigger of the application's
            // that writes a deleted row again would seem to update it.
            out.push("DELETE FROM driftless_notes".into());
        }
        if matches!(self.shape.kind(), Kind::Insert | Kind::Move) {
            if !*is_reset {
                out.push(RESET.into());
            }
            out.push(self.adopt(table));
        }
        out.push(self.announce());
        *is_reset = self.events() > 1;
        out.push(self.judge(there, tables));
        out.extend(self.repair(table));
        if self.shape.kind() == Kind::Move {
            return;
        }
        out.push(self.enter(table));
        out.extend(self.write(table));
        if tables.has_triggers || self.may_change_itself(table, tables) {
            out.extend(self.inspect(table));
        }
        out.push("DELETE FROM driftless_applying".into());
    }

    /// Whether a foreign key's action may write a row that the run writes.
    fn may_change_itself(&self, table: &Table, tables: &RemoteTables) -> bool {
        self.shape.kind() != Kind::Insert && tables.children(&table.name).next().is_some()
            || table.foreign_keys.iter().any(|key| key.parent.eq_ignore_ascii_case(&table.name))
    }

    /// The numbers of the first and the last event, as arguments.
    fn range(&self) -> [Value; 2] {
        [self.first.into(), self.last().into()]
    }

    /// Logs a row that is older than the log as an insert of the web application, so that the
    /// replica gets it. The INSERT makes capture log it.
    fn adopt(&self, table: &Table) -> Statement {
        let field = if self.shape.kind() == Kind::Move { "other" } else { "pk" };
        let has_key = self.shape.has_key(table, ROW, field);
        let sql = format!(
            "INSERT INTO driftless_capture(tbl,l,{}) SELECT {E}.tbl,{},{} \
             FROM {} CROSS JOIN {} AS {ROW} ON {has_key} \
             WHERE NOT EXISTS (SELECT 1 FROM driftless_events WHERE driftless_events.tbl={E}.tbl \
             AND driftless_events.pk={E}.{field}) ORDER BY {E}.n",
            places("n", 0..table.columns.len()),
            capture_key(table, ROW),
            columns_of(table, ROW),
            self.shape.source(&[&has_key]),
            ident(&table.name),
        );
        Statement::new(sql, self.range())
    }

    /// Names the event as the cause of what follows, if it is alone, and records the log's end.
    fn announce(&self) -> Statement {
        let head = "head=(SELECT coalesce(max(seq),0) FROM driftless_events)";
        match self.events() {
            1 => {
                let sql = format!(
                    "UPDATE driftless_now SET (id,unit,origin)=\
                     (SELECT id,unit,origin FROM driftless_inbox WHERE n=?),{head}"
                );
                Statement::new(sql, [self.first.into()])
            }
            // Runs of several events have no consequences. An unforeseen one counts as the web's.
            _ => format!("{RESET},{head}").into(),
        }
    }

    /// The parents as JSON, in the order of the events.
    fn parents_json(&self) -> Value {
        let one = |parent: &Option<i64>| match parent {
            Some(parent) => parent.to_string(),
            None => "null".to_owned(),
        };
        let all: Vec<_> = self.parents.iter().map(one).collect();
        Value::Text(format!("[{}]", all.join(",")).into_bytes())
    }

    /// An event whose parent is in the same run was judged as if the parent existed. If the parent
    /// was not applied and has no row, the event becomes rejected, and with it the events that
    /// refer to its row.
    fn repair(&self, table: &Table) -> Option<Statement> {
        let key = &table.foreign_keys[self.shape.parents_key()?];
        let names: Vec<_> = key.columns.iter().map(|(child, _)| child.clone()).collect();
        let has_key = self.shape.has_key(table, ROW, "pk");
        let sql = format!(
            "UPDATE driftless_events SET verdict='rejected',reason={} WHERE verdict='applied' AND id IN (\
             WITH RECURSIVE parents(n,parent) AS MATERIALIZED \
             (SELECT ?+key,value FROM json_each(?) WHERE value IS NOT NULL),\
             failed(n) AS (SELECT {E}.n FROM {} JOIN driftless_events \
             ON driftless_events.id={E}.id WHERE driftless_events.verdict<>'applied' \
             AND NOT EXISTS (SELECT 1 FROM {} AS {ROW} WHERE {has_key}) \
             UNION SELECT parents.n FROM failed JOIN parents ON parents.parent=failed.n) \
             SELECT {E}.id FROM failed JOIN driftless_inbox AS {E} ON {E}.n=failed.n)",
            super::judge::reason("foreign", &names),
            self.shape.source(&[&has_key]),
            ident(&table.name),
        );
        let [first, last] = self.range();
        Some(Statement::new(sql, [first.clone(), self.parents_json(), first, last]))
    }

    /// Appends the events to the log. These expressions give the verdict and the reason, and may
    /// use `r`.
    fn log(&self, verdict: &str, reason: &str, r: &str) -> Statement {
        let has_parents = self.shape.parents_key().is_some();
        let source = match has_parents {
            true => self.shape.source_with_parents(&[r]),
            false => self.shape.source(&[r]),
        };
        let sql = format!(
            "INSERT INTO driftless_events(id,origin,actor,unit,tbl,pk,op,before,after,base,via,pair,\
             verdict,reason,received_at) SELECT id,origin,actor,unit,tbl,pk,op,before,after,base,via,\
             pair,{verdict},{reason},{NOW_MS} FROM (SELECT {E}.*,{r} AS r FROM {source} \
             WHERE NOT EXISTS (SELECT 1 FROM driftless_events \
             WHERE driftless_events.id={E}.id) LIMIT -1)"
        );
        match has_parents {
            true => Statement::new(sql, [self.parents_json(), self.first.into()]),
            false => Statement::new(sql, self.range()),
        }
    }

    /// Appends the events to the log, each with the verdict from [`Judge`].
    fn judge(&self, there: &RemoteTable, tables: &RemoteTables) -> Statement {
        let arms = Judge::new(&self.shape, there, tables).arms();
        let reason = match arms.is_empty() {
            true => "NULL".to_owned(),
            false => format!("CASE WHEN {} END", arms.join(" WHEN ")),
        };
        self.log(
            "CASE WHEN r IS NULL THEN 'applied' WHEN r IN ('conflict','pair','via') \
             THEN 'superseded' ELSE 'rejected' END",
            "r",
            &reason,
        )
    }

    /// Enters the rows of the applied events: as they are, and as they will be.
    fn enter(&self, table: &Table) -> Statement {
        let all = 0..table.columns.len();
        let has_old = self.shape.kind() != Kind::Insert;
        let (mut names, mut values) = (String::new(), String::new());
        if has_old {
            names.push_str(&format!(",{}", places("o", all.clone())));
            values.push_str(&format!(",{}", columns_of(table, ROW)));
        }
        if self.shape.kind() != Kind::Delete {
            names.push_str(&format!(",{}", places("n", all)));
            for column in &table.columns {
                let value = match (self.shape.brings(column), has_old) {
                    (true, _) => self.shape.value(column),
                    (false, true) => of(ROW, &column.present),
                    (false, false) => plain_default(column).unwrap_or("NULL").to_owned(),
                };
                values.push_str(&format!(",{value}"));
            }
        }
        let old_key = if self.shape.kind() == Kind::Arrive { "other" } else { "pk" };
        let row = match has_old {
            true => format!(
                " JOIN {} AS {ROW} ON {}",
                ident(&table.name),
                self.shape.has_key(table, ROW, old_key)
            ),
            false => String::new(),
        };
        let key = capture_key_of(table, &|part| key_value("pk", part));
        let sql = format!(
            "INSERT INTO driftless_applying(tbl,k,seq{names}) SELECT {E}.tbl,{key},\
             driftless_events.seq{values} FROM {} \
             CROSS JOIN driftless_events ON driftless_events.id={E}.id \
             AND driftless_events.seq>(SELECT head FROM driftless_now) \
             AND driftless_events.verdict='applied'{row}",
            self.shape.source(&[&key, &values, &row]),
        );
        Statement::new(sql, self.range())
    }

    /// Writes the rows of the applied events, only in the columns that the events set.
    fn write(&self, table: &Table) -> Option<Statement> {
        let this = ident(&table.name);
        let old_key = |at: &usize| format!("o{}", at + 1);
        let sql = match self.shape.kind() {
            Kind::Insert => {
                // If all events are recorded as rejected, they may have no image.
                let columns: Vec<usize> = match self.shape.columns().is_empty() {
                    true => (0..table.columns.len()).collect(),
                    false => self.shape.columns().to_vec(),
                };
                let names = columns.iter().map(|&at| ident(&table.columns[at].present));
                format!(
                    "INSERT INTO {this}({}) SELECT {} FROM driftless_applying ORDER BY rowid",
                    names.collect::<Vec<_>>().join(","),
                    places("n", columns.iter().copied()),
                )
            }
            Kind::Delete => {
                let names = table.key_columns().map(|column| ident(&column.present));
                let (names, olds): (Vec<_>, Vec<_>) =
                    (names.collect(), table.key.iter().map(old_key).collect());
                let (names, olds) = (names.join(","), olds.join(","));
                match table.key.len() {
                    1 => format!(
                        "DELETE FROM {this} WHERE {names} IN (SELECT {olds} FROM driftless_applying WHERE seq>0)"
                    ),
                    _ => format!(
                        "DELETE FROM {this} WHERE ({names}) IN (SELECT {olds} FROM driftless_applying WHERE seq>0)"
                    ),
                }
            }
            Kind::Update | Kind::Arrive => {
                if self.shape.columns().is_empty() {
                    return None;
                }
                let set = self.shape.columns().iter().map(|&at| {
                    format!("{}={APPLYING}.n{}", ident(&table.columns[at].present), at + 1)
                });
                let key = table.key.iter().map(|at| {
                    let column = ident(&table.columns[*at].present);
                    format!("{this}.{column}={APPLYING}.{}", old_key(at))
                });
                format!(
                    "UPDATE {this} SET {} FROM driftless_applying AS {APPLYING} WHERE {}",
                    set.collect::<Vec<_>>().join(","),
                    key.collect::<Vec<_>>().join(" AND "),
                )
            }
            Kind::Move => return None,
        };
        Some(sql.into())
    }

    /// Checks the rows that were written differently from their announcement.
    fn inspect(&self, table: &Table) -> Vec<Statement> {
        let this = ident(&table.name);
        let prefix = if self.shape.kind() == Kind::Delete { "o" } else { "n" };
        let same = table.key.iter().map(|at| {
            let row = of(ROW, &table.columns[*at].present);
            format!("{row}={APPLYING}.{prefix}{}", at + 1)
        });
        let same = same.collect::<Vec<_>>().join(" AND ");
        let held = match self.shape.kind() {
            Kind::Delete => format!("NOT EXISTS (SELECT 1 FROM {this} AS {ROW} WHERE {same})"),
            _ => {
                let mut parts = vec![same.clone()];
                parts.extend(self.shape.columns().iter().map(|&at| {
                    let column = &table.columns[at];
                    let value = format!("{APPLYING}.n{}", at + 1);
                    format!("NOT ({})", differs(column, &of(ROW, &column.present), &value))
                }));
                format!("EXISTS (SELECT 1 FROM {this} AS {ROW} WHERE {})", and(&parts))
            }
        };
        let refused = format!(
            "FROM driftless_applying AS {APPLYING} JOIN driftless_events AS {E} \
             ON {E}.seq={APPLYING}.seq WHERE {APPLYING}.done IN (0,3) AND NOT {held}"
        );
        let pair = match self.shape.kind() {
            Kind::Arrive => format!(" OR id IN (SELECT {E}.pair {refused})"),
            _ => String::new(),
        };
        let mut statements = vec![Statement::from(format!(
            "UPDATE driftless_events SET verdict='rejected',reason='refused' \
             WHERE seq IN (SELECT {E}.seq {refused}){pair}"
        ))];
        if self.shape.kind() != Kind::Delete {
            // A BEFORE trigger wrote the row, and then the statement put back the values that it
            // had read before. `old` does not show this, so the row is logged whole.
            statements.push(
                format!(
                    "INSERT INTO driftless_events(id,origin,unit,tbl,pk,op,before,after,base,cause,\
                     verdict,received_at) SELECT {},driftless_now.origin,driftless_now.unit,{E}.tbl,\
                     {E}.pk,'update','{{}}',{},0,driftless_now.id,'applied',{NOW_MS} \
                     FROM driftless_now,driftless_applying AS {APPLYING} \
                     JOIN driftless_events AS {E} ON {E}.seq={APPLYING}.seq \
                     JOIN {this} AS {ROW} ON {same} WHERE {APPLYING}.done=3 ORDER BY {APPLYING}.seq",
                    crate::catalog::identity::ulid(),
                    any_row_json(table, ROW),
                )
                .into(),
            );
        }
        statements
    }
}

/// The columns with these places, with a prefix.
pub(super) fn places(prefix: &str, places: impl IntoIterator<Item = usize>) -> String {
    let names = places.into_iter().map(|at| format!("{prefix}{}", at + 1));
    names.collect::<Vec<_>>().join(",")
}

/// All columns of a row.
pub(super) fn columns_of(table: &Table, alias: &str) -> String {
    let columns = table.columns.iter().map(|column| of(alias, &column.present));
    columns.collect::<Vec<_>>().join(",")
}
