//! When the machine asks, how long it waits, and what it says meanwhile: all by its own clock,
//! which stands still unless a test moves it.

use driftless::event::conflict::ConflictRule;
use driftless::protocol::incarnation::MAX_ISSUED;
use driftless::protocol::statements::MAX_EVENTS;
use driftless::store::{Setup, Store};
use driftless::sync::{
    Config, Effect, Input, MAX_SOON_REQUESTS, Machine, Now, RequestId, SOON_MS, SyncState, Ticket,
};
use driftless::{Code, Health, Kind};

use crate::support::blocking::initialise;
use crate::support::desk::{Desk, SCHEMA, assert_equal, plan};
use crate::support::local_remote::{Fault, LocalRemote};
use crate::support::members::{TABLES, many, remote};

/// A desk's longest time between two polls, in ms.
const POLL_MS: u64 = 5_000;
/// How long a remote is left alone that refused us, in ms.
const REFUSED_MS: u64 = 60_000;

/// How many requests there are while so much time passes.
fn asked(desk: &mut Desk, ms: u64) -> usize {
    let before = desk.remote.requests();
    desk.advance(ms);
    desk.settle();
    desk.remote.requests() - before
}

/// When the desk asks while so much time passes: ms from now, each time.
fn times(desk: &mut Desk, ms: u64) -> Vec<u64> {
    let mut times = Vec::new();
    for passed in 1..=ms {
        let before = desk.remote.requests();
        desk.advance(1);
        desk.settle();
        times.extend((before..desk.remote.requests()).map(|_| passed));
    }
    times
}

#[test]
fn a_change_makes_the_next_polls_come_soon_and_each_a_little_later() {
    let remote = remote();
    let (mut desk, mut other) = (Desk::new(&remote, 1), Desk::new(&remote, 2));
    desk.advance(60_000);
    other.advance(60_000);
    assert_eq!(asked(&mut desk, 60_000), 12, "nothing goes on");
    desk.write("INSERT INTO members (id, name) VALUES ('1', 'Ana')");
    assert_eq!(asked(&mut desk, 0), 1, "a change leaves at once");
    let polls = times(&mut desk, 60_000);
    assert_eq!(polls[0], SOON_MS);
    let waits: Vec<_> = polls.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits.is_sorted() && waits.last() == Some(&POLL_MS), "{waits:?}");
    let short = 1 + waits.iter().filter(|wait| **wait < POLL_MS).count();
    assert!((20..MAX_SOON_REQUESTS).contains(&short), "{short} polls after shorter waits");
    assert_eq!(asked(&mut desk, 60_000), 12, "and then it is over");
    // A change that comes is as good a sign as one that leaves.
    other.sync().unwrap();
    assert_eq!(times(&mut other, 60_000), polls);
    assert_equal(&other, &TABLES);
}

/// Two people change something every few seconds. Half of their changes are on the other desk a
/// quarter of a second later, by the desk's own clock.
#[test]
fn while_people_work_a_change_is_there_soon() {
    let remote = remote();
    let mut desks = [Desk::new(&remote, 1), Desk::new(&remote, 2)];
    desks[1].advance(777);
    let mut random = fastrand::Rng::with_seed(4);
    let mut took = Vec::new();
    for change in 0..60 {
        let writer = random.usize(..2);
        // The time between two changes is 5 s on average, mostly less and sometimes much more.
        let pause = (-5_000.0 * (1.0 - random.f64()).ln()) as usize;
        for _ in 0..pause {
            desks.iter_mut().for_each(|desk| desk.advance(1));
            desks.iter_mut().for_each(Desk::settle);
        }
        desks[writer].write(&format!("INSERT INTO members (id, name) VALUES ('{change}', 'Ana')"));
        desks[writer].settle();
        let there = format!("SELECT count(*) FROM members WHERE id = '{change}'");
        let mut waited = 0;
        while desks[1 - writer].read(&there) != "1" {
            desks.iter_mut().for_each(|desk| desk.advance(1));
            desks.iter_mut().for_each(Desk::settle);
            waited += 1;
        }
        took.push(waited);
    }
    took.sort_unstable();
    assert!(took[took.len() / 2] <= 250, "{took:?}");
    assert!(took[took.len() - 1] <= POLL_MS, "{took:?}");
}

