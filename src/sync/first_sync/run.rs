//! The first contact: what is missing is made on both sides, and what is there is read.
//!
//! [`FirstSync`] is asked for one request after the other ([`FirstSync::ask`]) and given the
//! answers ([`FirstSync::answered`]), so it needs no network, and other work goes on between two
//! pages. Its steps ([`Stage`]): the remote's definitions; its identity; installing, in one
//! transaction; each table, page by page in the order of its key, into the staging area; and the
//! log since the first page, folded over that, for the pages are of different moments. Then
//! [`Store::adopt`] shows the result in one transaction.
//!
//! All of it may be done again at any time: what is there is left alone, and a first sync that was
//! interrupted begins anew.

use crate::capture::{Catalog, Replicated, Table, rehearse};
use crate::error::{Code, Error, Kind, Result};
use crate::event::{ReplicaId, RowKey, Seq};
use crate::identity::Place;
use crate::remote::statements::{self, Asker, Exchange, RowState, SCHEMA_VERSION};
use crate::remote::{Answer, Batch, Rows};
use crate::store::{Definition, Local, NewRemote, Setup, Store, TABLES_SQL};
use crate::sync::first_sync::compare::{Comparison, Maker, compare, suspects};
use crate::sync::first_sync::install::{Installation, Installed};
use crate::sync::first_sync::names::require_our_names;
use crate::sync::first_sync::plan::Plan;
use crate::sync::first_sync::remote_schema::{
    REMOTE_SCHEMA, Registered, Schema, read_registered, read_schema, spelled,
};
use crate::sync::first_sync::report::{Phase, Report};
use crate::sync::machine::io::PullSize;
use crate::sync::machine::pull::chunks::Chunks;
use crate::sync::machine::pull::pages::Pages;
use crate::sync::remote_check::schema_version;
use crate::value::Value;
use crate::verdict::ConflictRule;

/// Rows in a page of a table, at first and at the most.
const ROWS: usize = 2_000;
/// The size of such a page to aim at, in bytes.
const ROWS_BYTES: usize = statements::PAGE_BYTES;
/// How often all is begun anew before a rejection is told: another replica may have installed.
const RACES: u32 = 3;
/// How often a large row may change while it is read.
const CHANGES: u32 = 8;

/// What an answer led to.
pub enum Advance {
    /// Ask again.
    More,
    /// It is done, and this is the replica.
    Done(Box<Report>, Box<Store>),
    /// The remote is not the one that this replica belongs to: its epoch, if it has one.
    OtherRemote(Option<String>),
}

enum Stage {
    /// Reads the remote's definitions.
    Definitions,
    /// Reads its identity.
    Identity(Schema),
    /// Makes what is missing.
    Install(Box<Work>),
    /// Reads a table, after a row.
    Rows { tables: Vec<Table>, index: usize, after: Option<RowKey>, limit: usize, start: Seq },
    /// Reads a row that does not fit into an answer alone, after a row.
    Chunks { tables: Vec<Table>, index: usize, after: Option<RowKey>, chunks: Cut, start: Seq },
    /// Reads the log.
    Log(Pages),
}

/// The chunks of a row, and how often it has changed meanwhile.
type Cut = (Chunks<RowState>, u32);

struct Work {
    found: Comparison,
    replicated: Vec<(Table, ConflictRule)>,
    installation: Installation,
}

/// A first contact under way.
///
/// * It pushes nothing, and makes nothing on a remote whose identity is not the one it expects.
pub struct FirstSync {
    plan: Plan,
    /// The identity of the remote that this replica belongs to, if it belongs to one.
    expected: Option<String>,
    /// The replica, once the remote is as it should be.
    store: Option<Store>,
    stage: Stage,
    report: Report,
    /// Rows of the present table that are staged.
    staged: usize,
    races: u32,
    /// The identity that the replica takes if the remote is to take the place of another one, and
    /// that one's URL.
    accepts: Option<(ReplicaId, String)>,
    /// A table or a view without which the remote takes nothing in.
    sought: Option<String>,
}

