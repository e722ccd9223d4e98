//! A dry run, on the caller's thread.

use std::sync::Arc;

use crate::catalog::{Catalog, LeftOut, Table, Where, ident};
use crate::error::{Code, Error, Result};
use crate::event::value::Value;
use crate::protocol::compare::ComparedTable;
use crate::protocol::remote_tables::SCHEMA_COOKIE;
use crate::protocol::statements::{DEFINITIONS, TABLES};
use crate::remote::{Batch, Remote};
use crate::store::{Judge, Local, PlainFile, Store};
use crate::sync::adoption::report::{DryRun, Side, TablePreview};
use crate::sync::adoption::tables::compare;
use crate::sync::first_sync::compare::{
    self as definitions, Before, Tables, all_names, difference,
};
use crate::sync::first_sync::drift::newcomers::{Taking, resolved};
use crate::sync::first_sync::names::require_no_names_of_ours;
use crate::sync::first_sync::plan::Plan;
use crate::sync::first_sync::remote_schema::{
    Registered, Schema, in_remote_case, read_registered, read_schema,
};
use crate::sync::verify::requests::Requests;

/// How far a dry run is: rows that are compared, and rows that are here.
type Watch<'w> = &'w mut dyn FnMut(u64, u64);

/// Finds what a first sync would do: see [`DryRun`]. Nothing is written on either side. `watch` is
/// told how many rows are compared, and how many are here. Beside the answer, the error with which
/// a first sync would end before it has changed anything.
///
/// # Errors
///
/// `Unavailable` when the remote cannot be reached after a few attempts; `Refused` when it refuses
/// us; `Storage` when the local database fails.
///
/// # Panics
///
/// Within a tokio runtime's own thread: it blocks.
pub fn dry_run(
    plan: &Plan,
    remote: Arc<dyn Remote>,
    watch: Watch<'_>,
) -> Result<(DryRun, Option<Error>)> {
    let mut requests = Requests::to(remote)?;
    let read = |statements| Batch { statements, writes: false };
    let answer = requests.send(&read(vec![DEFINITIONS.into(), SCHEMA_COOKIE.into()]), || Ok(()))?;
    let [rows, cookie] = answer.rows.as_slice() else { return Err(wrong()) };
    let schema = read_schema(rows, cookie)?;
    let mut known = Vec::new();
    if schema.has("driftless_tables") {
        let answer = requests.send(&read(vec![TABLES.into()]), || Ok(()))?;
        known = read_registered(answer.rows.first().ok_or_else(wrong)?)?;
    }
    let mut local = Local::read(&plan.path, &plan.on_connect, plan.tables.named())?;
    let theirs = schema.catalog(&known)?;
    local.take_names(&theirs);
    let both = Both { plan, local: &local, theirs: &theirs, schema: &schema, known: &known };
    let file = PlainFile::open(&plan.path, &plan.on_connect)?;
    let refused = both.refusal(&file)?;
    let mut done = both.compare(&file, &mut requests, watch)?;
    done.refused = refused.as_ref().map(|error| error.message().to_owned());
    (done.requests, done.bytes) = requests.cost();
    Ok((done, refused))
}

fn wrong() -> Error {
    Error::new(Code::AnswerInvalid, "the remote's definitions are not complete")
}

/// The definitions of both sides.
struct Both<'a> {
    plan: &'a Plan,
    local: &'a Local,
    theirs: &'a Catalog,
    schema: &'a Schema,
    known: &'a [Registered],
}

