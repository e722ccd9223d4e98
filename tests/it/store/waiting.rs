//! Rows that wait as a whole together with lines that this version of the program cannot read: in
//! every order in which one of them may be solved before the other.
//!
//! Row `a` hides from a UNIQUE index that only the desk has, by a pending event, until that is lost
//! ([`hidden`]); and of its lines some cannot be read. Then the index goes, a newer program reads
//! the lines, and the row is touched once more, in each order. In between the row is as it once was
//! on the remote, or not here at all. At the end it is the remote's, and nothing waits.

use driftless::event::Seq;
use driftless::event::page::Page;
use driftless::store::{Outcome, Retried};

use super::integrate::hidden;
use super::world::{ALL, Desk, NOW, Remote, actual};

/// Why a line cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoilt {
    /// It is no line of this version's at all: not even its row is known.
    Op,
    /// Its row is known, and a value has a form of the future.
    Value,
}

/// What comes, in the order of the log.
#[derive(Clone, Copy, Debug)]
enum Comes {
    /// The web writes.
    Web(&'static str),
    /// The web changes `a`, and the line cannot be read.
    Spoilt,
    /// The desk pushes its pending event of `a`, which loses.
    Push,
}

/// What happens then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// The index goes, and what waits is tried again.
    Free,
    /// A newer program reads the lines.
    Read,
    /// What waits is tried again, to no avail, perhaps.
    Retry,
    /// The application writes.
    App(&'static str),
    /// The web writes, and the desk synchronises.
    Web(&'static str),
}

use Comes::{Push, Spoilt as Unreadable};

/// Takes the value that lost its hiding place: `a` loses its event.
const TAKEN: Comes = Comes::Web("INSERT INTO m VALUES ('c', 'Cem', 'x', 3)");
const OTHER: Comes = Comes::Web("UPDATE m SET email = 'other' WHERE id = 'a'");
const LATER: Comes = Comes::Web("UPDATE m SET email = 'later' WHERE id = 'a'");

/// Where the unreadable lines are.
const HISTORIES: [&[Comes]; 7] = [
    &[Unreadable, TAKEN, Push],
    &[Unreadable, TAKEN, Push, LATER],
    &[TAKEN, Unreadable, Push, LATER],
    &[TAKEN, Push, Unreadable],
    &[TAKEN, Push, Unreadable, LATER],
    &[TAKEN, OTHER, Push, Unreadable, LATER],
    &[Unreadable, OTHER, TAKEN, Push, Unreadable, LATER],
];

/// How the row is touched.
const TOUCHES: [Then; 6] = [
    Then::Retry,
    Then::Web("UPDATE m SET n = 9 WHERE id = 'a'"),
    Then::Web("DELETE FROM m WHERE id = 'a'"),
    Then::Web("DELETE FROM m WHERE id = 'a'; INSERT INTO m VALUES ('a', 'Abe', NULL, 1)"),
    Then::App("INSERT INTO m VALUES ('a', 'Ann', NULL, 8)"),
    Then::App("UPDATE m SET email = 'mine' WHERE id IN ('a', 'b')"),
];

/// What the web makes of a row where it is not to be read, and what is put in its place.
const WRITTEN: &str = r#"},{"name":"unreadable"#;
const SPOILT: &str = r#"},{"name":{"z":1},"was":"unreadable"#;

/// The page, with unreadable lines where the web wrote what is to be so.
fn spoil(page: &mut Page, spoilt: Spoilt) {
    let text = String::from_utf8(std::mem::take(&mut page.bytes)).unwrap();
    let lines = text.split('\n').map(|line| match spoilt {
        _ if !line.contains(WRITTEN) => line.to_owned(),
        Spoilt::Op => line.replace(r#""update""#, r#""merge""#),
        Spoilt::Value => line.replace(WRITTEN, SPOILT),
    });
    page.bytes = lines.collect::<Vec<_>>().join("\n").into_bytes();
}

struct Scene {
    remote: Remote,
    desk: Desk,
    spoilt: Spoilt,
    restarts: bool,
    /// The newer program is here.
    newer: bool,
    why: String,
}

impl Scene {
    fn pull(&mut self) {
        let mut page = self.remote.page(self.desk.store.state().unwrap().cursor(), 1_000);
        if !self.newer {
            spoil(&mut page, self.spoilt);
        }
        let done = self.desk.store.integrate(&page, None, NOW).unwrap();
        assert!(matches!(done, Outcome::Done(_)), "{}", self.why);
    }

    fn comes(&mut self, comes: Comes) {
        match comes {
            Comes::Web(sql) => self.remote.web(sql),
            // Another value each time, so that it is an event.
            Comes::Spoilt => self.remote.web(
                "UPDATE m SET name = 'unreadable ' || (SELECT max(seq) FROM driftless_events)
                 WHERE id = 'a'",
            ),
            Comes::Push => {
                self.desk.push(&mut self.remote, ALL);
            }
        }
    }

    fn then(&mut self, then: Then) {
        match then {
            Then::Free => self.desk.write("DROP INDEX IF EXISTS own"),
            Then::Read => {
                self.newer = true;
                self.desk.write(&format!(
                    r#"UPDATE driftless_quarantine SET line = CAST(replace(replace(
                       CAST(line AS TEXT), '"merge"', '"update"'), '{SPOILT}', '{WRITTEN}')
                       AS BLOB) WHERE line IS NOT NULL;
                       DELETE FROM driftless_settings WHERE name = 'retried'"#
                ));
            }
            Then::Retry => {}
            Then::App(sql) => self.desk.write(sql),
            Then::Web(sql) => self.remote.web(sql),
        }
        if self.restarts {
            self.desk.reopen();
        }
        if let Then::App(_) | Then::Web(_) = then {
            while self.desk.push(&mut self.remote, ALL) > 0 {}
            self.pull();
        } else {
            self.retry();
        }
        self.check();
    }

