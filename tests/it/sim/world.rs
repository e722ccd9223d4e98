//! A world: replicas, a remote and a web application, and what happens between them, step by step.
//!
//! Nothing in it asks the machine's clock, and nothing depends on how fast it is. After each step
//! what it touched is looked at ([`watch`](super::watch)).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use driftless::event::{Event, EventId, ReplicaId};
use driftless::remote::{Answer, Batch};
use driftless::store::{ConflictFilter, NewKey, Selection};
use driftless::sync::{Input, RequestId, Ticket};
use driftless::{Error, Kind, Result as Outcome};
use fastrand::Rng;
use tempfile::TempDir;

use super::coverage::Seen;
use super::groups::{Carries, Sizes};
use super::history::{Fate, History, Step};
use super::model::Model;
use super::replica::Replica;
use super::rows::snapshot;
use super::server::Server;
use super::shape::Shape;
use super::sql::{Clock, transact};
use super::template::{BEGIN_MS, Template, folder, identity};
use super::watch::{Mutation, Watch, Writer};

/// What went wrong, in words.
pub(crate) type Checked<T = ()> = std::result::Result<T, String>;

/// The most replicas.
const MOST: usize = 5;

/// The indexes that one replica alone may have.
const CONSTRAINTS: [(&str, &str); 4] =
    [("x_own_p", "p (x)"), ("x_own_m", "m (t)"), ("x_own_s", "s (par)"), ("x_own_q", "q (y)")];

/// The remote as it was, and what was known of it.
struct RemoteSave {
    file: Vec<u8>,
    model: Model,
    log: BTreeMap<i64, Event>,
    places: HashMap<EventId, i64>,
}

/// See the module.
pub(crate) struct World {
    pub(super) shape: Arc<Shape>,
    pub(super) server: Server,
    pub(super) replicas: Vec<Replica>,
    pub(super) watches: Vec<Watch>,
    pub(super) model: Model,
    /// The remote log, as it was seen to grow.
    pub(super) log: BTreeMap<i64, Event>,
    pub(super) places: HashMap<EventId, i64>,
    /// What applications committed.
    pub(super) ledger: HashMap<EventId, Mutation>,
    /// Every identity that a file has had.
    pub(super) names: HashSet<ReplicaId>,
    /// The remote's state at the last look.
    pub(super) server_version: (u64, u64),
    /// Rows of the remote whose parent is not there.
    pub(super) orphans: BTreeSet<(String, String)>,
    /// Whose request is being run.
    pub(super) carrier: Option<usize>,
    /// What that carries of a push in parts.
    pub(super) carries: Carries,
    pub(super) sizes: Sizes,
    /// What keeps events from deferring their foreign keys.
    pub(super) doubts: super::deferral::Doubts,
    /// The remote was made anew, and nobody has installed anything there.
    pub(super) blank: bool,
    /// Requests that nobody waits for any more, and that may yet arrive.
    pub(super) ghosts: Vec<Batch>,
    pub(super) saves: HashMap<usize, (Vec<u8>, Watch)>,
    remote_save: Option<RemoteSave>,
    pub(super) seen: Seen,
    pub(super) steps: u64,
    template: Arc<Template>,
    pub(super) folder: TempDir,
    trace: bool,
}

impl World {
    /// The world in which a history happens.
    pub(crate) fn new(history: &History, trace: bool) -> Checked<World> {
        let shape = Arc::new(history.shape.clone());
        let template = Template::of(&shape, history.seed);
        let folder = folder();
        let path = folder.path().join("remote.db");
        std::fs::write(&path, &template.remote).map_err(|error| error.to_string())?;
        let clock = Clock::new(BEGIN_MS.into());
        let server = Server::new(path, clock, history.seed, shape.verbatim);
        let rows = server.with(|db| snapshot(db, &shape));
        let mut world = World {
            model: Model::new(Arc::clone(&shape), rows),
            shape,
            server,
            replicas: Vec::new(),
            watches: Vec::new(),
            log: BTreeMap::new(),
            places: HashMap::new(),
            ledger: HashMap::new(),
            names: HashSet::new(),
            server_version: (0, 0),
            orphans: BTreeSet::new(),
            carrier: None,
            carries: Carries::Nothing,
            sizes: Sizes { push: history.push, pull: history.pull },
            doubts: Default::default(),
            blank: false,
            ghosts: Vec::new(),
            saves: HashMap::new(),
            remote_save: None,
            seen: Seen::default(),
            steps: 0,
            template,
            folder,
            trace,
        };
        let mut random = Rng::with_seed(history.seed);
        for _ in 0..history.replicas {
            world.found(&mut random)?;
        }
        Ok(world)
    }

