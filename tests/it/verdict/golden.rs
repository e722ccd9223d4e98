//! Golden scripts over a remote in memory: `fixtures/scripts/verdict/*`. Set `UPDATE_GOLDENFILES=1`
//! to write what comes out into them, and read the difference.
//!
//! * `schema:> SQL` is what the web application has before driftless comes: tables and triggers;
//! * `install [TABLE=columns …]` makes the remote's triggers;
//! * `web:> SQL` is one transaction of the web application;
//! * `note:> EVENT` queues an event and `push ORIGIN [base=SEQ]` pushes the queue in one request.
//!   An event is `ID insert|update|delete TABLE [KEY] {AFTER}` or
//!   `ID ID move TABLE [OLD KEY] [NEW KEY] {AFTER}`, then any of `base=SEQ`, `via=ID`, `defer_fk`,
//!   `refuse=WORD`, and `before={…}`;
//! * `rows:> SELECT` shows what a SELECT gives, in SQL's own spelling.
//!
//! Each command shows what it added to the log. After each one the log must fold to the tables,
//! the inbox must be empty, and the rest of `Remote::check` hold.

use std::error::Error;
use std::fmt::Write as _;

use driftless::event::conflict::ConflictRule;
use goldenscript::{Command, Context, Runner};
use serde::de::IgnoredAny;

use super::remote::{Logged, Pushed, Remote};
use crate::support::engine::Engine;
use crate::support::golden::every_golden_script;

#[derive(Default)]
struct Scripted {
    schema: String,
    /// What the remote is to run on, if not on the SQLite that is bundled.
    engine: Option<Engine>,
    remote: Option<Remote>,
    queue: Vec<Pushed>,
    shown: i64,
}

const SCRIPTS: &str = "fixtures/scripts/verdict";

#[test]
fn scripts() {
    every_golden_script(SCRIPTS, Scripted::default);
}

/// libSQL's engine, which Turso runs, does the same, word for word.
#[test]
fn scripts_over_libsqls_engine() {
    if Engine::libsql().is_some() {
        let engine = || Engine::libsql();
        every_golden_script(SCRIPTS, || Scripted { engine: engine(), ..Scripted::default() });
    }
}

impl Runner for Scripted {
    type Command = Command;

    fn run(&mut self, command: &Command, context: &Context) -> Result<String, Box<dyn Error>> {
        match context.prefix.as_deref() {
            Some("schema") => {
                self.schema.push_str(&command.name);
                self.schema.push('\n');
                return Ok(String::new());
            }
            Some("note") => {
                self.queue.extend(read_event(&command.name)?);
                return Ok(String::new());
            }
            Some("web") => {
                let late = command.name.starts_with("CREATE TRIGGER");
                self.remote.as_mut().ok_or("install first")?.late |= late;
                let done = self.remote()?.transaction(&command.name);
                return self.shown(done);
            }
            Some("rows") => return show_rows(self.remote()?, &command.name),
            Some(other) => return Err(format!("no such prefix: {other}").into()),
            None => {}
        }
        let mut args = command.consume_args();
        match command.name.as_str() {
            "install" => {
                let mut columns = Vec::new();
                while let Some((table, rule)) = args.next_key() {
                    columns.push((table.to_owned(), rule.parse::<ConflictRule>()?));
                }
                let rule = |name: &str| {
                    columns
                        .iter()
                        .find(|(table, _)| table == name)
                        .map_or_else(ConflictRule::default, |(_, rule)| *rule)
                };
                let engine = self.engine.take().unwrap_or_else(Engine::bundled);
                self.remote = Some(Remote::over(engine, &self.schema, rule));
                self.remote()?.check();
                Ok(String::new())
            }
            "push" => {
                let origin = args.next_pos().ok_or("whose push?")?;
                let base = args.take_key("base").map_or(Ok(0), str::parse)?;
                let mut events = std::mem::take(&mut self.queue);
                for event in events.iter_mut().filter(|event| event.base < 0) {
                    event.base = base;
                }
                let done = self.remote()?.push(origin, &events);
                self.shown(done)
            }
            other => Err(format!("no such command: {other}").into()),
        }
    }
}

