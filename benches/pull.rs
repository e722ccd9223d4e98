//! Pull: remote events from a hub on loopback into tables with two indexes.
//!
//! ```text
//! cargo bench --bench pull
//! ```
//!
//! Prints the events a second, and the time as a multiple of that in which plain SQLite inserts the
//! same rows into the same indexed tables in the same round.

#![allow(clippy::disallowed_methods, clippy::print_stdout, missing_docs)]

mod support;

use std::time::{Duration, Instant};

use driftless::event::Seq;
use driftless::event::page::Page;
use driftless::protocol::Lean;
use driftless::protocol::statements::{Exchange, LogRange, MAX_EVENTS};
use driftless::remote::Remote as _;
use driftless::store::{Outcome, Store};
use support::{Place, Served};

/// Reads the whole log, and counts its bytes on the wire.
fn download(hub: &Served, lean: Option<&Lean>) -> (Vec<Page>, Duration, u64) {
    let client = hub.client();
    let (mut pages, mut after, mut bytes) = (Vec::new(), Seq(0), 0);
    let start = Instant::now();
    loop {
        let range = LogRange { after, events: MAX_EVENTS, whole_units: true, chunk: None };
        let exchange = Exchange { pull: Some(range), lean, ..Exchange::default() };
        let answer = hub.block_on(client.run(exchange.batch())).unwrap();
        bytes += answer.bytes_down;
        let page = exchange.read(answer).unwrap().page;
        let more = page.more;
        after = page.last;
        pages.push(page);
        if !more {
            return (pages, start.elapsed(), bytes);
        }
    }
}

/// Integrates pages that are there already.
fn integrate(place: &Place, pages: &[Page]) -> Duration {
    let mut store = Store::open(&place.path("pages.db")).unwrap();
    let start = Instant::now();
    for page in pages {
        let outcome = store.integrate(page, None, 1_700_000_000_000).unwrap();
        assert!(matches!(outcome, Outcome::Done(done) if done.pulled == page.count));
    }
    start.elapsed()
}

fn main() {
    let events = support::events();
    let (mut twins, mut downloads, mut applied, mut pulls) = (vec![], vec![], vec![], vec![]);
    let (mut wholes, mut whole_bytes, mut lean_bytes) = (vec![], 0, 0);
    for _ in 0..support::rounds() {
        let place = Place::new();
        twins.push(support::fill(&place.database("plain.db", support::INDEXES), events));
        let hub = Served::new(&place.path("hub.db"));
        for name in ["desk.db", "pages.db", "writer.db"] {
            drop(place.database(name, if name == "writer.db" { "" } else { support::INDEXES }));
            hub.initialise(&place.path(name));
        }
        let writer = hub.replicator(&place.path("writer.db"));
        support::fill(&writer.connection().unwrap(), events);
        writer.sync_now_blocking().unwrap();
        drop(writer);

        let (whole, time, bytes) = download(&hub, None);
        wholes.push(time);
        whole_bytes = bytes;
        let layouts = Store::open(&place.path("pages.db")).unwrap().event_layouts();
        let lean = Lean { held: None, layouts };
        let (pages, time, bytes) = download(&hub, Some(&lean));
        assert_eq!(pages.iter().map(|page| page.count).sum::<usize>(), events);
        assert!(pages == whole, "the lines are the same");
        downloads.push(time);
        lean_bytes = bytes;
        applied.push(integrate(&place, &pages));
        let start = Instant::now();
        let replicator = hub.replicator(&place.path("desk.db"));
        pulls.push(start.elapsed());
        for (name, replica) in [("desk.db", true), ("pages.db", false)] {
            let db = rusqlite::Connection::open(place.path(name)).unwrap();
            assert_eq!(support::count(&db), events, "{name}, {replica}");
        }
        drop(replicator);
    }
    println!("{events} events, {} rounds", support::rounds());
    support::report("plain SQLite, transactions of 1,000", events, &twins, None);
    support::report("downloaded, whole lines", events, &wholes, Some(&twins));
    support::report_bytes("  the same", 0, whole_bytes);
    support::report("downloaded", events, &downloads, Some(&twins));
    support::report_bytes("  the same", 0, lean_bytes);
    support::report("integrated, from pages in memory", events, &applied, Some(&twins));
    support::report("pulled: start, download and integrate", events, &pulls, Some(&twins));
}