#[test]
fn the_status_counts_requests() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    let before = desk.status().remote.requests.expect("it runs");
    let asked = asked(&mut desk, 60_000) as u64;
    assert!(asked > 10);
    assert_eq!(desk.status().remote.requests, Some(before + asked));
}

/// The answer to what was given up is of no use, and nothing waits for it.
#[test]
fn after_a_sleep_the_request_from_before_it_counts_as_lost() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    desk.write("INSERT INTO members (id, name) VALUES ('1', 'Ana')");
    let (id, batch) = desk.sent.pop_front().expect("a change leaves at once");
    desk.input(Input::Wake);
    assert_eq!(desk.sent.len(), 1, "what was lost goes again");
    let answer = remote.run_now(batch);
    desk.input(Input::Answer(id, answer));
    assert_eq!(desk.status().pending, 1, "nobody waits for this one");
    desk.settle();
    assert_equal(&desk, &TABLES);
}

#[test]
fn a_remote_that_refuses_is_left_alone_for_a_minute() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    desk.advance(60_000);
    remote.fail([Fault::Refused, Fault::Refused]);
    assert_eq!(desk.sync().unwrap_err().kind(), Kind::Refused, "who waits is told at once");
    let status = desk.status();
    assert_eq!((status.state, status.remote.reachable), (SyncState::Refused, Some(true)));
    assert!(status.trouble.is_some() && status.health != Health::Ok);
    assert_eq!(asked(&mut desk, REFUSED_MS - 1), 0);
    assert_eq!(asked(&mut desk, 1), 1);
    assert_eq!(asked(&mut desk, REFUSED_MS - 1), 0, "it was refused once more");
    assert_eq!(asked(&mut desk, 1), 1);
    let status = desk.status();
    assert_eq!((status.state, status.trouble), (SyncState::InStep, None));
    // A person who asks does not wait for the minute to end.
    remote.fail([Fault::Refused]);
    desk.sync().unwrap_err();
    desk.sync().unwrap();
}

/// F71. To ask for less of the log makes a request no shorter.
#[test]
fn f71_a_remote_that_finds_each_request_too_large_is_left_alone_for_a_minute() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    desk.advance(60_000);
    remote.set_caps(1, usize::MAX);
    assert_eq!(asked(&mut desk, 5_000), 1);
    let status = desk.status();
    assert_eq!((status.code, status.hint.is_some()), (Some(Code::RequestTooLarge), true));
    assert_eq!((status.state, status.health), (SyncState::Trouble, Health::Degraded));
    desk.write("INSERT INTO members (id, name) VALUES ('1', 'Ana')");
    desk.settle();
    assert!(asked(&mut desk, REFUSED_MS - 5_000) <= 2, "a push, and a look");
    remote.set_caps(usize::MAX, usize::MAX);
    desk.advance(REFUSED_MS);
    desk.settle();
    assert_equal(&desk, &TABLES);
    assert_eq!((desk.status().state, desk.status().pending), (SyncState::InStep, 0));
}