impl FirstSync {
    /// Nothing is asked yet. `expected` is the epoch of the remote that the replica belongs to.
    pub fn new(plan: Plan, expected: Option<String>) -> Self {
        let report = Report::default();
        let (store, stage) = (None, Stage::Definitions);
        let (accepts, sought) = (None, None);
        FirstSync { plan, expected, store, stage, report, staged: 0, races: 0, accepts, sought }
    }

    /// The same, which ends with an error if the remote has no table or view of this name.
    pub(in crate::sync) fn seeking(self, name: Option<&str>) -> Self {
        FirstSync { sought: name.map(str::to_owned), ..self }
    }

    /// The same for a remote that is to take the place of the one that the replica belongs to,
    /// whatever it is. Until all of it is read and the local database changes in one transaction,
    /// the replica belongs to the former one.
    pub fn accepting(plan: Plan, replica: ReplicaId, former_url: String) -> Self {
        FirstSync { accepts: Some((replica, former_url)), ..FirstSync::new(plan, None) }
    }

    /// Begins anew at the remote of this URL.
    pub fn restart_at(&mut self, url: &str) {
        self.plan.url = url.to_owned();
        self.restart();
    }

    /// Begins anew.
    pub(in crate::sync) fn restart(&mut self) {
        self.stage = Stage::Definitions;
        self.report = Report::default();
        self.store = None;
    }

    fn take_report(&mut self) -> Box<Report> {
        Box::new(std::mem::take(&mut self.report))
    }

    /// What is known so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The error of a request that [`FirstSync::recover`] knows no way for, in words of this
    /// request.
    pub fn explain(&self, error: Error) -> Error {
        match &self.stage {
            Stage::Install(work) if error.kind() == Kind::TooLarge => {
                work.installation.larger_than_any(error)
            }
            _ if error.code() == Code::InstalledByAnother => error
                .in_words("another replica was initialised at the same time")
                .with_hint("run it again: it goes on with what the other one has made"),
            _ => error,
        }
    }

    /// The replica, once the remote's rows are being read, for the first time.
    pub(in crate::sync) fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    /// What the next request is for.
    pub fn phase(&self) -> Phase {
        match &self.stage {
            Stage::Definitions | Stage::Identity(_) | Stage::Install(_) => Phase::Installing,
            Stage::Rows { tables, index, .. } | Stage::Chunks { tables, index, .. } => {
                Phase::Reading { table: tables[*index].name.clone(), rows: self.staged }
            }
            Stage::Log(_) => Phase::Merging,
        }
    }

    /// Whether an error of the last request is dealt with by asking again in another way.
    pub fn recover(&mut self, error: &Error) -> bool {
        match (error.kind(), &mut self.stage) {
            (Kind::TooLarge, Stage::Rows { limit, .. }) if *limit > 1 => {
                *limit /= 2;
                true
            }
            (Kind::TooLarge, Stage::Rows { tables, index, after, start, .. }) => {
                let (tables, after) = (std::mem::take(tables), after.take());
                let (index, start, chunks) = (*index, *start, (Chunks::new(), 0));
                self.stage = Stage::Chunks { tables, index, after, chunks, start };
                true
            }
            (Kind::TooLarge, Stage::Chunks { chunks, .. }) => chunks.0.too_large(),
            (Kind::TooLarge, Stage::Log(pages)) => pages.too_large(),
            (Kind::TooLarge, Stage::Install(work)) => work.installation.too_large(),
            // Another replica has installed something since we looked.
            (Kind::Rejected, _) => {
                self.restart();
                self.races = (self.races + 1) % RACES;
                self.races > 0
            }
            _ => false,
        }
    }

