//! Runs the golden scripts of synchronising: `fixtures/scripts/sync/*`.
//!
//! | command | does |
//! | --- | --- |
//! | `> SQL` before `desks` | tables, on both sides; `members` and `payments` unless said |
//! | `NAME:> SQL` | a transaction of a desk or of `web`; before it has joined, done first of all |
//! | `desks NAME… [TABLE=columns]` | makes the remote and desks; the conflict rule of tables |
//! | `join NAME…` | more desks, later |
//! | `put WHO TABLE/ID COLUMN=VALUE…` | inserts a row or changes columns of it |
//! | `delete WHO TABLE/ID` | |
//! | `partition NAME…`, `heal [NAME…]` | cuts desks off, and no more |
//! | `lose request`, `lose answer` | what happens to the next request |
//! | `push NAME` | one request with what is in the outbox; the page that the answer brings waits |
//! | `fetch NAME` | one request because the network is back; the page waits |
//! | `integrate NAME` | integrates the page that waits |
//! | `sync [NAME…]` | everything, until nothing is left |
//! | `restart NAME`, `initialise NAME` | another process; `driftless init` once more |
//! | `copy NAME COPY` | a desk that goes on with a copy of a desk's file |
//! | `backup NAME`, `restored NAME` | keeps a desk's file, and puts it back; so with `remote` |
//! | `wipe remote` | the remote has the web application's tables alone, and they are empty |
//! | `accept NAME` | goes on with the remote that is there, though it is another one |
//! | `former NAME N` | the log of a former remote |
//! | `identity NAME` | who a desk was, and why it is somebody else: its second id is `NAME'` |
//! | `status`, `pending NAME`, `conflicts NAME [all]`, `quarantine NAME`, `log`, `rows TABLE` | |
//! | `restore NAME #SEQ [new-key=KEY]`, `dismiss NAME #SEQ`, `retry NAME` | |
//! | `equal` | fails unless all have the remote's rows; a script ends with it |
//!
//! Whatever reaches the remote is answered with the new events of its log, one a line: place,
//! writer, row, what was done, verdict. `UPDATE_GOLDENFILES=1 cargo test sync::scripts` writes the
//! output anew; read the difference. `DRIFTLESS_TEST_SCRIPT=via` runs those with `via` in the name.

use std::error::Error;

use driftless::sync::Input;

use super::world::World;
use crate::support::engine::Engine;
use crate::support::golden::every_golden_script;

struct Script(World);

impl goldenscript::Runner for Script {
    type Command = goldenscript::Command;

    fn run(
        &mut self,
        command: &Self::Command,
        context: &goldenscript::Context,
    ) -> Result<String, Box<dyn Error>> {
        let world = &mut self.0;
        let mut args = command.consume_args();
        let mut columns = Vec::new();
        while let Some(pair) = args.next_key() {
            columns.push(pair);
        }
        let names: Vec<&str> = std::iter::from_fn(|| args.next_pos()).collect();
        let output = match (command.name.as_str(), names.as_slice()) {
            ("desks", names) => world.begin(names, &columns),
            ("join", names) => world.join(names),
            ("put", [who, row]) => world.put(who, row, &columns),
            ("delete", [who, row]) => world.delete(who, row),
            ("partition", names) => world.partition(names, true),
            ("heal", names) => world.partition(names, false),
            ("lose", [what]) => world.lose(what),
            ("push", [name]) => world.request(name, Input::LocalCommit),
            ("fetch", [name]) => world.request(name, Input::Wake),
            ("integrate", [name]) => world.integrate(name),
            ("sync", names) => world.sync(names),
            ("copy", [name, copy]) => world.copy(name, copy),
            ("backup", [name]) => world.backup(name),
            ("restored", [name]) => world.restored(name),
            ("wipe", ["remote"]) => world.wipe(),
            ("accept", [name]) => world.accept(name),
            ("former", [name, n]) => world.former(name, n),
            ("identity", [name]) => world.identity(name),
            ("restart", [name]) => world.restart(name),
            ("initialise", [name]) => world.initialise(name),
            ("status", names) => world.status(names),
            ("pending", [name]) => world.pending(name),
            ("conflicts", [name]) => world.conflicts(name, false),
            ("conflicts", [name, "all"]) => world.conflicts(name, true),
            ("quarantine", [name]) => world.quarantine(name),
            ("log", []) => world.log(),
            ("rows", [table]) => world.rows(table),
            ("restore", [name, place]) => {
                let key = columns.iter().find(|(name, _)| *name == "new-key");
                world.restore(name, place, key.map(|(_, key)| *key))
            }
            ("dismiss", [name, place]) => world.dismiss(name, place),
            ("retry", [name]) => world.retry(name),
            ("equal", []) => world.equal(),
            (sql, []) if sql.contains(' ') => world.sql(context.prefix.as_deref(), sql),
            (name, _) => Err(format!("there is no command `{name}` with these arguments").into()),
        };
        let lines: Vec<_> =
            output?.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        Ok(lines.join("\n"))
    }

    fn end_script(&mut self) -> Result<(), Box<dyn Error>> {
        if self.0.equal { Ok(()) } else { Err("a script ends with `equal`".into()) }
    }
}

#[test]
fn every_script() {
    every_golden_script("fixtures/scripts/sync", || Script(World::default()));
}

/// libSQL's engine, which Turso runs, does the same, word for word.
#[test]
fn every_script_over_libsqls_engine() {
    if Engine::libsql().is_some() {
        let world = || World::over(Engine::libsql().expect("it was there before"));
        every_golden_script("fixtures/scripts/sync", || Script(world()));
    }
}
