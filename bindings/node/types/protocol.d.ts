// Made by scripts/types.mjs of schema/sidecar.json. Do not edit it.
import type { ErrorCode } from "./codes.js";

export type { ErrorCode };

/** A value of a column as JavaScript can hold it. An integer beyond 2^53, an infinite number and a BLOB (in hexadecimal) are strings; the field beside it whose name ends in `_exact` has those values exactly. */
export type Value = string | number | null;

/** A value as the protocol between replicas spells it: `{"i": "…"}` is an integer, `{"r": "…"}` a real number, `{"x": "…"}` a BLOB in hexadecimal. */
export type ExactValue = string | number | Record<string, unknown> | null;

/** Columns by their names. */
export type Columns = Record<string, Value>;

/** The columns whose values the other form does not give exactly. */
export type ExactColumns = Record<string, ExactValue>;

/** The values of a primary key, in the order of the table's key. */
export type Key = Array<Value>;

/** What to do about an error: correct the call, try again later, tell a person. */
export type ErrorKind = "usage" | "unavailable" | "refused" | "rejected" | "too_large" | "corrupt" | "storage";

/** What happens to a row. */
export type Op = "insert" | "update" | "delete";

/** What the remote has decided about an event; `pending` if it is not known here yet. */
export type Verdict = "applied" | "superseded" | "rejected" | "pending";

/** What counts as a conflict in a table: two changes of one row, or of one column. */
export type ConflictRule = "row" | "columns";

/** How an event lost: another writer was first, another row has its key, or it broke a constraint. */
export type ConflictKind = "conflict" | "collision" | "rejected";

/** What has become of a conflict. `moot`: what it wanted is in the row. */
export type ConflictState = "open" | "restored" | "dismissed" | "moot";

/** What the replicator is doing. */
export type SyncState = "starting" | "first_sync" | "in_step" | "syncing" | "offline" | "refused" | "other_remote" | "rolled_back" | "trouble" | "standby" | "stopped";

/** Whether a person should worry. */
export type Health = "ok" | "degraded" | "red";

/** The remote. */
export interface RemoteStatus {
  /** Its URL, without credentials. */
  url: string;
  /** Whether it answered last time; null if it was not asked yet. */
  reachable: boolean | null;
  /** The identity of the database that this replica belongs to; null before the first sync. */
  epoch: string | null;
  /** Requests that the replicator has sent since it was started; null if none runs. */
  requests: number | null;
  /** The last time when all of the replica was compared with it; null if never. */
  verified: LastCheck | null;
}

/** A whole comparison of a replica with its log and its remote. */
export interface LastCheck {
  /** When it ended: ms since 1970. */
  at: number;
  /** How many rows and events were not as they must be. */
  differing: number;
}

/** How far a first sync is. */
export interface FirstSyncProgress {
  /** What it is doing. */
  step: "installing" | "reading" | "merging";
  /** The table whose rows are read. */
  table: string | null;
  /** How many of its rows are here. */
  rows: number | null;
}

/** An identity that the file had before. */
export interface PastIdentity {
  /** Counts them, from 1. */
  n: number;
  /** The replica's id. */
  replica: string;
  /** The identity of its remote. */
  epoch: string | null;
  /** What it had integrated when it ended. */
  cursor: number;
  /** Why it ended. */
  cause: "copied" | "accepted";
  /** When it ended: ms since 1970. */
  ended_ms: number;
}

/** A table that is not replicated. */
export interface LeftOut {
  /** Its name. */
  table: string;
  /** Who has it. */
  side: "local" | "remote" | "both";
  /** The reason, for a program. */
  why: "unfit" | "bookkeeping" | "excluded" | "not_named" | "later" | "gone";
  /** The reason, for a person. */
  reason: string;
}

/** A replicated table that cannot be written here. */
export interface Unwritable {
  /** The table. */
  table: string;
  /** Why. */
  reason: string;
}

/** How many rows of a table came back. */
export interface ReturnedRows {
  /** The table. */
  table: string;
  /** How many of its rows. */
  rows: number;
}

/** A table of which not everything flows. */
export interface WaitingTable {
  /** The table. */
  table: string;
  /** Why, in a sentence. */
  reason: string;
  /** How many pending events wait. */
  events: number;
}

