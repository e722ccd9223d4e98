//! Compares the tables of both sides: which must be created where, and what cannot work.

use crate::catalog::{
    Catalog, Choice, Fresh, LeftOut, Table, Where, create_if_missing, may_be_bookkeeping,
};
use crate::error::{Code, Error, Result};
use crate::store::{Definition, Local, Obstacle};
use crate::sync::first_sync::drift::debts::Owed;
use crate::sync::first_sync::drift::differences::{
    add_children, key_differs, missing, obstacle, unknown_there,
};
use crate::sync::first_sync::names::require_free_names;

/// The choice of tables to replicate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tables {
    /// These. Each must be on at least one side.
    Named(Vec<String>),
    /// Every table of either side that can be replicated, except the bookkeeping of migration
    /// tools.
    All,
    /// The same, without these. Each must be on at least one side.
    AllBut(Vec<String>),
}

impl Tables {
    /// The tables that a person asks for by name.
    pub(in crate::sync) fn named(&self) -> &[String] {
        match self {
            Tables::Named(names) => names,
            Tables::All | Tables::AllBut(_) => &[],
        }
    }

    /// The part of it that is stored, so that the reason why a table is left out can be shown
    /// later.
    pub(in crate::sync) fn choice(&self) -> Choice {
        let (all, but) = match self {
            Tables::Named(_) => (false, Vec::new()),
            Tables::All => (true, Vec::new()),
            Tables::AllBut(but) => (true, but.clone()),
        };
        Choice { all, but, ..Choice::default() }
    }
}

/// The result of a comparison.
#[derive(Clone, Debug, Default)]
pub(in crate::sync) struct Comparison {
    /// The tables, in the definition of the side that has them. If both sides have a table, its
    /// local definition.
    tables: Vec<Table>,
    /// The tables that only the remote has, and the statements that create them here.
    make_here: Vec<Maker>,
    /// The tables that only this database has, and the statements that create them there.
    make_there: Vec<Maker>,
    /// The choice of tables, and the remote's tables that are left out.
    choice: Choice,
    /// The obstacles: events that the remote's tables cannot accept.
    obstacles: Vec<Obstacle>,
    /// The columns of common tables that the remote lacks.
    unknown_there: Vec<Owed>,
}

/// The facts from before a comparison.
#[derive(Clone, Debug, Default)]
pub(in crate::sync) struct Before {
    /// The tables whose first sync is done: they are replicated, whatever the definitions are now.
    settled: Vec<String>,
    /// The tables that the remote has registered. One that it does not have was dropped there.
    registered: Vec<String>,
}

impl Before {
    /// The tables whose first sync is done, and the tables that the remote has registered.
    pub(in crate::sync) fn new(settled: Vec<String>, registered: Vec<String>) -> Before {
        Before { settled, registered }
    }

    /// Whether the first sync of a table is done.
    fn is_settled(&self, table: &str) -> bool {
        is_in(&self.settled, table)
    }
}

/// The name of a table, and the statements that create it.
pub(in crate::sync) type Maker = (String, Vec<String>);

impl Comparison {
    /// Adds the table of this name, and the statements for the side that lacks it.
    fn add(&mut self, name: &str, mine: &Catalog, theirs: &Catalog, before: &Before) -> Result<()> {
        let was_there = || before.is_settled(name) || is_in(&before.registered, name);
        let table = match (mine.table(name), theirs.table(name)) {
            (Some(mine), Some(theirs)) => {
                match before.is_settled(name) {
                    true => {
                        self.obstacles.extend(obstacle(mine, theirs));
                        self.unknown_there.extend(unknown_there(mine, theirs));
                    }
                    false => same(mine, theirs)?,
                }
                mine
            }
            // It was dropped there, so it is not created again.
            (Some(table), None) if was_there() => {
                self.obstacles.push(missing(&table.name, theirs));
                table
            }
            (Some(table), None) => {
                must_be_absent(theirs, name).map_err(|error| of_one_side(error, "remote's"))?;
                self.make_there.push((table.name.clone(), makers(table, mine)));
                table
            }
            (None, Some(table)) => {
                must_be_absent(mine, name).map_err(|error| of_one_side(error, "local"))?;
                self.make_here.push((table.name.clone(), makers(table, theirs)));
                table
            }
            (None, None) if before.is_settled(name) => return Ok(()),
            (None, None) => return Err(neither(name, mine, theirs)),
        };
        self.tables.push(table.clone());
        Ok(())
    }

