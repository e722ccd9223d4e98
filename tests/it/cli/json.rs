//! `--json`: errors are JSON as well, and values are what a JavaScript program can read.

use serde_json::{Value, json};

use super::{Folder, Ran, hub_and_replica};

/// The one error that a failed command told, whose exit code it is.
#[track_caller]
fn error(ran: &Ran) -> Value {
    let lines: Vec<Value> = ran
        .err
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    let [line] = &lines[..] else { panic!("one line, and no other: {ran:?}") };
    let error = line.get("error").unwrap_or_else(|| panic!("it is an error: {line}"));
    assert_eq!(error["exit"], json!(ran.code), "{error}");
    assert!(ran.out.is_empty(), "{ran:?}");
    error.clone()
}

#[test]
fn f75_every_error_is_json() {
    let (folder, hub) = hub_and_replica();
    folder.sql("plain.db", "CREATE TABLE t (id INTEGER PRIMARY KEY)");
    std::fs::write(folder.path("noise.db"), "no database at all, only noise in a file").unwrap();
    let cases = [
        ("sync --json", "usage", 2),
        ("sync --db none.db --json", "usage", 2),
        ("sync --db plain.db --json", "usage", 2),
        ("status --db noise.db --json", "storage", 6),
        ("--json", "usage", 2),
        ("nonsense --json", "usage", 2),
        ("status --json --nonsense", "usage", 2),
        ("show --db a.db --json", "usage", 2),
        ("show --db a.db --json 01JD8ZK3V5QWERTY0123456789", "usage", 2),
        ("log --db a.db --json --since yesterdayish", "usage", 2),
        ("conflicts --db a.db --json restore nobody", "usage", 2),
        ("conflicts --db a.db --json dismiss nobody", "usage", 2),
        ("quarantine --db a.db --json dismiss 7", "usage", 2),
        ("init --db b.db --remote ftp://x --all-tables --json", "usage", 2),
        ("init --db b.db --remote http://127.0.0.1:1 --all-tables --json", "unavailable", 3),
        ("hub --json", "usage", 2),
    ];
    for (args, kind, code) in cases {
        let ran = folder.run(args);
        assert_eq!(ran.code, code, "{args}: {ran:?}");
        let error = error(&ran);
        assert_eq!(error["kind"], json!(kind), "{args}: {error}");
        let message = error["message"].as_str().unwrap();
        assert!(!message.is_empty() && !message.starts_with("error"), "{args}: {error}");
        assert!(error["hint"].is_string() || error["hint"].is_null(), "{args}: {error}");
    }
    drop(hub);
    let gone = folder.run("sync --db a.db --json");
    assert_eq!(error(&gone)["kind"], json!("unavailable"));
    let help = folder.run("--help --json");
    assert!(help.code == 0 && help.out.contains("Usage") && help.err.is_empty(), "{help:?}");
}

#[test]
fn f75_values_are_what_a_javascript_program_can_read() {
    let folder = Folder::new();
    let hub = folder.hub("");
    folder.sql("a.db", "CREATE TABLE v (id INTEGER PRIMARY KEY, x)");
    folder.run(&format!("init --db a.db --remote {} --tables v", hub.url())).fine();
    folder.sql(
        "a.db",
        "INSERT INTO v VALUES (1, 9007199254740991), (2, 9007199254740992),
             (3, -9223372036854775808), (4, 0.1), (5, 1.0), (6, 9e999), (7, -9e999),
             (8, x'00ff'), (9, 'a' || char(0) || 'b'), (10, CAST(x'ff' AS TEXT)), (11, NULL),
             (12, 'José'), (9007199254740993, 1e300)",
    );
    folder.run("sync --db a.db").fine();
    let events = folder.run("log --db a.db --json").json();
    let told: Vec<_> =
        events.iter().map(|event| (event["after"]["x"].clone(), &event["after_exact"])).collect();
    let wanted = [
        (json!(9_007_199_254_740_991_i64), Value::Null),
        (json!("9007199254740992"), json!({"x": {"i": "9007199254740992"}})),
        (json!("-9223372036854775808"), json!({"x": {"i": "-9223372036854775808"}})),
        (json!(0.1), json!({"x": {"r": "7205759403792794p-56"}})),
        (json!(1.0), json!({"x": {"r": "1.0"}})),
        (json!("Infinity"), json!({"x": {"r": "inf"}})),
        (json!("-Infinity"), json!({"x": {"r": "-inf"}})),
        (json!("00FF"), json!({"x": {"x": "00FF"}})),
        (json!("a\u{0}b"), json!({"x": {"t": "610062"}})),
        (json!("\u{fffd}"), json!({"x": {"t": "FF"}})),
        (Value::Null, Value::Null),
        (json!("José"), Value::Null),
    ];
    for ((told, exact), (readable, exactly)) in told.iter().zip(&wanted) {
        assert_eq!((told, *exact), (readable, exactly));
    }
    let last = events.last().unwrap();
    assert_eq!(last["key"], json!(["9007199254740993"]));
    assert_eq!(last["key_exact"], json!([{"i": "9007199254740993"}]));
    assert_eq!(last["after"]["x"], json!(1e300));
}