/** Rows of a table that is not replicated, whose parent the remote has deleted or may be another row. */
export interface Dangling {
  /** The table with the rows. */
  table: string;
  /** The columns that refer to the parent. */
  columns: Array<string>;
  /** The parent's table. */
  parent: string;
  /** How many rows whose parent is gone. */
  rows: number;
  /** How many rows whose parent may be another row than the one that they were written for. */
  doubtful: number;
}

/** How the replica is. */
export interface Status {
  /** The replica's id. */
  replica: string;
  /** The identities that this file had before, the oldest first. */
  identity: Array<PastIdentity>;
  remote: RemoteStatus;
  state: SyncState;
  /** How far the first sync is; null before it begins and once it is done. */
  first_sync: FirstSyncProgress | null;
  /** The process that replicates the file, as far as it is known. */
  process: number | null;
  /** What is wrong, in a sentence. */
  trouble: string | null;
  /** Which trouble it is. */
  code: ErrorCode | null;
  /** What to do about it. */
  hint: string | null;
  /** Local events whose verdict is not known yet. */
  pending: number;
  /** The age of the oldest of them, in seconds. */
  oldest_pending_s: number | null;
  /** The highest seq of the remote log that is integrated. */
  cursor: number;
  /** How many seqs the remote log is known to be ahead. */
  lag: number;
  /** Whether a large transaction of another writer is integrated in part only. */
  in_parts: boolean;
  /** Events of ours that lost and that nobody has looked after yet. */
  conflicts: number;
  /** Pulled events that cannot be applied here yet. */
  quarantined: number;
  /** Tables that changed here: they are compared before anything goes on. */
  suspect: Array<string>;
  /** Rows that were missing after such a change, and came back. */
  returned: Array<ReturnedRows>;
  /** Tables of which not everything flows. */
  waiting: Array<WaitingTable>;
  /** Replicated tables that cannot be written here. */
  unwritable: Array<Unwritable>;
  /** Rows without a parent. */
  dangling: Array<Dangling>;
  /** The tables that are not replicated. */
  left_out: Array<LeftOut>;
  /** When the remote last answered as it should: ms since 1970. */
  last_success: number | null;
  health: Health;
  /** The size of the file. */
  bytes: number;
  /** Whether `pause` was called. */
  paused: boolean;
}

/** One change of one row. */
export interface Event {
  /** Its place in the log; null while it is pending. */
  seq: number | null;
  /** Its id. */
  id: string;
  /** When it was made, by its writer's clock: RFC 3339. */
  made_at: string;
  /** Its writer: `web`, or a replica's id. */
  origin: string;
  /** Who was at work. */
  actor: string | null;
  /** What was pushed together has the same. */
  unit: string | null;
  /** Its table. */
  table: string;
  /** Its row. */
  key: Key;
  /** The same exactly, if `key` is not exact. */
  key_exact?: Array<ExactValue>;
  op: Op;
  /** The old values. */
  before: Columns | null;
  before_exact?: ExactColumns;
  /** The new values. */
  after: Columns | null;
  after_exact?: ExactColumns;
  /** What its writer had seen of the log. */
  base: number;
  /** On the remote: the event of which it is a consequence. */
  cause: string | null;
  /** On a replica: the event of which it is a foreign key's consequence. */
  via: string | null;
  /** The other half of a key change. */
  pair: string | null;
  verdict: Verdict;
  /** Why, if it has lost or will. */
  reason: string | null;
  /** When the remote took it in: RFC 3339. */
  received_at: string | null;
  /** Of a pending event: whether it has probably lost. */
  aside?: boolean;
}

/** A local event that lost, with the winner beside it. */
export interface Conflict {
  /** The id of the event that lost. */
  id: string;
  kind: ConflictKind;
  state: ConflictState;
  /** When this replica learnt of it: RFC 3339. */
  noticed_at: string;
  /** What may be of one transaction has the same. */
  group: string;
  /** The event that lost. */
  event: Event;
  /** Of a key change, the insert. */
  insert: Event | null;
  /** The event that won, where it is known. */
  winner: Event | null;
  /** The row as the remote had it then; null if it was gone. */
  theirs: Columns | null;
  theirs_exact?: ExactColumns;
  /** Of a former remote: the number of the identity that ended with it. */
  former?: number;
}

/** How many conflicts there are of a table, a kind and a state. */
export interface ConflictCount {
  /** The table. */
  table: string;
  kind: ConflictKind;
  state: ConflictState;
  /** How many. */
  count: number;
}