    pub(super) fn say(&self, what: impl FnOnce() -> String) {
        #[allow(clippy::print_stderr)]
        if self.trace {
            eprintln!("{}", what());
        }
    }

    fn file(&self, bytes: &[u8]) -> Checked<Replica> {
        let number = self.replicas.len() as u128 + 1;
        let path = self.folder.path().join(format!("{number}.db"));
        std::fs::write(&path, bytes).map_err(|error| error.to_string())?;
        Ok(Replica::new(&self.shape, path, number, self.sizes))
    }

    /// A replica whose first sync was when there was nothing yet: it differs from another such one
    /// in its identity alone.
    fn found(&mut self, random: &mut Rng) -> Checked {
        let mut replica = self.file(&self.template.replica)?;
        let name = identity(replica.number).to_string();
        let sql = "UPDATE driftless_settings SET value = ?1 WHERE name = 'replica'";
        replica.db.execute(sql, [name]).map_err(|error| error.to_string())?;
        replica.set_application(random.f64() < 0.7, random.f64() < 0.15);
        replica.start().map_err(|error| error.to_string())?;
        self.replicas.push(replica);
        self.watches.push(Watch::default());
        self.observe(self.replicas.len() - 1, Writer::Nobody)
    }

    fn join(&mut self, rows: &[Vec<String>]) -> Checked {
        if self.replicas.len() >= MOST {
            return Ok(());
        }
        let mut replica = self.file(&self.template.bare)?;
        replica.set_application(true, false);
        for sql in rows {
            transact(&replica.db, sql, false);
        }
        replica.install().map_err(|error| error.to_string())?;
        let at = self.replicas.len();
        self.watches.push(Watch::joining(snapshot(&replica.db, &self.shape)));
        replica.start().map_err(|error| error.to_string())?;
        self.replicas.push(replica);
        self.seen.note("a replica joins with rows");
        self.observe(at, Writer::Nobody)
    }

    /// Takes one step, and looks at what it touched.
    pub(crate) fn apply(&mut self, step: &Step) -> Checked {
        self.steps += 1;
        self.say(|| format!("{:4} {step:?}", self.steps));
        let count = self.replicas.len();
        match step {
            Step::Write { at, sql, told, abandoned } => {
                self.write(at % count, sql, *told, *abandoned)
            }
            Step::Web { sql } => {
                if !self.shape.is_lost_by_sqlite(sql) && self.server.web(sql) {
                    self.seen.note("a write of the web's");
                }
                self.observe_remote()
            }
            Step::Carry { at, fate } => self.carry(at % count, *fate).map(drop),
            Step::Answer { at } => self.answer(at % count).map(drop),
            Step::Ghost { which } => self.ghost(*which),
            Step::Integrate { at } => self.integrate(at % count).map(drop),
            Step::Pass { at, ms } => {
                let end = self.replicas[at % count].now.steady_ms + ms;
                self.pass(at % count, end).map(drop)
            }
            Step::Sync { at, ms, fates } => self.work(at % count, *ms, fates),
            Step::Crash { at, whole, again } => self.crash(at % count, *whole, *again),
            Step::Start { at } => self.start(at % count),
            Step::Cut { at, cut } => {
                self.replicas[at % count].cut = *cut;
                Ok(())
            }
            Step::Caps { up, down } => {
                self.server.set_caps(*up, *down);
                Ok(())
            }
            Step::Clock { at, ms } => {
                self.seen.note("a clock jumps");
                self.replicas[at % count].skew_ms = *ms;
                self.replicas[at % count].set_wall();
                Ok(())
            }
            Step::Disk { at, room } => {
                self.replicas[at % count].set_room(*room);
                Ok(())
            }
            Step::Restore { at, which, fresh } => self.restore(at % count, *which, *fresh),
            Step::Dismiss { at, which } => self.dismiss(at % count, *which),
            Step::Constrain { at, which, on } => self.constrain(at % count, *which, *on),
            Step::Retry { at } => self.retry(at % count),
            Step::Join { rows } => self.join(rows),
            Step::Save { at } => self.save(at % count),
            Step::Return { at } => self.go_back(at % count),
            Step::Rewind { at, told } => self.rewind(at % count, *told),
            Step::Copy { at } => self.copy(at % count),
            Step::RemoteSave => self.save_remote(),
            Step::RemoteReturn => self.roll_back(),
            Step::RemoteWipe => self.wipe(),
            Step::Accept { at } => self.accept(at % count),
        }
    }

