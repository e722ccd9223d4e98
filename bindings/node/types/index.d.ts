import { EventEmitter } from "node:events";
import type {
  Changes,
  Conflict,
  ErrorCode,
  ErrorKind,
  Event,
  Methods,
  ProbeReport,
  Status,
} from "./protocol.js";

export * from "./protocol.js";

type Params<M extends keyof Methods> = Methods[M]["params"];
type Result<M extends keyof Methods> = Methods[M]["result"];

/** How to start the sidecar. */
export interface ProcessOptions {
  /** The executable. Without it: DRIFTLESS_BINARY, or that of the package for this machine. */
  binary?: string;
  /** More arguments, such as `-v`. */
  args?: string[];
  /** The environment of the process. Without it, that of this one. */
  env?: NodeJS.ProcessEnv;
}

/** What to replicate, and how. */
export interface OpenOptions extends ProcessOptions, Omit<Params<"open">, "file" | "url"> {
  /** The database. */
  file: string;
  /** The remote. A file that is a replica already names it. */
  url?: string;
  /** Whether a process that has ended is started again: true unless it is said. */
  restart?: boolean;
}

/** How the process ended. */
export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
  /** In how many ms it is started again; null if it is not. */
  restart_ms: number | null;
}

/** The events of a replica. */
export interface ReplicaEvents {
  /** The status has changed. */
  status: [status: Status];
  /** Pulls have changed rows. */
  changes: [changes: Changes];
  /** The process has ended. */
  exit: [exit: Exit];
  /** A line of the log. */
  log: [line: string];
}

/** A database that is replicated by a process beside this one. */
export interface Replica extends EventEmitter {
  on<E extends keyof ReplicaEvents>(event: E, listener: (...args: ReplicaEvents[E]) => void): this;
  once<E extends keyof ReplicaEvents>(event: E, listener: (...args: ReplicaEvents[E]) => void): this;
  off<E extends keyof ReplicaEvents>(event: E, listener: (...args: ReplicaEvents[E]) => void): this;

  /** The newest status. */
  readonly status: Status;
  /** The replica's id. */
  readonly id: string;
  /** The replicated tables, as they were when the database was opened. */
  readonly tables: string[];
  /** The number of the sidecar's process; undefined while there is none. */
  readonly pid: number | undefined;

  /** Asks for the status. */
  readStatus(): Promise<Status>;
  /** Pushes and pulls at once, until what is pending at the call has its verdict. */
  sync(): Promise<Result<"sync">>;
  /** The network is back: what has failed is tried again at once. */
  networkChanged(): Promise<null>;
  /** Sets who is at work, from now on. */
  setActor(actor: string | null): Promise<null>;
  /** Sends and fetches nothing more. Writes are captured all the same. */
  pause(): Promise<Status>;
  /** Goes on after a pause. */
  resume(): Promise<Status>;
  /** Takes driftless's triggers out of the way of a migration. Nothing is sent meanwhile. */
  beginMigration(): Promise<null>;
  /** Ends a migration: what was written since is found and pushed. */
  endMigration(renames?: Params<"end_migration">): Promise<null>;
  /** Tries a URL and a token. Nothing is changed. */
  testConnection(remote: Params<"test_connection">): Promise<ProbeReport>;
  /** Changes the URL and the token while it runs. */
  reconfigure(remote: Params<"reconfigure">): Promise<null>;
  /** Looks at a remote that is refused. Nothing is changed. */
  previewRemote(): Promise<Result<"preview_remote">>;
  /** Goes on with a remote that is refused, on purpose. */
  acceptRemote(): Promise<Result<"accept_remote">>;
  /** Lists conflicts, with both versions. */
  conflicts(filter?: Params<"conflicts">): Promise<Result<"conflicts">>;
  /** Counts conflicts. */
  conflictCounts(filter?: Params<"conflict_counts">): Promise<Result<"conflict_counts">>;
  /** Shows one conflict. */
  conflict(id: string): Promise<Conflict>;
  /** Writes the values of lost events again. */
  restore(which: Params<"restore">): Promise<Result<"restore">>;
  /** Takes lost events off the list. */
  dismiss(which: Params<"dismiss">): Promise<Result<"dismiss">>;
  /** Lists pulled events that cannot be applied here yet. */
  quarantine(): Promise<Result<"quarantine">>;
  /** Tries them once more. */
  retryQuarantine(): Promise<Result<"retry_quarantine">>;
  /** Takes one off that is malformed. */
  dismissQuarantined(seq: number): Promise<null>;
  /** Lists events. */
  log(filter?: Params<"log">): Promise<Result<"log">>;
  /** Shows one event. */
  event(id: string | number): Promise<Event>;
  /** Calls a method of the protocol by its name. */
  call<M extends keyof Methods>(method: M, params?: Params<M>): Promise<Result<M>>;
  /** Ends the process. What is pending stays in the file. */
  close(): Promise<void>;
}

/**
 * Starts to replicate a database by a process beside this one. When it resolves, every later write
 * to the tables is captured, by any program. It does not wait for the network.
 */
export function open(options: OpenOptions): Promise<Replica>;

/** Tries a URL and a token before they are saved. Nothing is changed. */
export function testConnection(
  remote: Params<"test_connection"> & ProcessOptions,
): Promise<ProbeReport>;

/** The executable of the sidecar. */
export function findBinary(binary?: string, env?: NodeJS.ProcessEnv): string;

/** An error of the sidecar, or of the way to it. Act on `code` or `kind`. */
export class DriftlessError extends Error {
  readonly code: ErrorCode | "sidecar_missing" | "sidecar_ended" | "sidecar_protocol";
  readonly kind: ErrorKind;
  /** What a person can do about it. */
  readonly hint: string | null;
  /** The remote's own code for it. */
  readonly remoteCode: string | null;
}

/** The version of the protocol that this package speaks. */
export const PROTOCOL: number;
