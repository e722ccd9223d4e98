//! The tables of a replica's database that are not replicated.

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::definitions::{Definition, Local};
use super::replicated::registered;
use crate::catalog::{Choice, LeftOut, Where, Why};
use crate::error::{Error, Result};
use crate::store::Store;
use crate::store::connection::{set_setting, setting};

/// The setting with the choice of tables when the replica was made, as JSON.
const CHOICE: &str = "choice";

/// What is said of a table that has come since, and is to be taken.
const NEW: &str = "it is new, and is taken if it is still there after a minute";

impl Store {
    /// Stores which tables were chosen.
    pub fn set_choice(&self, choice: &Choice) -> Result<()> {
        let json = serde_json::to_string(choice)
            .map_err(|source| Error::storage("a choice cannot be kept").with_source(source))?;
        self.left_out.borrow_mut().0 = None;
        set_setting(&self.db, CHOICE, Some(&json))
    }

    /// Which tables were asked for; `None` if nobody knows.
    pub(crate) fn choice(&self) -> Result<Option<Choice>> {
        choice(&self.db)
    }

    /// Whether there is a table that is to be taken now, since all are, or that was not looked at.
    pub(crate) fn has_newcomers(&self, now_ms: i64) -> Result<bool> {
        let Some(choice) = self.choice()?.filter(|choice| choice.all) else { return Ok(false) };
        if choice.fresh.iter().any(|fresh| fresh.stays(now_ms)) {
            return Ok(true);
        }
        let is = |name: &str, found: &LeftOut| name.eq_ignore_ascii_case(&found.table);
        let is_known = |found: &LeftOut| {
            choice.refused.iter().any(|known| is(&known.table, found))
                || choice.fresh.iter().any(|known| is(&known.table, found))
        };
        let mut later = self.left_out()?.into_iter().filter(|found| found.why == Why::Later);
        Ok(later.any(|found| !is_known(&found)))
    }

    /// The tables that are not replicated, each with the reason: those of this database as it is
    /// now, and those that the remote had when the replica was made.
    ///
    /// They are determined again only if the schema has changed.
    pub fn left_out(&self) -> Result<Vec<LeftOut>> {
        let version = self.current_schema_version()?;
        let mut kept = self.left_out.borrow_mut();
        if kept.0 != Some(version) {
            kept.1 = self.find_left_out()?;
            kept.0 = Some(version);
        }
        Ok(kept.1.clone())
    }

    fn find_left_out(&self) -> Result<Vec<LeftOut>> {
        let choice = self.choice()?;
        let known = choice.is_some();
        let choice = choice.unwrap_or_default();
        let mut local = Local::of(schema(&self.db)?)?;
        // The guard may have turned the application's triggers off. This check must see them.
        let triggers = self.db.db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER)?;
        self.db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, true)?;
        let looked = local.look(&self.db, &[]);
        self.db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, triggers)?;
        looked?;
        let taken = registered(&self.db)?.into_iter().map(|known| known.table);
        let taken: Vec<_> = taken.collect();
        let mut here = choice.left_out(local.catalog(), Where::Local, &taken);
        for found in &mut here {
            // All tables were chosen, or the choice is unknown. So this table is newer than the
            // choice.
            if found.why == Why::NotNamed && (choice.all || !known) {
                found.why = Why::Later;
                let is = |other: &&LeftOut| other.table.eq_ignore_ascii_case(&found.table);
                found.reason = match choice.refused.iter().find(is) {
                    Some(refused) => refused.reason.clone(),
                    None if choice.all => NEW.to_owned(),
                    None => "it is newer than the replica; `driftless init` takes it".to_owned(),
                };
            }
        }
        let sql = "SELECT name FROM driftless_tables ORDER BY name";
        let mut statement = self.db.prepare(sql)?;
        let names = statement.query_map([], |row| row.get::<_, String>(0))?;
        for name in names.collect::<rusqlite::Result<Vec<_>>>()? {
            if taken.iter().any(|table| table.name.eq_ignore_ascii_case(&name)) {
                continue;
            }
            let now = here.iter().position(|found| found.table.eq_ignore_ascii_case(&name));
            let now = now.map(|at| here.remove(at));
            let reason = match now.filter(|found| found.why == Why::Unfit) {
                Some(found) => format!("it was replicated until it was changed: {}", found.reason),
                None => "it was replicated, and is not in this database any more".to_owned(),
            };
            here.push(LeftOut { table: name, side: Where::Local, why: Why::Gone, reason });
        }
        let is_here = |name: &str| taken.iter().any(|table| table.name.eq_ignore_ascii_case(name));
        let fresh = choice.fresh.into_iter().map(|fresh| LeftOut {
            table: fresh.table,
            side: fresh.side,
            why: Why::Later,
            reason: NEW.to_owned(),
        });
        let there = choice.there.into_iter().chain(choice.refused).chain(fresh);
        let there = there.filter(|found| found.side != Where::Local && !is_here(&found.table));
        Ok(LeftOut::joined(here, there.collect()))
    }
}

/// Which tables were asked for; `None` if nobody knows.
pub(in crate::store) fn choice(db: &Connection) -> Result<Option<Choice>> {
    Ok(setting(db, CHOICE)?.and_then(|json| serde_json::from_str(&json).ok()))
}

fn schema(db: &Connection) -> Result<Vec<Definition>> {
    let sql = "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE type <> 'trigger'
         ORDER BY rowid";
    let mut statement = db.prepare(sql)?;
    let rows =
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
