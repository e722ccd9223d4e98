//! A replica's file that somebody has changed: what is not as driftless wrote it is an error, or
//! does no harm, and nothing panics.

use driftless::store::{LogFilter, Store};
use driftless::sync::{Config, Effect, Input, Machine, Now, Ticket};

use super::answers::Scene;
use crate::support::inbox::Inbox as _;

/// What somebody does to our tables.
const CHANGES: [&str; 34] = [
    "UPDATE driftless_settings SET value = 'e' || char(0) WHERE name = 'epoch'",
    "UPDATE driftless_settings SET value = NULL WHERE name = 'epoch'",
    "UPDATE driftless_settings SET value = 'nobody' WHERE name = 'replica'",
    "UPDATE driftless_settings SET value = x'ff' WHERE name = 'replica'",
    "UPDATE driftless_settings SET value = '-1' WHERE name = 'version'",
    "UPDATE driftless_settings SET value = 'nonsense' WHERE name = 'confirmed'",
    "UPDATE driftless_settings SET value = '18446744073709551615.0' WHERE name = 'confirmed'",
    "INSERT OR REPLACE INTO driftless_settings VALUES ('marks', 'a b c')",
    "INSERT OR REPLACE INTO driftless_settings VALUES ('landmark', '9 é')",
    "INSERT OR REPLACE INTO driftless_settings VALUES ('contradiction', ' ')",
    "DELETE FROM driftless_settings",
    "DELETE FROM driftless_state",
    "UPDATE driftless_state SET cursor = -9223372036854775808",
    "UPDATE driftless_state SET cursor = 9223372036854775807",
    "UPDATE driftless_state SET sent = 9223372036854775807",
    "UPDATE driftless_state SET clock = 9223372036854775807",
    "UPDATE driftless_state SET clock = 'now', replaying = 1",
    "UPDATE driftless_state SET chain = x'00'",
    "UPDATE driftless_state SET actor = x'ff'",
    "UPDATE driftless_outbox SET ms = -9223372036854775808",
    "UPDATE driftless_outbox SET ms = NULL, tail = NULL",
    "UPDATE driftless_outbox SET n = 9223372036854775806 WHERE n = (SELECT max(n) FROM driftless_outbox)",
    "UPDATE driftless_outbox SET n = -5 WHERE n = (SELECT max(n) FROM driftless_outbox)",
    "UPDATE driftless_outbox SET op = 9",
    "UPDATE driftless_outbox SET layout = 7",
    "UPDATE driftless_outbox SET layout = NULL, tbl = 'members', pk = '[', after = '{'",
    "UPDATE driftless_outbox SET layout = NULL, tbl = 'no' || char(0), pk = '[1]', op = 0, after = '{}'",
    "UPDATE driftless_outbox SET base = 9223372036854775807, pair = 2, via = '[1'",
    "UPDATE driftless_layouts SET spec = '{\"columns\":[],\"key\":[]}'",
    "UPDATE driftless_log SET header = x'01ff', vals = x'00'",
    "UPDATE driftless_log SET id = x'00'",
    "UPDATE driftless_tables SET name = 'nobody', columns = '{}'",
    "UPDATE driftless_tables SET conflict = 'perhaps'",
    "INSERT INTO driftless_quarantine (seq, tbl, pk, reason) VALUES (-1, 'members', '[', 'why')",
];

/// A program begins, synchronises for a while, and looks at everything.
fn work(scene: &mut Scene) -> driftless::Result<()> {
    let config = Config {
        poll_ms: 5_000,
        health_bound_ms: 60_000,
        seed: 1,
        identity_seed: 2,
        push: driftless::sync::PushSize::default(),
        pull: driftless::sync::PullSize::default(),
    };
    let mut machine = Machine::new(Store::open(scene.desk.path())?, None, config)?;
    let mut now = Now { steady_ms: 1, wall_ms: 1_700_000_000_000 };
    let mut effects = machine.handle(now, Input::SyncNow(Ticket(1)));
    for _ in 0..40 {
        now.steady_ms += 1_000;
        now.wall_ms += 1_000;
        let mut next = vec![];
        for effect in effects {
            match effect {
                Effect::Send(id, batch) => {
                    let outcome = scene.remote.run_now(batch);
                    next.extend(machine.handle(now, Input::Answer(id, outcome)));
                }
                Effect::Continue => next.extend(machine.handle(now, Input::Continue { events: 9 })),
                _ => {}
            }
        }
        next.extend(machine.handle(now, Input::Timer));
        effects = next;
    }
    let _ = machine.status(now);
    let store = machine.store();
    let _ = store.retry_quarantine(0);
    let _ = store.conflicts(true);
    let _ = store.quarantine();
    store.log(&LogFilter::default(), &mut |_| Ok(()))
}

#[test]
fn a_file_that_somebody_has_changed_is_no_reason_to_panic() {
    let mut errors = 0;
    for change in CHANGES {
        let mut scene = Scene::new();
        scene.remote.web("UPDATE members SET name = 'Eva' WHERE id = 'm2'");
        scene.desk.db.execute_batch("UPDATE members SET name = 'Anna' WHERE id = 'm1'").unwrap();
        // What SQLite itself refuses is not changed.
        let _ = scene.desk.db.execute_batch(change);
        if let Err(error) = work(&mut scene) {
            errors += 1;
            assert!(error.message().len() < 1_000, "{change}: {error}");
        }
        scene.desk.db.execute_batch("SELECT * FROM members").unwrap();
    }
    assert!(errors > 5, "{errors} errors");
}