    fn retry(&mut self) -> Retried {
        self.desk.store.check_triggers().unwrap();
        if let Some(retried) = self.desk.store.retry_after_migration(NOW).unwrap() {
            return retried;
        }
        self.desk.store.retry_quarantine(NOW).unwrap()
    }

    /// Takes the unreadable lines off the list. Gives how many cannot be taken off yet.
    fn dismiss(&mut self) -> usize {
        let waiting = self.desk.store.quarantine().unwrap();
        let malformed = waiting.into_iter().filter(|event| event.is_malformed());
        malformed.filter(|event| self.desk.store.dismiss_quarantined(event.seq).is_err()).count()
    }

    /// The row is none, or what it was on the remote once; and the other rows are the remote's.
    fn check(&mut self) {
        let why = &self.why;
        let place = ("m".to_owned(), r#"["a"]"#.to_owned());
        let mut expected = self.desk.expected(&self.remote);
        let mut found = self.desk.actual();
        expected.remove(&place);
        if let Some(row) = found.remove(&place)
            && self.spoilt == Spoilt::Value
        {
            let cursor = self.desk.store.state().unwrap().cursor();
            let mut states =
                (1..=cursor.0).filter_map(|seq| self.remote.fold(Seq(seq)).remove(&place));
            assert!(states.any(|state| state == row), "{why}: the row is {row:?}");
        }
        // What has waited for the value that `a` held is tried with the rest.
        for waiting in self.desk.store.quarantine().unwrap() {
            let place = (waiting.table, waiting.key.0);
            found.remove(&place);
            expected.remove(&place);
        }
        assert_eq!(found, expected, "{why}: other rows");
        assert_eq!(self.desk.store.state().unwrap().pending, 0, "{why}");
    }

    fn end(&mut self) {
        self.then(Then::Free);
        self.then(Then::Read);
        let why = &self.why;
        assert_eq!(self.desk.store.quarantine().unwrap(), [], "{why}");
        assert_eq!(actual(&self.desk.app), actual(&self.remote.db), "{why}");
    }
}

fn scene(history: &[Comes], spoilt: Spoilt, apart: bool, restarts: bool, why: String) -> Scene {
    let (remote, desk) = hidden();
    let mut scene = Scene { remote, desk, spoilt, restarts, newer: false, why };
    for &comes in history {
        scene.comes(comes);
        if apart {
            scene.pull();
        }
    }
    scene.pull();
    scene.check();
    scene
}

#[test]
fn a_row_that_waits_and_its_lines_that_cannot_be_read_end_as_the_remotes() {
    let (free, read) = (Then::Free, Then::Read);
    let mut random = fastrand::Rng::with_seed(1);
    for (at, history) in HISTORIES.into_iter().enumerate() {
        for spoilt in [Spoilt::Op, Spoilt::Value] {
            for (other, touch) in TOUCHES.into_iter().enumerate() {
                let orders = [
                    [free, read, touch],
                    [free, touch, read],
                    [read, free, touch],
                    [read, touch, free],
                    [touch, free, read],
                    [touch, read, free],
                ];
                // In turn: each order meets each history, and each touch.
                let order = orders[(at + other) % orders.len()];
                let (apart, restarts) = (random.bool(), random.bool());
                let why =
                    format!("{history:?} {spoilt:?} apart {apart} restarts {restarts}; {order:?}");
                let mut scene = scene(history, spoilt, apart, restarts, why);
                let there = scene.desk.rows("SELECT count(*) FROM m WHERE id = 'a'");
                assert_eq!(there, ["0"], "{}: it waits as a whole", scene.why);
                for then in order {
                    scene.then(then);
                }
                scene.end();
            }
        }
    }
}

/// A line that is taken off the list does not take the row with it that waited in front of it.
#[test]
fn a_line_that_is_dismissed_takes_no_row_with_it() {
    for (number, history) in HISTORIES.into_iter().enumerate() {
        for spoilt in [Spoilt::Op, Spoilt::Value] {
            for first in [false, true] {
                let why = format!("{history:?} {spoilt:?} dismissed first: {first}");
                let (apart, restarts) = (number % 2 == 0, first);
                let mut scene = scene(history, spoilt, apart, restarts, why);
                // The row is mended on the remote.
                scene.then(Then::Web("UPDATE m SET name = 'mended' WHERE id = 'a'"));
                if first {
                    scene.dismiss();
                    scene.then(Then::Retry);
                }
                scene.then(Then::Free);
                let there = scene.desk.rows("SELECT count(*) FROM m WHERE id = 'a'");
                assert_eq!(there, ["1"], "{}: nothing keeps the row out", scene.why);
                assert_eq!(scene.dismiss(), 0, "{}", scene.why);
                scene.then(Then::Retry);
                assert_eq!(scene.desk.store.quarantine().unwrap(), [], "{}", scene.why);
                let (here, remote) = (actual(&scene.desk.app), actual(&scene.remote.db));
                assert_eq!(here, remote, "{}", scene.why);
            }
        }
    }
}

/// While a table is gone, as in the middle of a migration, what waited of its rows goes on waiting.
#[test]
fn a_row_that_waits_as_a_whole_outlives_a_table_that_is_gone_for_a_while() {
    let readable: &[Comes] = &[TAKEN, Push];
    for history in HISTORIES.into_iter().chain([readable]) {
        let mut scene = scene(history, Spoilt::Value, false, true, format!("{history:?}"));
        scene.desk.write("ALTER TABLE m RENAME TO away");
        scene.retry();
        scene.desk.write("ALTER TABLE away RENAME TO m");
        scene.retry();
        scene.check();
        scene.end();
    }
}

/// What could not be read before the first sync ended has no line here, and is not tried again. The
/// row waits in front of what is.
#[test]
fn a_row_does_not_wait_for_a_line_that_nobody_kept() {
    let (remote, desk) = hidden();
    let why = "no line".to_owned();
    let (spoilt, restarts, newer) = (Spoilt::Value, false, true);
    let mut scene = Scene { remote, desk, spoilt, restarts, newer, why };
    scene.desk.write(
        "INSERT INTO driftless_quarantine (seq, tbl, pk, reason)
         VALUES (0, 'm', '[\"a\"]', 'malformed: it was none')",
    );
    for comes in [TAKEN, Push, LATER] {
        scene.comes(comes);
    }
    scene.pull();
    let there = "SELECT email, n FROM m WHERE id = 'a'";
    assert_eq!(scene.desk.rows(there), Vec::<String>::new());
    scene.then(Then::Free);
    assert_eq!(scene.desk.rows(there), ["-|1"], "what is later waits on");
    assert_eq!(scene.dismiss(), 0);
    scene.end();
}