/// F71. No event is to blame for a table that is gone: none is recorded as rejected.
#[test]
fn f71_pushes_wait_for_a_table_that_was_renamed_and_pulls_go_on() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    desk.advance(60_000);
    let rename = |from: &str, to: &str| {
        // So that what refers to it is not renamed with it.
        remote.web("PRAGMA legacy_alter_table = ON");
        remote.web(&format!("ALTER TABLE {from} RENAME TO {to}"));
    };
    rename("members", "people");
    desk.write("INSERT INTO members (id, name) VALUES ('1', 'Ana')");
    desk.settle();
    let status = desk.status();
    let trouble = status.trouble.expect("it is said");
    assert!(trouble.contains("`members`"), "{trouble}");
    assert_eq!(status.code, Some(Code::TableWaits));
    assert_eq!((status.state, status.health), (SyncState::InStep, Health::Degraded));
    assert_eq!((status.pending, status.conflicts), (1, 0));
    let waiting = |desk: &Desk| -> Vec<_> {
        let waiting = desk.status().waiting.into_iter();
        waiting.map(|waiting| (waiting.table, waiting.events)).collect()
    };
    assert_eq!(waiting(&desk), [("members".to_owned(), 1)]);
    assert!(asked(&mut desk, 30_000) > 5, "pulls go on");
    desk.sync().expect("what waits keeps nobody waiting");
    // The network goes and comes, and it is still so.
    remote.set_offline(true);
    desk.advance(10_000);
    desk.settle();
    assert_eq!(desk.status().state, SyncState::Offline);
    remote.set_offline(false);
    desk.advance(30_000);
    desk.settle();
    assert_eq!((desk.status().state, desk.status().trouble), (SyncState::InStep, Some(trouble)));
    rename("people", "members");
    desk.advance(10_000);
    desk.settle();
    let status = desk.status();
    assert_eq!((status.pending, status.conflicts), (0, 0));
    // It was away, with its capture, and nothing was missed.
    desk.advance(20_000);
    assert_eq!((desk.status().trouble, desk.status().state), (None, SyncState::InStep));
    assert_equal(&desk, &TABLES);
}

#[test]
fn a_push_that_is_refused_waits_and_pulling_goes_on() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    desk.advance(60_000);
    remote.fail([Fault::Refused]);
    desk.write("INSERT INTO members (id, name) VALUES ('1', 'Ana')");
    desk.settle();
    let status = desk.status();
    assert_eq!((status.state, status.pending), (SyncState::Refused, 1));
    remote.web("INSERT INTO members (id, name) VALUES ('2', 'Bea')");
    assert!(asked(&mut desk, REFUSED_MS - 1) > 10);
    assert_eq!(desk.read("SELECT id FROM members ORDER BY id"), "1\n2");
    assert_eq!(
        (desk.status().pending, remote.read("SELECT count(*) FROM members")),
        (1, "1".into())
    );
    desk.advance(1);
    desk.settle();
    assert_equal(&desk, &TABLES);
    assert_eq!(desk.status().state, SyncState::InStep);
}

#[test]
fn without_a_network_the_waits_grow_and_a_wake_ends_them() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    desk.advance(60_000);
    remote.set_offline(true);
    let begun = desk.now.steady_ms;
    assert_eq!(desk.sync().unwrap_err().kind(), Kind::Unavailable);
    let three = desk.now.steady_ms - begun;
    assert!(three < 2_000, "three attempts are soon over: {three} ms");
    let status = desk.status();
    assert_eq!((status.state, status.remote.reachable), (SyncState::Offline, Some(false)));
    let requests = asked(&mut desk, 600_000);
    assert!((20..60).contains(&requests), "{requests} requests in ten minutes");
    assert_eq!(desk.status().health, Health::Red);
    remote.set_offline(false);
    desk.input(Input::Wake);
    assert_eq!(asked(&mut desk, 0), 1);
    let status = desk.status();
    assert_eq!((status.state, status.remote.reachable), (SyncState::InStep, Some(true)));
    assert_eq!((status.last_success, status.health), (Some(desk.now.wall_ms), Health::Ok));
    // The waits begin anew.
    remote.fail([Fault::Unavailable]);
    desk.sync().unwrap();
}

