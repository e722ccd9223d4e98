//! The first sync, as a machine: missing tables are created on both sides, and the remote's rows
//! are read.
//!
//! [`FirstSync`] returns one request after the other ([`FirstSync::ask`]) and handles the answers
//! ([`FirstSync::answered`]), so it needs no network, and other work is done between two pages. Its
//! steps ([`Stage`]) are: the remote's definitions; its identity; the installation; each table,
//! page by page in the order of its key, into the staging area; the log since the first page. That
//! log is folded over the rows, because the pages were read at different moments. Then
//! [`Store::adopt`] merges the result in one transaction.
//!
//! It may be repeated at any time: existing objects are kept. An interrupted first sync starts
//! again.

use std::sync::Arc;

use crate::capture::RemoteCapture;
use crate::catalog::{Catalog, Table, rehearse};
use crate::error::{Code, Error, Kind, Result};
use crate::event::conflict::ConflictRule;
use crate::event::{ReplicaId, Seq};
use crate::protocol::incarnation::Place;
use crate::protocol::meta::{Asker, HEAD, META, SCHEMA_VERSION, read_head, read_meta};
use crate::protocol::remote_tables::{RemoteTables, SCHEMA_COOKIE};
use crate::protocol::statements;
use crate::protocol::statements::Exchange;
use crate::remote::{Answer, Batch, Rows};
use crate::store::{Definition, Local, NewRemote, Store};
use crate::sync::first_sync::compare::{Before, Comparison, Maker, There, compare, suspects};
use crate::sync::first_sync::drift::Drift;
use crate::sync::first_sync::drift::newcomers::resolved;
use crate::sync::first_sync::install::{Installation, Installed, REQUEST_BYTES, in_other_words};
use crate::sync::first_sync::kept_tables::{Kept, keep, kept_since};
use crate::sync::first_sync::names::require_no_names_of_ours;
use crate::sync::first_sync::plan::Plan;
use crate::sync::first_sync::remote_schema::{
    Registered, Schema, all_tables, in_remote_case, installed_by_newer, is_registered,
    read_registered, read_schema,
};
use crate::sync::first_sync::report::{Advance, Phase, Report};
use crate::sync::first_sync::table_reader::{TablePage, TableReader};
use crate::sync::machine::io::PullSize;
use crate::sync::machine::pull::pages::Pages;
use crate::sync::remote_check::schema_version;

/// How many times a first sync starts again after a rejection: others may be installing.
const RACES: u32 = 3;

enum Stage {
    /// Reads the remote's definitions.
    Definitions,
    /// Reads its identity.
    Identity(Schema),
    /// Creates missing objects.
    Install(Box<Work>),
    /// Reads the remote's rows. The log ended at this seq before the first of them was read.
    Rows(TableReader, Seq),
    /// Reads the log.
    Log(Pages),
}

struct Work {
    found: Comparison,
    replicated: Vec<(Table, ConflictRule)>,
    /// All tables that the remote should register.
    tables: RemoteTables,
    /// The remote's definitions, with those that will be created there.
    definitions: Vec<Definition>,
    installation: Installation,
}

/// A first sync that is in progress.
///
/// * It pushes nothing. It creates nothing on a remote with another identity than the expected one.
pub struct FirstSync {
    plan: Plan,
    /// The identity of the remote that this replica belongs to, if it belongs to one.
    expected: Option<String>,
    /// The replica, after the remote is complete.
    store: Option<Store>,
    /// The remote's tables, after it is complete.
    tables: Arc<RemoteTables>,
    stage: Stage,
    report: Report,
    /// The tables of an installation that may or may not have arrived.
    attempted: Option<Vec<String>>,
    races: u32,
    /// The greatest size of a request of an installation, in bytes of SQL.
    request_bytes: usize,
    /// Whether only the remote's tables are read, whatever is here.
    refreshes: bool,
    /// If this remote replaces another one: the identity that the replica takes, and the URL of the
    /// former remote.
    accepts: Option<(ReplicaId, String)>,
    /// A table or a view that every push needs: a rejection has named it.
    sought: Option<String>,
    /// The differences between the two sides.
    drift: Drift,
}

impl FirstSync {
    /// Nothing is asked yet. `expected` is the epoch of the remote that the replica belongs to.
    pub fn new(plan: Plan, expected: Option<String>) -> Self {
        FirstSync {
            plan,
            expected,
            store: None,
            tables: Arc::default(),
            stage: Stage::Definitions,
            report: Report::default(),
            attempted: None,
            races: 0,
            request_bytes: REQUEST_BYTES,
            refreshes: false,
            accepts: None,
            sought: None,
            drift: Drift::default(),
        }
    }