    fn write(&mut self, at: usize, sql: &[String], told: bool, abandoned: bool) -> Checked {
        let committed = transact(&self.replicas[at].db, sql, abandoned);
        self.say(|| format!("     {}", if committed { "committed" } else { "rolled back" }));
        if committed {
            self.seen.note("a write");
        }
        if self.replicas[at].machine.is_none() {
            self.seen.note("a write with no process of ours running");
        }
        self.observe(at, if committed { Writer::Application } else { Writer::Nobody })?;
        if told {
            self.replicas[at].input(Input::LocalCommit);
            self.observe(at, Writer::Nobody)?;
        }
        Ok(())
    }

    /// Runs a request at the remote, and looks what it did there.
    fn deliver(&mut self, carrier: Option<usize>, batch: Batch) -> Checked<Outcome<Answer>> {
        let carries = Carries::of(&batch);
        let outcome = self.server.ask(batch);
        (self.carrier, self.carries) = (carrier, carries);
        self.observe_remote()?;
        (self.carrier, self.carries) = (None, Carries::Nothing);
        if carries == Carries::Part && outcome.is_ok() {
            self.seen.note("a part of a push");
            if carrier.is_none() {
                self.seen.note("a part that nobody waits for");
            }
        }
        if let Some(at) = carrier.filter(|_| carries != Carries::Nothing && outcome.is_ok()) {
            self.replicas[at].in_parts = carries == Carries::Part;
        }
        self.doubts.answered(carrier, &outcome);
        match &outcome {
            Err(error) if error.kind() == Kind::TooLarge => self.seen.note("too large"),
            Ok(answer) if has_more(answer) => self.seen.note("a page split"),
            _ => {}
        }
        Ok(outcome)
    }

    /// Gives a replica the answer to a request.
    fn give(&mut self, at: usize, id: RequestId, outcome: Outcome<Answer>) -> Checked {
        self.say(|| match &outcome {
            Ok(_) => "     answered".to_owned(),
            Err(error) => format!("     answered: {error:?}"),
        });
        self.replicas[at].input(Input::Answer(id, outcome));
        self.observe(at, Writer::Nobody)
    }

