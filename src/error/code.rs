//! The codes of errors: one word for each failure that programs distinguish.

use std::fmt;
use std::str::FromStr;

/// What the caller must do about an [`Error`](super::Error).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The call was wrong: a table that does not exist, a flag that makes no sense. Correct the
    /// call.
    Usage,
    /// The remote cannot be reached, or is overloaded. Try again later; nothing is lost.
    Unavailable,
    /// The remote refuses us: credentials, a newer schema, another database. Stop, and tell a
    /// person.
    Refused,
    /// The remote answered, but refused this request because of its content (a constraint, a
    /// trigger, SQL that it does not know). Repeating it unchanged does not help.
    Rejected,
    /// The answer or the request was too large for the remote. Request less.
    TooLarge,
    /// Data that should be ours is not as we wrote it: a damaged frame, or an invalid answer of a
    /// remote.
    Corrupt,
    /// The local database or disk failed: locked for long, full, read-only, not a database.
    Storage,
}

impl Kind {
    /// Its name, as `--json` prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Usage => "usage",
            Kind::Unavailable => "unavailable",
            Kind::Refused => "refused",
            Kind::Rejected => "rejected",
            Kind::TooLarge => "too_large",
            Kind::Corrupt => "corrupt",
            Kind::Storage => "storage",
        }
    }
}

/// Defines [`Code`]. The documentation of a code is also its row in docs/operations.md.
macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident $text:literal $kind:ident;)+) => {
        /// The failure of an [`Error`](super::Error).
        ///
        /// Programs act on the code and on the [`Kind`]. The message is for people, and its words
        /// may change. The text of a code never changes. An error that no program must distinguish
        /// from others of its kind has the code of its kind, such as `usage`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Code {
            /// All codes, in the order of the documentation.
            pub const ALL: &[Code] = &[$(Code::$name,)+];

            /// The text of the code, as `--json` prints it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Code::$name => $text,)+
                }
            }

            /// The kind of every error with this code.
            pub fn kind(self) -> Kind {
                match self {
                    $(Code::$name => Kind::$kind,)+
                }
            }

            /// The meaning of the code and the remedy, as the documentation has them.
            #[cfg(test)]
            fn meaning(self) -> String {
                let lines: &[&str] = match self {
                    $(Code::$name => &[$($doc),+],)+
                };
                lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
            }
        }
    };
}