impl Scripted {
    fn remote(&self) -> Result<&Remote, Box<dyn Error>> {
        self.remote.as_ref().ok_or_else(|| "install first".into())
    }

    /// What was added to the log, and how it went wrong if it did.
    fn shown(&mut self, done: Result<(), String>) -> Result<String, Box<dyn Error>> {
        let remote = self.remote()?;
        remote.check();
        let mut out = String::new();
        let mut last = self.shown;
        for event in remote.log(self.shown) {
            last = event.seq;
            writeln!(out, "{}", line(&event))?;
        }
        if let Err(message) = done {
            writeln!(out, "failed as a whole: {message}")?;
        }
        self.shown = last;
        Ok(out)
    }
}

/// An id of ours, or of the script.
fn short(id: &str) -> &str {
    if id.len() == 26 { "-" } else { id }
}

fn line(event: &Logged) -> String {
    let mut line = format!(
        "{} {} {} {}{} {}",
        event.seq,
        short(&event.id),
        event.origin,
        event.table,
        event.key,
        event.op
    );
    for part in [&event.after, &Some(event.verdict.clone())].into_iter().flatten() {
        let _ = write!(line, " {part}");
    }
    if let Some(reason) = &event.reason {
        let _ = write!(line, " ({reason})");
    }
    if let Some(cause) = &event.cause {
        let _ = write!(line, " because of {}", short(cause));
    }
    line
}

/// Splits an event's line at spaces that are outside of JSON.
fn words(line: &str) -> Result<Vec<&str>, Box<dyn Error>> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let json = rest.strip_prefix("before=").unwrap_or(rest);
        let length = if json.starts_with(['[', '{']) {
            let mut values = serde_json::Deserializer::from_str(json).into_iter::<IgnoredAny>();
            values.next().ok_or("no JSON")??;
            rest.len() - json.len() + values.byte_offset()
        } else {
            rest.find(' ').unwrap_or(rest.len())
        };
        words.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    Ok(words)
}

/// Reads an event's line; a key change gives two events.
fn read_event(line: &str) -> Result<Vec<Pushed>, Box<dyn Error>> {
    let words = words(line)?;
    let mut words = words.into_iter().peekable();
    let mut next = || words.next().map(str::to_owned).ok_or("the event ends early");
    let mut event = Pushed { id: next()?, op: next()?, base: -1, ..Pushed::default() };
    let mut second = None;
    if !["insert", "update", "delete"].contains(&event.op.as_str()) {
        second = Some(std::mem::replace(&mut event.op, next()?));
    }
    event.table = next()?;
    event.key = next()?;
    if second.is_some() {
        event.other = Some(next()?);
    }
    for word in words {
        match word.split_once('=') {
            _ if word.starts_with('{') => event.after = Some(word.to_owned()),
            Some(("base", base)) => event.base = base.parse()?,
            Some(("via", via)) => event.via = Some(via.to_owned()),
            Some(("refuse", reason)) => event.refuse = Some(reason.replace('_', " ")),
            Some(("before", before)) => event.before = Some(before.to_owned()),
            None if word == "defer_fk" => event.defer_fk = true,
            _ => return Err(format!("no such word in an event: {word}").into()),
        }
    }
    let Some(second) = second else { return Ok(vec![event]) };
    assert_eq!(event.op, "move");
    event.op = "delete".to_owned();
    event.image = event.after.take();
    event.pair = Some(second);
    let insert = event.second_half();
    Ok(vec![event, insert])
}

fn show_rows(remote: &Remote, sql: &str) -> Result<String, Box<dyn Error>> {
    let mut out = String::new();
    for row in remote.db.look(sql) {
        let mut cells = Vec::new();
        for value in row {
            let mut json = Vec::new();
            value.write_json(&mut json);
            cells.push(String::from_utf8(json)?);
        }
        writeln!(out, "{}", cells.join(" | "))?;
    }
    Ok(out)
}