#[test]
fn a_database_that_fails_is_tried_again_and_who_waits_is_told() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    desk.advance(60_000);
    let rename = |from: &str, to: &str| {
        format!("PRAGMA legacy_alter_table = ON; ALTER TABLE {from} RENAME TO {to}")
    };
    desk.db.execute_batch(&rename("driftless_settings", "away")).unwrap();
    let (requests, begun) = (remote.requests(), desk.now.steady_ms);
    desk.write("INSERT INTO members (id, name) VALUES ('1', 'Ana')");
    let error = desk.sync().unwrap_err();
    assert_eq!(error.kind(), Kind::Storage, "{error}");
    // It is tried again and again, but at ever longer intervals.
    for _ in 0..10 {
        let timer = desk.timer.expect("it does not give up");
        desk.advance(timer - desk.now.steady_ms);
    }
    let passed = desk.now.steady_ms - begun;
    assert!((5_000..300_000).contains(&passed), "{passed} ms");
    assert_eq!(remote.requests(), requests, "nothing is sent that is not in the database");
    desk.db.execute_batch(&rename("away", "driftless_settings")).unwrap();
    let status = desk.status();
    assert_eq!(status.state, SyncState::Trouble);
    assert!(status.trouble.is_some(), "{status:?}");
    desk.sync().unwrap();
    assert_equal(&desk, &TABLES);
    assert_eq!((desk.status().state, desk.status().trouble), (SyncState::InStep, None));
}

/// A machine that is to make the first sync by itself, and its time.
struct First {
    machine: Machine,
    now: Now,
    timer: u64,
    initialised: bool,
    _folder: tempfile::TempDir,
}

impl First {
    fn new(schema: &str) -> First {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("desk.db");
        let db = rusqlite::Connection::open(&path).unwrap();
        db.execute_batch(schema).unwrap();
        let plan = plan(path.clone(), 1, &[]);
        let tables = TABLES.map(|table| (table.to_owned(), ConflictRule::Row)).to_vec();
        let setup = Setup { url: plan.url.clone(), tables, epoch: None };
        let store = Store::init(&path, &setup, plan.replica).unwrap();
        let config = Config {
            poll_ms: 5_000,
            health_bound_ms: 60_000,
            seed: 1,
            identity_seed: 1,
            push: driftless::sync::PushSize::default(),
            pull: driftless::sync::PullSize::default(),
        };
        let machine = Machine::new(store, Some(plan), config).unwrap();
        let now = Now { steady_ms: 1_000, wall_ms: 1_700_000_000_000 };
        First { machine, now, timer: 0, initialised: false, _folder: folder }
    }

    /// Gives an input, and carries all requests there and back. Gives how many there were.
    fn input(&mut self, input: Input, remote: &LocalRemote) -> usize {
        let (mut next, mut requests) = (Some(input), 0);
        while let Some(input) = next.take() {
            for effect in self.machine.handle(self.now, input) {
                match effect {
                    Effect::Send(id, batch) => {
                        requests += 1;
                        next = Some(Input::Answer(id, remote.run_now(batch)));
                    }
                    Effect::Continue => next = Some(Input::Continue { events: 100 }),
                    Effect::Wait(until) => self.timer = until,
                    Effect::Initialised(_) => self.initialised = true,
                    _ => {}
                }
            }
        }
        requests
    }

    /// The timer rings. Gives how long that took, in ms.
    fn ring(&mut self, remote: &LocalRemote) -> u64 {
        let wait = self.timer - self.now.steady_ms;
        self.now.steady_ms = self.timer;
        self.input(Input::Timer, remote);
        wait
    }

    fn state(&self) -> SyncState {
        self.machine.status(self.now).unwrap().state
    }
}

#[test]
fn a_first_sync_is_tried_again_until_the_remote_is_there() {
    let remote = remote();
    remote.set_offline(true);
    let mut first = First::new(SCHEMA);
    assert_eq!(first.state(), SyncState::Starting);
    assert_eq!(first.input(Input::Start, &remote), 1);
    assert_eq!(first.state(), SyncState::Offline);
    assert!((1..=250).contains(&first.ring(&remote)));
    remote.set_offline(false);
    first.ring(&remote);
    assert_eq!((first.initialised, first.state()), (true, SyncState::InStep));
}

