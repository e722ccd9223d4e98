//! The tables of both sides, compared: what must be made where, and what cannot work.

use crate::capture::{Catalog, Collation, Table, create_if_missing};
use crate::error::{Error, Result};
use crate::store::Definition;

/// Which tables are to be replicated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tables {
    /// These. Each must be on one side at least.
    Named(Vec<String>),
    /// Every table that can be replicated, of either side.
    All,
}

/// What a comparison found.
#[derive(Clone, Debug, Default)]
pub(super) struct Comparison {
    /// The tables, as they are where they are; equal in what matters where they are on both sides.
    pub(super) tables: Vec<Table>,
    /// The names of those that only the remote has, and what makes them here.
    pub(super) make_here: Vec<(String, Vec<String>)>,
    /// The names of those that only this database has, and what makes them there.
    pub(super) make_there: Vec<(String, Vec<String>)>,
}

/// Compares the tables of this database with those of the remote.
///
/// # Errors
///
/// `Usage`, naming the table and the column, when a table cannot be replicated or is not the same
/// on both sides.
pub(super) fn compare(
    wanted: &Tables,
    here: &[Definition],
    there: &[Definition],
) -> Result<Comparison> {
    let (mine, theirs) = (Catalog::of_remote(here)?, Catalog::of_remote(there)?);
    let names: Vec<String> = match wanted {
        Tables::Named(names) => names.clone(),
        Tables::All => {
            let mut names: Vec<_> =
                mine.tables.iter().chain(&theirs.tables).map(|table| table.name.clone()).collect();
            names.sort_unstable_by_key(|name| name.to_ascii_lowercase());
            names.dedup_by(|a, b| a.eq_ignore_ascii_case(b));
            names
        }
    };
    let mut found = Comparison::default();
    for name in &names {
        match (mine.table(name), theirs.table(name)) {
            (Some(mine), Some(theirs)) => {
                same(mine, theirs)?;
                found.tables.push(mine.clone());
            }
            (Some(table), None) => {
                must_be_absent(&theirs, name)?;
                found.make_there.push((table.name.clone(), makers(table, &mine)));
                found.tables.push(table.clone());
            }
            (None, Some(table)) => {
                must_be_absent(&mine, name)?;
                found.make_here.push((table.name.clone(), makers(table, &theirs)));
                found.tables.push(table.clone());
            }
            (None, None) => return Err(neither(name, &mine, &theirs)),
        }
    }
    for table in &found.tables {
        require_key(&table.name, &mine)?;
        require_key(&table.name, &theirs)?;
    }
    require_parents(&found, &mine, &theirs)?;
    Ok(found)
}

/// A foreign key must lead to a key of its parent. Where it does not, SQLite refuses whatever
/// writes to the child, and to a parent that has a trigger, as capture gives it one.
fn require_key(table: &str, catalog: &Catalog) -> Result<()> {
    let is = |name: &str| name.eq_ignore_ascii_case(table);
    match catalog.unfounded.iter().find(|(child, parent)| is(child) || is(parent)) {
        None => Ok(()),
        Some((child, parent)) => Err(Error::usage(format!(
            "table `{child}` refers to columns of table `{parent}` that are no key of it"
        ))
        .with_hint(format!(
            "make a UNIQUE index on these columns of `{parent}` on both sides, or mend the foreign \
             key: SQLite refuses what is written there"
        ))),
    }
}

