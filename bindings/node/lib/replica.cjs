"use strict";

const { EventEmitter } = require("node:events");
const { findBinary } = require("./binary.cjs");
const { DriftlessError } = require("./error.cjs");
const { Sidecar } = require("./process.cjs");

/** The waits before an ended process is started again, in ms. The last one is repeated. */
const WAITS = [200, 1_000, 5_000, 30_000];
/** A process that has run for so long has worked: the next wait is the first one again. */
const GOOD_MS = 60_000;

/** The methods without parameters. */
const PLAIN = [
  ["sync", "sync"],
  ["networkChanged", "network_changed"],
  ["pause", "pause"],
  ["resume", "resume"],
  ["beginMigration", "begin_migration"],
  ["previewRemote", "preview_remote"],
  ["acceptRemote", "accept_remote"],
  ["quarantine", "quarantine"],
  ["retryQuarantine", "retry_quarantine"],
];
/** The methods whose parameter is an object. */
const WITH_OBJECT = [
  ["testConnection", "test_connection"],
  ["conflicts", "conflicts"],
  ["conflictCounts", "conflict_counts"],
  ["restore", "restore"],
  ["dismiss", "dismiss"],
  ["log", "log"],
  ["endMigration", "end_migration"],
];

/** A database that is replicated by a process beside this one. */
class Replica extends EventEmitter {
  #options;
  #settings;
  #sidecar = null;
  #status = null;
  #tables = [];
  #id = null;
  #paused = false;
  #closed = null;
  #failures = 0;
  #timer = null;
  #failed = { code: null, signal: null };

  constructor(options) {
    super();
    const { binary, args, env, restart = true, ...settings } = options;
    this.#options = { binary, args, env, restart };
    this.#settings = settings;
  }

  /** Starts the process, and opens the database. */
  async start() {
    const sidecar = new Sidecar(findBinary(this.#options.binary, this.#options.env), {
      args: this.#options.args,
      env: this.#options.env,
      told: (method, params) => this.#told(sidecar, method, params),
      logged: (line) => this.emit("log", line),
    });
    this.#sidecar = sidecar;
    try {
      await sidecar.agree();
      const { replica, tables, status } = await sidecar.call("open", this.#settings);
      if (this.#paused) await sidecar.call("pause");
      this.#id = replica;
      this.#tables = tables;
      this.#status ??= status;
    } catch (error) {
      await sidecar.end();
      this.#failed = await sidecar.ended;
      throw error;
    }
    const began = Date.now();
    sidecar.ended.then((end) => this.#ended(end, Date.now() - began));
    return this;
  }

  /** The newest status. */
  get status() {
    return this.#status;
  }

  /** The replica's id. */
  get id() {
    return this.#id;
  }

  /** The replicated tables, as they were when the database was opened. */
  get tables() {
    return this.#tables;
  }

  /** The number of the sidecar's process; undefined while there is none. */
  get pid() {
    return this.#sidecar?.pid;
  }

  /** Calls a method of the protocol (docs/sidecar.md). */
  async call(method, params = {}) {
    if (this.#closed !== null) throw closed();
    if (this.#sidecar === null) throw notRunning();
    return this.#sidecar.call(method, params);
  }

  /** Asks for the status. */
  async readStatus() {
    return this.call("status");
  }

  /** Sets who is at work, from now on. */
  async setActor(actor) {
    const result = await this.call("set_actor", { actor });
    this.#settings.actor = actor ?? undefined;
    return result;
  }

  /** Changes the URL and the token while it runs. */
  async reconfigure(remote) {
    const result = await this.call("reconfigure", remote);
    const { token, token_file: file } = remote;
    Object.assign(this.#settings, { url: remote.url, token, token_file: file });
    return result;
  }

  /** Shows one conflict. */
  async conflict(id) {
    return this.call("conflict", { id });
  }

  /** Takes a malformed event off the quarantine. */
  async dismissQuarantined(seq) {
    return this.call("dismiss_quarantined", { seq });
  }

  /** Shows one event of the log. */
  async event(id) {
    return this.call("event", { id: String(id) });
  }

  /** Ends the process. What is pending stays in the file. */
  async close() {
    clearTimeout(this.#timer);
    this.#closed ??= this.#sidecar === null ? Promise.resolve() : this.#sidecar.end();
    await this.#closed;
  }

  #told(sidecar, method, params) {
    if (this.#sidecar !== sidecar) return;
    if (method === "status") {
      this.#status = params;
      this.#paused = params.paused;
    }
    this.emit(method, params);
  }

  /** The process has ended. */
  #ended(end, ranFor) {
    this.#sidecar = null;
    if (ranFor >= GOOD_MS) this.#failures = 0;
    this.#goOn(end, null);
  }

  /** Says how the process has ended, and starts another one, unless nobody wants it. */
  #goOn({ code, signal }, error) {
    const isWanted = this.#closed === null && this.#options.restart;
    const wait = isWanted ? WAITS[Math.min(this.#failures, WAITS.length - 1)] : null;
    if (this.#closed === null) {
      const how = signal ? `signal ${signal}` : `exit code ${code}`;
      const isOfOpen = error !== null && !error.code.startsWith("sidecar_");
      this.#status = {
        ...this.#status,
        state: "stopped",
        health: "red",
        process: null,
        code: isOfOpen ? error.code : "replication_stopped",
        trouble: isOfOpen ? error.message : `the sidecar has ended (${how})`,
        hint: (isOfOpen && error.hint) || (isWanted ? "it is started again by itself" : "start it again"),
      };
      this.emit("status", this.#status);
    }
    this.emit("exit", { code, signal, restart_ms: wait });
    if (!isWanted) return;
    this.#failures += 1;
    this.#timer = setTimeout(async () => {
      try {
        await this.start();
      } catch (error) {
        // What has kept it from opening may pass.
        this.#sidecar = null;
        this.#goOn(this.#failed, error);
      }
    }, wait);
  }
}

for (const [name, method] of PLAIN) {
  Replica.prototype[name] = async function () {
    return this.call(method);
  };
}
for (const [name, method] of WITH_OBJECT) {
  Replica.prototype[name] = async function (params = {}) {
    return this.call(method, params);
  };
}

function closed() {
  const message = "the replica was closed";
  return new DriftlessError(message, { code: "shut_down", kind: "usage", hint: "open it again" });
}

function notRunning() {
  return new DriftlessError("the sidecar is not running at the moment", {
    code: "sidecar_ended",
    kind: "unavailable",
    hint: "it is started again by itself, unless `restart` is false",
  });
}

module.exports = { Replica };