/** A conflict that could not be restored. */
export interface Unrestored {
  /** Its event. */
  id: string;
  /** Its table. */
  table: string;
  /** Its row. */
  key: Key;
  /** The same exactly, if `key` is not exact. */
  key_exact?: Array<ExactValue>;
  /** Why. */
  reason: string;
  /** What to do about it. */
  hint: string | null;
}

/** What became of conflicts that were to be restored. */
export interface Restored {
  /** These are new events now. */
  restored: Array<string>;
  /** These had been restored before. */
  already: Array<string>;
  /** These could not be. */
  refused: Array<Unrestored>;
  /** How many were left for what is of their groups. */
  held_back: number;
}

/** What became of conflicts that were to be dismissed. */
export interface Dismissed {
  /** These are off the list now. */
  dismissed: Array<string>;
  /** These were off it before. */
  already: Array<string>;
}

/** A pulled event that cannot be applied here yet. */
export interface Quarantined {
  /** Its place in the log. */
  seq: number;
  /** Its table. */
  table: string;
  /** Its row. */
  key: Key;
  /** The same exactly, if `key` is not exact. */
  key_exact?: Array<ExactValue>;
  /** Why it waits. */
  reason: string;
}

/** What a retry of the quarantine did. */
export interface Retried {
  /** Events that are applied now. */
  applied: number;
  /** Events that still wait. */
  waiting: number;
}

/** What was moved. */
export interface Summary {
  /** Local events that the remote took in. */
  pushed: number;
  /** Those that were applied. */
  applied: number;
  /** Those that lost to another writer. */
  superseded: number;
  /** Those that broke a constraint. */
  rejected: number;
  /** Events of others that came. */
  pulled: number;
  /** Requests that were answered. */
  requests: number;
  /** Bytes sent. */
  bytes_up: number;
  /** Bytes received. */
  bytes_down: number;
  /** How long it took. */
  seconds: number;
}

/** A finding about a URL and a token. */
export interface Finding {
  /** Its level. */
  level: "fine" | "warning" | "problem";
  /** Its subject. */
  about: "url" | "connection" | "token" | "writing";
  /** The finding, in a sentence. */
  message: string;
  /** The remedy. */
  hint: string | null;
}

/** The findings about a URL and a token. */
export interface ProbeReport {
  /** The URL, without credentials; empty if it is not valid. */
  url: string;
  /** Whether a replica can work with it. */
  usable: boolean;
  /** The time of one request. */
  latency_ms: number | null;
  /** The version of SQLite that the remote runs. */
  sqlite_version: string | null;
  /** Whether the token may write; null if that could not be tried. */
  can_write: boolean | null;
  /** The findings, in the order of the trials. */
  findings: Array<Finding>;
}

/** The end of a log. */
export interface LogEnd {
  /** The remote's identity; null if it has none of our tables. */
  epoch: string | null;
  /** The newest seq. */
  seq: number;
}

/** A remote that may be accepted, beside the one that the replica belongs to. */
export interface RemotePreview {
  /** Why nothing is exchanged with it; null if there is nothing to accept. */
  trouble: string | null;
  /** The remote that the replica belongs to, as far as it was read. */
  ours: LogEnd;
  /** The one that is there now. */
  theirs: LogEnd;
  /** Events that wait to be pushed. */
  pending: number;
  /** The replicated tables. */
  tables: Array<{
    /** The table. */
    table: string;
    /** Rows here. */
    here: number;
    /** Rows there; null if the remote has no such table. */
    there: number | null;
  }>;
}

/** A row that a pull changed. */
export interface Change {
  /** Its table. */
  table: string;
  /** Its row. */
  key: Key;
  /** The same exactly, if `key` is not exact. */
  key_exact?: Array<ExactValue>;
  /** What happened to the row in this database. */
  op: Op;
  /** Who changed it: `web`, or a replica's id. It is this replica's if a change of its own is off the row, because it has lost or will probably lose. */
  origin: string;
}

/** The rows that pulls have changed since the last notification. */
export interface Changes {
  /** The rows, each once. */
  rows: Array<Change>;
  /** Tables of which more rows were changed than are told one by one: read them again. */
  tables: Array<string>;
  /** Anything may have changed: read everything again. */
  everything: boolean;
  /** The highest seq of the remote log that is integrated. */
  cursor: number;
}