    /// The next request.
    ///
    /// # Errors
    ///
    /// `Usage` when a table cannot be replicated, `Storage` when the store fails.
    pub fn ask(&mut self) -> Result<Batch> {
        let read = |statements| Batch { statements, writes: false };
        Ok(match &self.stage {
            Stage::Definitions => read(vec![statements::DEFINITIONS.into()]),
            Stage::Identity(_) => read(vec![
                statements::META.into(),
                statements::HEAD.into(),
                statements::TABLES.into(),
            ]),
            Stage::Install(work) => work.installation.batch(),
            Stage::Rows { tables, index, after, limit, .. } => {
                read(vec![statements::table_page(&tables[*index], after.as_ref(), *limit)?])
            }
            Stage::Chunks { tables, index, after, chunks, .. } => {
                let slice = chunks.0.next();
                read(vec![statements::row_slice(&tables[*index], after.as_ref(), slice)?])
            }
            Stage::Log(pages) => self.log_exchange(pages).batch(),
        })
    }

    /// Takes the answer to the last request.
    ///
    /// # Errors
    ///
    /// `Usage`, naming table and column, when the sides do not fit; `Refused` when the remote's
    /// schema is newer than ours; `Corrupt` when the answer is none; `Storage` when the store
    /// fails.
    pub fn answered(&mut self, answer: Answer, now_ms: i64) -> Result<Advance> {
        match std::mem::replace(&mut self.stage, Stage::Definitions) {
            Stage::Definitions => self.definitions(&first(&answer, 0)),
            Stage::Identity(schema) => self.identity(schema, &answer),
            Stage::Install(work) => self.installed(work, &answer),
            Stage::Rows { tables, index, after, limit, start } => {
                self.rows(tables, index, (after, limit), start, &answer)
            }
            Stage::Chunks { tables, index, after, chunks, start } => {
                self.chunk(tables, index, (after, chunks), start, answer)
            }
            Stage::Log(pages) => self.log(pages, answer, now_ms),
        }
    }

    fn definitions(&mut self, rows: &Rows) -> Result<Advance> {
        let schema = read_schema(rows)?;
        let ours = |name: &str| schema.definitions().iter().any(|(_, found, ..)| found == name);
        if ours("driftless_meta") && ours("driftless_tables") {
            self.stage = Stage::Identity(schema);
            return Ok(Advance::More);
        }
        if self.expected.is_some() {
            return Ok(Advance::OtherRemote(None));
        }
        self.prepare(schema, &[], false)?;
        Ok(Advance::More)
    }

    fn identity(&mut self, schema: Schema, answer: &Answer) -> Result<Advance> {
        let meta = statements::read_meta(&first(answer, 0))?;
        let head = statements::read_head(&first(answer, 1))?;
        let registered = read_registered(&first(answer, 2))?;
        let Some(meta) = meta else {
            if self.expected.is_some() {
                return Ok(Advance::OtherRemote(None));
            }
            self.prepare(schema, &registered, false)?;
            return Ok(Advance::More);
        };
        if self.expected.as_ref().is_some_and(|expected| *expected != meta.epoch) {
            return Ok(Advance::OtherRemote(Some(meta.epoch)));
        }
        if meta.version > SCHEMA_VERSION {
            return Err(schema_version(meta.version));
        }
        if self.expected.is_some() {
            schema.require(self.sought.as_deref(), &self.plan.tables, &registered)?;
        }
        let work = self.prepare(schema, &registered, meta.version == SCHEMA_VERSION)?;
        if work {
            return Ok(Advance::More);
        }
        let Stage::Install(work) = std::mem::replace(&mut self.stage, Stage::Definitions) else {
            unreachable!("preparing leads to installing");
        };
        self.settle_here(*work, meta.epoch, head)
    }

