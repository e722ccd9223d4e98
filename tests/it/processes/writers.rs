//! Programs that write with plain SQL and know what they have committed.
//!
//! A transaction of writer `w` with number `t` makes the payment `w-t` and gives a member the name
//! `w-t`; each seventh also makes a member `w-t` with an e-mail address that others take too. So each
//! committed transaction can be found, and many of them conflict.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use super::PATIENCE;
use super::place::{MEMBERS, open};
use crate::support::tools::{Tool, require};

/// How long a writer rests between two transactions: SQLite's lock is not fair.
const REST: Duration = Duration::from_millis(3);
/// A transaction whose number this divides makes a member, too.
pub(super) const NEW_MEMBER: u64 = 7;
/// Addresses that new members have.
const ADDRESSES: u64 = 40;

/// What values begin with that must be in no message. Keys may be.
pub(super) const SECRET: &str = "nobody's business: ";

/// The numbers of the transactions that were committed.
type Committed = Arc<Mutex<Vec<u64>>>;

/// What writer `name` does in its transaction `t`.
pub(super) fn statements(name: &str, t: u64) -> String {
    let (member, secret) = (t % MEMBERS, SECRET.replace('\'', "''"));
    let mut sql = format!(
        "INSERT INTO payments VALUES ('{name}-{t}', 'm{member}', {t});
         UPDATE members SET name = '{secret}{name}-{t}' WHERE id = 'm{member}';"
    );
    if t.is_multiple_of(NEW_MEMBER) {
        let address = t % ADDRESSES;
        sql += &format!(
            "INSERT INTO members SELECT '{name}-{t}', 'new', iif(count(*), NULL, '{address}@example.org')
             FROM members WHERE email = '{address}@example.org';"
        );
    }
    sql
}

/// One transaction. False when the database has no room, or cannot be written: then it is none.
pub(super) fn write(db: &Connection, name: &str, t: u64) -> bool {
    match db.execute_batch(&format!("BEGIN IMMEDIATE; {} COMMIT", statements(name, t))) {
        Ok(()) => true,
        Err(error) => {
            let full = matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure)
            );
            assert!(full, "{name}-{t}: {error}");
            if !db.is_autocommit() {
                db.execute_batch("ROLLBACK").unwrap();
            }
            false
        }
    }
}

/// What a writer has done.
pub(super) struct Written {
    /// Its name.
    pub(super) name: String,
    /// The file that it wrote to.
    pub(super) file: String,
    /// The transactions of which it knows that they were committed.
    pub(super) committed: Vec<u64>,
    /// Whether one more may have been: it was killed.
    pub(super) killed: bool,
}

impl Written {
    /// Transactions that were committed one by one.
    pub(super) fn of(name: &str, file: &str, committed: impl IntoIterator<Item = u64>) -> Written {
        let (name, file) = (name.to_owned(), file.to_owned());
        Written { name, file, committed: committed.into_iter().collect(), killed: false }
    }
}

/// A thread of this process that writes until it is stopped.
pub(super) struct Writer {
    name: String,
    file: String,
    committed: Committed,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Begins to write to a file of a folder.
    pub(super) fn start(folder: &std::path::Path, file: &str, name: &str) -> Writer {
        let (path, own) = (folder.join(file), name.to_owned());
        Writer::by(file, name, move || {
            let db = open(&path);
            move |t| write(&db, &own, t)
        })
    }

    /// The same by other means: what `prepare` makes does the transaction of a number, and says
    /// whether it was committed.
    fn by<Write: FnMut(u64) -> bool>(
        file: &str,
        name: &str,
        prepare: impl FnOnce() -> Write + Send + 'static,
    ) -> Writer {
        let committed = Committed::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopped) = (Arc::clone(&committed), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let (mut write, mut t) = (prepare(), 0);
            while !stopped.load(Ordering::Relaxed) {
                if write(t) {
                    lock(&shared).push(t);
                }
                t += 1;
                std::thread::sleep(REST);
            }
        });
        Writer { name: name.to_owned(), file: file.to_owned(), committed, stop, thread }
    }

    /// How many transactions were committed.
    pub(super) fn count(&self) -> usize {
        lock(&self.committed).len()
    }

    /// Stops it.
    pub(super) fn stop(self) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        let committed = std::mem::take(&mut *lock(&self.committed));
        Written { name: self.name, file: self.file, committed, killed: false }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The stock `sqlite3` program, once for each transaction, as scripts call it.
pub(super) struct Shell {
    writer: Writer,
    /// What runs now.
    child: Arc<Mutex<Option<Child>>>,
}

impl Shell {
    /// Begins to write; `None` where there is no such program.
    pub(super) fn start(folder: &std::path::Path, file: &str, name: &str) -> Option<Shell> {
        let program = require(Tool::Sqlite3)?;
        let child = Arc::new(Mutex::new(None));
        let (path, own, slot) = (folder.join(file), name.to_owned(), Arc::clone(&child));
        let writer = Writer::by(file, name, move || {
            let db = open(&path);
            move |t| {
                let sql = format!("BEGIN IMMEDIATE; {} COMMIT;", statements(&own, t));
                let timeout = format!(".timeout {}", PATIENCE.as_millis());
                let mut command = Command::new(&program);
                command.args(["-bail", "-cmd", &timeout, "-cmd", "PRAGMA foreign_keys = on"]);
                command.arg(&path).arg(sql).stdin(Stdio::null()).stdout(Stdio::null());
                *slot.lock().unwrap() = Some(command.spawn().unwrap());
                let status = loop {
                    let status = slot.lock().unwrap().as_mut().unwrap().try_wait().unwrap();
                    match status {
                        Some(status) => break status,
                        None => std::thread::sleep(Duration::from_millis(1)),
                    }
                };
                // Of one that was killed the file knows whether it had committed.
                assert!(status.success() || status.code().is_none(), "{own}-{t}: {status}");
                let there = "SELECT count(*) FROM payments WHERE id = ?1";
                let there = db.query_row(there, [format!("{own}-{t}")], |row| row.get(0)).unwrap();
                assert!(there || !status.success(), "{own}-{t} was committed");
                there
            }
        });
        Some(Shell { writer, child })
    }