/** What the sidecar speaks. */
export interface Agreed {
  /** The version of the protocol. */
  protocol: number;
  /** The version of the program. */
  version: string;
  /** The methods. */
  methods: Array<string>;
  /** The notifications. */
  notifications: Array<string>;
  /** The most bytes of a message to the sidecar. */
  max_message_bytes: number;
  /** The most rows of one `changes`. */
  max_changed_rows: number;
}

/** A database that is open. */
export interface Opened {
  /** The replica's id. */
  replica: string;
  /** The replicated tables. A first sync may add some. */
  tables: Array<string>;
  status: Status;
}

/** The methods, each with its parameters and its result. */
export interface Methods {
  /** Agrees on the version of the protocol. It is the first request. */
  initialize: {
    params: {
      /** The version that the client speaks. */
      protocol: number;
    };
    result: Agreed;
  };
  /** Starts to replicate a database, offline too. When it answers, every write to the tables is captured. */
  open: {
    params: {
      /** The database. Without it, that of --db. */
      file?: string;
      /** The remote. Without it, the one that a replica's file names. */
      url?: string;
      /** The token; an empty string for none. Without it and `token_file`: that of the options and the environment of the process. */
      token?: string;
      /** A file with the token, which is read again when it changes. */
      token_file?: string;
      /** The tables to replicate. Without it, all that can be replicated. */
      tables?: Array<string>;
      /** Without `tables`: tables to leave out. */
      exclude?: Array<string>;
      /** Conflict rules by table, where they are not `row`. */
      conflict?: Record<string, ConflictRule>;
      /** Who is at work. */
      actor?: string;
      /** The longest time between two pulls. */
      poll_ms?: number;
      /** How old the last success may be before health is red. */
      health_bound_ms?: number;
      /** Let http:// lead to another machine. */
      allow_plain_http?: boolean;
    };
    result: Opened;
  };
  /** Tells the status. */
  status: {
    /** No parameters. */
    params: Record<string, never>;
    result: Status;
  };
  /** Sets who is at work, from now on. */
  set_actor: {
    params: {
      /** The name; null for nobody in particular. */
      actor?: string | null;
    };
    /** Nothing. */
    result: null;
  };
  /** Sends and fetches nothing more. Writes are captured all the same. */
  pause: {
    /** No parameters. */
    params: Record<string, never>;
    result: Status;
  };
  /** Goes on after a pause. */
  resume: {
    /** No parameters. */
    params: Record<string, never>;
    result: Status;
  };
  /** Takes driftless's triggers out of the way of a migration by the application. Nothing is pushed and nothing is integrated until end_migration. After 15 minutes it counts as ended, unless it is called again. */
  begin_migration: {
    /** No parameters. */
    params: Record<string, never>;
    result: null;
  };
  /** Ends a migration. What was written since begin_migration is found and pushed. */
  end_migration: {
    params: {
      /** Columns that were renamed in another way than by ALTER TABLE RENAME COLUMN. */
      renames?: Array<{
        /** The table. */
        table: string;
        /** The column's name before. */
        from: string;
        /** Its name afterwards. */
        to: string;
      }>;
    };
    result: null;
  };
  /** Ends the process, after the answer. */
  shutdown: {
    /** No parameters. */
    params: Record<string, never>;
    /** Nothing. */
    result: null;
  };
  /** Pushes and pulls at once. It answers when what was pending at the call has its verdict. */
  sync: {
    /** No parameters. */
    params: Record<string, never>;
    result: Summary;
  };
  /** Says that the network is back: what has failed is tried again at once. */
  network_changed: {
    /** No parameters. */
    params: Record<string, never>;
    /** Nothing. */
    result: null;
  };
  /** Tries a URL and a token. Nothing is changed, and no database needs to be open. */
  test_connection: {
    params: {
      /** The remote. */
      url: string;
      /** The token; an empty string for none. Without it and `token_file`: that of the options and the environment of the process. */
      token?: string;
      /** Let http:// lead to another machine. */
      allow_plain_http?: boolean;
    };
    result: ProbeReport;
  };
  /** Changes the URL and the token while it runs. The URL must lead to the same database. */
  reconfigure: {
    params: {
      /** The remote. */
      url: string;
      /** The token; an empty string for none. Without it and `token_file`: that of the options and the environment of the process. */
      token?: string;
      /** A file with the token, which is read again when it changes. */
      token_file?: string;
    };
    /** Nothing. */
    result: null;
  };
  /** Looks at a remote that is refused. Nothing is changed. */
  preview_remote: {
    /** No parameters. */
    params: Record<string, never>;
    result: RemotePreview;
  };
  /** Goes on with a remote that is refused, on purpose. */
  accept_remote: {
    /** No parameters. */
    params: Record<string, never>;
    result: Summary;
  };
  /** Lists conflicts, with both versions. */
  conflicts: {
    params: {
      /** Only those of this table. */
      table?: string;
      /** Only those that lost in this way. */
      kind?: ConflictKind;
      /** Also those that are not open. */
      closed?: boolean;
      /** Leave out so many. */
      skip?: number;
      /** List no more than so many: 100 without it. */
      limit?: number;
    };
    result: {
      /** The conflicts. */
      conflicts: Array<Conflict>;
      /** Whether there are more. */
      more: boolean;
    };
  };
  /** Counts conflicts. */
  conflict_counts: {
    params: {
      /** Only those of this table. */
      table?: string;
      /** Only those that lost in this way. */
      kind?: ConflictKind;
      /** Also those that are not open. */
      closed?: boolean;
    };
    result: {
      /** The numbers. */
      counts: Array<ConflictCount>;
    };
  };
  /** Shows one conflict. */
  conflict: {
    params: {
      /** Its id, or the beginning or end of it. */
      id: string;
    };
    result: Conflict;
  };
  /** Writes the values of lost events again, as new events. */
  restore: {
    params: {
      /** These: their ids, or the beginnings or ends of them. */
      ids?: Array<string>;
      /** All open ones. */
      all?: boolean;
      /** With `all`: only those of this table. */
      table?: string;
      /** With `all`: only those that lost in this way. */
      kind?: ConflictKind;
      /** Only the named events, and not what their transactions lost besides. */
      alone?: boolean;
      /** Under a new key: a fresh number, or these values. */
      new_key?: "fresh" | Array<string | number>;
    };
    result: Restored;
  };
  /** Takes lost events off the list. The log keeps them. */
  dismiss: {
    params: {
      /** These: their ids, or the beginnings or ends of them. */
      ids?: Array<string>;
      /** All open ones. */
      all?: boolean;
      /** With `all`: only those of this table. */
      table?: string;
      /** With `all`: only those that lost in this way. */
      kind?: ConflictKind;
    };
    result: Dismissed;
  };
  /** Lists pulled events that cannot be applied here yet. */
  quarantine: {
    /** No parameters. */
    params: Record<string, never>;
    result: {
      /** The events. */
      events: Array<Quarantined>;
    };
  };
  /** Tries them once more. */
  retry_quarantine: {
    /** No parameters. */
    params: Record<string, never>;
    result: Retried;
  };
  /** Takes one off that is malformed. */
  dismiss_quarantined: {
    params: {
      /** Its place in the log. */
      seq: number;
    };
    /** Nothing. */
    result: null;
  };
  /** Lists events in the order of the log, then the pending ones. */
  log: {
    params: {
      /** Only those of this table. */
      table?: string;
      /** Only those of this row: its key's values with commas between, or a JSON array. */
      key?: string;
      /** Only those of this writer: `web`, `me`, or a replica. */
      origin?: string;
      /** Only those with this verdict. */
      verdict?: Verdict;
      /** From here on: a time, an age such as `2h`, a seq, or an event's id. */
      since?: string;
      /** Up to here: likewise. */
      until?: string;
      /** The log of a former remote, by the number of the identity that ended with it. */
      former?: number;
      /** Leave out so many. */
      skip?: number;
      /** List no more than so many: 100 without it, 1,000 at the most. */
      limit?: number;
    };
    result: {
      /** The events. */
      events: Array<Event>;
      /** Whether there are more. */
      more: boolean;
    };
  };
  /** Shows one event. */
  event: {
    params: {
      /** Its seq, its id, or the beginning or end of that. */
      id: string;
    };
    result: Event;
  };
}

/** What the sidecar tells without being asked, each with its parameters. */
export interface Notifications {
  status: Status;
  changes: Changes;
}

/** An error for programs. */
export interface ErrorData {
  code: ErrorCode;
  kind: ErrorKind;
  /** What a person can do about it. */
  hint: string | null;
  /** The remote's own code for it. */
  remote_code: string | null;
}
