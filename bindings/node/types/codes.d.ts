// Made by the test `error::code` of the library. Do not edit it.

/** Which failure an error is. */
export type ErrorCode =
  /** The call was wrong. Correct it. */
  | "usage"
  /** No database was named. Name its file with `--db`. */
  | "no_database_named"
  /** A file or its folder does not exist. Check the path. */
  | "no_such_file"
  /** The path of a database leads to a folder. Name the database's file. */
  | "is_a_folder"
  /** The database is not a replica. Run `driftless init` on it. */
  | "not_a_replica"
  /** The first sync of the replica is not complete. Run `driftless init` again with the same arguments. */
  | "first_sync_not_done"
  /** A removal would lose data that exists nowhere else. The message names it; `--force` removes it anyway. */
  | "would_lose"
  /** The replica is too far behind the remote to be compared with it. Run `driftless sync` first. */
  | "far_behind"
  /** Another replicator works on the file. It replicates the file; use `driftless status`. */
  | "already_replicated"
  /** The replicator was shut down. Start a new one. */
  | "shut_down"
  /** The replicator was built without a remote. Name one. */
  | "no_remote"
  /** A table exists on neither side. Check the name. */
  | "no_such_table"
  /** A table is not replicated in this database. Check the name. */
  | "table_not_replicated"
  /** A table cannot be replicated, for example because it has no primary key. Change it, or leave it out with `--exclude`. */
  | "table_unsupported"
  /** No table is left that can be replicated. Create one, or name others. */
  | "nothing_to_replicate"
  /** A foreign key refers to a table that is missing, or to columns that are not unique. Correct the schema on both sides. */
  | "foreign_key_unusable"
  /** A table has different definitions on the two sides. Make them equal. */
  | "tables_differ"
  /** A table has another conflict rule on the remote. The rule is the same for all replicas. */
  | "conflict_rule_differs"
  /** A preference names a column that a table does not have. Name another one, or say what is preferred in that table. */
  | "preference_unusable"
  /** A table or an index cannot be created because its name is in use. Rename one of the two. */
  | "name_taken"
  /** An object has a name that is reserved for driftless. Rename it. */
  | "name_reserved"
  /** A definition of one side cannot be executed on the other side. Change it. */
  | "definition_refused"
  /** A row has a key that is text but not UTF-8. Change the key. */
  | "key_not_utf8"
  /** Rows of the first sync violate a constraint of this database. Correct the rows or the schema. */
  | "rows_refused"
  /** The URL of the remote is not valid. Correct it. */
  | "invalid_url"
  /** The URL of the remote contains a password or a token. Pass the token separately. */
  | "secret_in_url"
  /** The URL would send the token without encryption. Use `libsql://` or `https://`. */
  | "url_unencrypted"
  /** The token is empty or malformed. Create another one. */
  | "invalid_token"
  /** The token file cannot be read. Check its path and its permissions. */
  | "token_file_unreadable"
  /** The token file can be read or written by other users. Restrict it with `chmod 600`. */
  | "token_file_exposed"
  /** The additional root certificates cannot be read. Give a PEM file. */
  | "invalid_certificates"
  /** The text of an id is not valid. Copy it from a list of the command. */
  | "invalid_id"
  /** Neither a table nor its log has a row with this key. Check the key. */
  | "no_such_row"
  /** A point in time is before the log of this replica begins. Ask about a later one, or ask an older replica. */
  | "before_log"
  /** A statement over a former state is not a plain query, or fails. See the message. */
  | "query_refused"
  /** No event, conflict or waiting event has this id, or several have it. List them first. */
  | "no_such_event"
  /** A conflict cannot be restored now. The message gives the reason. */
  | "cannot_restore"
  /** A conflict cannot be restored because of a foreign key. Restore the other row first. */
  | "restore_needs_row"
  /** The new key for a conflict is missing or cannot be used. Choose another one. */
  | "new_key_unusable"
  /** Some of several conflicts were restored, others were not. The output names them. */
  | "partly_restored"
  /** The waiting event can still be applied, so it cannot be dismissed. Retry it. */
  | "still_applicable"
  /** A replicated table cannot be written here. Its events wait in quarantine; run the replicator inside the application, which has the functions that the table needs. */
  | "table_unwritable"
  /** A table's rows are compared with the remote's first: its definition has changed. */
  | "table_suspect"
  /** Events of a table cannot be pushed because its definition on the remote differs. They wait, and other tables continue; migrate one of the two sides. */
  | "table_waits"
  /** The command needs a confirmation and did not get one. Nothing was done. */
  | "not_confirmed"
  /** The hub cannot listen on the address. Choose another one. */
  | "address_unusable"
  /** The remote cannot be used at the moment. Try again later. */
  | "unavailable"
  /** No connection to the remote is possible. Check the network and the URL. */
  | "remote_unreachable"
  /** TLS with the remote failed. Check the URL, the clock, and proxies. */
  | "tls_failed"
  /** The certificate of the remote is not valid for this URL or not trusted. Check the URL, the clock and proxies; name the root certificate of a private authority. */
  | "certificate_refused"
  /** The remote did not answer in time. Check the network. */
  | "remote_timeout"
  /** The connection ended before the answer was complete. The request is repeated. */
  | "answer_cut_off"
  /** The answer cannot be read. Something between here and the remote may answer in its place. */
  | "answer_unreadable"
  /** The remote is overloaded, locked, or has a temporary fault. The request is repeated. */
  | "remote_busy"
  /** Nothing was replicated for longer than the health bound. Start a replicator, or see its trouble. */
  | "replication_stopped"
  /** The remote refuses the replica. See the message. */
  | "refused"
  /** The remote refuses the token (HTTP 401). Create a new token. */
  | "token_refused"
  /** The token may not do this (HTTP 403). Use a token of this database that may read and write. */
  | "token_forbidden"
  /** The token may only read. Create one that may write. */
  | "token_read_only"
  /** The remote requires a token and none was sent. Provide one for this host. */
  | "token_missing"
  /** The database was blocked by its operator. Check the limits of the plan. */
  | "remote_blocked"
  /** The remote database may not be read or written with these credentials. */
  | "remote_read_only"
  /** The remote database is damaged. Its operator must restore it. */
  | "remote_damaged"
  /** The URL does not lead to a libSQL server. Check the URL, and log in where the network asks for it. */
  | "not_libsql"
  /** The remote redirects to another address. Use that address. */
  | "remote_moved"
  /** The server has no database of this name. Check the URL. */
  | "no_such_database"
  /** The remote redirects to a connection without encryption, or with it where none is configured. */
  | "redirect_refused"
  /** This machine has no root certificates. Install `ca-certificates`. */
  | "no_root_certificates"
  /** The URL leads to another database than the replica belongs to. Correct the URL, or accept the database with `driftless remote accept`. */
  | "other_remote"
  /** The remote has an older schema of driftless. Run `driftless init` again. */
  | "remote_schema_older"
  /** The remote has a newer schema of driftless. Update this program. */
  | "remote_schema_newer"
  /** A table has a column here that the remote does not know. Add it there and run `driftless init` again. */
  | "remote_column_missing"
  /** A replicated table is missing on the remote. Restore it there with its rows. */
  | "remote_table_missing"
  /** A trigger or a view of the remote refers to an object that is missing there. Create it, or drop the object that refers to it. */
  | "remote_object_missing"
  /** The remote has lost events that this replica has read or pushed: it was restored from a backup. Accept that state with `driftless remote accept`, or restore the remote. */
  | "remote_rolled_back"
  /** The log of the remote is not the one that this replica has read. See `remote_rolled_back`. */
  | "remote_log_differs"
  /** The log of the remote begins after the position of this replica. Create a new replica. */
  | "remote_log_compacted"
  /** The remote refuses this request because of its content. */
  | "rejected"
  /** A constraint of the remote refuses a statement. */
  | "constraint_failed"
  /** A foreign key of the remote refuses a statement. */
  | "foreign_key_failed"
  /** The remote or its client cannot parse a statement. */
  | "sql_invalid"
  /** A statement uses a table or a view that the remote does not have. */
  | "statement_table_missing"
  /** A statement uses a column that the remote does not have. */
  | "statement_column_missing"
  /** A statement uses a table of driftless that the remote does not have. */
  | "own_table_missing"
  /** The remote lacks the table for pushes in parts: an earlier version installed it. */
  | "staged_table_missing"
  /** Another replica is installing the remote at the same time, or the remote's tables are being changed. Run `driftless init` again. */
  | "installed_by_another"
  /** An event can neither be pushed nor be recorded as rejected. Nothing after it is pushed. */
  | "event_unpushable"
  /** A request or an answer is larger than the remote allows. */
  | "too_large"
  /** A request is larger than the server or a proxy allows (HTTP 413). Raise that limit. */
  | "request_too_large"
  /** An answer is larger than the remote or this program allows. */
  | "answer_too_large"
  /** The remote takes almost nothing in a request, so an event cannot be pushed. Raise the limit of the remote. */
  | "event_too_large"
  /** The remote sends almost nothing in an answer, so an event cannot be pulled. Raise the limit of the remote. Pushes continue. */
  | "event_unreadable"
  /** Very many changes depend on each other by foreign keys, and the remote may not accept them in one transaction. They are sent; changes made later wait. */
  | "transaction_too_large"
  /** Data is not as driftless wrote it. */
  | "corrupt"
  /** An answer of the remote is not valid. The request is repeated; check what is between here and the remote. */
  | "answer_invalid"
  /** An event of the remote's log is not valid. */
  | "event_invalid"
  /** The remote confirmed an event and does not have it. The event is pushed again. */
  | "event_not_kept"
  /** The local log is damaged. Restore the file from a backup, or create a new replica. */
  | "log_damaged"
  /** The local log was written by a newer version. Update this program. */
  | "log_newer"
  /** The outbox of the local database is damaged. */
  | "outbox_damaged"
  /** The local database has lost the identity of its replica. Create a new replica. */
  | "identity_lost"
  /** The local database or the disk failed. */
  | "storage"
  /** Another program has locked the local database. The work continues when the lock is free. */
  | "database_locked"
  /** The local database is damaged. Run `PRAGMA integrity_check`, or restore a backup. */
  | "database_damaged"
  /** The local file is not a SQLite database. Check the path. */
  | "not_a_database"
  /** The local database is read-only. Make the file and its folder writable. */
  | "database_read_only"
  /** The disk of the local database is full. Free some space; the work continues. */
  | "disk_full"
  /** The disk of the local database failed. Check whether it is full, over its quota, or failing. */
  | "disk_failed"
  /** The local database cannot be opened. Check the path and the permissions. */
  | "cannot_open"
  /** SQLite reports another failure of the local database. */
  | "database_failed"
  /** The local database was written by a newer version. Update this program. */
  | "database_newer"
  /** The local file is gone. Put it back; replication continues. */
  | "file_gone"
  /** The local file was replaced by one that is not this replica. Put the replica back. */
  | "file_replaced"
  /** The local file was restored to another state while it was open. It is read again. */
  | "file_restored"
  /** The local file was replaced while the write-ahead log of the former file is beside it. Close all programs, remove the `-wal` and `-shm` files, and put the new file in place again. */
  | "stray_wal"
  /** The lock of the local database cannot be taken. Make its folder writable. */
  | "lock_failed"
  /** The remote's log cannot be applied to the local database. The message names the position. */
  | "log_not_applied"
  /** Nobody reads the output of the command any more. */
  | "output_closed";