    /// The tables, in the definition of the side that has them. If both sides have a table, its
    /// local definition.
    pub(in crate::sync) fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// The tables that only the remote has.
    pub(in crate::sync) fn make_here(&self) -> &[Maker] {
        &self.make_here
    }

    /// Whether this table is to be created on the remote.
    pub(in crate::sync) fn makes_there(&self, name: &str) -> bool {
        self.make_there.iter().any(|(table, _)| table.eq_ignore_ascii_case(name))
    }

    /// The statements that create the tables that only the remote has.
    pub(in crate::sync) fn makers_here(&self) -> Vec<String> {
        self.make_here.iter().flat_map(|(_, makers)| makers.clone()).collect()
    }

    /// The tables that only this database has.
    pub(in crate::sync) fn make_there(&self) -> &[Maker] {
        &self.make_there
    }

    /// The obstacles: events that the remote's tables cannot accept.
    pub(in crate::sync) fn obstacles(&self) -> &[Obstacle] {
        &self.obstacles
    }

    /// The columns of common tables that the remote lacks.
    pub(in crate::sync) fn unknown_there(&self) -> &[Owed] {
        &self.unknown_there
    }

    /// The choice of tables, and the remote's tables that are left out.
    pub(in crate::sync) fn choice(&self) -> &Choice {
        &self.choice
    }

    /// The same comparison, made because these tables were asked for. `refused` are new ones that
    /// cannot be taken, and `fresh` those that are taken if they stay.
    pub(in crate::sync) fn chosen(
        mut self,
        wanted: &Tables,
        refused: Vec<LeftOut>,
        fresh: Vec<Fresh>,
        theirs: &Catalog,
    ) -> Self {
        let choice = wanted.choice();
        let there = choice.left_out(theirs, Where::Remote, &self.tables);
        self.choice = Choice { there, refused, fresh, ..choice };
        self
    }
}

/// The remote's side.
#[derive(Clone, Copy)]
pub(in crate::sync) struct There<'a> {
    definitions: &'a [Definition],
    catalog: &'a Catalog,
}

impl<'a> There<'a> {
    /// The definitions, and the tables that were read from them.
    pub(in crate::sync) fn new(definitions: &'a [Definition], catalog: &'a Catalog) -> Self {
        There { definitions, catalog }
    }

    /// The tables.
    pub(in crate::sync) fn catalog(&self) -> &'a Catalog {
        self.catalog
    }
}

/// Compares the tables of this database with those of the remote.
///
/// # Errors
///
/// `Usage`, naming the table and the column, when a table cannot be replicated or differs on the
/// two sides; when no table can be replicated; when a name is taken.
pub(in crate::sync) fn compare(
    wanted: &Tables,
    local: &Local,
    there: There<'_>,
    before: &Before,
) -> Result<Comparison> {
    let (here, mine) = (local.definitions(), local.catalog());
    let There { definitions: there, catalog: theirs } = there;
    let mut choice = wanted.choice();
    for name in &choice.but {
        require_known(name, mine, theirs)?;
    }
    let names = match wanted {
        Tables::Named(names) => names.clone(),
        Tables::All | Tables::AllBut(_) => all_names(&choice, local, theirs),
    };
    let mut found = Comparison::default();
    for name in &names {
        local.require_writable(name)?;
        found.add(name, mine, theirs, before)?;
    }
    for table in &found.tables {
        require_key(&table.name, mine)?;
        if !before.is_settled(&table.name) {
            require_key(&table.name, theirs)?;
        }
    }
    let tables = found.tables.iter().cloned();
    let (settled, new): (Vec<_>, Vec<_>) = tables.partition(|table| before.is_settled(&table.name));
    add_children(&mut found.obstacles, &settled, theirs);
    require_parents(&found, &new, local, theirs)?;
    require_free_names(&found.make_there, here, there, "the remote")?;
    require_free_names(&found.make_here, there, here, "this database")?;
    choice.there = choice.left_out(theirs, Where::Remote, &found.tables);
    if choice.all && found.tables.is_empty() {
        return Err(none_left(choice.left_out(mine, Where::Local, &[]), choice.there));
    }
    found.choice = choice;
    Ok(found)
}

