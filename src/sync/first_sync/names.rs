//! The names of tables and indexes that are to be created on the other side: each must be free
//! there.

use crate::catalog::PREFIX;
use crate::error::{Code, Error, Result};
use crate::store::{Definition, TABLES_SQL};
use crate::sync::first_sync::remote_schema::REMOTE_SCHEMA;

/// Refuses to create tables if a name of theirs is taken on the other side. Tables, views and
/// indexes share one namespace in SQLite. `from` are the definitions of the side that has the
/// tables, `to` those of `whose` side.
///
/// # Errors
///
/// `Usage`, naming both objects.
pub(in crate::sync) fn require_free_names(
    made: &[(String, Vec<String>)],
    from: &[Definition],
    to: &[Definition],
    whose: &str,
) -> Result<()> {
    let taken = |name: &str| {
        to.iter().find(|(kind, other, ..)| kind != "trigger" && other.eq_ignore_ascii_case(name))
    };
    let with_sql = |(kind, _, _, sql): &&Definition| kind == "index" && sql.is_some();
    for (table, _) in made {
        if let Some(other) = taken(table) {
            let message = format!(
                "table `{table}` cannot be created in {whose}, which already has {}",
                described(other)
            );
            return Err(Error::new(Code::NameTaken, message)
                .with_hint("rename one of the two: a name can exist only once in a database"));
        }
        let indexes = from.iter().filter(with_sql);
        for (_, index, ..) in indexes.filter(|(_, _, of, _)| of.eq_ignore_ascii_case(table)) {
            if let Some(other) = taken(index) {
                let message = format!(
                    "index `{index}` of table `{table}` cannot be created in {whose}, which \
                     already has {}",
                    described(other)
                );
                return Err(Error::new(Code::NameTaken, message).with_hint(format!(
                    "a name can exist only once in a database: drop one of the two, and create it \
                     again with another name than `{index}`"
                )));
            }
        }
    }
    Ok(())
}

/// Refuses a database that was never ours and that has an object with a name that the statements
/// `ours` create.
///
/// # Errors
///
/// `Usage`, naming it.
fn require_our_names(definitions: &[Definition], ours: &str, whose: &str) -> Result<()> {
    let words = || ours.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let is_ours = |name: &str| {
        name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
            && words().any(|word| word.eq_ignore_ascii_case(name))
    };
    match definitions.iter().find(|(_, name, ..)| is_ours(name)) {
        None => Ok(()),
        Some(found) => Err(Error::new(
            Code::NameReserved,
            format!(
                "{whose} has {}, and names that begin with `{PREFIX}` are reserved for driftless",
                described(found)
            ),
        )
        .with_hint("rename it, or drop it if it is left over")),
    }
}

/// An object, described for a person.
fn described((kind, name, table, _): &Definition) -> String {
    match kind.as_str() {
        "index" => format!("an index `{name}` of table `{table}`"),
        "trigger" => format!("a trigger `{name}`"),
        "view" => format!("a view `{name}`"),
        _ => format!("a table `{name}`"),
    }
}

/// Refuses databases that are not ours and have objects with our names.
///
/// # Errors
///
/// `Usage`, naming the object.
pub(in crate::sync) fn require_no_names_of_ours(
    here: &[Definition],
    there: &[Definition],
) -> Result<()> {
    if !here.iter().any(|(_, name, ..)| name == "driftless_state") {
        require_our_names(here, TABLES_SQL, "this database")?;
    }
    if !there.iter().any(|(_, name, ..)| name == "driftless_meta") {
        require_our_names(there, REMOTE_SCHEMA, "the remote")?;
    }
    Ok(())
}
