//! Desks, a web application and a remote in memory, as the scripts drive them.
//!
//! Nothing here depends on chance or on time in what it prints: an event is named by its place in
//! the log, a writer by its name.

use std::collections::BTreeMap;
use std::sync::Arc;

use driftless::event::conflict::ConflictRule;
use driftless::event::verdict::Verdict;
use driftless::event::{EventId, Image, Seq};
use driftless::store::{Entry, LogFilter, NewKey, Selection};
use driftless::sync::{Input, SyncState};

use crate::support::desk::{Backup, Desk, SCHEMA};
use crate::support::engine::Engine;
use crate::support::inbox::Inbox as _;
use crate::support::local_remote::{Fault, LocalRemote};

type Outcome = Result<String, Box<dyn std::error::Error>>;

/// A desk and what the script knows about it.
struct Member {
    name: String,
    /// Its ids, the newest last.
    ids: Vec<String>,
    desk: Desk,
    partitioned: bool,
}

impl Member {
    fn has(&self, table: &str) -> bool {
        let sql = format!("SELECT count(*) FROM driftless_tables WHERE name = '{table}'");
        self.desk.read(&sql) == "1"
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct World {
    /// What is executed before anybody joins: on both sides, or by its writer alone.
    schema: String,
    own: BTreeMap<String, String>,
    rules: Vec<(String, ConflictRule)>,
    remote: Option<Arc<LocalRemote>>,
    members: Vec<Member>,
    backups: BTreeMap<String, Backup>,
    snapshot: Option<Engine>,
    /// What the remote is to run on, if not on the SQLite that is bundled.
    engine: Option<Engine>,
    /// The newest event that has been printed.
    printed: i64,
    /// Whether everybody was found equal since something happened last.
    pub(super) equal: bool,
}

impl World {
    /// One whose remote runs on this.
    pub(super) fn over(engine: Engine) -> World {
        World { engine: Some(engine), ..World::default() }
    }

    fn remote(&self) -> &Arc<LocalRemote> {
        self.remote.as_ref().expect("a script begins with `desks`")
    }

    fn member(&mut self, name: &str) -> &mut Member {
        let found = self.members.iter_mut().find(|member| member.name == name);
        found.unwrap_or_else(|| panic!("there is no desk `{name}`"))
    }

    /// The desks of these names; all of them if none is named.
    fn named(&self, names: &[&str]) -> Vec<String> {
        match names {
            [] => self.members.iter().map(|member| member.name.clone()).collect(),
            names => names.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    /// Makes the remote and the first desks.
    pub(super) fn begin(&mut self, names: &[&str], rules: &[(&str, &str)]) -> Outcome {
        if self.schema.is_empty() {
            self.schema = SCHEMA.to_owned();
        }
        for (table, rule) in rules {
            assert_eq!(
                *rule, "columns",
                "a table's rule is `row` unless it is said to be `columns`"
            );
            self.rules.push(((*table).to_owned(), ConflictRule::Columns));
        }
        let web = self.own.get("web").cloned().unwrap_or_default();
        let engine = self.engine.take().unwrap_or_else(Engine::bundled);
        let schema = format!("{};{web}", self.schema);
        self.remote = Some(Arc::new(LocalRemote::over(engine, &schema)));
        self.join(names)
    }

    /// Adds desks.
    pub(super) fn join(&mut self, names: &[&str]) -> Outcome {
        for &name in names {
            let own = self.own.get(name).cloned().unwrap_or_default();
            let rules: Vec<_> = self.rules.iter().map(|(table, rule)| (&**table, *rule)).collect();
            let number = self.members.len() as u128 + 1;
            let schema = format!("{};{own}", self.schema);
            let mut desk = Desk::with_rules(self.remote(), number, &schema, &rules);
            let id = desk.machine.store().id().to_string();
            self.add(name, vec![id], desk);
        }
        self.news()
    }

    fn add(&mut self, name: &str, ids: Vec<String>, desk: Desk) {
        self.members.push(Member { name: name.to_owned(), ids, desk, partitioned: false });
    }

    /// Copies a desk's file, byte by byte, and another desk goes on with the copy.
    pub(super) fn copy(&mut self, name: &str, copy: &str) -> Outcome {
        let number = self.members.len() as u128 + 1;
        let desk = self.member(name).desk.copy(number);
        // Until it has an identity of its own it is called what the first one is called.
        self.add(copy, Vec::new(), desk);
        Ok(String::new())
    }

    /// Keeps a desk's file, or the remote, as it is now.
    pub(super) fn backup(&mut self, name: &str) -> Outcome {
        match name {
            "remote" => self.snapshot = Some(self.remote().snapshot()),
            name => {
                let backup = self.member(name).desk.backup();
                self.backups.insert(name.to_owned(), backup);
            }
        }
        Ok(String::new())
    }

    /// A desk's file, or the remote, is what it was.
    pub(super) fn restored(&mut self, name: &str) -> Outcome {
        self.equal = false;
        if name == "remote" {
            let snapshot = self.snapshot.take().ok_or("the remote was not backed up")?;
            self.remote().roll_back(&snapshot);
            self.snapshot = Some(snapshot);
            self.printed = self.head();
            return Ok(String::new());
        }
        let backup = self.backups.remove(name).ok_or("the desk was not backed up")?;
        self.member(name).desk.restore(&backup);
        self.backups.insert(name.to_owned(), backup);
        Ok(String::new())
    }

    /// The remote is made anew, with the tables of the web application's alone.
    pub(super) fn wipe(&mut self) -> Outcome {
        self.equal = false;
        self.remote().wipe(&self.schema);
        self.printed = 0;
        Ok(String::new())
    }

    /// Who a desk was, and why it is somebody else.
    pub(super) fn identity(&mut self, name: &str) -> Outcome {
        let former = self.member(name).desk.status().identity;
        let line = |f: &driftless::store::PastIdentity| {
            format!("{:?} at cursor {}: was {}\n", f.cause, f.cursor, f.replica)
        };
        let text: String = former.iter().map(line).collect();
        Ok(if text.is_empty() { "as ever".to_owned() } else { self.with_names(text) })
    }

    /// Takes note of the identities that desks have now.
    fn learn_names(&mut self) {
        for at in 0..self.members.len() {
            let id = self.members[at].desk.machine.store().id().to_string();
            if !self.members.iter().any(|member| member.ids.contains(&id)) {
                self.members[at].ids.push(id);
            }
        }
    }

    /// Ids as names: of a desk's second identity, with a prime.
    fn with_names(&self, mut text: String) -> String {
        for member in &self.members {
            for (at, id) in member.ids.iter().enumerate() {
                text = text.replace(id, &format!("{}{}", member.name, "'".repeat(at)));
            }
        }
        text
    }

    /// The log's new events, a line each.
    pub(super) fn news(&mut self) -> Outcome {
        self.equal = false;
        self.learn_names();
        let lines = self.log_after(self.printed);
        self.printed = self.head();
        Ok(lines)
    }

    /// The whole log.
    pub(super) fn log(&self) -> Outcome {
        Ok(self.log_after(0))
    }

    fn log_after(&self, seq: i64) -> String {
        if !self.has_log() {
            return String::new();
        }
        let place = |id: &str| {
            format!("(SELECT '#' || o.seq FROM driftless_events AS o WHERE o.id = e.{id})")
        };
        let text = self.remote().read(&format!(
            "SELECT '#' || seq || ' ' || origin || ' ' || tbl || pk || ' ' || op
             || coalesce(' ' || nullif(coalesce(after, before), '') , '')
             || CASE origin WHEN 'web' THEN '' ELSE ' base ' || base END
             || coalesce(' because of ' || {}, '') || coalesce(' via ' || {}, '')
             || coalesce(' with ' || {}, '') || ' ' || verdict || coalesce(': ' || reason, '')
             FROM driftless_events AS e WHERE seq > {seq} ORDER BY seq",
            place("cause"),
            place("via"),
            place("pair"),
        ));
        self.with_names(text)
    }

    /// A transaction of `who`. Before anybody has joined it is kept for later.
    pub(super) fn sql(&mut self, who: Option<&str>, sql: &str) -> Outcome {
        let joined =
            who.is_none_or(|who| who == "web" || self.members.iter().any(|m| m.name == who));
        if self.remote.is_none() || !joined {
            let text = match who {
                Some(who) => self.own.entry(who.to_owned()).or_default(),
                None => &mut self.schema,
            };
            text.push_str(sql);
            text.push(';');
            return Ok(String::new());
        }
        match who.expect("a writer of SQL has a name") {
            "web" => {
                if !self.remote().try_web(sql) {
                    return Err("refused".into());
                }
                self.news()
            }
            name => {
                self.equal = false;
                let db = &self.member(name).desk.db;
                let done = db.execute_batch(&format!("BEGIN IMMEDIATE; {sql}; COMMIT"));
                if done.is_err() && !db.is_autocommit() {
                    db.execute_batch("ROLLBACK")?;
                }
                Ok(done.map(|()| String::new())?)
            }
        }
    }

    /// Inserts a row, or changes these columns of it.
    pub(super) fn put(&mut self, who: &str, row: &str, columns: &[(&str, &str)]) -> Outcome {
        let (table, key) = row.split_once('/').ok_or("a row is TABLE/KEY")?;
        let names: Vec<_> = columns.iter().map(|(name, _)| format!(", {name}")).collect();
        let values: Vec<_> = columns.iter().map(|(_, value)| format!(", '{value}'")).collect();
        let sets: Vec<_> =
            columns.iter().map(|(name, _)| format!("{name} = excluded.{name}")).collect();
        let or = match sets.is_empty() {
            true => "NOTHING".to_owned(),
            false => format!("UPDATE SET {}", sets.join(", ")),
        };
        let sql = format!(
            "INSERT INTO {table} (id{}) VALUES ('{key}'{}) ON CONFLICT (id) DO {or}",
            names.concat(),
            values.concat()
        );
        self.sql(Some(who), &sql)
    }

    /// Deletes a row.
    pub(super) fn delete(&mut self, who: &str, row: &str) -> Outcome {
        let (table, key) = row.split_once('/').ok_or("a row is TABLE/KEY")?;
        self.sql(Some(who), &format!("DELETE FROM {table} WHERE id = '{key}'"))
    }

    /// Cuts desks off from the remote, or no more.
    pub(super) fn partition(&mut self, names: &[&str], partitioned: bool) -> Outcome {
        for name in self.named(names) {
            self.member(&name).partitioned = partitioned;
        }
        Ok(String::new())
    }

    /// What the desk's next request meets.
    pub(super) fn lose(&mut self, what: &str) -> Outcome {
        let fault = match what {
            "request" => Fault::LostBefore,
            "answer" => Fault::LostAfter,
            other => return Err(format!("one loses a request or an answer, no {other}").into()),
        };
        self.remote().fail([fault]);
        Ok(String::new())
    }

    /// One request: what is in the outbox goes to the remote, what the answer brings waits.
    pub(super) fn request(&mut self, name: &str, input: Input) -> Outcome {
        let remote = Arc::clone(self.remote());
        let member = self.member(name);
        remote.set_offline(member.partitioned);
        member.desk.input(input);
        while member.desk.deliver() {}
        let waits = member.desk.go_on;
        remote.set_offline(false);
        let news = self.news()?;
        Ok(if waits { format!("{news}\n{name} has a page") } else { news })
    }

    /// Integrates what waits, without a word to the remote.
    pub(super) fn integrate(&mut self, name: &str) -> Outcome {
        self.equal = false;
        let desk = &mut self.member(name).desk;
        if !desk.go_on {
            return Err("no page waits".into());
        }
        while desk.go_on() {}
        Ok(String::new())
    }

    /// Pushes and pulls until nothing is left: one desk after the other, and, where all are meant,
    /// again those that are behind what the others pushed.
    pub(super) fn sync(&mut self, names: &[&str]) -> Outcome {
        let mut output = String::new();
        for name in self.named(names) {
            if self.member(&name).partitioned {
                output.push_str(&format!("{name} is cut off\n"));
            } else {
                output.push_str(&self.sync_one(&name)?);
            }
        }
        for round in 0.. {
            let head = self.head();
            let behind = self.members.iter().find(|member| {
                let status = member.desk.status();
                let refused =
                    matches!(status.state, SyncState::OtherRemote | SyncState::RolledBack);
                !member.partitioned && !refused && (status.pending > 0 || status.cursor < head)
            });
            let Some(behind) = behind.filter(|_| names.is_empty()) else { break };
            assert!(round < 20, "{} never comes to an end", behind.name);
            let name = behind.name.clone();
            output.push_str(&self.sync_one(&name)?);
        }
        Ok(output)
    }

    fn sync_one(&mut self, name: &str) -> Outcome {
        let summary = self.member(name).desk.sync();
        self.told(name, summary)
    }

    /// A person goes on with the remote that is there.
    pub(super) fn accept(&mut self, name: &str) -> Outcome {
        self.equal = false;
        let summary = self.member(name).desk.accept();
        self.told(name, summary)
    }

    /// The log of a desk's former remote.
    pub(super) fn former(&mut self, name: &str, n: &str) -> Outcome {
        let filter = LogFilter { former: Some(n.parse()?), ..LogFilter::default() };
        let mut output = String::new();
        self.member(name).desk.machine.store().log(&filter, &mut |entry| {
            let (Entry::Settled(event), (table, key)) = (&entry, entry.row()) else {
                panic!("nothing of it is pending")
            };
            let line = format!("#{} {} {table}{} {}", event.seq, event.origin, key.0, event.op);
            output.push_str(&format!("{line} {}\n", event.verdict));
            Ok(())
        })?;
        Ok(self.with_names(output))
    }

    fn told(&mut self, name: &str, summary: driftless::Result<driftless::Summary>) -> Outcome {
        let desk = &mut self.member(name).desk;
        let mut output = String::new();
        let summary = match summary {
            Ok(summary) => summary,
            Err(error) if error.kind() == driftless::Kind::Refused => {
                output.push_str(&format!("{name}: {:?}: {error}\n", desk.status().state));
                return Ok(output);
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(trouble) = desk.status().trouble {
            output.push_str(&format!("{name}: {trouble}\n"));
        }
        assert_eq!(self.remote().faults_left(), 0, "what was to be lost is lost");
        output.push_str(&self.news()?);
        output.push_str(&format!("\n{name}"));
        if summary.pushed > 0 {
            output.push_str(&format!(
                " pushed {} ({} applied, {} superseded, {} rejected),",
                summary.pushed, summary.applied, summary.superseded, summary.rejected
            ));
        }
        output.push_str(&format!(" pulled {}\n", summary.pulled));
        Ok(output)
    }

    /// The desk's process ends, and another one begins.
    pub(super) fn restart(&mut self, name: &str) -> Outcome {
        self.member(name).desk.restart();
        Ok(String::new())
    }

    /// The desk is initialised once more, after its tables changed.
    pub(super) fn initialise(&mut self, name: &str) -> Outcome {
        let rules: Vec<_> = self.rules.clone();
        let rules: Vec<_> = rules.iter().map(|(table, rule)| (&**table, *rule)).collect();
        self.member(name).desk.initialise_again(&rules)?;
        self.news()
    }

    /// A line for each desk.
    pub(super) fn status(&mut self, names: &[&str]) -> Outcome {
        let mut output = String::new();
        for name in self.named(names) {
            let desk = &self.member(&name).desk;
            let status = desk.status();
            let aside = "SELECT count(*) FROM driftless_outbox WHERE aside AND NOT settled";
            output.push_str(&format!(
                "{name}: {:?}, {} pending, {} set aside, cursor {}, {} conflicts, {} in quarantine\n",
                status.state,
                status.pending,
                desk.read(aside),
                status.cursor,
                status.conflicts,
                status.quarantined
            ));
        }
        Ok(output)
    }

    /// What the desk has not heard of yet.
    pub(super) fn pending(&mut self, name: &str) -> Outcome {
        let mut output = String::new();
        let store = self.member(name).desk.machine.store();
        store.log(&LogFilter::default(), &mut |entry| {
            if let Entry::Pending(event) = entry {
                let image = event.after.as_ref().or(event.before.as_ref());
                let image = image.map(Image::to_json).unwrap_or_default();
                let aside = if event.aside { " set aside" } else { "" };
                output.push_str(&format!(
                    "{}{} {} {image} base {}{aside}\n",
                    event.table, event.key.0, event.op, event.base
                ));
            }
            Ok(())
        })?;
        Ok(output)
    }

    /// The conflict inbox.
    pub(super) fn conflicts(&mut self, name: &str, all: bool) -> Outcome {
        let mut output = String::new();
        for conflict in self.member(name).desk.machine.store().conflicts(all)? {
            let event = &conflict.event;
            let brought = conflict.insert.as_ref().unwrap_or(event);
            let image = brought.after.as_ref().map(Image::to_json).unwrap_or_default();
            let reason = match &event.verdict {
                Verdict::Applied => "",
                Verdict::Superseded(reason) | Verdict::Rejected(reason) => reason,
            };
            let winner =
                conflict.winner.as_ref().map(|winner| format!(", lost to #{}", winner.seq));
            let theirs = conflict.theirs.as_ref().map_or("no row".to_owned(), Image::to_json);
            output.push_str(&format!(
                "#{} {} ({reason}){} {}{} {} {image}; the remote had {theirs}; {}\n",
                event.seq,
                conflict.kind.as_str(),
                winner.unwrap_or_default(),
                event.table,
                event.key.0,
                event.op,
                conflict.state.as_str(),
            ));
        }
        Ok(output)
    }

    fn id_of(&self, place: &str) -> Result<EventId, Box<dyn std::error::Error>> {
        let seq: i64 = place.trim_start_matches('#').parse()?;
        let sql = format!("SELECT id FROM driftless_events WHERE seq = {seq}");
        Ok(self.remote().read(&sql).trim_matches('"').parse()?)
    }

    /// Writes a lost event's values again.
    pub(super) fn restore(&mut self, name: &str, place: &str, key: Option<&str>) -> Outcome {
        let id = self.id_of(place)?;
        let key = key.map(|key| match key {
            "fresh" => NewKey::Fresh,
            key => {
                NewKey::Values(vec![driftless::event::value::Value::Text(key.as_bytes().to_vec())])
            }
        });
        self.equal = false;
        // The scripts write faster than people, so what is of one transaction is not told apart.
        let alone = Selection::Events(vec![id]);
        let done = self.member(name).desk.machine.store().restore_selected(&alone, key);
        // An id is made of chance.
        let told = |error: driftless::Error| error.message().replace(&id.to_string(), place);
        match done.map_err(told)?.refusal() {
            Some(error) => Err(told(error).into()),
            None => Ok(String::new()),
        }
    }

    /// Takes a conflict off the list.
    pub(super) fn dismiss(&mut self, name: &str, place: &str) -> Outcome {
        let id = self.id_of(place)?;
        self.member(name).desk.machine.store().dismiss(id)?;
        Ok(String::new())
    }

    /// What waits in quarantine.
    pub(super) fn quarantine(&mut self, name: &str) -> Outcome {
        let waiting = self.member(name).desk.machine.store().quarantine()?;
        let line = |q: &driftless::store::Quarantined| {
            format!("#{} {}{}: {}\n", q.seq, q.table, q.key.0, q.reason)
        };
        Ok(waiting.iter().map(line).collect())
    }

    /// Tries what waits in quarantine.
    pub(super) fn retry(&mut self, name: &str) -> Outcome {
        let desk = &mut self.member(name).desk;
        let retried = desk.machine.store().retry_quarantine(desk.now.wall_ms)?;
        Ok(format!("{} applied, {} still wait", retried.applied, retried.waiting))
    }

    /// A table on the remote, and on each desk where it has other rows.
    pub(super) fn rows(&mut self, table: &str) -> Outcome {
        let sql = format!("SELECT * FROM {table} ORDER BY 1");
        let there = self.remote().read(&sql);
        let mut output = format!("{}\n", prefixed("remote", &there));
        for member in &self.members {
            let here = if member.has(table) { member.desk.read(&sql) } else { continue };
            if here != there {
                output.push_str(&format!("{}\n", prefixed(&member.name, &here)));
            }
        }
        Ok(output)
    }

    /// That all desks have the rows that the remote has, and nothing left to say.
    pub(super) fn equal(&mut self) -> Outcome {
        let mut wrong = String::new();
        let tables: Vec<String> = {
            let names = "SELECT name FROM driftless_tables ORDER BY name";
            let read = self.remote().read(names);
            read.lines().map(|line| line.trim_matches('"').to_owned()).collect()
        };
        for member in &self.members {
            let status = member.desk.status();
            if status.pending > 0 || status.cursor != self.head() {
                wrong.push_str(&format!(
                    "{} has {} pending events and is at {} of {}\n",
                    member.name,
                    status.pending,
                    status.cursor,
                    self.head()
                ));
            }
            for table in tables.iter().filter(|table| member.has(table)) {
                let sql = format!("SELECT * FROM {table} ORDER BY 1");
                let (here, there) = (member.desk.read(&sql), self.remote().read(&sql));
                if here != there {
                    let (here, there) = (prefixed(&member.name, &here), prefixed("remote", &there));
                    wrong.push_str(&format!("table {table} differs\n{here}\n{there}\n"));
                }
            }
        }
        if !wrong.is_empty() {
            return Err(wrong.into());
        }
        self.equal = true;
        Ok(format!("{} and the remote are equal", self.named(&[]).join(", ")))
    }

    /// Whether the remote has our tables.
    fn has_log(&self) -> bool {
        let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'driftless_events'";
        self.remote().read(sql) == "1"
    }

    fn head(&self) -> i64 {
        if !self.has_log() {
            return 0;
        }
        let head = self.remote().read("SELECT coalesce(max(seq), 0) FROM driftless_events");
        Seq(head.parse().expect("a seq is a number")).0
    }
}

fn prefixed(name: &str, rows: &str) -> String {
    if rows.is_empty() {
        return format!("{name}: no rows");
    }
    let lines: Vec<_> = rows.lines().map(|line| format!("{name}: {line}")).collect();
    lines.join("\n")
}