codes! {
    /// The call was wrong. Correct it.
    Usage "usage" Usage;
    /// No database was named. Name its file with `--db`.
    NoDatabaseNamed "no_database_named" Usage;
    /// A file or its folder does not exist. Check the path.
    NoSuchFile "no_such_file" Usage;
    /// The path of a database leads to a folder. Name the database's file.
    IsFolder "is_a_folder" Usage;
    /// The database is not a replica. Run `driftless init` on it.
    NotAReplica "not_a_replica" Usage;
    /// The first sync of the replica is not complete. Run `driftless init` again with the same
    /// arguments.
    FirstSyncNotDone "first_sync_not_done" Usage;
    /// A removal would lose data that exists nowhere else. The message names it; `--force` removes
    /// it anyway.
    WouldLose "would_lose" Usage;
    /// The replica is too far behind the remote to be compared with it. Run `driftless sync` first.
    FarBehind "far_behind" Usage;
    /// Another replicator works on the file. It replicates the file; use `driftless status`.
    AlreadyReplicated "already_replicated" Usage;
    /// The replicator was shut down. Start a new one.
    ShutDown "shut_down" Usage;
    /// The replicator was built without a remote. Name one.
    NoRemote "no_remote" Usage;
    /// A table exists on neither side. Check the name.
    NoSuchTable "no_such_table" Usage;
    /// A table is not replicated in this database. Check the name.
    TableNotReplicated "table_not_replicated" Usage;
    /// A table cannot be replicated, for example because it has no primary key. Change it, or
    /// leave it out with `--exclude`.
    TableUnsupported "table_unsupported" Usage;
    /// No table is left that can be replicated. Create one, or name others.
    NothingToReplicate "nothing_to_replicate" Usage;
    /// A foreign key refers to a table that is missing, or to columns that are not unique. Correct
    /// the schema on both sides.
    ForeignKeyUnusable "foreign_key_unusable" Usage;
    /// A table has different definitions on the two sides. Make them equal.
    TablesDiffer "tables_differ" Usage;
    /// A table has another conflict rule on the remote. The rule is the same for all replicas.
    ConflictRuleDiffers "conflict_rule_differs" Usage;
    /// A preference names a column that a table does not have. Name another one, or say what is
    /// preferred in that table.
    PreferenceUnusable "preference_unusable" Usage;
    /// A table or an index cannot be created because its name is in use. Rename one of the two.
    NameTaken "name_taken" Usage;
    /// An object has a name that is reserved for driftless. Rename it.
    NameReserved "name_reserved" Usage;
    /// A definition of one side cannot be executed on the other side. Change it.
    DefinitionRefused "definition_refused" Usage;
    /// A row has a key that is text but not UTF-8. Change the key.
    KeyNotUtf8 "key_not_utf8" Usage;
    /// Rows of the first sync violate a constraint of this database. Correct the rows or the
    /// schema.
    RowsRefused "rows_refused" Usage;
    /// The URL of the remote is not valid. Correct it.
    InvalidUrl "invalid_url" Usage;
    /// The URL of the remote contains a password or a token. Pass the token separately.
    SecretInUrl "secret_in_url" Usage;
    /// The URL would send the token without encryption. Use `libsql://` or `https://`.
    UrlUnencrypted "url_unencrypted" Usage;
    /// The token is empty or malformed. Create another one.
    InvalidToken "invalid_token" Usage;
    /// The token file cannot be read. Check its path and its permissions.
    TokenFileUnreadable "token_file_unreadable" Usage;
    /// The token file can be read or written by other users. Restrict it with `chmod 600`.
    TokenFileExposed "token_file_exposed" Usage;
    /// The additional root certificates cannot be read. Give a PEM file.
    InvalidCertificates "invalid_certificates" Usage;
    /// The text of an id is not valid. Copy it from a list of the command.
    InvalidId "invalid_id" Usage;
    /// Neither a table nor its log has a row with this key. Check the key.
    NoSuchRow "no_such_row" Usage;
    /// A point in time is before the log of this replica begins. Ask about a later one, or ask an
    /// older replica.
    BeforeLog "before_log" Usage;
    /// A statement over a former state is not a plain query, or fails. See the message.
    QueryRefused "query_refused" Usage;
    /// No event, conflict or waiting event has this id, or several have it. List them first.
    NoSuchEvent "no_such_event" Usage;
    /// A conflict cannot be restored now. The message gives the reason.
    CannotRestore "cannot_restore" Usage;
    /// A conflict cannot be restored because of a foreign key. Restore the other row first.
    RestoreNeedsRow "restore_needs_row" Usage;
    /// The new key for a conflict is missing or cannot be used. Choose another one.
    NewKeyUnusable "new_key_unusable" Usage;
    /// Some of several conflicts were restored, others were not. The output names them.
    PartlyRestored "partly_restored" Usage;
    /// The waiting event can still be applied, so it cannot be dismissed. Retry it.
    StillApplicable "still_applicable" Usage;
    /// A replicated table cannot be written here. Its events wait in quarantine; run the
    /// replicator inside the application, which has the functions that the table needs.
    TableUnwritable "table_unwritable" Usage;
    /// A table's rows are compared with the remote's first: its definition has changed.
    TableSuspect "table_suspect" Storage;
    /// Events of a table cannot be pushed because its definition on the remote differs. They wait,
    /// and other tables continue; migrate one of the two sides.
    TableWaits "table_waits" Usage;
    /// The command needs a confirmation and did not get one. Nothing was done.
    NotConfirmed "not_confirmed" Usage;
    /// The hub cannot listen on the address. Choose another one.
    AddressUnusable "address_unusable" Usage;

    /// The remote cannot be used at the moment. Try again later.
    Unavailable "unavailable" Unavailable;
    /// No connection to the remote is possible. Check the network and the URL.
    RemoteUnreachable "remote_unreachable" Unavailable;
    /// TLS with the remote failed. Check the URL, the clock, and proxies.
    TlsFailed "tls_failed" Unavailable;
    /// The certificate of the remote is not valid for this URL or not trusted. Check the URL, the
    /// clock and proxies; name the root certificate of a private authority.
    CertificateRefused "certificate_refused" Unavailable;
    /// The remote did not answer in time. Check the network.
    RemoteTimeout "remote_timeout" Unavailable;
    /// The connection ended before the answer was complete. The request is repeated.
    AnswerCutOff "answer_cut_off" Unavailable;
    /// The answer cannot be read. Something between here and the remote may answer in its place.
    AnswerUnreadable "answer_unreadable" Unavailable;
    /// The remote is overloaded, locked, or has a temporary fault. The request is repeated.
    RemoteBusy "remote_busy" Unavailable;
    /// Nothing was replicated for longer than the health bound. Start a replicator, or see its
    /// trouble.
    ReplicationStopped "replication_stopped" Unavailable;

    /// The remote refuses the replica. See the message.
    Refused "refused" Refused;
    /// The remote refuses the token (HTTP 401). Create a new token.
    TokenRefused "token_refused" Refused;
    /// The token may not do this (HTTP 403). Use a token of this database that may read and write.
    TokenForbidden "token_forbidden" Refused;
    /// The token may only read. Create one that may write.
    TokenReadOnly "token_read_only" Refused;
    /// The remote requires a token and none was sent. Provide one for this host.
    TokenMissing "token_missing" Refused;
    /// The database was blocked by its operator. Check the limits of the plan.
    RemoteBlocked "remote_blocked" Refused;
    /// The remote database may not be read or written with these credentials.
    RemoteReadOnly "remote_read_only" Refused;
    /// The remote database is damaged. Its operator must restore it.
    RemoteDamaged "remote_damaged" Refused;
    /// The URL does not lead to a libSQL server. Check the URL, and log in where the network asks
    /// for it.
    NotLibsql "not_libsql" Refused;
    /// The remote redirects to another address. Use that address.
    RemoteMoved "remote_moved" Refused;
    /// The server has no database of this name. Check the URL.
    NoSuchDatabase "no_such_database" Refused;
    /// The remote redirects to a connection without encryption, or with it where none is
    /// configured.
    RedirectRefused "redirect_refused" Refused;
    /// This machine has no root certificates. Install `ca-certificates`.
    NoRootCertificates "no_root_certificates" Refused;
    /// The URL leads to another database than the replica belongs to. Correct the URL, or accept
    /// the database with `driftless remote accept`.
    OtherRemote "other_remote" Refused;
    /// The remote has an older schema of driftless. Run `driftless init` again.
    RemoteSchemaOlder "remote_schema_older" Refused;
    /// The remote has a newer schema of driftless. Update this program.
    RemoteSchemaNewer "remote_schema_newer" Refused;
    /// A table has a column here that the remote does not know. Add it there and run `driftless
    /// init` again.
    RemoteColumnMissing "remote_column_missing" Refused;
    /// A replicated table is missing on the remote. Restore it there with its rows.
    RemoteTableMissing "remote_table_missing" Refused;
    /// A trigger or a view of the remote refers to an object that is missing there. Create it, or
    /// drop the object that refers to it.
    RemoteObjectMissing "remote_object_missing" Refused;
    /// The remote has lost events that this replica has read or pushed: it was restored from a
    /// backup. Accept that state with `driftless remote accept`, or restore the remote.
    RemoteRolledBack "remote_rolled_back" Refused;
    /// The log of the remote is not the one that this replica has read. See `remote_rolled_back`.
    RemoteLogDiffers "remote_log_differs" Refused;
    /// The log of the remote begins after the position of this replica. Create a new replica.
    RemoteLogCompacted "remote_log_compacted" Refused;

    /// The remote refuses this request because of its content.
    Rejected "rejected" Rejected;
    /// A constraint of the remote refuses a statement.
    ConstraintFailed "constraint_failed" Rejected;
    /// A foreign key of the remote refuses a statement.
    ForeignKeyFailed "foreign_key_failed" Rejected;
    /// The remote or its client cannot parse a statement.
    SqlInvalid "sql_invalid" Rejected;
    /// A statement uses a table or a view that the remote does not have.
    StatementTableMissing "statement_table_missing" Rejected;
    /// A statement uses a column that the remote does not have.
    StatementColumnMissing "statement_column_missing" Rejected;
    /// A statement uses a table of driftless that the remote does not have.
    OwnTableMissing "own_table_missing" Rejected;
    /// The remote lacks the table for pushes in parts: an earlier version installed it.
    StagedTableMissing "staged_table_missing" Rejected;
    /// Another replica is installing the remote at the same time, or the remote's tables are being
    /// changed. Run `driftless init` again.
    InstalledByAnother "installed_by_another" Rejected;
    /// An event can neither be pushed nor be recorded as rejected. Nothing after it is pushed.
    EventUnpushable "event_unpushable" Rejected;

    /// A request or an answer is larger than the remote allows.
    TooLarge "too_large" TooLarge;
    /// A request is larger than the server or a proxy allows (HTTP 413). Raise that limit.
    RequestTooLarge "request_too_large" TooLarge;
    /// An answer is larger than the remote or this program allows.
    AnswerTooLarge "answer_too_large" TooLarge;
    /// The remote takes almost nothing in a request, so an event cannot be pushed. Raise the limit
    /// of the remote.
    EventTooLarge "event_too_large" TooLarge;
    /// The remote sends almost nothing in an answer, so an event cannot be pulled. Raise the limit
    /// of the remote. Pushes continue.
    EventUnreadable "event_unreadable" TooLarge;
    /// Very many changes depend on each other by foreign keys, and the remote may not accept them
    /// in one transaction. They are sent; changes made later wait.
    TransactionTooLarge "transaction_too_large" TooLarge;

    /// Data is not as driftless wrote it.
    Corrupt "corrupt" Corrupt;
    /// An answer of the remote is not valid. The request is repeated; check what is between here
    /// and the remote.
    AnswerInvalid "answer_invalid" Corrupt;
    /// An event of the remote's log is not valid.
    EventInvalid "event_invalid" Corrupt;
    /// The remote confirmed an event and does not have it. The event is pushed again.
    EventNotKept "event_not_kept" Corrupt;
    /// The local log is damaged. Restore the file from a backup, or create a new replica.
    LogDamaged "log_damaged" Corrupt;
    /// The local log was written by a newer version. Update this program.
    LogNewer "log_newer" Corrupt;
    /// The outbox of the local database is damaged.
    OutboxDamaged "outbox_damaged" Corrupt;
    /// The local database has lost the identity of its replica. Create a new replica.
    IdentityLost "identity_lost" Corrupt;

    /// The local database or the disk failed.
    Storage "storage" Storage;
    /// Another program has locked the local database. The work continues when the lock is free.
    DatabaseLocked "database_locked" Storage;
    /// The local database is damaged. Run `PRAGMA integrity_check`, or restore a backup.
    DatabaseDamaged "database_damaged" Storage;
    /// The local file is not a SQLite database. Check the path.
    NotADatabase "not_a_database" Storage;
    /// The local database is read-only. Make the file and its folder writable.
    DatabaseReadOnly "database_read_only" Storage;
    /// The disk of the local database is full. Free some space; the work continues.
    DiskFull "disk_full" Storage;
    /// The disk of the local database failed. Check whether it is full, over its quota, or
    /// failing.
    DiskFailed "disk_failed" Storage;
    /// The local database cannot be opened. Check the path and the permissions.
    CannotOpen "cannot_open" Storage;
    /// SQLite reports another failure of the local database.
    DatabaseFailed "database_failed" Storage;
    /// The local database was written by a newer version. Update this program.
    DatabaseNewer "database_newer" Storage;
    /// The local file is gone. Put it back; replication continues.
    FileGone "file_gone" Storage;
    /// The local file was replaced by one that is not this replica. Put the replica back.
    FileReplaced "file_replaced" Storage;
    /// The local file was restored to another state while it was open. It is read again.
    FileRestored "file_restored" Storage;
    /// The local file was replaced while the write-ahead log of the former file is beside it.
    /// Close all programs, remove the `-wal` and `-shm` files, and put the new file in place
    /// again.
    StrayWal "stray_wal" Storage;
    /// The lock of the local database cannot be taken. Make its folder writable.
    LockFailed "lock_failed" Storage;
    /// The remote's log cannot be applied to the local database. The message names the position.
    LogNotApplied "log_not_applied" Storage;
    /// Nobody reads the output of the command any more.
    OutputClosed "output_closed" Storage;
}