    /// Works out what is missing. Gives whether anything is, on the remote.
    fn prepare(&mut self, schema: Schema, known: &[Registered], current: bool) -> Result<bool> {
        let plan = &self.plan;
        let here = Local::read(&plan.path, &plan.on_connect, plan.tables.named())?;
        let found = compare(&plan.tables, &here, schema.definitions())?;
        let theirs = Catalog::of_remote(schema.definitions())?;
        let mut replicated = Vec::new();
        for table in found.tables() {
            let rule = self.rule_of(&table.name, known)?;
            replicated.push((spelled(table.clone(), &theirs, known), rule));
        }
        // The other replicas' tables stay replicated.
        let ours =
            |name: &str| found.tables().iter().any(|table| table.name.eq_ignore_ascii_case(name));
        let others = known.iter().filter(|known| !ours(known.name()));
        let mut all: Vec<_> = replicated.clone();
        all.extend(
            others.filter_map(|known| Some((theirs.table(known.name())?.clone(), known.rule()))),
        );
        for (table, _) in &mut all {
            let there = theirs.table(&table.name).unwrap_or(table);
            *table = spelled(there.clone(), &theirs, known);
        }
        all.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        let of_remote: Vec<_> =
            all.iter().map(|(table, rule)| Replicated { table, rule: *rule }).collect();
        let names = (self.plan.epoch.to_string(), self.plan.replica.to_string());
        let names = (names.0.as_str(), names.1.as_str());
        let (installation, fingerprint) =
            Installation::new(names, &schema, known, &found, &of_remote);
        let is_current = current
            && found.make_there().is_empty()
            && all.iter().all(|(table, rule)| {
                known.iter().any(|known| {
                    known.name() == table.name
                        && known.rule() == *rule
                        && known.fingerprint() == fingerprint
                })
            })
            && schema.ours_are_newest()
            && schema.is_whole(all.iter().map(|(table, _)| table));
        let work = Work { found, replicated, installation };
        self.check(&work, here.definitions(), &schema, is_current)?;
        self.stage = Stage::Install(Box::new(work));
        self.report.installed = !is_current;
        Ok(!is_current)
    }

    /// Whatever may be refused is refused here, before anything is changed on either side: what is
    /// to be made is made in memory, and in this database's file in a transaction that is taken
    /// back. And finds what a person should know before anything is moved.
    fn check(
        &mut self,
        work: &Work,
        here: &[Definition],
        schema: &Schema,
        is_current: bool,
    ) -> Result<()> {
        if !here.iter().any(|(_, name, ..)| name == "driftless_state") {
            require_our_names(here, TABLES_SQL, "this database")?;
        }
        if !schema.definitions().iter().any(|(_, name, ..)| name == "driftless_meta") {
            require_our_names(schema.definitions(), REMOTE_SCHEMA, "the remote")?;
        }
        let taken = work.found.tables();
        let is = |name: &str| taken.iter().any(|table| table.name.eq_ignore_ascii_case(name));
        if let Some((name, _)) = self.plan.rules.iter().find(|(name, _)| !is(name)) {
            let message = format!("table `{name}` has a conflict rule, and is not replicated");
            return Err(Error::new(Code::TableNotReplicated, message)
                .with_hint("check the spelling, or replicate it too"));
        }
        if !is_current {
            rehearse(schema.definitions(), &work.installation.rehearsal())?;
        }
        let makers = makers_here(&work.found);
        let Plan { path, replica, on_connect, .. } = &self.plan;
        let adopted = Store::was_adopted(path)?;
        if !adopted || !is_current || !makers.is_empty() {
            let setup = self.setup(work, None);
            Store::rehearse(path, &makers, &setup, *replica, on_connect)?;
        }
        let is_table = |name: &str| {
            here.iter().any(|(kind, other, ..)| kind == "table" && other.eq_ignore_ascii_case(name))
        };
        let names = taken.iter().map(|table| table.name.clone());
        let tables: Vec<_> = names.filter(|name| is_table(name)).collect();
        if !adopted || self.accepts.is_some() {
            self.report.orphans = Store::orphans_of(path, &tables, on_connect)?;
        }
        self.report.suspects = suspects(taken);
        Ok(())
    }

    /// What the replica is to be made with.
    fn setup(&self, work: &Work, epoch: Option<String>) -> Setup {
        let tables = work.replicated.iter().map(|(table, rule)| (table.name.clone(), *rule));
        let (url, epoch) = match &self.accepts {
            Some((_, former)) => (former, None),
            None => (&self.plan.url, epoch),
        };
        Setup { url: url.clone(), tables: tables.collect(), epoch }
    }