    /// How many transactions were committed.
    pub(super) fn count(&self) -> usize {
        self.writer.count()
    }

    /// Kills what runs now, in the middle of whatever it does; the next one goes on. False if
    /// nothing ran.
    pub(super) fn kill(&self) -> bool {
        let mut child = self.child.lock().unwrap();
        child.as_mut().is_some_and(|child| {
            let runs = child.try_wait().unwrap().is_none();
            child.kill().unwrap();
            runs
        })
    }

    /// Stops it.
    pub(super) fn stop(self) -> Written {
        self.writer.stop()
    }
}

/// What another program runs: it says each number once its transaction is committed.
const PYTHON: &str = r#"
import sqlite3, sys, time
path, name, secret, first = sys.argv[1:5]
members, new_member, addresses, patience = [int(a) for a in sys.argv[5:]]
db = sqlite3.connect(path, timeout=patience, isolation_level=None)
db.execute("PRAGMA foreign_keys = on")
t = int(first)
while True:
    db.execute("BEGIN IMMEDIATE")
    member, key = f"m{t % members}", f"{name}-{t}"
    db.execute("INSERT INTO payments VALUES (?, ?, ?)", (key, member, t))
    db.execute("UPDATE members SET name = ? WHERE id = ?", (secret + key, member))
    if t % new_member == 0:
        db.execute("INSERT INTO members SELECT ?1, 'new', iif(count(*), NULL, ?2) FROM members "
                   "WHERE email = ?2", (key, f"{t % addresses}@example.org"))
    db.execute("COMMIT")
    print(t, flush=True)
    t += 1
    time.sleep(0.003)
"#;

/// Python's `sqlite3` module in a process of its own, which can be killed.
pub(super) struct Python {
    name: String,
    file: String,
    path: PathBuf,
    child: Child,
    reader: Option<JoinHandle<()>>,
    committed: Committed,
}

impl Python {
    /// Begins to write; `None` where there is no Python.
    pub(super) fn start(folder: &std::path::Path, file: &str, name: &str) -> Option<Python> {
        Python::patient(folder, file, name, PATIENCE.as_secs())
    }

    /// The same, and a write fails that has waited so many seconds for the lock.
    pub(super) fn patient(
        folder: &std::path::Path,
        file: &str,
        name: &str,
        seconds: u64,
    ) -> Option<Python> {
        let path = folder.join(file);
        let python = require(Tool::Python3)?;
        let committed = Committed::default();
        let (child, reader) = spawn(&python, &path, name, 0, seconds, &committed);
        let (name, file) = (name.to_owned(), file.to_owned());
        Some(Python { name, file, path: path.clone(), child, reader: Some(reader), committed })
    }

    /// How many transactions were committed, as far as it has said.
    pub(super) fn count(&self) -> usize {
        lock(&self.committed).len()
    }

    /// Whether it writes still.
    pub(super) fn lives(&self) -> bool {
        self.reader.as_ref().is_some_and(|reader| !reader.is_finished())
    }

    fn end(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
    }

    /// Kills it in the middle of whatever it does, and starts another one that goes on. The
    /// transaction that was under way may have been committed, or not.
    pub(super) fn kill_and_go_on(&mut self) {
        self.end();
        let db = open(&self.path);
        let known = lock(&self.committed).last().map_or(0, |last| last + 1);
        let sql = "SELECT count(*) FROM payments WHERE id = ?1";
        let key = format!("{}-{known}", self.name);
        let there: bool = db.query_row(sql, [key], |row| row.get(0)).unwrap();
        if there {
            lock(&self.committed).push(known);
        }
        let python = require(Tool::Python3).expect("it was there before");
        let next = known + u64::from(there);
        let (child, reader) =
            spawn(&python, &self.path, &self.name, next, PATIENCE.as_secs(), &self.committed);
        (self.child, self.reader) = (child, Some(reader));
    }

    /// Kills it.
    pub(super) fn stop(mut self) -> Written {
        self.end();
        let committed = std::mem::take(&mut *lock(&self.committed));
        let (name, file) = (self.name.clone(), self.file.clone());
        Written { name, file, committed, killed: true }
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(
    python: &std::path::Path,
    path: &std::path::Path,
    name: &str,
    first: u64,
    patience: u64,
    committed: &Committed,
) -> (Child, JoinHandle<()>) {
    let mut child = Command::new(python)
        .args(["-c", PYTHON])
        .arg(path)
        .args([name, SECRET, &first.to_string()])
        .args([MEMBERS, NEW_MEMBER, ADDRESSES, patience].map(|number| number.to_string()))
        .stdout(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let (out, shared) = (BufReader::new(child.stdout.take().unwrap()), Arc::clone(committed));
    let reader = std::thread::spawn(move || {
        for line in out.lines() {
            // A line that was cut off by the kill is the number of no transaction that we know of.
            let Ok(t) = line.unwrap().parse() else { continue };
            lock(&shared).push(t);
        }
    });
    (child, reader)
}