    /// Carries the request that is on its way. False if there is none.
    pub(super) fn carry(&mut self, at: usize, fate: Fate) -> Checked<bool> {
        let Some((id, batch)) = self.replicas[at].sent.take() else { return Ok(false) };
        let lost = || Err(Replica::dead_line());
        // A part takes no effect yet.
        let pushes = batch.writes && Carries::of(&batch) != Carries::Part;
        // What a file sent before it was restored says nothing about the file that is there.
        let outlived = std::mem::take(&mut self.replicas[at].outlived);
        let carrier = (!outlived).then_some(at);
        let outcome = match fate {
            _ if self.replicas[at].cut => {
                self.seen.note("a request into a partition");
                lost()
            }
            Fate::Through => self.deliver(carrier, batch)?,
            Fate::LostBefore => lost(),
            Fate::Overloaded => Err(Error::unavailable("503 Service Unavailable")),
            Fate::Refused => Err(Error::refused("401 Unauthorized")),
            Fate::LostAfter => {
                let done = self.deliver(carrier, batch)?;
                if pushes && done.is_ok() {
                    self.seen.note("a lost answer that had taken effect");
                }
                done.and(lost())
            }
            Fate::AnswerLate => {
                let done = self.deliver(carrier, batch)?;
                self.replicas[at].answers.push_back((id, done));
                self.seen.note_fate(fate);
                return Ok(true);
            }
            Fate::RequestLate => {
                self.ghosts.push(batch);
                lost()
            }
            Fate::Twice => {
                drop(self.deliver(carrier, batch.clone())?);
                self.deliver(carrier, batch)?
            }
            Fate::AnsweredTwice => {
                let done = self.deliver(carrier, batch)?;
                if let Ok(answer) = &done {
                    self.replicas[at].answers.push_back((id, Ok(answer.clone())));
                }
                done
            }
            Fate::RemoteDies(after) => {
                self.server.die_after(after.into());
                self.deliver(carrier, batch)?
            }
        };
        self.seen.note_fate(fate);
        if pushes && !outlived && outcome.is_ok() {
            self.doubts.pushed(at, &mut self.seen);
        }
        self.give(at, id, outcome)?;
        Ok(true)
    }

    /// An answer that was late comes. False if there is none.
    pub(super) fn answer(&mut self, at: usize) -> Checked<bool> {
        let Some((id, outcome)) = self.replicas[at].answers.pop_front() else { return Ok(false) };
        self.give(at, id, outcome)?;
        Ok(true)
    }

    fn ghost(&mut self, which: usize) -> Checked {
        if self.ghosts.is_empty() {
            return Ok(());
        }
        let batch = self.ghosts.swap_remove(which % self.ghosts.len());
        self.seen.note("a request that nobody waits for arrives");
        self.deliver(None, batch).map(drop)
    }

    pub(super) fn drop_ghosts(&mut self) -> Checked {
        while !self.ghosts.is_empty() {
            self.ghost(0)?;
        }
        Ok(())
    }

    pub(super) fn integrate(&mut self, at: usize) -> Checked<bool> {
        let done = self.replicas[at].integrate();
        if done {
            self.observe(at, Writer::Nobody)?;
        }
        Ok(done)
    }

    pub(super) fn pass(&mut self, at: usize, end: u64) -> Checked<bool> {
        let rang = self.replicas[at].pass(end);
        self.observe(at, Writer::Nobody)?;
        Ok(rang)
    }

    /// A replica works until `ms` have passed and nothing is left to do at once.
    pub(super) fn work(&mut self, at: usize, ms: u64, fates: &[Fate]) -> Checked {
        let end = self.replicas[at].now.steady_ms + ms;
        let mut fates = fates.iter().copied();
        while self.answer(at)? {}
        for _ in 0..1_000 {
            let carried = self.replicas[at].sent.is_some()
                && self.carry(at, fates.next().unwrap_or(Fate::Through))?;
            if !carried && !self.integrate(at)? && !self.pass(at, end)? {
                return Ok(());
            }
        }
        Err(format!("replica {at} finds no end of what is to be done within {ms} ms"))
    }

    fn crash(&mut self, at: usize, whole: bool, again: bool) -> Checked {
        if self.replicas[at].machine.is_some() {
            self.seen.note("a crash");
            if self.has_unacknowledged(at) {
                self.seen.note("a crash between commit and acknowledgement");
            }
            if self.replicas[at].waits {
                self.seen.note("a crash with a page waiting");
            }
            if std::mem::take(&mut self.replicas[at].in_parts) {
                self.seen.note("a crash between two parts");
            }
        }
        let lost = self.replicas[at].crash(whole);
        self.ghosts.extend(lost);
        if again { self.start(at) } else { Ok(()) }
    }

    pub(super) fn start(&mut self, at: usize) -> Checked {
        if self.replicas[at].machine.is_some() {
            return Ok(());
        }
        self.replicas[at].start().map_err(|error| format!("replica {at} starts: {error:?}"))?;
        self.observe(at, Writer::Nobody)
    }