#[test]
fn a_first_sync_that_cannot_be_waits_for_a_person() {
    let remote = LocalRemote::new(&SCHEMA.replace("cents INT", "pesos INT"));
    let mut first = First::new(SCHEMA);
    first.input(Input::Start, &remote);
    assert_eq!(first.state(), SyncState::Refused);
    let status = first.machine.status(first.now).unwrap();
    assert_eq!(status.code, Some(Code::TablesDiffer), "{status:?}");
    assert_eq!(first.ring(&remote), REFUSED_MS);
    remote.web("ALTER TABLE payments RENAME COLUMN pesos TO cents");
    assert_eq!(first.ring(&remote), REFUSED_MS);
    assert_eq!((first.initialised, first.state()), (true, SyncState::InStep));
}

#[test]
fn a_first_sync_that_reads_nonsense_is_tried_again_soon() {
    let remote = remote();
    drop(Desk::new(&remote, 2));
    remote.web("UPDATE driftless_tables SET conflict = 'odd'");
    let mut first = First::new(SCHEMA);
    first.input(Input::Start, &remote);
    assert_eq!(first.state(), SyncState::Trouble);
    remote.web("UPDATE driftless_tables SET conflict = 'row'");
    assert!(first.ring(&remote) <= 250, "a person can do nothing about it");
    assert_eq!((first.initialised, first.state()), (true, SyncState::InStep));
}

#[test]
fn a_machine_that_was_shut_down_asks_for_nothing() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    desk.input(Input::SyncNow(Ticket(9)));
    desk.input(Input::Shutdown);
    let (ticket, outcome) = desk.settled.pop().expect("who waits is told");
    assert_eq!((ticket, outcome.unwrap_err().kind()), (Ticket(9), Kind::Unavailable));
    assert_eq!(desk.status().state, SyncState::Stopped);
    for input in [Input::Timer, Input::LocalCommit, Input::SyncNow(Ticket(10)), Input::Wake] {
        assert!(desk.machine.handle(desk.now, input).is_empty());
    }
    assert!(desk.machine.handle(desk.now, Input::Start).is_empty());
    let late = Input::Answer(RequestId(1), Err(driftless::Error::unavailable("too late")));
    assert!(desk.machine.handle(desk.now, late).is_empty());
}

#[test]
fn another_url_is_asked_at_once_and_is_another_remote_until_it_has_answered() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    remote.fail([Fault::Refused]);
    desk.sync().unwrap_err();
    desk.input(Input::Reconfigured { url: "memory://elsewhere".to_owned() });
    let status = desk.status();
    assert_eq!((status.state, status.trouble), (SyncState::Starting, None));
    assert_eq!(status.remote.url, "memory://elsewhere");
    assert_eq!(status.remote.reachable, None, "nobody has asked it yet");
    assert_eq!(asked(&mut desk, 0), 4, "a look, its definitions and tables, and another look");
    assert_eq!(desk.status().state, SyncState::InStep);
}

#[test]
fn it_says_whether_it_is_in_step() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    assert_eq!(desk.status().state, SyncState::InStep);
    let seen = desk.status().last_success;
    desk.now.wall_ms += 7;
    desk.write("INSERT INTO members (id, name) VALUES ('1', 'Ana')");
    assert_eq!(desk.status().state, SyncState::Syncing, "a push is under way");
    assert_eq!(desk.status().last_success, seen);
    desk.deliver();
    assert_eq!(desk.status().state, SyncState::Syncing, "its verdict waits to be integrated");
    assert_eq!(desk.status().last_success, Some(desk.now.wall_ms));
    desk.go_on();
    assert_eq!(desk.status().state, SyncState::InStep);
    desk.input(Input::Wake);
    assert_eq!(desk.status().state, SyncState::InStep, "a look is no work");
    desk.settle();
    // A log of two pages: between them it is not in step either.
    remote.web(&many(MAX_EVENTS + 1, "w"));
    desk.input(Input::Wake);
    desk.deliver();
    assert_eq!((desk.status().state, desk.status().lag), (SyncState::Syncing, 5_001));
    desk.go_on();
    assert_eq!((desk.status().state, desk.status().lag), (SyncState::Syncing, 1));
    desk.settle();
    assert_eq!((desk.status().state, desk.status().lag), (SyncState::InStep, 0));
    // What went wrong is shown for as long as it is wrong.
    remote.fail([Fault::Unavailable]);
    desk.input(Input::Wake);
    desk.deliver();
    desk.input(Input::LocalCommit);
    assert_eq!(desk.status().state, SyncState::Offline);
}

