//! The obstacles that hold back the events of a table, after the web application has migrated.
//!
//! A replica whose first sync is done continues with the tables as they are on both sides. Events
//! that the remote's table cannot accept wait here, and are named in the status. All others flow. A
//! table that the remote has lost was dropped or renamed there, and is never created again.

use crate::catalog::{Catalog, Collation, Table};
use crate::protocol::remote_tables::Gap;
use crate::store::{Holds, Obstacle};
use crate::sync::first_sync::drift::debts::Owed;

/// The obstacle for a table that both sides have, if there is one.
pub(in crate::sync) fn obstacle(mine: &Table, theirs: &Table) -> Option<Obstacle> {
    let name = &mine.name;
    let whole = |why: String| {
        let reason = format!("table `{name}` differs between the two sides: {why}");
        Some(Obstacle { table: name.clone(), reason, holds: Holds::All })
    };
    if let Some(why) = key_differs(mine, theirs) {
        return whole(why);
    }
    let is_wanted = |name: &&str| {
        let column = theirs.column(name).expect("it is one of its columns");
        column.not_null && column.default.is_none() && mine.column(name).is_none()
    };
    let lacking: Vec<_> = theirs.column_names().filter(is_wanted).map(str::to_owned).collect();
    let first = lacking.first()?;
    let reason = format!(
        "the remote's table `{name}` requires a value for column `{first}`, which this database \
         does not have: new rows wait"
    );
    Some(Obstacle { table: name.clone(), reason, holds: Holds::Inserts(lacking) })
}

/// The difference between the keys of two tables, if there is one.
pub(in crate::sync) fn key_differs(mine: &Table, theirs: &Table) -> Option<String> {
    let key = |table: &Table| {
        let names: Vec<_> = table.key_columns().map(|column| column.name.as_str()).collect();
        names.join(", ")
    };
    if !key(mine).eq_ignore_ascii_case(&key(theirs)) {
        return Some(format!(
            "its key is ({}) here and ({}) on the remote",
            key(mine),
            key(theirs)
        ));
    }
    let mut pairs = mine.key_columns().zip(theirs.key_columns());
    if let Some((here, there)) = pairs.find(|(here, there)| here.affinity != there.affinity) {
        return Some(format!(
            "column `{}` is `{}` here and `{}` on the remote",
            here.name, here.declared, there.declared
        ));
    }
    let collations = |table: &Table| {
        let names: Vec<_> = table.key_collations.iter().map(Collation::name).collect();
        names.join(", ")
    };
    (mine.key_collations != theirs.key_collations).then(|| {
        format!(
            "its key ({}) compares by {} here and by {} on the remote",
            key(mine),
            collations(mine),
            collations(theirs)
        )
    })
}

/// The obstacle for a table that the remote lacks or cannot replicate.
pub(in crate::sync) fn missing(name: &str, theirs: &Catalog) -> Obstacle {
    let is = |(other, _): &&(String, String)| other.eq_ignore_ascii_case(name);
    let reason = match theirs.skipped.iter().find(is) {
        Some((_, why)) => {
            format!("the remote's table `{name}` cannot be replicated any more: {why}")
        }
        None => {
            format!("the remote no longer has table `{name}`: it was dropped or renamed there")
        }
    };
    Obstacle { table: name.to_owned(), reason, holds: Holds::All }
}

/// Adds the tables that cannot be written on the remote because of their foreign keys there. If a
/// foreign key leads to a missing table, or not to a key of its parent, SQLite refuses writes. And
/// a row may refer to a row that waits.
pub(in crate::sync) fn add_children(found: &mut Vec<Obstacle>, tables: &[Table], theirs: &Catalog) {
    let is = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
    loop {
        let waits = |name: &str| {
            found.iter().any(|known| known.holds == Holds::All && is(&known.table, name))
        };
        let why = |child: &Table| {
            let unfounded = theirs.unfounded.iter().find(|(other, _)| is(other, &child.name));
            if let Some((_, parent)) = unfounded {
                return Some((parent.clone(), "has no such key there"));
            }
            let mut parents = theirs.parents.iter().filter(|(other, _)| is(other, &child.name));
            let there = |parent: &str| {
                theirs.table(parent).is_some() || theirs.skipped.iter().any(|(n, _)| is(n, parent))
            };
            parents.find_map(|(_, parent)| match there(parent) {
                false => Some((parent.clone(), "is not there")),
                true if waits(parent) && !is(parent, &child.name) => {
                    Some((parent.clone(), "waits too"))
                }
                true => None,
            })
        };
        let next = tables.iter().find_map(|table| {
            let (parent, what) = why(table).filter(|_| !waits(&table.name))?;
            let name = &table.name;
            Some(Obstacle {
                table: name.clone(),
                reason: format!(
                    "table `{name}` refers on the remote to table `{parent}`, which {what}"
                ),
                holds: Holds::All,
            })
        });
        let Some(next) = next else { return };
        found.retain(|known| !is(&known.table, &next.table));
        found.push(next);
    }
}

/// The notice for a table for which capture on the remote may have missed writes since an event.
pub(in crate::sync) fn gap(gap: &Gap) -> Obstacle {
    let Gap { table, since, .. } = gap;
    let reason = format!(
        "capture of table `{table}` on the remote was incomplete: writes after event {since} may \
         be missing in the log"
    );
    Obstacle { table: table.to_owned(), reason, holds: Holds::Nothing }
}

/// The columns of a table that the remote's table lacks. Events name them nevertheless.
pub(in crate::sync) fn unknown_there(mine: &Table, theirs: &Table) -> Vec<Owed> {
    let lacks = |column: &&str| theirs.column(column).is_none();
    let columns = mine.column_names().filter(lacks);
    columns.map(|column| Owed::new(mine.name.clone(), column.to_owned())).collect()
}

/// The notice for a column that the remote's table lacks, or could not be filled completely.
pub(in crate::sync) fn owed(debt: &Owed, arrived: bool) -> Obstacle {
    let (table, column) = (debt.table(), debt.column());
    let since = debt.since().map(|since| format!(" since event {since}")).unwrap_or_default();
    let what = match arrived {
        false => {
            "which has no such column: they are in the log, and fill the column when it is \
            added"
        }
        true => "which could not store all of them",
    };
    let reason = format!(
        "values of column `{column}`{since} are owed to the remote's table `{table}`, {what}"
    );
    Obstacle { table: table.to_owned(), reason, holds: Holds::Nothing }
}
