//! One connection to the hub's database file. A stream opens it, uses it and closes it.

mod tally;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::functions::FunctionFlags;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::types::{Type, ValueRef};
use rusqlite::{CachedStatement, InterruptHandle, OpenFlags, Statement, TransactionState};

use self::tally::Tally;
pub use self::tally::{Rows, Totals};
use super::limits::Limits;
use crate::error::{Code, Error, Result};

/// How long a statement waits for another writer. libSQL server takes the lock from a transaction
/// that is five seconds old. This is one second more, so that a waiter gets the lock then.
const BUSY_TIMEOUT: Duration = Duration::from_secs(6);

/// How long to sleep between two tries for a lock. SQLite's own handler sleeps for up to 100 ms,
/// which leaves the lock free for most of the time when short transactions compete.
const BUSY_SLEEP: Duration = Duration::from_millis(2);

/// Compiled statements that a connection keeps: a client repeats a few dozen.
const CACHED_STATEMENTS: usize = 64;

/// Pages that the log may hold before it is moved into the database (32 MiB with SQLite's pages of
/// 4 KiB). SQLite's default of 4 MiB is one large push, and each checkpoint waits for the disk.
const CHECKPOINT_PAGES: u32 = 8_192;

/// The most instructions of a compiled statement: some 100 MB. Nested views that each read the
/// inner one twice have more; our own triggers of 200 tables have fewer.
const STATEMENT_INSTRUCTIONS: i32 = 4_000_000;

/// The most bytes of the pattern of a LIKE or GLOB. SQLite's own limit of 50,000 takes a quarter
/// of an hour on a value of 5 MB, and nothing can interrupt it. This limit takes as long as a
/// request may.
const PATTERN_BYTES: i32 = 1_000;

/// Instructions of SQLite's virtual machine between two looks at the clock: some ten microseconds.
/// While it compiles, SQLite counts a nested SELECT as one instruction.
const CLOCK_INSTRUCTIONS: i32 = 1_000;

/// The settings of each connection. A negative cache size is in KiB. A sort that is larger than
/// the cache uses files, since nothing else bounds its memory.
const SETTINGS: &str = "PRAGMA foreign_keys = ON;
    PRAGMA synchronous = NORMAL;
    PRAGMA cache_size = -16384;";

/// Pragmas that are always refused: they work on the whole file, or on state that libSQL server
/// does not expose.
const REFUSED_PRAGMAS: [&str; 7] = [
    "case_sensitive_like",
    "ignore_check_constraints",
    "incremental_vacuum",
    "optimize",
    "parser_trace",
    "shrink_memory",
    "wal_checkpoint",
];

/// Pragmas that may have a value: a table's name, or a setting that libSQL server takes.
const FREE_PRAGMAS: [&str; 14] = [
    "defer_foreign_keys",
    "foreign_key_check",
    "foreign_key_list",
    "foreign_keys",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "quick_check",
    "stats",
    "table_info",
    "table_list",
    "table_xinfo",
    "user_version",
];

/// Opens connections to the database.
#[derive(Debug)]
pub(super) struct Opener {
    path: PathBuf,
    /// In bytes; see [`Limits`].
    value_bytes: usize,
    /// How often connections have waited for a lock. While the count rises, one is waiting.
    waits: Arc<AtomicU64>,
    /// See [`Limits::run_time`].
    run_time: Duration,
    totals: Totals,
}

/// The time by which the statements of a connection must end. SQLite's callbacks share it.
#[derive(Clone, Debug)]
pub(super) struct Deadline {
    began: Instant,
    /// Milliseconds after `began`.
    until: Arc<AtomicU64>,
    run_time: Duration,
}

impl Deadline {
    #[allow(clippy::disallowed_methods, reason = "the hub's own timer")]
    fn new(run_time: Duration) -> Self {
        let deadline = Deadline { began: Instant::now(), until: Arc::default(), run_time };
        deadline.renew();
        deadline
    }

