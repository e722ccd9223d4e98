//! The tables as they were, copied into a new file.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::types::ToSqlOutput;

use super::as_of::{Definition, Past};
use crate::catalog::{Table, create_if_missing, ident};
use crate::error::{Code, Error, Result};

/// What a copy of a former state has.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Replayed {
    /// The tables, each with its rows.
    pub tables: Vec<CopiedTable>,
    /// What the replica has and the copy has not, each with the reason.
    pub left_out: Vec<String>,
}

/// A table of a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct CopiedTable {
    /// Its name.
    pub table: String,
    /// Its rows.
    pub rows: u64,
}

/// Refuses a path that is taken.
///
/// # Errors
///
/// `Usage` when something is there, or the folder is not.
pub(crate) fn check_target(path: &Path) -> Result<()> {
    if path.exists() {
        let message = format!("{} exists already", path.display());
        return Err(Error::usage(message).with_hint("name a file that does not exist"));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        let message = format!("there is no folder {}", folder.display());
        return Err(Error::new(Code::NoSuchFile, message));
    }
    Ok(())
}

/// A file under another name until it is whole.
struct Unfinished {
    path: PathBuf,
    is_done: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_done {
            // There is none, perhaps.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Copies the replicated tables of `past` into a new file at `path`, with their indexes and the
/// views over them. The file gets its name when it is whole. `watch` is told of each table.
///
/// # Errors
///
/// `Usage` when the file exists already, `Storage` when it cannot be written.
pub(crate) fn into_file(
    past: &Past,
    path: &Path,
    watch: &mut dyn FnMut(&CopiedTable),
) -> Result<Replayed> {
    check_target(path)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".unfinished");
    let mut unfinished = Unfinished { path: path.with_file_name(name), is_done: false };
    let _ = std::fs::remove_file(&unfinished.path);
    let mut done = Replayed::default();
    {
        let target = Connection::open(&unfinished.path)?;
        target.execute_batch(
            "PRAGMA foreign_keys = OFF; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN",
        )?;
        for table in past.tables() {
            target.execute_batch(&create_if_missing(table))?;
            let copied = copy(past, &target, table)?;
            watch(&copied);
            done.tables.push(copied);
        }
        for one in past.definitions()? {
            match one {
                Definition::Indexed(sql) => target.execute_batch(&sql)?,
                Definition::View(name, sql) => {
                    if let Err(error) = target.execute_batch(&sql) {
                        done.left_out.push(format!("view `{name}`: {error}"));
                    }
                }
                Definition::LeftOut(what) => done.left_out.push(what),
            }
        }
        target.execute_batch("COMMIT; PRAGMA synchronous = FULL; PRAGMA journal_mode = DELETE")?;
        target.close().map_err(|(_, error)| error)?;
    }
    std::fs::rename(&unfinished.path, path).map_err(|error| {
        Error::storage(format!("cannot name the file {}: {error}", path.display()))
    })?;
    unfinished.is_done = true;
    Ok(done)
}

fn copy(past: &Past, target: &Connection, table: &Table) -> Result<CopiedTable> {
    let names: Vec<_> = table.present_names().map(ident).collect();
    let places: Vec<_> = (1..=names.len()).map(|at| format!("?{at}")).collect();
    let insert = format!(
        "INSERT INTO {} ({}) VALUES ({})",
        ident(&table.name),
        names.join(", "),
        places.join(", ")
    );
    let mut statement = target.prepare(&insert)?;
    let select = format!("SELECT {} FROM {}", names.join(", "), ident(&table.name));
    let mut copied = CopiedTable { table: table.name.clone(), rows: 0 };
    past.raw(&select, &mut |row| {
        for at in 0..names.len() {
            statement.raw_bind_parameter(at + 1, ToSqlOutput::Borrowed(row.get_ref(at)?))?;
        }
        statement.raw_execute()?;
        copied.rows += 1;
        Ok(())
    })?;
    Ok(copied)
}
