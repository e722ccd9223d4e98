//! Tables that have come since a replica was made, where all tables are replicated.

use crate::catalog::{Catalog, Choice, Fresh, LeftOut, Where, Why};
use crate::error::Result;
use crate::store::{Local, PlainFile, SettledTables};
use crate::sync::first_sync::compare::{Before, Tables, There, all_names, compare, staying};
use crate::sync::first_sync::plan::Plan;

/// When new tables are taken.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::sync) struct Taking {
    /// At once: a person has asked for them.
    at_once: bool,
    now_ms: i64,
}

impl Taking {
    /// At once.
    pub(in crate::sync) fn at_once() -> Taking {
        Taking { at_once: true, now_ms: 0 }
    }

    /// It is this time, in ms since 1970.
    pub(in crate::sync) fn is_now(&mut self, now_ms: i64) {
        self.now_ms = now_ms;
    }
}

/// The tables of a plan, for a replica whose first sync is done with these tables (`settled`), and
/// otherwise as the plan has them. Beside them, the new tables that cannot be taken, and those that
/// are taken if they stay: both are in nobody's way.
///
/// # Errors
///
/// `Storage` when the database fails.
pub(in crate::sync) fn resolved(
    plan: &Plan,
    local: &Local,
    there: There<'_>,
    settled: Option<&SettledTables>,
    taking: Taking,
) -> Result<(Tables, Vec<LeftOut>, Vec<Fresh>)> {
    let Some(settled) = settled else {
        return Ok((plan.tables.clone(), Vec::new(), Vec::new()));
    };
    let mut known = settled.names().to_vec();
    let Newcomers { mut joining, mut refused } = newcomers(plan, local, there, &known)?;
    let theirs = there.catalog();
    let mut fresh = Vec::new();
    let is_here = |name: &&String| local.catalog().table(name).is_some();
    let missing_there =
        known.iter().filter(is_here).find(|name| theirs.table(name).is_none()).cloned();
    let missing_here = known.iter().find(|name| !is_here(name)).cloned();
    joining.retain(|table| {
        let side = side_of(table, local, theirs);
        let former = match side {
            Where::Remote => &missing_there,
            Where::Local => &missing_here,
            Where::Both => &None,
        };
        let since = settled.fresh().iter().find(|known| known.table.eq_ignore_ascii_case(table));
        let since_ms = since.map_or(taking.now_ms, |known| known.since_ms);
        let new = Fresh { table: table.clone(), side, since_ms };
        match former {
            _ if taking.at_once => return true,
            Some(former) => refused.push(renamed(table, former, side)),
            None if new.stays(taking.now_ms) => return true,
            None => fresh.push(new),
        }
        false
    });
    // One that somebody has dropped here is not made anew, unless it is named.
    known.retain(|name| local.catalog().table(name).is_some());
    Ok((Tables::Named(staying(&plan.tables, &known, joining)), refused, fresh))
}

/// A new table that is not taken by itself, since it may be another one that was renamed.
fn renamed(table: &str, former: &str, side: Where) -> LeftOut {
    let reason = format!(
        "it is new where table `{former}` is missing, so it may be that table under another name; \
         `driftless init` takes it"
    );
    LeftOut { table: table.to_owned(), side, why: Why::Later, reason }
}

/// The sides that have a table.
fn side_of(table: &str, local: &Local, theirs: &Catalog) -> Where {
    match (local.catalog().table(table), theirs.table(table)) {
        (Some(_), Some(_)) => Where::Both,
        (Some(_), None) => Where::Local,
        _ => Where::Remote,
    }
}

/// What has come since.
#[derive(Debug, Default)]
struct Newcomers {
    /// Tables that can be taken.
    joining: Vec<String>,
    refused: Vec<LeftOut>,
}

/// Finds the tables of either side that are to be taken, beside those that are `known`.
fn newcomers(plan: &Plan, local: &Local, there: There<'_>, known: &[String]) -> Result<Newcomers> {
    let choice: Choice = plan.tables.choice();
    let mut found = Newcomers::default();
    if !choice.all {
        return Ok(found);
    }
    let theirs = there.catalog();
    let mut names = all_names(&choice, local, theirs);
    names.retain(|name| !known.iter().any(|known| known.eq_ignore_ascii_case(name)));
    if names.is_empty() {
        return Ok(found);
    }
    let before = Before::new(known.to_vec(), Vec::new());
    let file = PlainFile::open(&plan.path, &plan.on_connect)?;
    let fits = |name: &String, joining: &[String]| -> Result<()> {
        let wanted = joining.iter().chain([name]).cloned().collect();
        compare(&Tables::Named(wanted), local, there, &before)?;
        local.catalog().table(name).map_or(Ok(()), |table| file.require_keys(table))
    };
    // A child may come before its parent.
    loop {
        let taken = found.joining.len();
        names.retain(|name| {
            let fits = fits(name, &found.joining).is_ok();
            if fits {
                found.joining.push(name.clone());
            }
            !fits
        });
        if names.is_empty() || found.joining.len() == taken {
            break;
        }
    }
    for table in names {
        let Err(error) = fits(&table, &found.joining) else { continue };
        let side = side_of(&table, local, theirs);
        let reason = error.message().to_owned();
        tracing::warn!(table, "a new table cannot be taken: {reason}");
        found.refused.push(LeftOut { table, side, why: Why::Unfit, reason });
    }
    Ok(found)
}