#[test]
fn each_change_of_the_status_is_told_once() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    let told = |effects: &[Effect]| {
        effects.iter().filter(|effect| matches!(effect, Effect::StatusChanged)).count()
    };
    desk.db.execute_batch("INSERT INTO members (id, name) VALUES ('1', 'Ana')").unwrap();
    let effects = desk.machine.handle(desk.now, Input::LocalCommit);
    let [.., Effect::Send(id, batch), Effect::StatusChanged] = effects.as_slice() else {
        panic!("{effects:?}")
    };
    assert_eq!(told(&effects), 2, "something is pending, and then it is under way");
    let answer = remote.run_now(batch.clone());
    let effects = desk.machine.handle(desk.now, Input::Answer(*id, answer));
    assert_eq!(told(&effects), 1, "{effects:?}");
    let effects = desk.machine.handle(desk.now, Input::Continue { events: 100 });
    assert_eq!(told(&effects), 2, "nothing is pending, and then it is in step: {effects:?}");
    let effects = desk.machine.handle(desk.now, Input::Start);
    assert_eq!(told(&effects), 0, "nothing has changed: {effects:?}");
}

#[test]
fn a_remote_whose_log_cannot_be_read_waits_for_a_person() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    let rename = |from, to| format!("ALTER TABLE driftless_events RENAME COLUMN {from} TO {to}");
    remote.web(&rename("received_at", "came"));
    assert_eq!(desk.sync().unwrap_err().kind(), Kind::Rejected);
    let status = desk.status();
    assert_eq!((status.state, status.remote.reachable), (SyncState::Trouble, Some(true)));
    assert_eq!(asked(&mut desk, REFUSED_MS - 1), 0);
    assert_eq!(asked(&mut desk, 1), 1);
    remote.web(&rename("came", "received_at"));
    desk.sync().unwrap();
    assert_eq!(desk.status().state, SyncState::InStep);
}

#[test]
fn a_change_that_is_larger_than_any_answer_waits_for_a_person() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    remote.web("INSERT INTO members (id, name) VALUES ('1', printf('%.*c', 5000, 'x'))");
    remote.set_caps(usize::MAX, 4_000);
    let before = remote.requests();
    assert_eq!(desk.sync().unwrap_err().kind(), Kind::TooLarge);
    let requests = remote.requests() - before;
    assert!((8..40).contains(&requests), "down to one event, and to a slice of it: {requests}");
    assert_eq!(desk.status().state, SyncState::Trouble);
    assert_eq!(asked(&mut desk, REFUSED_MS - 1), 0);
    remote.set_caps(usize::MAX, usize::MAX);
    assert!(asked(&mut desk, 1) > 0);
    assert_equal(&desk, &TABLES);
}

/// It is not known which of the two was too large, so none of the pushed events is given up for it.
#[test]
fn a_push_whose_answer_is_too_large_goes_without_a_page() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    remote.web("INSERT INTO members (id, name) VALUES ('w', printf('%.*c', 300000, 'x'))");
    desk.write("INSERT INTO members (id, name) VALUES ('1', printf('%.*c', 300000, 'y'))");
    remote.set_caps(usize::MAX, 400_000);
    desk.sync().unwrap();
    assert_equal(&desk, &TABLES);
    assert_eq!(desk.status().conflicts, 0);
    let asks_for_a_page =
        |writes: bool| remote.batches().iter().rev().take(4).any(|batch| batch.writes == writes);
    assert!(asks_for_a_page(true) && asks_for_a_page(false), "they went apart");
}