    /// Restarts the time.
    pub(super) fn renew(&self) {
        let until = self.began.elapsed().saturating_add(self.run_time).as_millis();
        self.until.store(u64::try_from(until).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether the time is over.
    pub(super) fn is_over(&self) -> bool {
        self.began.elapsed().as_millis() >= u128::from(self.until.load(Ordering::Relaxed))
    }
}

/// A connection that is ready for statements.
pub(super) struct Connection {
    db: rusqlite::Connection,
    /// In a transaction that `BEGIN READONLY` opened.
    read_only: bool,
    deadline: Deadline,
    tally: Tally,
}

impl Opener {
    pub(super) fn new(path: &Path, limits: &Limits) -> Self {
        let waits = Arc::default();
        let run_time = limits.run_time;
        let (path, totals) = (path.to_path_buf(), Totals::default());
        Opener { path, value_bytes: limits.value_bytes, waits, run_time, totals }
    }

    /// How often a connection has waited for a lock so far.
    pub(super) fn waits(&self) -> u64 {
        self.waits.load(Ordering::Relaxed)
    }

    /// Creates the database if it does not exist, puts it into WAL mode, and checks that the file
    /// is a database.
    ///
    /// # Errors
    ///
    /// `Storage` when the file cannot be opened or written, or is not a database; `Usage` when it
    /// is a folder.
    pub(super) fn create(&self) -> Result<Connection> {
        if self.path.is_dir() {
            let message = format!("{} is a folder, not a database", self.path.display());
            return Err(Error::new(Code::IsFolder, message));
        }
        let connection = self.open(OpenFlags::SQLITE_OPEN_CREATE).and_then(|connection| {
            // Only the first connection sets the mode; the file keeps it. Reading the schema finds
            // damage that setting the mode does not.
            connection.db.execute_batch("SELECT count(*) FROM sqlite_schema")?;
            if connection.db.is_readonly("main")? {
                let error = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY);
                return Err(rusqlite::Error::SqliteFailure(error, None));
            }
            Ok(connection)
        });
        connection.map_err(|error| self.explain(error))
    }

    /// The rows that all connections have read and written.
    pub(super) fn totals(&self) -> Totals {
        self.totals.clone()
    }

    /// Another connection to the database, after [`Opener::create`].
    pub(super) fn connect(&self) -> rusqlite::Result<Connection> {
        self.open(OpenFlags::empty())
    }

    fn open(&self, more: OpenFlags) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | more;
        let mut db = rusqlite::Connection::open_with_flags(&self.path, flags)?;
        let waits = Arc::clone(&self.waits);
        let tries = BUSY_TIMEOUT.as_millis() / BUSY_SLEEP.as_millis();
        let deadline = Deadline::new(self.run_time);
        let clock = deadline.clone();
        db.busy_handler(Some(move |count: i32| {
            waits.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(BUSY_SLEEP);
            u128::try_from(count).is_ok_and(|count| count < tries) && !clock.is_over()
        }))?;
        let clock = deadline.clone();
        db.progress_handler(CLOCK_INSTRUCTIONS, Some(move || clock.is_over()))?;
        db.execute_batch(SETTINGS)?;
        db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        if more.contains(OpenFlags::SQLITE_OPEN_CREATE) {
            db.pragma_update(None, "journal_mode", "WAL")?;
        }
        db.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
        let length = i32::try_from(self.value_bytes).unwrap_or(i32::MAX);
        db.set_limit(Limit::SQLITE_LIMIT_LENGTH, length)?;
        db.set_limit(Limit::SQLITE_LIMIT_VDBE_OP, STATEMENT_INSTRUCTIONS)?;
        db.set_limit(Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, PATTERN_BYTES)?;
        db.authorizer(Some(|context: AuthContext<'_>| authorize(&context.action)))?;
        let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
        db.create_scalar_function("crypto_blake3", 1, flags, |call| {
            Ok(match call.get_raw(0) {
                ValueRef::Null => None,
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(blake3_of(bytes)),
                ValueRef::Integer(integer) => Some(blake3_of(integer.to_string().as_bytes())),
                ValueRef::Real(_) => {
                    return Err(rusqlite::Error::InvalidFunctionParameterType(0, Type::Real));
                }
            })
        })?;
        let tally = Tally::of(&mut db, self.totals.clone())?;
        Ok(Connection { db, read_only: false, deadline, tally })
    }

    fn explain(&self, error: rusqlite::Error) -> Error {
        let path = self.path.display();
        let error_of = |code, message: String| Error::new(code, message).naming_file();
        let (explained, hint) = match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::NotADatabase) => (
                error_of(Code::NotADatabase, format!("{path} is not a SQLite database")),
                "name another file; the hub creates one that does not exist",
            ),
            Some(rusqlite::ErrorCode::CannotOpen) => (
                error_of(Code::CannotOpen, format!("{path} cannot be opened")),
                "check that its folder exists and that you may write there",
            ),
            Some(rusqlite::ErrorCode::ReadOnly) => (
                error_of(Code::DatabaseReadOnly, format!("{path} is read-only")),
                "the hub writes to its database: make the file and its folder writable",
            ),
            Some(rusqlite::ErrorCode::DatabaseBusy) => (
                error_of(Code::DatabaseLocked, format!("{path} is locked by another program")),
                "close the program that uses the file",
            ),
            _ => (
                error_of(
                    Code::DatabaseFailed,
                    format!("{path} cannot be used as the hub's database"),
                ),
                "check the file with `PRAGMA integrity_check`",
            ),
        };
        explained.with_hint(hint).with_source(error)
    }
}

