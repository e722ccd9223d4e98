// What the sidecar costs the main thread: the delay of its event loop, and the processor time of the
// thread (with Node 23.9 and later), while it writes, without a sidecar and with one, and while the
// web writes as much. The delay is of use on an idle machine only; the processor time is not as
// dependent on others.
//
//   cargo build --release
//   DRIFTLESS_BINARY=target/release/driftless DRIFTLESS_TEST_NODE_MODULES=.ci/tools/node_modules \
//     node bindings/node/bench/event-loop.mjs [SECONDS] [CHANGES A SECOND]
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { Worker, isMainThread, workerData } from "node:worker_threads";
import { setTimeout as sleep } from "node:timers/promises";
import { open } from "../lib/index.mjs";
import { CLIENTS, hub, sqlite, until } from "../test/support.mjs";

const SCHEMA = "CREATE TABLE members (id TEXT PRIMARY KEY, name TEXT NOT NULL, phone TEXT);";
/** Changes of one transaction, and of one turn of the event loop. */
const BATCH = 20;

/** Writes `rate` changes a second for a while: transactions of some, spread evenly. */
async function write(db, rate, seconds, prefix) {
  const begun = performance.now();
  let written = 0;
  for (;;) {
    const passed = performance.now() - begun;
    if (passed >= seconds * 1_000) return written;
    const due = Math.floor((passed / 1_000) * rate) - written;
    if (due < BATCH) {
      await new Promise((resolve) => setTimeout(resolve, 0.5));
      continue;
    }
    db.exec("BEGIN IMMEDIATE");
    for (let row = 0; row < BATCH; row += 1, written += 1) {
      db.run("INSERT INTO members VALUES (?, ?, ?)", `${prefix}${written}`, "somebody", `${written}`);
    }
    db.exec("COMMIT");
    await new Promise(setImmediate);
  }
}

/**
 * Measures how late a timer of 1 ms is, in ms, while `work` runs: what a click would have waited
 * besides the work of the application itself.
 */
async function delays(work) {
  const found = [];
  let goesOn = true;
  const probe = (async () => {
    while (goesOn) {
      const begun = performance.now();
      await sleep(1);
      found.push(performance.now() - begun - 1);
    }
  })();
  const [begun, cpu] = [performance.now(), process.threadCpuUsage?.()];
  await work();
  const used = cpu && process.threadCpuUsage(cpu);
  const busy = used && (used.user + used.system) / (performance.now() - begun);
  goesOn = false;
  await probe;
  found.sort((a, b) => a - b);
  const at = (part) => found[Math.min(found.length - 1, Math.floor(found.length * part))];
  return { p50: at(0.5), p99: at(0.99), max: found.at(-1), busy };
}

if (isMainThread) {
  const seconds = Number(process.argv[2] ?? 10);
  const rate = Number(process.argv[3] ?? 10_000);
  const ends = [];
  const t = { after: (end) => ends.unshift(end) };
  const place = mkdtempSync(path.join(tmpdir(), "driftless-bench-"));
  ends.push(() => rmSync(place, { recursive: true, force: true }));
  const file = (name) => path.join(place, name);
  const url = await hub(t, file("hub.db"));
  const show = (what, { p50, p99, max, busy }) => {
    const ms = (value) => `${value.toFixed(2)} ms`.padStart(9);
    const thread = busy === undefined ? "" : `  thread ${busy.toFixed(1).padStart(6)} ms/s`;
    console.log(`${what.padEnd(40)} p50 ${ms(p50)}  p99 ${ms(p99)}  max ${ms(max)}${thread}`);
  };
  console.log(`node ${process.version}, ${CLIENTS[0][0]}, ${rate} changes a second, ${seconds} s each`);

  show("idle, without a sidecar", await delays(() => sleep(seconds * 1_000)));
  const bare = sqlite(file("bare.db"));
  bare.exec(SCHEMA);
  const write_ = (db, prefix) => async () => {
    const written = await write(db, rate, seconds, prefix);
    if (written < rate * seconds * 0.9) console.log(`  only ${written} were written`);
  };
  show("writing, without triggers", await delays(write_(bare, "a")));

  const db = sqlite(file("gym.db"));
  db.exec(SCHEMA);
  const captured = await open({ file: file("gym.db"), url });
  await captured.sync();
  await captured.close();
  show("writing, captured, without a sidecar", await delays(write_(db, "b")));
  const replica = await open({ file: file("gym.db"), url });
  await replica.sync();
  const told = { status: 0, changes: 0, rows: 0 };
  replica.on("status", () => (told.status += 1));
  replica.on("changes", ({ rows }) => {
    told.changes += 1;
    told.rows += rows.length;
  });
  show("idle, with a sidecar", await delays(() => sleep(seconds * 1_000)));
  show("writing, with a sidecar", await delays(write_(db, "c")));
  console.log(`  ${told.status} statuses; ${replica.status.pending} pending at the end`);
  await replica.sync();
  told.changes = told.rows = 0;
  const end = replica.status.cursor;
  const wait = async () => {
    const worker = new Worker(new URL(import.meta.url), { workerData: { file: file("hub.db"), rate, seconds } });
    await new Promise((resolve, reject) => worker.on("exit", resolve).on("error", reject));
  };
  show("the web writes, with a sidecar", await delays(wait));
  await until("all has come", () => replica.status.lag === 0 && replica.status.cursor > end);
  console.log(`  ${told.changes} times, ${told.rows} rows were told one by one`);
  await replica.close();
  bare.close();
  db.close();
  for (const end of ends) await end();
} else {
  const db = sqlite(workerData.file);
  await write(db, workerData.rate, workerData.seconds, "w");
  db.close();
}