    /// The same, with an installation in requests of this many bytes.
    #[cfg(feature = "internals")]
    pub fn in_requests_of(self, bytes: usize) -> Self {
        FirstSync { request_bytes: bytes, ..self }
    }

    /// The same for a replica whose remote's schema has changed: the remote's tables are read, and
    /// missing objects are created there if the two sides agree. If they do not agree, this is not
    /// an error, because a push can continue as before.
    pub(in crate::sync) fn refreshing(self) -> Self {
        FirstSync { refreshes: true, ..self }
    }

    /// The same for a replica that has seen the remote's schema at rest when its log ended at
    /// `since`.
    pub(in crate::sync) fn looking_since(self, since: Option<Seq>) -> Self {
        FirstSync { drift: Drift::since(since), ..self }
    }

    /// The same, which takes new tables at once: a person asks for them.
    pub(in crate::sync) fn at_once(self) -> Self {
        FirstSync { drift: Drift::at_once(), ..self }
    }

    /// The same, which ends with an error if the remote has no table or view of this name.
    pub(in crate::sync) fn seeking(self, name: Option<&str>) -> Self {
        FirstSync { sought: name.map(str::to_owned), ..self }
    }

    /// The same for any remote that is to replace the present one. Until all of it is read and the
    /// local database changes in one transaction, the replica belongs to the former one.
    pub fn accepting(plan: Plan, replica: ReplicaId, former_url: String) -> Self {
        FirstSync { accepts: Some((replica, former_url)), ..FirstSync::new(plan, None) }
    }

    /// Starts again, at the remote of this URL.
    pub fn restart_at(&mut self, url: &str) {
        self.plan.url = url.to_owned();
        self.attempted = None;
        self.restart();
    }

    /// Starts again.
    pub(in crate::sync) fn restart(&mut self) {
        self.stage = Stage::Definitions;
        self.report = Report::default();
        self.store = None;
    }

    /// The result so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The error of a request for which [`FirstSync::recover`] has no other way, in words that fit
    /// this request.
    pub fn explain(&self, error: Error) -> Error {
        match &self.stage {
            Stage::Install(work) if error.kind() == Kind::TooLarge => {
                work.installation.larger_than_any(error)
            }
            _ => in_other_words(error),
        }
    }

    /// The replica, after the remote's rows have begun to be read. `None` before, and if only
    /// definitions are compared.
    pub(in crate::sync) fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    /// The purpose of the next request.
    pub fn phase(&self) -> Phase {
        match &self.stage {
            Stage::Definitions | Stage::Identity(_) | Stage::Install(_) => Phase::Installing,
            Stage::Rows(reader, _) => match reader.progress() {
                Some((table, rows)) => Phase::Reading { table: table.name.clone(), rows },
                None => Phase::Merging,
            },
            Stage::Log(_) => Phase::Merging,
        }
    }