/// The tables of both sides that can be replicated and are not left out, each once.
pub(in crate::sync) fn all_names(choice: &Choice, local: &Local, theirs: &Catalog) -> Vec<String> {
    let tables = local.catalog().tables.iter().chain(&theirs.tables);
    let mut names: Vec<_> = tables.map(|table| table.name.clone()).collect();
    names.retain(|name| choice.leaves(name).is_none());
    names.retain(|name| local.require_writable(name).is_ok());
    names.sort_unstable_by_key(|name| name.to_ascii_lowercase());
    names.dedup_by(|a, b| a.eq_ignore_ascii_case(b));
    names
}

/// Refuses a name that is not a table of either side.
fn require_known(name: &str, mine: &Catalog, theirs: &Catalog) -> Result<()> {
    let has = |catalog: &Catalog| catalog.told().any(|(known, _)| known.eq_ignore_ascii_case(name));
    if has(mine) || has(theirs) {
        return Ok(());
    }
    let message =
        format!("there is no table `{name}` to leave out, neither here nor on the remote");
    Err(Error::new(Code::NoSuchTable, message).with_hint("check the names in --exclude"))
}

/// Adds to an error which side's table it is about, and that the table can be left out.
fn of_one_side(error: Error, whose: &str) -> Error {
    let message = format!("the {whose} table cannot be replicated: {}", error.message());
    Error::new(Code::TableUnsupported, message)
        .with_hint("make it the same on both sides, or leave it out with --exclude")
        .with_source(error)
}

/// The error if no table of the two databases can be replicated.
fn none_left(here: Vec<LeftOut>, there: Vec<LeftOut>) -> Error {
    let left = LeftOut::joined(here, there);
    if left.is_empty() {
        let message = "there is no table to replicate, neither here nor on the remote";
        return Error::new(Code::NothingToReplicate, message)
            .with_hint("create the application's tables on one side first, then run it again");
    }
    let each: Vec<_> =
        left.iter().map(|found| format!("`{}`: {}", found.table, found.reason)).collect();
    let message = format!("no table is left to replicate: {}", each.join("; "));
    Error::new(Code::NothingToReplicate, message)
        .with_hint("give a table a PRIMARY KEY, or name tables with --tables")
}

/// The replicated tables whose names look like a migration tool's.
pub(in crate::sync) fn suspects(tables: &[Table]) -> Vec<String> {
    let names = tables.iter().map(|table| table.name.clone());
    names.filter(|name| may_be_bookkeeping(name)).collect()
}

/// Checks that a foreign key leads to a key of its parent. Otherwise SQLite refuses every write to
/// the child, and to a parent that has a trigger, as capture creates one.
fn require_key(table: &str, catalog: &Catalog) -> Result<()> {
    let is = |name: &str| name.eq_ignore_ascii_case(table);
    match catalog.unfounded.iter().find(|(child, parent)| is(child) || is(parent)) {
        None => Ok(()),
        Some((child, parent)) => Err(Error::new(
            Code::ForeignKeyUnusable,
            format!(
                "table `{child}` refers to columns of table `{parent}` that are not a key of \
                it"
            ),
        )
        .with_hint(format!(
            "make a UNIQUE index on these columns of `{parent}` on both sides, or correct the \
             foreign key: SQLite refuses all writes there"
        ))),
    }
}