    /// A table's conflict rule: it is one for all replicas, so the remote's word counts.
    fn rule_of(&self, table: &str, known: &[Registered]) -> Result<ConflictRule> {
        let asked = self.plan.rules.iter().find(|(name, _)| name.eq_ignore_ascii_case(table));
        let known = known.iter().find(|known| known.name().eq_ignore_ascii_case(table));
        match (asked, known) {
            (_, Some(known)) if self.accepts.is_some() => Ok(known.rule()),
            (Some((_, asked)), Some(known)) if *asked != known.rule() => {
                let message = format!(
                    "table `{table}` has the conflict rule `{}` on the remote, not `{}`",
                    known.rule().as_str(),
                    asked.as_str()
                );
                Err(Error::new(Code::ConflictRuleDiffers, message)
                    .with_hint("the rule is the same for all replicas: leave it out here"))
            }
            (Some((_, asked)), _) => Ok(*asked),
            (None, Some(known)) => Ok(known.rule()),
            (None, None) => Ok(ConflictRule::default()),
        }
    }

    fn installed(&mut self, mut work: Box<Work>, answer: &Answer) -> Result<Advance> {
        match work.installation.answered(answer)? {
            Installed::All(meta, head) => self.settle_here(*work, meta.epoch, head),
            Installed::Part => {
                self.stage = Stage::Install(work);
                Ok(Advance::More)
            }
        }
    }

    /// The remote is as it should be: makes this side so, and goes on to the rows.
    fn settle_here(&mut self, work: Work, epoch: String, head: Seq) -> Result<Advance> {
        let setup = self.setup(&work, Some(epoch.clone()));
        let makers = makers_here(&work.found);
        let Plan { path, replica, on_connect, .. } = &self.plan;
        let mut store = Store::make(path, &makers, &setup, *replica, on_connect)?;
        let names = |made: &[Maker]| made.iter().map(|(name, _)| name.clone()).collect();
        self.report.made_here = names(work.found.make_here());
        self.report.made_there = names(work.found.make_there());
        self.report.epoch = epoch;
        let columns = |table: &Table| table.column_names().map(str::to_owned).collect();
        let spelling =
            work.replicated.iter().map(|(table, _)| (table.name.clone(), columns(table)));
        store.spell(&spelling.collect::<Vec<_>>())?;
        if store.is_adopted()? && self.accepts.is_none() {
            return Ok(Advance::Done(self.take_report(), Box::new(store)));
        }
        if self.accepts.is_none() {
            store.set_choice(work.found.choice())?;
        }
        store.remember()?;
        store.stage_clear()?;
        self.store = Some(store);
        let tables = work.replicated.into_iter().map(|(table, _)| table).collect();
        self.next_table(tables, 0, head);
        Ok(Advance::More)
    }

    fn next_table(&mut self, tables: Vec<Table>, index: usize, start: Seq) {
        self.staged = 0;
        self.stage = if index < tables.len() {
            Stage::Rows { tables, index, after: None, limit: ROWS, start }
        } else {
            Stage::Log(Pages::after(Place { seq: start, id: None }, PullSize::default()))
        };
    }

    fn rows(
        &mut self,
        tables: Vec<Table>,
        index: usize,
        (asked_after, limit): (Option<RowKey>, usize),
        start: Seq,
        answer: &Answer,
    ) -> Result<Advance> {
        let table = &tables[index].name;
        let (rows, bytes) = statements::read_table_page(table, &first(answer, 0))?;
        // A remote that never gets on would be read for ever.
        let again = asked_after.is_some_and(|after| rows.iter().any(|(key, _)| *key == after));
        if again || rows.len() > limit {
            let message = format!("the remote's page of table `{table}` is not one");
            return Err(Error::new(Code::AnswerInvalid, message));
        }
        self.replica().stage(table, &rows)?;
        self.staged += rows.len();
        tracing::debug!(table, rows = rows.len(), "a page of rows is staged");
        match rows.last() {
            None => self.next_table(tables, index + 1, start),
            Some((key, _)) => {
                let fitting = ROWS_BYTES / (bytes / rows.len()).max(1);
                let limit = (limit + limit.div_ceil(4)).min(fitting).clamp(1, ROWS);
                let after = Some(key.clone());
                self.stage = Stage::Rows { tables, index, after, limit, start };
            }
        }
        Ok(Advance::More)
    }