#[test]
fn an_idle_desk_leaves_its_file_alone() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    desk.write("INSERT INTO members (id, name) VALUES ('1', 'Ana')");
    desk.sync().unwrap();
    let before = desk.read("PRAGMA data_version");
    assert!(asked(&mut desk, 60_000) > 10);
    assert_eq!(desk.read("PRAGMA data_version"), before);
    assert!(asked(&mut desk, 600_000) > 100);
    assert_eq!((desk.status().health, desk.status().state), (Health::Ok, SyncState::InStep));
}

/// Each push issues an incarnation, and the list of those that the remote may have stays short.
#[test]
fn after_many_pushes_without_an_answer_it_looks_before_the_next() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    desk.write("INSERT INTO members (id, name) VALUES ('1', 'Ana')");
    for _ in 0..MAX_ISSUED {
        assert!(desk.sent[0].1.writes);
        remote.fail([Fault::LostBefore]);
        desk.deliver();
        desk.input(Input::Wake);
    }
    assert!(!desk.sent[0].1.writes, "it only looks");
    desk.deliver();
    assert!(desk.sent[0].1.writes, "and then it pushes");
    desk.settle();
    assert_equal(&desk, &TABLES);
}

#[test]
fn a_sync_says_how_much_it_moved() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    desk.write("INSERT INTO members (id, name) VALUES ('1', printf('%.*c', 1000, 'x'))");
    remote.web("INSERT INTO members (id, name) VALUES ('2', printf('%.*c', 3000, 'y'))");
    let (id, batch) = desk.sent.pop_front().expect("a change leaves at once");
    desk.input(Input::SyncNow(Ticket(9)));
    desk.now.steady_ms += 1_500;
    let answer = remote.run_now(batch);
    desk.input(Input::Answer(id, answer));
    desk.settle();
    let (_, summary) = desk.settled.pop().expect("it is done");
    let summary = summary.unwrap();
    assert_eq!((summary.pushed, summary.applied, summary.pulled), (1, 1, 1));
    assert_eq!((summary.requests, summary.seconds), (2, 1.5), "the first began before the call");
    assert!((4_000..20_000).contains(&summary.bytes_up), "{summary:?}");
    assert!((3_000..6_000).contains(&summary.bytes_down), "{summary:?}");
}

/// A remote that was rolled back or replaced may reject anything, and none of it is the events'
/// fault.
#[test]
fn after_a_rejected_push_it_looks_at_the_remote_before_it_looks_for_a_culprit() {
    let check = SCHEMA.replace("name TEXT", "name TEXT CHECK (name <> 'bad')");
    let remote = std::sync::Arc::new(LocalRemote::new(&check));
    let mut desk = Desk::new(&remote, 1);
    desk.write("INSERT INTO members (id, name) VALUES ('1', 'bad'), ('2', 'Bea')");
    assert!(desk.sent[0].1.writes);
    desk.deliver();
    assert!(!desk.sent[0].1.writes, "it looks");
    desk.deliver();
    assert!(desk.sent[0].1.writes, "and then it searches");
    desk.settle();
    assert_equal(&desk, &TABLES);
    assert_eq!(desk.status().conflicts, 1);
}

#[test]
fn a_command_asks_thrice_for_what_may_come_and_once_for_what_will_not() {
    for (fault, kind, times) in
        [(Fault::Refused, Kind::Refused, 1), (Fault::Unavailable, Kind::Unavailable, 3)]
    {
        let folder = tempfile::tempdir().unwrap();
        let remote = remote();
        remote.fail([fault; 5]);
        let plan = plan(folder.path().join("desk.db"), 1, &[]);
        let Err(error) = initialise(plan, remote.clone()) else { panic!("nobody was there") };
        assert_eq!((error.kind(), remote.requests()), (kind, times));
    }
}