/// Every foreign key must lead to a table that the remote has. Where one does not, SQLite refuses
/// whatever writes to the child; and since all tables' triggers are compiled into a push, nothing
/// at all could be pushed.
fn require_parents(
    found: &Comparison,
    tables: &[Table],
    local: &Local,
    theirs: &Catalog,
) -> Result<()> {
    let mine = local.catalog();
    let is = |name: &String, other: &str| name.eq_ignore_ascii_case(other);
    let there = |parent: &str| {
        theirs.table(parent).is_some()
            || theirs.skipped.iter().any(|(name, _)| is(name, parent))
            || found.make_there.iter().any(|(name, _)| is(name, parent))
    };
    for table in tables {
        let side = if theirs.table(&table.name).is_some() { theirs } else { mine };
        let mut parents = side.parents.iter().filter(|(child, _)| is(child, &table.name));
        if let Some((_, parent)) = parents.find(|(_, parent)| !there(parent)) {
            let why = match local.require_writable(parent) {
                Ok(()) => String::new(),
                Err(error) => format!(", and it is left out here: {}", error.message()),
            };
            let message = format!(
                "table `{}` refers to table `{parent}`, which the remote does not have{why}",
                table.name
            );
            return Err(Error::new(Code::ForeignKeyUnusable, message)
                .with_hint("replicate that table too, or make it on the remote"));
        }
    }
    Ok(())
}

/// The chosen tables that this database has, by their local names.
///
/// # Errors
///
/// `Usage`, naming the table, when one cannot be replicated.
pub(in crate::sync) fn local_tables(wanted: &Tables, local: &Local) -> Result<Vec<String>> {
    let mine = local.catalog();
    let Tables::Named(names) = wanted else {
        let choice = wanted.choice();
        let names = mine.tables.iter().map(|table| table.name.clone());
        let taken: Vec<_> = names.filter(|name| choice.leaves(name).is_none()).collect();
        for name in &taken {
            require_key(name, mine)?;
        }
        return Ok(taken);
    };
    let mut found = Vec::new();
    for name in names {
        local.require_writable(name)?;
        must_be_absent(mine, name)?;
        require_key(name, mine)?;
        found.extend(mine.table(name).map(|table| table.name.clone()));
    }
    Ok(found)
}

fn is_in(names: &[String], name: &str) -> bool {
    names.iter().any(|other| other.eq_ignore_ascii_case(name))
}

/// The tables of a replica that are not asked for any more. `known` are those that it has.
pub(in crate::sync) fn leaving(wanted: &Tables, known: &[String]) -> Vec<String> {
    let leaves = |name: &&String| match wanted {
        Tables::All => false,
        Tables::AllBut(but) => is_in(but, name),
        Tables::Named(names) => !is_in(names, name),
    };
    known.iter().filter(leaves).cloned().collect()
}

/// The tables of a replica from now on: those that it has and that do not leave, and those that
/// join. Which of all tables join, where all are wanted, is for `newcomers` to say.
pub(in crate::sync) fn staying(
    wanted: &Tables,
    known: &[String],
    newcomers: Vec<String>,
) -> Vec<String> {
    let out = leaving(wanted, known);
    let mut names: Vec<_> = known.iter().filter(|name| !is_in(&out, name)).cloned().collect();
    let joining = wanted.named().iter().cloned().chain(newcomers);
    names.extend(joining.filter(|name| !is_in(known, name)));
    names
}

/// Refuses a name that belongs to an object that cannot be replicated.
fn must_be_absent(catalog: &Catalog, name: &str) -> Result<()> {
    let there = catalog.skipped.iter().any(|(skipped, _)| skipped.eq_ignore_ascii_case(name));
    if there { catalog.require(name).map(|_| ()) } else { Ok(()) }
}

