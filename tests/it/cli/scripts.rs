//! Golden scripts of the command: `fixtures/scripts/cli/`.
//!
//! | command | what it does |
//! | --- | --- |
//! | `hub` | starts a hub over `hub.db`; `$hub` and `$address` stand for where it is |
//! | `unplug` | ends it |
//! | `plug` | starts it again, at the same address |
//! | `sql FILE "…"` | runs SQL on a file, as an application does |
//! | `older FILE DUMP` | makes the database of another driftless, of a dump in `fixtures/replica/` |
//! | `write FILE "…"` | writes a file |
//! | `folder NAME` | makes a folder |
//! | `copy FILE TO` | copies a database, whole, over what is there; of `hub.db` while it is unplugged |
//! | `driftless "…"` | runs the command; stderr is behind `!`, a failure's exit code at the end |
//!
//! What is another in each run is replaced: a ULID, or its last eight characters, by a number in
//! angle brackets, which may be used in the arguments that follow; times; and what a sync cost.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use goldenscript::Context;

use super::{Folder, Running};
use crate::support::golden::every_golden_script;

/// Characters by which an id is abbreviated.
const TAIL: usize = 8;
/// Characters of a ULID.
const ULID: usize = 26;

#[derive(goldenscript::Command)]
enum Step {
    Hub,
    Unplug,
    Plug,
    Sql(String, String),
    Older(String, String),
    Write(String, String),
    Folder(String),
    Copy(String, String),
    Driftless(String),
}

struct Runner {
    folder: Folder,
    hub: Option<Running>,
    url: String,
    tails: Vec<String>,
}

impl goldenscript::Runner for Runner {
    type Command = Step;

    fn run(&mut self, step: &Step, _: &Context) -> Result<String, Box<dyn Error>> {
        match step {
            Step::Hub => {
                self.hub = Some(self.folder.hub(""));
                self.url = self.hub.as_ref().unwrap().url();
            }
            Step::Unplug => self.hub = None,
            Step::Plug => {
                let address = self.url.strip_prefix("http://").unwrap();
                let args = format!("hub --db hub.db --listen {address}");
                self.hub = Some(Running::start(&mut self.folder.command(&args)));
            }
            Step::Sql(file, sql) => self.folder.sql(file, sql),
            Step::Older(file, dump) => {
                let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/replica");
                self.folder.sql(file, &std::fs::read_to_string(folder.join(dump))?);
                self.folder.sql(file, include_str!("../../../schema/pow2.sql"));
            }
            Step::Write(file, text) => std::fs::write(self.folder.path(file), text)?,
            Step::Folder(name) => std::fs::create_dir(self.folder.path(name))?,
            Step::Copy(from, to) => self.folder.copy(from, to),
            Step::Driftless(args) => return Ok(self.driftless(args)),
        }
        Ok(String::new())
    }
}

impl Runner {
    fn driftless(&mut self, args: &str) -> String {
        let address = self.url.strip_prefix("http://").unwrap_or_default();
        let mut args = args.replace("$hub", &self.url).replace("$address", address);
        for (index, tail) in self.tails.iter().enumerate() {
            args = args.replace(&format!("<{}>", index + 1), tail);
        }
        let file = args.split_once("init --db ").and_then(|(_, rest)| rest.split(' ').next());
        let before = file.map(|file| std::fs::read(self.folder.path(file)).ok());
        let ran = self.folder.run(&args);
        if ran.code != 0 {
            let after = file.map(|file| std::fs::read(self.folder.path(file)).ok());
            assert!(before == after, "{args} failed, and has changed the file");
        }
        let mut text = String::new();
        for line in ran.out.lines() {
            writeln!(text, "{}", self.settle(line)).unwrap();
        }
        for line in ran.err.lines() {
            writeln!(text, "! {}", self.settle(line)).unwrap();
        }
        if ran.code != 0 {
            writeln!(text, "exit {}", ran.code).unwrap();
        }
        text
    }

    /// A line without what is another in each run.
    fn settle(&mut self, line: &str) -> String {
        let mut line = line.to_owned();
        if !self.url.is_empty() {
            line = line.replace(&self.url, "$hub");
            // As it is called on Windows.
            line = line.replace("Usage: driftless.exe ", "Usage: driftless ");
            line = line.replace(self.url.strip_prefix("http://").unwrap(), "$address");
        }
        if let Some(cost) = line.find("; ").filter(|_| line.contains(" down in ")) {
            line.truncate(cost);
        }
        if line.trim_start().starts_with("size  ") {
            return "      size  …".to_owned();
        }
        if let Some(age) = line.find(", the oldest is ") {
            line.truncate(age);
            line += ", the oldest is …";
        }
        let mut settled = String::new();
        let mut rest = line.as_str();
        while !rest.is_empty() {
            let word = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
            if let Some(length) = time(rest) {
                settled += "<time>";
                rest = &rest[length..];
            } else if is_id(&rest[..word]) {
                write!(settled, "<{}>", self.number(&rest[word - TAIL..word])).unwrap();
                rest = &rest[word..];
            } else {
                let word = word.max(rest.chars().next().unwrap().len_utf8());
                settled += &rest[..word];
                rest = &rest[word..];
            }
        }
        for field in [
            "bytes",
            "bytes_up",
            "bytes_down",
            "seconds",
            "last_success",
            "oldest_pending_s",
            "ended_ms",
        ] {
            settled = without(&settled, field);
        }
        settled.trim_end().to_owned()
    }

    /// The number of an id, by its end.
    fn number(&mut self, tail: &str) -> usize {
        if let Some(index) = self.tails.iter().position(|known| known == tail) {
            return index + 1;
        }
        self.tails.push(tail.to_owned());
        self.tails.len()
    }
}

fn is_id(word: &str) -> bool {
    let alphabet = |c: char| c.is_ascii_digit() || (c.is_ascii_uppercase() && !"ILOU".contains(c));
    (word.len() == ULID || word.len() == TAIL) && word.chars().all(alphabet)
}

/// The length of the time with which the text begins: `2026-01-05T10:00:00.000Z` or
/// `2026-01-05 10:00:00`.
fn time(text: &str) -> Option<usize> {
    let pattern = |pattern: &str| {
        let fits = |(c, p): (char, char)| if p == '0' { c.is_ascii_digit() } else { c == p };
        let long_enough = text.chars().count() >= pattern.len();
        (long_enough && text.chars().zip(pattern.chars()).all(fits)).then_some(pattern.len())
    };
    pattern("0000-00-00T00:00:00.000Z").or_else(|| pattern("0000-00-00 00:00:00"))
}

/// The JSON without the number of a field.
fn without(json: &str, field: &str) -> String {
    let name = format!("\"{field}\":");
    let Some(start) = json.find(&name).map(|at| at + name.len()) else { return json.to_owned() };
    let length = json[start..].find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(0);
    if length == 0 {
        return json.to_owned();
    }
    format!("{}…{}", &json[..start], &json[start + length..])
}

#[test]
fn golden_scripts() {
    every_golden_script("fixtures/scripts/cli", || Runner {
        folder: Folder::new(),
        hub: None,
        url: String::new(),
        tails: Vec::new(),
    });
}