/// Every foreign key must lead to a table that the remote has. Where one does not, SQLite refuses
/// whatever writes to the child; and since all tables' triggers are compiled into a push, nothing
/// at all could be pushed.
fn require_parents(found: &Comparison, mine: &Catalog, theirs: &Catalog) -> Result<()> {
    let is = |name: &String, other: &str| name.eq_ignore_ascii_case(other);
    let there = |parent: &str| {
        theirs.table(parent).is_some()
            || theirs.skipped.iter().any(|(name, _)| is(name, parent))
            || found.make_there.iter().any(|(name, _)| is(name, parent))
    };
    for table in &found.tables {
        let side = if theirs.table(&table.name).is_some() { theirs } else { mine };
        let mut parents = side.parents.iter().filter(|(child, _)| is(child, &table.name));
        if let Some((_, parent)) = parents.find(|(_, parent)| !there(parent)) {
            return Err(Error::usage(format!(
                "table `{}` refers to table `{parent}`, which the remote does not have",
                table.name
            ))
            .with_hint("replicate that table too, or make it on the remote"));
        }
    }
    Ok(())
}

/// The wanted tables that this database has, by their names here.
///
/// # Errors
///
/// `Usage`, naming the table, when one cannot be replicated.
pub(super) fn local_tables(wanted: &Tables, here: &[Definition]) -> Result<Vec<String>> {
    let mine = Catalog::of_remote(here)?;
    match wanted {
        Tables::All => {
            for table in &mine.tables {
                require_key(&table.name, &mine)?;
            }
            Ok(mine.tables.into_iter().map(|table| table.name).collect())
        }
        Tables::Named(names) => {
            let mut found = Vec::new();
            for name in names {
                must_be_absent(&mine, name)?;
                require_key(name, &mine)?;
                found.extend(mine.table(name).map(|table| table.name.clone()));
            }
            Ok(found)
        }
    }
}

/// The tables of a replica whose first sync is done: those that it has, and no others, for the rows
/// of another one were never compared.
///
/// # Errors
///
/// `Usage`, naming the table, when another one is wanted.
pub(super) fn settled_tables(wanted: &Tables, known: Vec<String>) -> Result<Tables> {
    let named: &[String] = if let Tables::Named(names) = wanted { names } else { &[] };
    let new = named.iter().find(|name| !known.iter().any(|known| known.eq_ignore_ascii_case(name)));
    match new {
        Some(name) => Err(Error::usage(format!(
            "table `{name}` is not one of those that this replica was initialised with"
        ))
        .with_hint("initialise a new replica with all of the tables")),
        None => Ok(Tables::Named(known)),
    }
}

/// An object of this name that is no table to replicate stands in the way.
fn must_be_absent(catalog: &Catalog, name: &str) -> Result<()> {
    let there = catalog.skipped.iter().any(|(skipped, _)| skipped.eq_ignore_ascii_case(name));
    if there { catalog.require(name).map(|_| ()) } else { Ok(()) }
}

fn neither(name: &str, mine: &Catalog, theirs: &Catalog) -> Error {
    let skipped = |catalog: &Catalog| must_be_absent(catalog, name).err();
    skipped(mine).or_else(|| skipped(theirs)).unwrap_or_else(|| {
        Error::usage(format!("there is no table `{name}`, neither here nor on the remote"))
            .with_hint("check the spelling; `--all-tables` takes every table that there is")
    })
}

/// The statements that make a table and its indexes. They are SQLite's own record of what it made
/// of the other side's definitions: what a remote calls the definition of an index may be any SQL.
fn makers(table: &Table, catalog: &Catalog) -> Vec<String> {
    let indexes = catalog.indexes.iter().filter(|(of, _)| of.eq_ignore_ascii_case(&table.name));
    let mut statements = vec![create_if_missing(table)];
    statements.extend(indexes.map(|(_, sql)| sql.clone()));
    statements
}