fn neither(name: &str, mine: &Catalog, theirs: &Catalog) -> Error {
    let skipped = |catalog: &Catalog| must_be_absent(catalog, name).err();
    skipped(mine).or_else(|| skipped(theirs)).unwrap_or_else(|| {
        let message = format!("there is no table `{name}`, neither here nor on the remote");
        Error::new(Code::NoSuchTable, message)
            .with_hint("check the spelling; `--all-tables` takes every table")
    })
}

/// The statements that create a table and its indexes. They are SQLite's own record of the other
/// side's definitions: the text that a remote sends as the definition of an index may be any SQL.
fn makers(table: &Table, catalog: &Catalog) -> Vec<String> {
    let indexes = catalog.indexes.iter().filter(|(of, _)| of.eq_ignore_ascii_case(&table.name));
    let mut statements = vec![create_if_missing(table)];
    statements.extend(indexes.map(|(_, sql)| sql.clone()));
    statements
}

/// Checks that the events of one table fit the other.
fn same(mine: &Table, theirs: &Table) -> Result<()> {
    let Some(what) = difference(mine, theirs) else { return Ok(()) };
    let message = format!("table `{}` differs between the two sides: {what}", mine.name);
    Err(Error::new(Code::TablesDiffer, message)
        .with_hint("change one side so that both have the same columns, types and key"))
}

/// Why events of one table do not fit the other.
pub(in crate::sync) fn difference(mine: &Table, theirs: &Table) -> Option<String> {
    for column in &mine.columns {
        let Some(other) = theirs.column(&column.name) else {
            return Some(format!("the remote has no column `{}`", column.name));
        };
        if column.affinity != other.affinity {
            return Some(format!(
                "column `{}` is `{}` here and `{}` on the remote",
                column.name, column.declared, other.declared
            ));
        }
    }
    if let Some(extra) = theirs.columns.iter().find(|other| mine.column(&other.name).is_none()) {
        return Some(format!("this database has no column `{}`", extra.name));
    }
    key_differs(mine, theirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(wanted: &Tables, here: &[Definition], there: &[Definition]) -> Result<Comparison> {
        let theirs = Catalog::of_remote(there)?;
        let there = There::new(there, &theirs);
        super::compare(wanted, &Local::of(here.to_vec())?, there, &Before::default())
    }

    fn local_tables(wanted: &Tables, here: &[Definition]) -> Result<Vec<String>> {
        super::local_tables(wanted, &Local::of(here.to_vec())?)
    }

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
        let refused = "table `c` refers to columns of table `p` that are not a key of it";
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
    fn tables_join_a_replica_and_leave_it() {
        let named = |names: &[&str]| Tables::Named(names.iter().map(|n| (*n).into()).collect());
        let known = vec!["Members".to_owned(), "t".to_owned()];
        for (wanted, out, stay) in [
            (Tables::All, &[][..], &["Members", "t", "new"][..]),
            (named(&["members"]), &["t"], &["Members", "new"]),
            (named(&["T", "members", "x"]), &[], &["Members", "t", "x", "new"]),
            (Tables::AllBut(vec!["MEMBERS".to_owned()]), &["Members"], &["t", "new"]),
        ] {
            assert_eq!(leaving(&wanted, &known), out);
            assert_eq!(staying(&wanted, &known, vec!["new".to_owned()]), stay);
        }
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
        // A table of the other side does not help either.
        let there = definitions(&["CREATE TABLE odd(id TEXT PRIMARY KEY)"]);
        for (here, there) in [(&here, &there), (&there, &here)] {
            assert!(compare(&named(&["odd"]), here, there).is_err());
        }
        assert!(compare(&Tables::All, &here, &[]).is_ok(), "it is left alone where all are taken");
    }
}
