"use strict";

const { spawn } = require("node:child_process");
const { DriftlessError } = require("./error.cjs");

/** The version of the protocol that this package speaks. */
const PROTOCOL = 1;
/** How many lines of the log are kept for the error of a process that ends. */
const LOG_LINES = 20;
/** How long a process may take to end, in ms. */
const PATIENCE = 2_000;

/** One process of the sidecar: requests, and what it tells. */
class Sidecar {
  #child;
  #waiting = new Map();
  #next = 1;
  #log = [];
  #ended;

  /**
   * Starts it. `told(method, params)` is called for each notification, `logged(line)` for each
   * line of its log.
   */
  constructor(binary, { args = [], env = process.env, told, logged }) {
    this.#child = spawn(binary, ["run", "--stdio", ...args], {
      env,
      stdio: ["pipe", "pipe", "pipe"],
      windowsHide: true,
    });
    lines(this.#child.stdout, (line) => this.#read(line, told));
    lines(this.#child.stderr, (line) => {
      this.#log.push(line);
      if (this.#log.length > LOG_LINES) this.#log.shift();
      logged?.(line);
    });
    // A request that is written as the process ends is refused when it has ended.
    this.#child.stdin.on("error", () => {});
    this.#ended = new Promise((resolve) => {
      let failed = null;
      const end = (code, signal) => {
        const end = { code, signal, error: failed, log: [...this.#log] };
        for (const { reject } of this.#waiting.values()) reject(ended(end));
        this.#waiting.clear();
        resolve(end);
      };
      this.#child.on("error", (error) => {
        failed = error;
        // A process that could not be started has no exit.
        if (this.#child.pid === undefined) end(null, null);
      });
      this.#child.on("close", end);
    });
  }

  /** The number of its process. */
  get pid() {
    return this.#child.pid;
  }

  /** How it ended, once it has. */
  get ended() {
    return this.#ended;
  }

  /** Calls a method. */
  call(method, params = {}) {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      if (this.#child.exitCode !== null || this.#child.signalCode !== null) {
        const { exitCode: code, signalCode: signal } = this.#child;
        reject(ended({ code, signal, error: null, log: this.#log }));
        return;
      }
      this.#waiting.set(id, { resolve, reject });
      this.#child.stdin.write(JSON.stringify({ jsonrpc: "2.0", id, method, params }) + "\n");
    });
  }

  /** Agrees on the version of the protocol. */
  async agree() {
    try {
      return await this.call("initialize", { protocol: PROTOCOL });
    } catch (error) {
      if (error.code !== "usage") throw error;
      throw new DriftlessError(error.message, {
        code: "sidecar_protocol",
        kind: "usage",
        hint: error.hint,
      });
    }
  }

  /** Ends it, and waits for that. */
  async end() {
    // What does not answer is ended by the end of its input, and in the end by force.
    this.call("shutdown").catch(() => {});
    this.#child.stdin.end();
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), PATIENCE);
    await this.#ended;
    clearTimeout(timer);
  }

  #read(line, told) {
    const message = JSON.parse(line);
    if (message.method !== undefined) {
      told?.(message.method, message.params);
      return;
    }
    const waiting = this.#waiting.get(message.id);
    if (waiting === undefined) return;
    this.#waiting.delete(message.id);
    if (message.error) waiting.reject(DriftlessError.of(message.error));
    else waiting.resolve(message.result);
  }
}

/** The error of a request whose process has ended. */
function ended({ code, signal, error, log }) {
  const how = error ? error.message : signal ? `signal ${signal}` : `exit code ${code}`;
  const last = log.length > 0 ? `: ${log[log.length - 1]}` : "";
  return new DriftlessError(`the sidecar has ended (${how})${last}`, {
    code: "sidecar_ended",
    kind: "unavailable",
    hint: "nothing is lost: the changes are in the file, and go out when it runs again",
  });
}

/** Calls `give` for each whole line of a stream. */
function lines(stream, give) {
  let parts = [];
  stream.on("data", (bytes) => {
    let begin = 0;
    for (let end; (end = bytes.indexOf(10, begin)) >= 0; begin = end + 1) {
      parts.push(bytes.subarray(begin, end));
      const line = parts.length === 1 ? parts[0] : Buffer.concat(parts);
      parts = [];
      give(line.toString("utf8"));
    }
    if (begin < bytes.length) parts.push(bytes.subarray(begin));
  });
}

module.exports = { Sidecar, PROTOCOL };