    fn chunk(
        &mut self,
        tables: Vec<Table>,
        index: usize,
        (after, (mut chunks, mut changes)): (Option<RowKey>, Cut),
        start: Seq,
        mut answer: Answer,
    ) -> Result<Advance> {
        let rows = first(&answer, 0);
        // Where the row is gone, and no other is behind it, there is an empty page.
        let mut page = vec![vec![Value::Null, Value::Integer(0)]];
        if let Some((row, size, bytes)) = statements::read_row_slice(&rows)? {
            let whole = if chunks.is_of(&row, size) {
                chunks.came(row, size, bytes)?
            } else {
                changes += 1;
                chunks.restart();
                None
            };
            match whole {
                Some(line) => page = vec![vec![Value::Blob(line), Value::Integer(1)]],
                None if changes <= CHANGES => {
                    let chunks = (chunks, changes);
                    self.stage = Stage::Chunks { tables, index, after, chunks, start };
                    return Ok(Advance::More);
                }
                None => {
                    let table = &tables[index].name;
                    let message = format!("a large row of table `{table}` changes all the time");
                    return Err(Error::unavailable(message).with_hint("try again later"));
                }
            }
        }
        answer.rows = vec![page];
        self.rows(tables, index, (after, 1), start, &answer)
    }

    fn replica(&mut self) -> &mut Store {
        self.store.as_mut().expect("rows are read when the replica is there")
    }

    fn log_exchange(&self, pages: &Pages) -> Exchange<'static> {
        let replica = self.store.as_ref().expect("the log is read when the replica is there").id();
        let asker = Some(Asker { replica, place: pages.place() });
        Exchange { pull: Some(pages.span()), asker, ..Exchange::default() }
    }

    fn log(&mut self, mut pages: Pages, answer: Answer, now_ms: i64) -> Result<Advance> {
        let reply = self.log_exchange(&pages).read(answer)?;
        let meta = reply.meta.filter(|meta| meta.epoch == self.report.epoch).ok_or_else(|| {
            let message = "the remote became another database during the first sync";
            Error::new(Code::OtherRemote, message)
        })?;
        let (end, head) = (reply.page.last, reply.head);
        if pages.came_in(reply.page, reply.part, head)? && pages.front().is_some() {
            let (page, end) = pages.part(usize::MAX).expect("a page came just now");
            self.replica().stage_events(&page)?;
            pages.integrated(end);
        }
        if pages.more() {
            self.stage = Stage::Log(pages);
            return Ok(Advance::More);
        }
        let mut store = self.store.take().expect("rows are read when the replica is there");
        let there = || meta.there.as_ref().and_then(|id| id.parse().ok());
        let place = Place { seq: end, id: pages.place().id.or_else(there) };
        let adopted = match &self.accepts {
            None => store.adopt(end, now_ms)?,
            Some((replica, _)) => {
                let (url, epoch) = (self.plan.url.clone(), meta.epoch.clone());
                let to = NewRemote { url, epoch, replica: *replica };
                store.accept(&to, end, now_ms)?
            }
        };
        store.set_landmark(place)?;
        self.report.adopted = Some(adopted);
        self.report.orphans_left = store.orphans()?;
        Ok(Advance::Done(self.take_report(), Box::new(store)))
    }
}

fn first(answer: &Answer, index: usize) -> Rows {
    answer.rows.get(index).cloned().unwrap_or_default()
}

/// The statements that make the tables that only the remote has.
fn makers_here(found: &Comparison) -> Vec<String> {
    found.make_here().iter().flat_map(|(_, makers)| makers.clone()).collect()
}
