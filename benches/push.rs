//! Push: captured events to a hub on loopback, until it has acknowledged them.
//!
//! ```text
//! cargo bench --bench push
//! ```
//!
//! Prints the events a second, and the time as a multiple of that in which plain SQLite inserts the
//! same rows in the same round. The hub runs in this process, on two cores with everything else.

#![allow(clippy::disallowed_methods, clippy::print_stdout, missing_docs)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use driftless::protocol::push::{FEW_RUNS, arrange};
use driftless::protocol::statements::{
    Asker, Exchange, MAX_EVENTS, MAX_PUSH_BYTES, META, Sender, read_meta,
};
use driftless::remote::Remote as _;
use driftless::store::{PushLimit, Store};
use support::{Place, Served};

/// Where the time of a push goes.
#[derive(Default)]
struct Parts {
    /// Reading and arranging the outbox.
    read: Duration,
    /// Writing the statements.
    write: Duration,
    /// The request: the client, the wire, the hub.
    remote: Duration,
}

impl Parts {
    fn whole(&self) -> Duration {
        self.read + self.write + self.remote
    }
}

/// Pushes everything, without pulling.
fn push(hub: &Served, place: &Place) -> Parts {
    let client = hub.client();
    let mut store = Store::open(&place.path("desk.db")).unwrap();
    let meta = driftless::remote::Batch { statements: vec![META.into()], writes: false };
    let answer = hub.block_on(client.run(meta)).unwrap();
    let epoch = read_meta(&answer.rows[0]).unwrap().unwrap().epoch;
    let state = store.state().unwrap();
    let asker = Some(Asker { replica: state.replica, place: state.place });
    let tables = driftless::sync::kept(&store).unwrap().expect("the first sync keeps them");
    let tables = Arc::new(tables);
    let limit = PushLimit::of(MAX_EVENTS, MAX_PUSH_BYTES);
    let mut parts = Parts::default();
    loop {
        let start = Instant::now();
        store.note_boundary().unwrap();
        let Some(mut push) = store.outgoing(limit).unwrap() else { return parts };
        arrange(&mut push, &tables, FEW_RUNS);
        parts.read += start.elapsed();
        let start = Instant::now();
        let unit = push.events[0].id.0;
        let incarnations = store.issue_incarnation(unit.0).unwrap();
        let (replica, epoch, cursor) = (state.replica, epoch.clone(), state.cursor());
        let tables = Arc::clone(&tables);
        let sender = Sender { replica, epoch, cursor, incarnations, tables };
        let exchange =
            Exchange { push: Some((&push, unit, &sender)), asker, ..Exchange::default() };
        let batch = exchange.batch();
        parts.write += start.elapsed();
        let start = Instant::now();
        let answer = hub.block_on(client.run(batch)).unwrap();
        assert!(exchange.read(answer).unwrap().pushed, "the hub took the push");
        parts.remote += start.elapsed();
        let start = Instant::now();
        let incarnation = *sender.incarnations.issued.last().unwrap();
        store.confirm_incarnation(incarnation, Some(push.last_n)).unwrap();
        parts.read += start.elapsed();
    }
}

fn main() {
    let events = support::events();
    let (mut twins, mut captures, mut pushes, mut syncs) = (vec![], vec![], vec![], vec![]);
    let (mut parts, mut bytes) = (Vec::new(), (0, 0));
    for _ in 0..support::rounds() {
        let place = Place::new();
        twins.push(support::fill(&place.database("plain.db", ""), events));
        let hub = Served::new(&place.path("hub.db"));
        let db = place.database("desk.db", "");
        hub.initialise(&place.path("desk.db"));
        captures.push(support::fill(&db, events));
        let part = push(&hub, &place);
        pushes.push(part.whole());
        parts.push(part);

        let place = Place::new();
        let hub = Served::new(&place.path("hub.db"));
        let db = place.database("desk.db", "");
        hub.initialise(&place.path("desk.db"));
        support::fill(&db, events);
        let start = Instant::now();
        let (replicator, summary) = hub.synced(&place.path("desk.db"));
        syncs.push(start.elapsed());
        bytes = (summary.bytes_up, summary.bytes_down);
        assert_eq!(replicator.status().pending, 0);
        let there = rusqlite::Connection::open(place.path("hub.db")).unwrap();
        assert_eq!(support::count(&there), events);
    }
    println!("{events} events, {} rounds", support::rounds());
    support::report("plain SQLite, transactions of 1,000", events, &twins, None);
    support::report("captured locally", events, &captures, Some(&twins));
    support::report("pushed, until acknowledged", events, &pushes, Some(&twins));
    support::report("start, push, pull the echoes, all settled", events, &syncs, Some(&twins));
    support::report_bytes("  the same", bytes.0, bytes.1);
    let share = |part: fn(&Parts) -> Duration| {
        support::median(parts.iter().map(|p| part(p).as_secs_f64() / p.whole().as_secs_f64()))
    };
    println!(
        "  of a push: {:.0} % reading the outbox, {:.0} % writing the statement, {:.0} % the request",
        100.0 * share(|p| p.read),
        100.0 * share(|p| p.write),
        100.0 * share(|p| p.remote)
    );
}