    pub(super) fn save(&mut self, at: usize) -> Checked {
        if self.replicas[at].ready && self.watches[at].certain {
            let file = self.replicas[at].copy(&self.folder.path().join("save.db"));
            self.saves.insert(at, (file, self.watches[at].clone()));
        }
        Ok(())
    }

    /// A replica is restored from an older copy of its file.
    fn go_back(&mut self, at: usize) -> Checked {
        let Some((file, watch)) = self.saves.get(&at) else { return Ok(()) };
        let lost = self.replicas[at].crash(false);
        self.replicas[at].replace(file);
        let now = std::mem::replace(&mut self.watches[at], watch.clone());
        self.ghosts.extend(lost);
        for id in now.mine.difference(&self.watches[at].mine) {
            let known = self.ledger.get_mut(id).expect("what a file has was committed");
            known.gone = !self.places.contains_key(id);
        }
        self.seen.note("a replica restored from a copy");
        self.start(at)
    }

    /// A copy of a replica's file goes on beside it.
    fn copy(&mut self, at: usize) -> Checked {
        let may = self.replicas[at].ready && self.watches[at].certain;
        if !may || self.replicas.len() >= MOST {
            return Ok(());
        }
        let file = self.replicas[at].copy(&self.folder.path().join("copy.db"));
        let mut replica = self.file(&file)?;
        replica.constrained = self.replicas[at].constrained;
        replica.set_application(true, false);
        replica.now = self.replicas[at].now;
        replica.set_wall();
        self.watches.push(self.watches[at].clone());
        replica.start().map_err(|error| error.to_string())?;
        self.replicas.push(replica);
        self.seen.note("a copied file goes on");
        self.observe(self.replicas.len() - 1, Writer::Nobody)
    }

    fn save_remote(&mut self) -> Checked {
        if !self.blank {
            self.remote_save = Some(RemoteSave {
                file: self.server.copy(),
                model: self.model.clone(),
                log: self.log.clone(),
                places: self.places.clone(),
            });
        }
        Ok(())
    }

    /// The remote is restored from a backup.
    fn roll_back(&mut self) -> Checked {
        let Some(save) = self.remote_save.take() else { return Ok(()) };
        self.server.replace(&save.file);
        self.blank = false;
        (self.model, self.log, self.places) = (save.model, save.log, save.places);
        self.seen.note("a remote rolled back");
        self.forget_remote()
    }

    fn wipe(&mut self) -> Checked {
        self.server.replace(&self.template.blank);
        self.blank = true;
        self.log.clear();
        self.places.clear();
        self.remote_save = None;
        self.seen.note("a remote made anew");
        self.forget_remote()
    }

    /// What was in the log alone is gone, and nobody knows who will go on with this remote.
    fn forget_remote(&mut self) -> Checked {
        self.saves.clear();
        for (id, known) in &mut self.ledger {
            known.gone |= !self.places.contains_key(id);
        }
        self.watches.iter_mut().for_each(Watch::doubt);
        (0..self.replicas.len()).try_for_each(|at| self.observe(at, Writer::Nobody))?;
        self.observe_remote()
    }

    /// A person goes on with a remote that a replica refuses.
    fn accept(&mut self, at: usize) -> Checked {
        if self.replicas[at].ready && self.replicas[at].is_refusing() {
            self.accept_now(at);
        }
        self.observe(at, Writer::Nobody)
    }

    pub(super) fn accept_now(&mut self, at: usize) -> Ticket {
        self.seen.note("a remote accepted");
        let (ticket, given_up) = self.replicas[at].accept();
        self.ghosts.extend(given_up);
        ticket
    }

