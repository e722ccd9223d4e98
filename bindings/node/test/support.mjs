// What the tests share: a folder, a hub, and SQLite clients that write on the main thread.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/** The executable under test. */
export const BINARY = process.env.DRIFTLESS_BINARY;
if (!BINARY) throw new Error("DRIFTLESS_BINARY names the executable: run this by `cargo test`");
delete process.env.DRIFTLESS_AUTH_TOKEN;
delete process.env.TURSO_AUTH_TOKEN;

const modules = process.env.DRIFTLESS_TEST_NODE_MODULES;
export const requireInstalled = createRequire(modules ? `${modules}/` : import.meta.url);

/** How long anything may take that should take a moment. */
const PATIENCE_MS = 60_000;

/** A folder that is gone after the test. */
export function folder(t) {
  const place = mkdtempSync(path.join(tmpdir(), "driftless-node-"));
  t.after(() => rmSync(place, { recursive: true, force: true }));
  return (name) => path.join(place, name);
}

/** Starts a hub, and gives its URL. */
export async function hub(t, file, listen = "127.0.0.1:0") {
  const args = ["hub", "--db", file, "--listen", listen];
  const child = spawn(BINARY, args, { stdio: ["ignore", "pipe", "ignore"] });
  t.after(async () => {
    child.kill("SIGKILL");
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  });
  const [first] = await once(child.stdout, "data");
  return String(first).match(/http:\S+/)[0];
}

/** Waits until `is` gives something true, and gives that. */
export async function until(what, is) {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    const found = await is();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited for a minute: ${what}`);
    await sleep(10);
  }
}

/**
 * The clients that are to be had: `open(file)` gives `exec(sql)`, `run(sql, …)`, `all(sql)` and
 * `close()`, all of them on this thread.
 */
export const CLIENTS = [];

/** A client with the interface of better-sqlite3. */
function likeBetterSqlite3(name, Database) {
  CLIENTS.push([name, (file) => {
    const db = new Database(file);
    db.pragma("journal_mode = wal");
    db.pragma("busy_timeout = 5000");
    return {
      exec: (sql) => db.exec(sql),
      run: (sql, ...args) => db.prepare(sql).run(...args),
      all: (sql) => db.prepare(sql).all(),
      close: () => db.close(),
    };
  }]);
}

for (const name of ["better-sqlite3", "libsql"]) {
  try {
    likeBetterSqlite3(name, requireInstalled(name));
  } catch {}
}
try {
  const { DatabaseSync } = await import("node:sqlite");
  CLIENTS.push(["node:sqlite", (file) => {
    const db = new DatabaseSync(file);
    db.exec("PRAGMA journal_mode = wal; PRAGMA busy_timeout = 5000");
    return {
      exec: (sql) => db.exec(sql),
      run: (sql, ...args) => db.prepare(sql).run(...args),
      all: (sql) => db.prepare(sql).all(),
      close: () => db.close(),
    };
  }]);
} catch {}
if (CLIENTS.length === 0) throw new Error("no SQLite client is to be had");

/** The first of them. */
export function sqlite(file) {
  return CLIENTS[0][1](file);
}

export const SCHEMA =
  "CREATE TABLE members (id TEXT PRIMARY KEY, name TEXT NOT NULL, phone TEXT);";