impl Connection {
    /// Compiles a statement.
    pub(super) fn prepare(&self, sql: &str) -> rusqlite::Result<Statement<'_>> {
        self.db.prepare(sql)
    }

    /// Compiles a statement, or takes it from the cache.
    pub(super) fn prepare_cached(&self, sql: &str) -> rusqlite::Result<CachedStatement<'_>> {
        self.db.prepare_cached(sql)
    }

    /// Runs all statements of a text.
    pub(super) fn execute_batch(&self, sql: &str) -> rusqlite::Result<()> {
        self.db.execute_batch(sql)
    }

    /// A statement begins whose rows are to be counted. Gives how many rows were changed before.
    pub(super) fn begin_count(&self) -> u64 {
        self.tally.begin();
        self.db.total_changes()
    }

    /// Counts the rows of a statement that has ended: it gave so many, and the connection had
    /// changed `before` rows when it began. `defines` says that it may have changed a definition.
    pub(super) fn rows_of(
        &self,
        statement: &Statement<'_>,
        given: u64,
        before: u64,
        defines: bool,
    ) -> Rows {
        if defines {
            self.tally.forget_indexes();
        }
        self.tally.rows_of(&self.db, statement, given, self.db.total_changes() - before)
    }

    /// How many rows the last `INSERT`, `UPDATE` or `DELETE` changed.
    pub(super) fn changes(&self) -> u64 {
        self.db.changes()
    }

    /// The rowid of the last row that was inserted.
    pub(super) fn last_insert_rowid(&self) -> i64 {
        self.db.last_insert_rowid()
    }

    /// Stops the statement that runs, from another thread.
    pub(super) fn interrupt_handle(&self) -> InterruptHandle {
        self.db.get_interrupt_handle()
    }

    /// The time by which the statements of a request must end.
    pub(super) fn deadline(&self) -> Deadline {
        self.deadline.clone()
    }

    /// Restarts the time, for a request.
    pub(super) fn renew_deadline(&self) {
        self.deadline.renew();
    }

    /// Whether the time is over.
    pub(super) fn is_overdue(&self) -> bool {
        self.deadline.is_over()
    }

    /// Whether it is in a transaction that `BEGIN READONLY` opened.
    pub(super) fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Keeps track of `BEGIN READONLY` after a statement; `is_begin` says whether it was one.
    pub(super) fn track_read_only(&mut self, is_begin: bool) {
        self.read_only = !self.is_autocommit() && (self.read_only || is_begin);
    }

    /// Whether no transaction is open.
    pub(super) fn is_autocommit(&self) -> bool {
        self.db.is_autocommit()
    }

    /// Whether an open transaction holds the database's one write lock.
    pub(super) fn holds_write_lock(&self) -> bool {
        matches!(self.db.transaction_state(None::<&str>), Ok(TransactionState::Write))
    }

    /// Rolls an open transaction back.
    ///
    /// # Errors
    ///
    /// SQLite's. The connection cannot be used after that.
    pub(super) fn roll_back(&mut self) -> rusqlite::Result<()> {
        self.read_only = false;
        if self.db.is_autocommit() { Ok(()) } else { self.db.execute_batch("ROLLBACK") }
    }

    /// Closes the connection and rolls an open transaction back. The last one moves the log into
    /// the database.
    pub(super) fn close(self) {
        // An interrupt that came while nothing ran stays until the next statement. This statement
        // takes it, so that it does not stop the checkpoint.
        let _ = self.db.execute_batch("SELECT 1");
    }
}

/// The hash of `crypto_blake3`, which Turso has from SQLean.
fn blake3_of(bytes: &[u8]) -> Vec<u8> {
    blake3::hash(bytes).as_bytes().to_vec()
}

/// Refuses in SQLite's authorizer what libSQL server's parser refuses: temporary tables, attached
/// files, and most pragmas.
fn authorize(action: &AuthAction<'_>) -> Authorization {
    match action {
        AuthAction::Attach { .. }
        | AuthAction::Detach { .. }
        | AuthAction::CreateTempIndex { .. }
        | AuthAction::CreateTempTable { .. }
        | AuthAction::CreateTempTrigger { .. }
        | AuthAction::CreateTempView { .. } => Authorization::Deny,
        AuthAction::Pragma { pragma_name, pragma_value } => {
            let is_among =
                |names: &[&str]| names.iter().any(|n| pragma_name.eq_ignore_ascii_case(n));
            let is_free = pragma_value.is_none() || is_among(&FREE_PRAGMAS);
            if is_free && !is_among(&REFUSED_PRAGMAS) {
                Authorization::Allow
            } else {
                Authorization::Deny
            }
        }
        _ => Authorization::Allow,
    }
}