/// Whether events of one table fit the other.
fn same(mine: &Table, theirs: &Table) -> Result<()> {
    let name = &mine.name;
    let differ = |what: String| {
        Err(Error::usage(format!("table `{name}` differs between the two sides: {what}"))
            .with_hint("change one side so that both have the same columns, types and key"))
    };
    for column in &mine.columns {
        let Some(other) = theirs.column(&column.name) else {
            return differ(format!("the remote has no column `{}`", column.name));
        };
        if column.affinity != other.affinity {
            return differ(format!(
                "column `{}` is `{}` here and `{}` on the remote",
                column.name, column.declared, other.declared
            ));
        }
    }
    if let Some(extra) = theirs.columns.iter().find(|other| mine.column(&other.name).is_none()) {
        return differ(format!("this database has no column `{}`", extra.name));
    }
    let key = |table: &Table| {
        let names: Vec<_> = table.key_columns().map(|column| column.name.as_str()).collect();
        names.join(", ")
    };
    if !key(mine).eq_ignore_ascii_case(&key(theirs)) {
        return differ(format!(
            "its key is ({}) here and ({}) on the remote",
            key(mine),
            key(theirs)
        ));
    }
    let collations = |table: &Table| {
        let names: Vec<_> = table.key_collations.iter().map(Collation::name).collect();
        names.join(", ")
    };
    if mine.key_collations != theirs.key_collations {
        return differ(format!(
            "its key ({}) compares by {} here and by {} on the remote",
            key(mine),
            collations(mine),
            collations(theirs)
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definitions(sql: &[&str]) -> Vec<Definition> {
        let define = |sql: &&str| {
            let words = sql.replace("CREATE UNIQUE", "CREATE");
            let words: Vec<_> = words.split([' ', '(']).collect();
            let (kind, name) = (words[1].to_lowercase(), words[2].to_owned());
            let of = if kind == "index" { words[4] } else { words[2] };
            (kind, name, of.to_owned(), Some((*sql).to_owned()))
        };
        sql.iter().map(define).collect()
    }

    #[test]
    fn what_one_side_lacks_is_made_with_its_indexes() {
        let here = definitions(&["CREATE TABLE a(id TEXT PRIMARY KEY, x INT)"]);
        let there = definitions(&[
            "CREATE TABLE b(id TEXT PRIMARY KEY, y INT)",
            "CREATE INDEX b_y ON b(y)",
            "CREATE VIEW v AS SELECT 1",
        ]);
        let found = compare(&Tables::All, &here, &there).unwrap();
        assert_eq!(found.tables.len(), 2);
        assert_eq!(found.make_there[0].0, "a");
        assert_eq!(found.make_here[0].0, "b");
        assert_eq!(found.make_here[0].1[1], "CREATE INDEX b_y ON b(y)");
    }

    #[test]
    fn a_child_needs_its_parent_on_the_remote() {
        let here = definitions(&[
            "CREATE TABLE p(id TEXT PRIMARY KEY)",
            "CREATE TABLE c(id TEXT PRIMARY KEY, p REFERENCES P)",
            "CREATE TABLE d(id TEXT PRIMARY KEY, q REFERENCES q(id))",
        ]);
        let named = |names: &[&str]| Tables::Named(names.iter().map(|n| (*n).into()).collect());
        for (names, missing) in
            [(&["c"][..], Some("`p`")), (&["c", "p"], None), (&["d"], Some("`q`"))]
        {
            let found = compare(&named(names), &here, &[]).map_err(|e| e.message().to_owned());
            match missing {
                None => assert!(found.is_ok(), "{found:?}"),
                Some(parent) => assert!(found.unwrap_err().to_lowercase().contains(parent)),
            }
        }
        let there = definitions(&["CREATE TABLE p(id TEXT PRIMARY KEY)"]);
        assert!(compare(&named(&["c"]), &here, &there).is_ok());
    }

    #[test]
    fn a_foreign_key_leads_to_a_key() {
        let child = "CREATE TABLE c(id TEXT PRIMARY KEY, p REFERENCES p(n))";
        let parent = "CREATE TABLE p(id TEXT PRIMARY KEY, n TEXT)";
        let unique = "CREATE UNIQUE INDEX p_n ON p(n)";
        let partial = "CREATE UNIQUE INDEX p_n ON p(n) WHERE n > 0";
        let all = |sql: &[&str]| {
            let here = definitions(sql);
            let found = compare(&Tables::All, &here, &[]).map(|_| ());
            assert_eq!(found.is_ok(), local_tables(&Tables::All, &here).is_ok());
            assert_eq!(found.is_ok(), compare(&Tables::All, &[], &here).is_ok());
            found.map_err(|error| error.message().to_owned())
        };
        let refused = "table `c` refers to columns of table `p` that are no key of it";
        assert_eq!(all(&[parent, child]), Err(refused.to_owned()));
        assert_eq!(all(&[parent, partial, child]), Err(refused.to_owned()));
        assert_eq!(all(&[parent, unique, child]), Ok(()));
    }

    #[test]
    fn differences_are_named() {
        let cases = [
            ("CREATE TABLE t(id TEXT PRIMARY KEY, x INT)", "no column `x`"),
            ("CREATE TABLE t(id TEXT PRIMARY KEY, n TEXT, x INT, z)", "no column `z`"),
            ("CREATE TABLE t(id TEXT PRIMARY KEY, n INT, x INT)", "column `n` is `TEXT` here and"),
            ("CREATE TABLE t(id TEXT, n TEXT, x INT, PRIMARY KEY(id, x))", "its key is (id) here"),
            ("CREATE TABLE t(id TEXT COLLATE NOCASE PRIMARY KEY, n TEXT, x INT)", "by NOCASE"),
        ];
        let here = definitions(&["CREATE TABLE t(id TEXT PRIMARY KEY, n TEXT, x INT)"]);
        let named = Tables::Named(vec!["t".to_owned()]);
        for (index, (sql, expected)) in cases.iter().enumerate() {
            let mut there = definitions(&[sql]);
            if index == 0 {
                there = definitions(&["CREATE TABLE t(id TEXT PRIMARY KEY, n TEXT)"]);
            }
            let error = compare(&named, &here, &there).unwrap_err();
            assert!(error.message().contains(expected), "{error}");
            assert!(error.message().contains("table `t`"), "{error}");
        }
        assert!(compare(&Tables::Named(vec!["u".to_owned()]), &here, &here).is_err());
    }

    #[test]
    fn a_settled_replica_takes_no_other_table() {
        let named = |names: &[&str]| Tables::Named(names.iter().map(|n| (*n).into()).collect());
        let known = || vec!["Members".to_owned(), "t".to_owned()];
        for wanted in [Tables::All, named(&["members"]), named(&[])] {
            assert_eq!(settled_tables(&wanted, known()).unwrap(), Tables::Named(known()));
        }
        let error = settled_tables(&named(&["t", "u"]), known()).unwrap_err();
        assert!(error.message().contains("`u`"), "{error}");
    }

    #[test]
    fn what_cannot_be_replicated_is_in_the_way_by_its_name_alone() {
        let here = definitions(&[
            "CREATE TABLE Members(id TEXT PRIMARY KEY)",
            "CREATE TABLE t(id TEXT PRIMARY KEY)",
            "CREATE TABLE odd(x)",
        ]);
        let named = |names: &[&str]| Tables::Named(names.iter().map(|n| (*n).into()).collect());
        assert_eq!(local_tables(&Tables::All, &here).unwrap(), ["Members", "t"]);
        assert_eq!(local_tables(&named(&["members", "u"]), &here).unwrap(), ["Members"]);
        let error = local_tables(&named(&["t", "Odd"]), &here).unwrap_err();
        assert!(error.message().contains("odd"), "{error}");
        // Nor does what the other side has help.
        let there = definitions(&["CREATE TABLE odd(id TEXT PRIMARY KEY)"]);
        for (here, there) in [(&here, &there), (&there, &here)] {
            assert!(compare(&named(&["odd"]), here, there).is_err());
        }
        assert!(compare(&Tables::All, &here, &[]).is_ok(), "it is left alone where all are taken");
    }
}