    /// Whether another request may succeed after an error of the last one.
    pub fn recover(&mut self, error: &Error) -> bool {
        match (error.kind(), &mut self.stage) {
            (Kind::TooLarge, Stage::Rows(reader, _)) => reader.too_large(),
            (Kind::TooLarge, Stage::Log(pages)) => pages.too_large(),
            (Kind::TooLarge, Stage::Install(work)) => work.installation.too_large(),
            // It may have arrived: the definitions are read before it is tried again.
            (Kind::Unavailable, Stage::Install(work)) => {
                let made = work.found.make_there().iter().map(|(name, _)| name.clone());
                self.attempted.get_or_insert_default().extend(made);
                self.restart();
                false
            }
            // The remote's schema has changed since the definitions were read.
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
            Stage::Definitions => read(vec![statements::DEFINITIONS.into(), SCHEMA_COOKIE.into()]),
            Stage::Identity(schema) => {
                let mut asked = vec![META.into(), HEAD.into(), statements::TABLES.into()];
                if schema.has("driftless_gaps") && schema.has("driftless_owed") {
                    asked.extend([statements::GAPS.into(), statements::OWED.into()]);
                }
                read(asked)
            }
            Stage::Install(work) => work.installation.batch(),
            Stage::Rows(reader, _) => read(vec![reader.statement()?]),
            Stage::Log(pages) => self.log_exchange(pages).batch(),
        })
    }

    /// Handles the answer to the last request.
    ///
    /// # Errors
    ///
    /// `Usage`, naming table and column, when the sides do not fit; `Refused` when the remote's
    /// schema is newer than ours; `Corrupt` when the answer is not valid; `Storage` when the store
    /// fails.
    pub fn answered(&mut self, answer: Answer, now_ms: i64) -> Result<Advance> {
        self.drift.is_now(now_ms);
        match std::mem::replace(&mut self.stage, Stage::Definitions) {
            Stage::Definitions => self.definitions(&answer),
            Stage::Identity(schema) => self.identity(schema, &answer),
            Stage::Install(work) => self.installed(work, &answer),
            Stage::Rows(reader, start) => self.rows(reader, start, &answer),
            Stage::Log(pages) => self.log(pages, answer, now_ms),
        }
    }

    fn definitions(&mut self, answer: &Answer) -> Result<Advance> {
        let schema = read_schema(&result(answer, 0), &result(answer, 1))?;
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
        let meta = read_meta(&result(answer, 0))?;
        let head = read_head(&result(answer, 1))?;
        self.drift.told(head, &result(answer, 3), &result(answer, 4))?;
        let registered = read_registered(&result(answer, 2))?;
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
            schema.require(self.sought.as_deref())?;
        }
        let is_current = meta.version == SCHEMA_VERSION;
        if !self.drift.knows_rest() && self.expected.is_some() {
            let store = Store::open_with(&self.plan.path, &self.plan.on_connect)?;
            self.drift.rested(kept_since(&store)?);
        }
        let tolerates = is_current && self.expected.is_some();
        let known = tolerates.then(|| (schema.clone(), registered.clone()));
        match (self.prepare(schema, &registered, is_current), known) {
            (Ok(true), _) => return Ok(Advance::More),
            (Ok(false), _) => {}
            (Err(error), Some((schema, registered)))
                if self.refreshes && error.kind() == Kind::Usage
                    || error.code() == Code::NothingToReplicate =>
            {
                tracing::info!("the remote's tables are taken as they are: {error}");
                return self.refreshed(&schema, &registered, meta.epoch);
            }
            (Err(error), _) => return Err(error),
        }
        let Stage::Install(work) = std::mem::replace(&mut self.stage, Stage::Definitions) else {
            unreachable!("preparing leads to installing");
        };
        self.settle_here(*work, meta.epoch, head)
    }

    /// Ends with the remote's tables as they are.
    fn refreshed(
        &mut self,
        schema: &Schema,
        known: &[Registered],
        epoch: String,
    ) -> Result<Advance> {
        let mut tables = schema.tables(all_tables(&[], &schema.catalog(known)?, known, schema));
        tables.gaps = self.drift.gaps();
        let mut store = Store::open_with(&self.plan.path, &self.plan.on_connect)?;
        self.keep(&mut store, &epoch, &tables, schema.definitions())?;
        self.tables = Arc::new(tables);
        if let Some(obstacles) = self.drift.obstacles(&self.tables) {
            store.set_obstacles(&obstacles)?;
        }
        self.report.epoch = epoch;
        Ok(self.done(store))
    }

    /// Stores the result in the replica's file.
    fn keep(
        &self,
        store: &mut Store,
        epoch: &str,
        tables: &RemoteTables,
        definitions: &[Definition],
    ) -> Result<()> {
        let since = self.drift.rest();
        let local = store.current_schema_version()?;
        keep(store, &Kept::new(&self.plan.url, epoch, tables, definitions, since, local))
    }

    /// The URL of the remote that this one replaces.
    fn former(&self) -> Option<&String> {
        self.accepts.as_ref().map(|(_, former)| former)
    }

    /// Finds what is missing on either side. Gives whether something is missing on the remote.
    fn prepare(&mut self, schema: Schema, known: &[Registered], current: bool) -> Result<bool> {
        let plan = &self.plan;
        let mut here = Local::read(&plan.path, &plan.on_connect, plan.tables.named())?;
        let theirs = schema.catalog(known)?;
        here.take_names(&theirs);
        let accepts = self.accepts.is_some();
        let settled = if accepts { None } else { Store::settled_tables(&plan.path)? };
        let registered = known.iter().map(|known| known.name().to_owned()).collect();
        let names = settled.iter().flat_map(|settled| settled.names().to_vec()).collect();
        let before = Before::new(names, registered);
        let there = There::new(schema.definitions(), &theirs);
        let (tables, refused, fresh) =
            resolved(plan, &here, there, settled.as_ref(), self.drift.taking())?;
        let found = compare(&tables, &here, there, &before)?;
        let found = found.chosen(&plan.tables, refused, fresh, &theirs);
        self.drift.compared(found.obstacles(), found.unknown_there());
        let replicated = self.replicated(&found, &theirs, known)?;
        let is_there = |name: &str| theirs.table(name).is_some() || found.makes_there(name);
        let mut there = replicated.clone();
        there.retain(|(table, _)| is_there(&table.name));
        let all = all_tables(&there, &theirs, known, &schema);
        if all.is_empty() {
            let message = "no table is left to replicate, neither here nor on the remote";
            return Err(Error::new(Code::NothingToReplicate, message));
        }
        let capture = RemoteCapture::of(&all.iter().map(|there| &there.table).collect::<Vec<_>>());
        let (epoch, token) = (self.plan.epoch.to_string(), self.plan.replica.to_string());
        let limit = self.request_bytes;
        let suspects = if current { schema.suspects(&capture, known) } else { Vec::new() };
        let gaps = self.drift.gaps_of(suspects);
        let installation =
            Installation::new(&epoch, &token, &schema, &found, &all, &capture, limit)
                .noting(&gaps)
                .filling(self.drift.fills(&all));
        let is_newer = known.iter().any(Registered::is_newer);
        if is_newer && current && !gaps.is_empty() {
            return Err(installed_by_newer(&gaps[0].table));
        }
        let is_current = current
            && found.make_there().is_empty()
            && (is_newer
                || all.iter().all(|there| is_registered(there, capture.fingerprint(), known))
                    && schema.ours_are_newest()
                    && schema.is_whole(&capture));
        let tables = RemoteTables { gaps: self.drift.gaps(), ..schema.tables(all) };
        let new = here.definitions().iter().filter(|(_, _, table, _)| found.makes_there(table));
        let definitions = schema.definitions().iter().chain(new).cloned().collect();
        let work = Work { found, replicated, tables, definitions, installation };
        self.check(&work, here.definitions(), &schema, is_current)?;
        self.stage = Stage::Install(Box::new(work));
        self.report.installed = !is_current;
        Ok(!is_current)
    }

    /// The tables of this replica, in the case of the remote, each with its conflict rule.
    fn replicated(
        &self,
        found: &Comparison,
        theirs: &Catalog,
        known: &[Registered],
    ) -> Result<Vec<(Table, ConflictRule)>> {
        let with_rule = |table: &Table| {
            let rule = self.plan.rule_of(&table.name, known, self.accepts.is_some())?;
            Ok((in_remote_case(table.clone(), theirs, known), rule))
        };
        found.tables().iter().map(with_rule).collect()
    }

    /// Refuses what cannot work, before anything is changed on either side. The remote's changes
    /// are tried in memory, and the local ones in the file, in a transaction that is rolled back.
    /// It also finds the orphans, which a person should know before rows are moved.
    fn check(
        &mut self,
        work: &Work,
        here: &[Definition],
        schema: &Schema,
        is_current: bool,
    ) -> Result<()> {
        require_no_names_of_ours(here, schema.definitions())?;
        let taken = work.found.tables();
        self.plan.require_rules(taken)?;
        if !is_current {
            let statements = work.installation.rehearsal();
            let statements = statements.iter().map(|made| (&made.sql[..], &made.args[..]));
            rehearse(schema.definitions(), statements)?;
        }
        let makers = work.found.makers_here();
        let Plan { path, replica, on_connect, .. } = &self.plan;
        let adopted = Store::was_adopted(path)?;
        if !adopted {
            self.plan.prefer.require(taken)?;
        }
        if !adopted || !is_current || !makers.is_empty() {
            let setup = self.plan.setup(&work.replicated, None, self.former());
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

    fn installed(&mut self, mut work: Box<Work>, answer: &Answer) -> Result<Advance> {
        match work.installation.answered(answer)? {
            Installed::All(meta, head, cookie, left) => {
                let (gaps, owed) = left.into_parts();
                self.drift.is_left(gaps, owed);
                work.tables.gaps = self.drift.gaps();
                work.tables.cookie = cookie;
                self.settle_here(*work, meta.epoch, head)
            }
            Installed::Part => {
                self.stage = Stage::Install(work);
                Ok(Advance::More)
            }
        }
    }

    /// The remote is complete: completes this side, and continues with the rows.
    fn settle_here(&mut self, work: Work, epoch: String, head: Seq) -> Result<Advance> {
        let setup = self.plan.setup(&work.replicated, Some(epoch.clone()), self.former());
        let makers = work.found.makers_here();
        let Plan { path, replica, on_connect, .. } = &self.plan;
        let mut store = Store::make(path, &makers, &setup, *replica, on_connect)?;
        let names = |made: &[Maker]| made.iter().map(|(name, _)| name.clone()).collect();
        self.report.made_here = names(work.found.make_here());
        self.report.made_there = names(work.found.make_there());
        if let Some(attempted) = self.attempted.take() {
            self.report.installed = true;
            self.report.made_there.extend(attempted);
            self.report.made_there.sort_unstable();
            self.report.made_there.dedup();
        }
        self.report.epoch.clone_from(&epoch);
        let spelling: Vec<_> = work.replicated.iter().map(|(table, _)| table.clone()).collect();
        store.set_identifier_case(&spelling)?;
        self.keep(&mut store, &epoch, &work.tables, &work.definitions)?;
        self.tables = Arc::new(work.tables);
        store.set_obstacles(&self.drift.obstacles(&self.tables).unwrap_or_default())?;
        store.columns_arrived(&self.tables)?;
        if store.is_adopted()? && self.accepts.is_none() {
            let prefer = (!self.refreshes).then_some(&self.plan.prefer);
            store.goes_on_with(prefer, work.found.choice())?;
            return Ok(self.done(store));
        }
        if self.accepts.is_none() {
            store.set_choice(work.found.choice())?;
        }
        store.remember()?;
        store.stage_clear()?;
        self.store = Some(store);
        let tables = work.replicated.into_iter().filter_map(|(table, _)| {
            self.tables.get(&table.name).map(|there| table.presented_as(&there.table))
        });
        self.read_on(TableReader::new(tables.collect()), head);
        Ok(Advance::More)
    }

    /// Continues with the rows, or with the log when all rows are read.
    fn read_on(&mut self, reader: TableReader, start: Seq) {
        self.stage = match reader.progress() {
            Some(_) => Stage::Rows(reader, start),
            None => Stage::Log(Pages::after(Place { seq: start, id: None }, PullSize::default())),
        };
    }

    fn rows(&mut self, mut reader: TableReader, start: Seq, answer: &Answer) -> Result<Advance> {
        if let TablePage::Rows(table, rows) = reader.answered(&result(answer, 0))? {
            self.replica().stage(&table, &rows)?;
            tracing::debug!(table, rows = rows.len(), "a page of rows is staged");
        }
        self.read_on(reader, start);
        Ok(Advance::More)
    }

    fn replica(&mut self) -> &mut Store {
        self.store.as_mut().expect("rows are read when the replica is there")
    }

    fn log_exchange(&self, pages: &Pages) -> Exchange<'static> {
        let replica = self.store.as_ref().expect("the log is read when the replica is there").id();
        let asker = Some(Asker { replica, place: pages.place() });
        Exchange { pull: Some(pages.range()), asker, ..Exchange::default() }
    }

    fn log(&mut self, mut pages: Pages, answer: Answer, now_ms: i64) -> Result<Advance> {
        let reply = self.log_exchange(&pages).read(answer)?;
        let meta = reply.meta.filter(|meta| meta.epoch == self.report.epoch).ok_or_else(|| {
            let message = "the remote became another database during the first sync";
            Error::new(Code::OtherRemote, message)
        })?;
        let (end, head) = (reply.page.last, reply.head);
        if pages.came_in(reply.page, reply.chunk, head)? && pages.front().is_some() {
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
            None => store.adopt_by(&self.plan.prefer, end, now_ms)?,
            Some((replica, _)) => {
                let (url, epoch) = (self.plan.url.clone(), meta.epoch.clone());
                let to = NewRemote { url, epoch, replica: *replica };
                store.accept(&to, end, now_ms)?
            }
        };
        store.set_landmark(place)?;
        self.report.adopted = Some(adopted);
        self.report.orphans_left = store.orphans()?;
        Ok(self.done(store))
    }

    fn done(&mut self, store: Store) -> Advance {
        Advance::Done(
            Box::new(std::mem::take(&mut self.report)),
            Box::new(store),
            Arc::clone(&self.tables),
        )
    }
}

fn result(answer: &Answer, index: usize) -> Rows {
    answer.rows.get(index).cloned().unwrap_or_default()
}