impl Code {
    /// Whether SQLite says it of a local database, in words that do not name the file.
    pub(crate) fn is_of_database(self) -> bool {
        matches!(
            self,
            Code::DatabaseLocked
                | Code::DatabaseDamaged
                | Code::NotADatabase
                | Code::DatabaseReadOnly
                | Code::DiskFull
                | Code::DiskFailed
                | Code::CannotOpen
                | Code::DatabaseFailed
                | Code::FileRestored
        )
    }

    /// Whether the remote refuses the token or what it may do. Another token may end that.
    pub(crate) fn is_of_token(self) -> bool {
        matches!(self, Code::TokenRefused | Code::TokenForbidden | Code::TokenReadOnly)
    }

    /// The advice for every error with this code that has none of its own.
    pub(super) fn hint(self) -> Option<&'static str> {
        Some(match self {
            Code::NoDatabaseNamed => "name its file with --db FILE",
            Code::IsFolder => "name the database's file",
            Code::NotAReplica => "run `driftless init` on it first",
            Code::TokenReadOnly => "create one that may write, with: turso db tokens create NAME",
            Code::TokenRefused => "create a new one with: turso db tokens create NAME",
            Code::TokenForbidden => "use a token of this database that may read and write",
            Code::RemoteBlocked => {
                "the database's owner must allow it again: check the plan's limits"
            }
            Code::RemoteReadOnly => {
                "use a token that may write, and a database that is not read-only"
            }
            Code::RemoteDamaged => {
                "the remote's own database is damaged: its operator must restore it"
            }
            Code::RequestTooLarge => {
                "raise the limit on the size of requests, of the server or of a proxy before it"
            }
            Code::RemoteSchemaNewer => "update driftless on this machine",
            Code::RemoteSchemaOlder => "run `driftless init` again: it updates the remote",
            Code::RemoteColumnMissing => {
                "nothing was pushed, and nothing is lost; add the column on the remote"
            }
            Code::OtherRemote => {
                "nothing was pushed; give the URL of the database that this replica belongs to, \
                 or continue with this one: `driftless remote accept`"
            }
            Code::FirstSyncNotDone => {
                "run `driftless init` again with the same arguments to complete it"
            }
            Code::DatabaseLocked => {
                "find the program that holds a transaction open, and let it finish"
            }
            Code::DatabaseDamaged => {
                "run `PRAGMA integrity_check` on it, and restore a backup if that fails"
            }
            Code::NotADatabase => "it may be encrypted or damaged, or not be the intended file",
            Code::DatabaseReadOnly => "make the file and its folder writable to this user",
            Code::DiskFull => "free some space; nothing is lost, and the work continues by itself",
            Code::DiskFailed => "check whether it is full, over its quota, or failing",
            Code::CannotOpen => {
                "check the path, and that the file and its folder belong to this user"
            }
            Code::FileRestored => "nothing needs to be done: it is read again",
            Code::DatabaseNewer => "update this program",
            Code::LogNewer => "a newer driftless wrote it: update this one",
            Code::LockFailed => "the folder of the database must be writable",
            _ => return None,
        })
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is not a code of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCode;

impl FromStr for Code {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        Code::ALL.iter().copied().find(|code| code.as_str() == text).ok_or(UnknownCode)
    }
}