impl Both<'_> {
    /// The error with which a first sync would end.
    fn refusal(&self, file: &PlainFile) -> Result<Option<Error>> {
        let Both { plan, local, theirs, schema, known } = self;
        let settled = Store::settled_tables(&plan.path)?;
        let registered = known.iter().map(|known| known.name().to_owned()).collect();
        let names: Vec<_> = settled.iter().flat_map(|settled| settled.names().to_vec()).collect();
        let before = Before::new(names.clone(), registered);
        let is_settled = |name: &str| names.iter().any(|known| known.eq_ignore_ascii_case(name));
        let check = || -> Result<()> {
            let there = definitions::There::new(schema.definitions(), theirs);
            let (taken, ..) = resolved(plan, local, there, settled.as_ref(), Taking::at_once())?;
            let found = definitions::compare(&taken, local, there, &before)?;
            require_no_names_of_ours(local.definitions(), schema.definitions())?;
            plan.require_rules(found.tables())?;
            if settled.is_none() {
                plan.prefer.require(found.tables())?;
            }
            for table in found.tables() {
                plan.rule_of(&table.name, known, false)?;
                let mine = local.catalog().table(&table.name);
                if let Some(mine) = mine.filter(|mine| !is_settled(&mine.name)) {
                    file.require_keys(mine)?;
                }
            }
            Ok(())
        };
        Ok(check().err())
    }

    /// The names of the tables that would be replicated.
    fn names(&self) -> Vec<String> {
        match &self.plan.tables {
            Tables::Named(names) => names.clone(),
            wanted => all_names(&wanted.choice(), self.local, self.theirs),
        }
    }

    fn compare(
        &self,
        file: &PlainFile,
        requests: &mut Requests,
        watch: Watch<'_>,
    ) -> Result<DryRun> {
        let Both { plan, local, theirs, schema, known } = self;
        let settled = Store::settled_tables(&plan.path)?;
        let replicated = settled.map(|settled| settled.names().to_vec()).unwrap_or_default();
        let (mut previews, mut pairs, mut only_there) = (Vec::new(), Vec::new(), Vec::new());
        for name in self.names() {
            let mut preview = TablePreview { table: name.clone(), ..TablePreview::default() };
            match (local.catalog().table(&name), theirs.table(&name)) {
                _ if replicated.iter().any(|known| known.eq_ignore_ascii_case(&name)) => {
                    preview.side = Side::Replicated;
                }
                (Some(mine), Some(there)) => {
                    preview.columns_here = lacking(mine, there);
                    preview.columns_there = lacking(there, mine);
                    preview.problem = difference(mine, there);
                    let in_remote_case = in_remote_case(mine.clone(), theirs, known);
                    match ComparedTable::new(in_remote_case, there.clone()) {
                        Ok(pair) => pairs.push(pair),
                        Err(why) => drop(preview.problem.get_or_insert(why)),
                    }
                }
                (Some(mine), None) => {
                    preview.side = Side::Local;
                    preview.only_here = file.count(&mine.name)?;
                }
                (None, Some(there)) => {
                    preview.side = Side::Remote;
                    only_there.push(there.name.clone());
                }
                (None, None) => continue,
            }
            previews.push(preview);
        }
        for (name, rows) in count_there(requests, &only_there)? {
            let preview = previews.iter_mut().find(|known| known.table.eq_ignore_ascii_case(&name));
            if let Some(preview) = preview {
                preview.only_there = rows;
            }
        }
        let judge = Judge::new(&plan.prefer)?;
        let brings_powers = !schema.has("driftless_pow2");
        let pairs: Arc<[ComparedTable]> = pairs.into();
        for found in compare(file, pairs, brings_powers, &judge, requests, watch)? {
            let is = |known: &&mut TablePreview| known.table.eq_ignore_ascii_case(&found.table);
            if let Some(preview) = previews.iter_mut().find(is) {
                let before = std::mem::take(preview);
                let TablePreview { table, side, columns_here, columns_there, problem, .. } = before;
                *preview =
                    TablePreview { table, side, columns_here, columns_there, problem, ..found };
            }
        }
        let here = |preview: &&TablePreview| matches!(preview.side, Side::Local | Side::Both);
        let here = previews.iter().filter(here).map(|preview| preview.table.clone());
        let orphans = Store::orphans_of(&plan.path, &here.collect::<Vec<_>>(), &plan.on_connect)?;
        let left_out = self.left_out(&previews);
        Ok(DryRun { tables: previews, left_out, orphans, ..DryRun::default() })
    }

    fn left_out(&self, previews: &[TablePreview]) -> Vec<LeftOut> {
        let choice = self.plan.tables.choice();
        let find = |preview: &TablePreview| {
            let name = &preview.table;
            self.local.catalog().table(name).or_else(|| self.theirs.table(name)).cloned()
        };
        let taken: Vec<_> = previews.iter().filter_map(find).collect();
        LeftOut::joined(
            choice.left_out(self.local.catalog(), Where::Local, &taken),
            choice.left_out(self.theirs, Where::Remote, &taken),
        )
    }
}

/// The columns of a table that another one does not have.
fn lacking(table: &Table, other: &Table) -> Vec<String> {
    let lacking = table.column_names().filter(|name| other.column(name).is_none());
    lacking.map(str::to_owned).collect()
}

/// How many rows tables of the remote have.
fn count_there(requests: &mut Requests, tables: &[String]) -> Result<Vec<(String, u64)>> {
    if tables.is_empty() {
        return Ok(Vec::new());
    }
    let statements = tables.iter().map(|name| format!("SELECT count(*) FROM {}", ident(name)));
    let statements = statements.map(Into::into).collect();
    let answer = requests.send(&Batch { statements, writes: false }, || Ok(()))?;
    if answer.rows.len() != tables.len() {
        return Err(wrong());
    }
    let count = |rows: &crate::remote::Rows| {
        let count = rows.first()?.first().and_then(Value::as_integer)?;
        u64::try_from(count).ok()
    };
    let counted = tables.iter().zip(&answer.rows);
    counted.map(|(name, rows)| Ok((name.clone(), count(rows).ok_or_else(wrong)?))).collect()
}
