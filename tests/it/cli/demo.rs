//! The demo, whole, in a pipe.

use super::{Folder, Running};

#[test]
fn the_demo_ends_with_equal_databases_that_can_be_looked_at() {
    let folder = Folder::new();
    let out = folder.run("demo --dir demo").fine();
    for line in [
        "laptop  is cut off from the network.",
        "7 of its events have waited.",
        "rejected: unique",
        "… and 3 more\n",
        "All 3 databases are equal",
    ] {
        assert!(out.contains(line), "{line} is missing in:\n{out}");
    }
    assert!(!out.contains('\u{1b}'));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |name: &str| folder.path(name).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (mode("demo"), mode("demo/hub.db"), mode("demo/desk.db")),
            (0o700, 0o600, 0o600)
        );
    }

    let conflicts = folder.run("conflicts --db demo/laptop.db --json").json();
    let kinds: Vec<&str> = conflicts.iter().map(|c| c["kind"].as_str().unwrap()).collect();
    assert!(kinds.len() >= 3 && kinds.contains(&"rejected") && kinds.contains(&"conflict"));
    let mine = folder.run("log --db demo/laptop.db --origin me --json").json();
    // What the hub's triggers do in consequence of its events is of its origin, too.
    let own = mine.iter().filter(|event| event["cause"].is_null());
    assert!(own.map(|event| &event["actor"]).all(|actor| actor == "laptop"));
    assert!(mine.len() > conflicts.len());

    // The commands that it names at its end work.
    let separator = std::path::MAIN_SEPARATOR_STR;
    let line = |text: &str| {
        let text = &text.replace('/', separator);
        let found = out.lines().map(str::trim).find(|line| line.contains(text));
        found.and_then(|line| line.split_once(' ')).unwrap_or_else(|| panic!("{text}: {out}")).1
    };
    let _hub = Running::start(&mut folder.command(line(" hub --db ")));
    let status = folder.run(&format!("{} --json", line("status --db demo/laptop.db --offline")));
    assert_eq!(status.json()[0]["pending"], 0);
    let status = folder.run("status --db demo/laptop.db --json").json().remove(0);
    assert_eq!((&status["remote"]["reachable"], &status["lag"]), (&true.into(), &0.into()));

    folder.run("demo --dir demo").failed(2, "demo is not empty");
}

#[test]
fn the_demo_goes_on_for_a_while_and_ends_with_equal_databases() {
    let folder = Folder::new();
    let outcome = folder.run("demo --dir demo --seconds 4 --json").json();
    assert_eq!(outcome.len(), 1);
    assert_eq!(outcome[0]["equal"], true, "{outcome:?}");
    let tables = outcome[0]["tables"].as_array().unwrap();
    assert_eq!(tables.len(), 7);
    assert!(tables.iter().all(|table| table["differing"].as_array().unwrap().is_empty()));
}

#[test]
fn a_row_that_differs_is_found_and_named() {
    let folder = Folder::new();
    let mut demo = Running::start(&mut folder.command("demo --dir demo --seconds 3"));
    demo.until("And so on");
    // Behind the replicator's back: capture is silent in this transaction.
    folder.sql(
        "demo/laptop.db",
        "BEGIN IMMEDIATE;
         UPDATE driftless_state SET replaying = 1;
         UPDATE equipment SET name = 'Nobody knows' WHERE id = (SELECT max(id) FROM equipment);
         UPDATE driftless_state SET replaying = 0;
         COMMIT;",
    );
    let ran = demo.end();
    assert_eq!(ran.code, 5, "{ran:?}");
    for line in ["DIFFERENT: 1", "laptop differs from the hub in equipment", "NOT equal"] {
        assert!(ran.out.contains(line), "{line} is missing in:\n{}", ran.out);
    }
}