impl serde::Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of docs/operations.md, as it must be.
    fn table() -> String {
        let row =
            |code: &Code| format!("| `{code}` | {} | {} |\n", code.kind().as_str(), code.meaning());
        Code::ALL.iter().map(row).collect()
    }

    #[test]
    fn the_table_of_codes_is_that_of_the_documentation() {
        const HEAD: &str = "| code | kind | what it means and what to do |\n| --- | --- | --- |\n";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md");
        let text = std::fs::read_to_string(path).unwrap().replace("\r\n", "\n");
        let (before, rest) = text.split_once(HEAD).expect("the table has this head");
        let length: usize =
            rest.split_inclusive('\n').take_while(|l| l.starts_with('|')).map(str::len).sum();
        if std::env::var_os("UPDATE_GOLDENFILES").is_some() {
            std::fs::write(path, [before, HEAD, &table(), &rest[length..]].concat()).unwrap();
            return;
        }
        assert_eq!(rest[..length], table(), "write it anew with UPDATE_GOLDENFILES=1");
    }

    /// `ErrorCode` of the package for Node, as it must be.
    fn types() -> String {
        let code = |code: &Code| format!("  /** {} */\n  | \"{code}\"\n", code.meaning());
        let head = "// Made by the test `error::code` of the library. Do not edit it.\n\n\
                    /** Which failure an error is. */\nexport type ErrorCode =\n";
        format!("{head}{};\n", Code::ALL.iter().map(code).collect::<String>().trim_end())
    }

    #[test]
    fn the_types_of_the_package_for_node_have_every_code() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/bindings/node/types/codes.d.ts");
        if std::env::var_os("UPDATE_GOLDENFILES").is_some() {
            std::fs::write(path, types()).unwrap();
            return;
        }
        let text = std::fs::read_to_string(path).unwrap().replace("\r\n", "\n");
        assert_eq!(text, types(), "write it anew with UPDATE_GOLDENFILES=1");
    }

    #[test]
    fn a_code_has_one_text_and_a_text_one_code() {
        for &code in Code::ALL {
            assert_eq!(code.as_str().parse(), Ok(code));
            assert!(
                code.as_str()
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            );
        }
        assert_eq!("x".parse::<Code>(), Err(UnknownCode));
    }
}