    /// A person brings a lost event back.
    fn restore(&mut self, at: usize, which: usize, fresh: bool) -> Checked {
        let Some(store) = self.replicas[at].store() else { return Ok(()) };
        let open = store.conflict_page(&ConflictFilter::default(), 0, usize::MAX);
        let open = open.map_err(|error| format!("{error:?}"))?;
        if open.is_empty() {
            return Ok(());
        }
        let id = open[which % open.len()].event.id;
        let wanted = Selection::Together(vec![id]);
        let done = store.restore_selected(&wanted, fresh.then_some(NewKey::Fresh));
        let done = done.and_then(|done| done.refusal().map_or(Ok(done), Err));
        self.tolerate(done, "a conflict restored")?;
        self.observe(at, Writer::Application)?;
        self.replicas[at].input(Input::LocalCommit);
        self.observe(at, Writer::Nobody)
    }

    fn dismiss(&mut self, at: usize, which: usize) -> Checked {
        let Some(store) = self.replicas[at].store() else { return Ok(()) };
        let open = store.conflict_page(&ConflictFilter::default(), 0, usize::MAX);
        let open = open.map_err(|error| format!("{error:?}"))?;
        if open.is_empty() {
            return Ok(());
        }
        let wanted = Selection::Events(vec![open[which % open.len()].event.id]);
        let done = store.dismiss_selected(&wanted);
        self.tolerate(done, "a conflict dismissed")?;
        self.observe(at, Writer::Nobody)
    }

    /// What a person asked for may be refused, or meet a full disk.
    fn tolerate<T>(&mut self, done: Outcome<T>, what: &'static str) -> Checked {
        match done {
            Ok(_) => self.seen.note(what),
            Err(error) if matches!(error.kind(), Kind::Usage | Kind::Storage) => {
                self.say(|| format!("     {error}"));
            }
            Err(error) => return Err(format!("{what}: {error:?}")),
        }
        Ok(())
    }

    fn constrain(&mut self, at: usize, which: usize, on: bool) -> Checked {
        let replica = &self.replicas[at];
        if replica.machine.is_none() || replica.full || !replica.ready {
            return Ok(());
        }
        let fitting = CONSTRAINTS.iter().filter(|(_, columns)| self.shape.has(&columns[..1]));
        let fitting: Vec<_> = fitting.collect();
        let Some((name, columns)) = fitting.get(which % fitting.len().max(1)) else {
            return Ok(());
        };
        let sql = match on {
            true => format!("CREATE UNIQUE INDEX IF NOT EXISTS {name} ON {columns}"),
            false => format!("DROP INDEX IF EXISTS {name}"),
        };
        let replica = &mut self.replicas[at];
        replica.constrained |= on;
        let done = replica.db.execute_batch(&sql).is_ok();
        replica.input(Input::LocalCommit);
        if on && done {
            self.seen.note("a constraint of one replica's own");
        }
        let waited = self.watches[at].quarantine.len();
        self.observe(at, Writer::Nobody)?;
        if self.watches[at].quarantine.len() < waited {
            self.seen.note("a quarantine's retry");
        }
        Ok(())
    }

    /// Takes away what one replica's database alone refuses.
    pub(super) fn unconstrain(&mut self, at: usize) -> Checked {
        if self.replicas[at].constrained {
            for which in 0..CONSTRAINTS.len() {
                self.constrain(at, which, false)?;
            }
        }
        if self.watches[at].quarantine.is_empty() { Ok(()) } else { self.retry(at) }
    }

    fn retry(&mut self, at: usize) -> Checked {
        let now_ms = self.replicas[at].now.wall_ms;
        let Some(store) = self.replicas[at].store() else { return Ok(()) };
        let waiting = store.quarantine().map_err(|error| format!("{error:?}"))?.len();
        match store.retry_quarantine(now_ms) {
            Ok(done) if done.applied > 0 => self.seen.note("a quarantine's retry"),
            Ok(_) => {}
            Err(error) if error.kind() == Kind::Storage && self.replicas[at].full => {}
            Err(error) => return Err(format!("the retry of {waiting} events: {error:?}")),
        }
        self.observe(at, Writer::Nobody)
    }
}

/// Whether a page came that is not the log's last.
fn has_more(answer: &Answer) -> bool {
    answer.rows.iter().flatten().any(|row| match row.as_slice() {
        [_, last, count, head] => {
            count.as_integer().is_some_and(|count| count > 0)
                && head.as_integer() > last.as_integer()
        }
        _ => false,
    })
}
