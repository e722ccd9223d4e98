// The package as an application uses it.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import * as driftless from "../lib/index.mjs";
import { BINARY, CLIENTS, SCHEMA, folder, hub, sqlite, until } from "./support.mjs";

const { DriftlessError, open, testConnection } = driftless;

/** Opens a replica, which is closed after the test. */
async function opened(t, options) {
  const replica = await open({ poll_ms: 50, ...options });
  t.after(() => replica.close());
  return replica;
}

/** Waits for a status. */
function status(replica, what, is) {
  return until(what, () => is(replica.status) && replica.status);
}

test("import and require give the same", () => {
  const required = createRequire(import.meta.url)("../lib/index.cjs");
  assert.deepEqual(Object.keys(required).sort(), Object.keys(driftless).sort());
  assert.equal(required.DriftlessError, DriftlessError);
});

for (const [name, client] of CLIENTS) {
  test(`a plain file, offline, written by ${name} on the main thread`, async (t) => {
    const place = folder(t);
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const address = `127.0.0.1:${server.address().port}`;
    server.close();
    const db = client(place("gym.db"));
    db.exec(SCHEMA);
    const replica = await opened(t, {
      file: place("gym.db"),
      url: `http://${address}`,
      tables: ["members"],
      actor: "Rosa",
    });
    assert.deepEqual(replica.tables, ["members"]);
    db.run("INSERT INTO members VALUES (?, ?, ?)", "m1", "Ana", null);
    const offline = await status(replica, "offline", ({ state, pending }) => state === "offline" && pending === 1);
    assert.equal(offline.code, "remote_unreachable");
    await assert.rejects(replica.sync(), (error) => {
      assert.ok(error instanceof DriftlessError && error.hint.length > 0);
      assert.deepEqual([error.code, error.kind], ["remote_unreachable", "unavailable"]);
      return true;
    });

    await hub(t, place("hub.db"), address);
    await replica.networkChanged();
    await replica.sync();
    const web = sqlite(place("hub.db"));
    assert.deepEqual(web.all("SELECT id, name FROM members").map((row) => ({ ...row })), [{ id: "m1", name: "Ana" }]);
    assert.equal((await replica.log()).events[0].actor, "Rosa");
    const changes = once(replica, "changes");
    web.run("UPDATE members SET phone = ? WHERE id = ?", "555", "m1");
    const [{ rows }] = await changes;
    assert.deepEqual(rows, [{ table: "members", key: ["m1"], op: "update", origin: "web" }]);
    assert.equal(db.all("SELECT phone FROM members")[0].phone, "555");
    db.close();
    web.close();
  });
}

test("a conflict is listed, restored and dismissed", async (t) => {
  const place = folder(t);
  const url = await hub(t, place("hub.db"));
  const db = sqlite(place("gym.db"));
  db.exec(`${SCHEMA} INSERT INTO members VALUES ('m1', 'Ana', NULL), ('m2', 'Bea', NULL)`);
  const replica = await opened(t, { file: place("gym.db"), url });
  await replica.sync();
  const web = sqlite(place("hub.db"));
  assert.equal((await replica.pause()).paused, true);
  for (const id of ["m1", "m2"]) {
    db.run("UPDATE members SET phone = 'mine' WHERE id = ?", id);
    web.run("UPDATE members SET phone = 'theirs' WHERE id = ?", id);
  }
  await status(replica, "both are pending", ({ pending, paused }) => pending === 2 && paused);
  await replica.resume();
  await replica.sync();
  await status(replica, "both have lost", ({ conflicts }) => conflicts === 2);
  const { conflicts } = await replica.conflicts({ table: "members" });
  assert.equal(conflicts[0].event.after.phone, "mine");
  assert.equal(conflicts[0].theirs.phone, "theirs");
  await replica.restore({ ids: [conflicts[0].id], alone: true });
  await replica.sync();
  assert.equal(web.all("SELECT phone FROM members WHERE id = 'm1'")[0].phone, "mine");
  await replica.dismiss({ all: true });
  assert.deepEqual((await replica.conflictCounts()).counts, []);
  await assert.rejects(replica.conflict("zzz"), { code: "no_such_event", kind: "usage" });
  await assert.rejects(replica.log({ tabel: "members" }), /`tabel` of `log` is not known/);
  db.close();
  web.close();
});

test("a long message arrives whole, whatever the pipe makes of it", async (t) => {
  const place = folder(t);
  const db = sqlite(place("gym.db"));
  db.exec(SCHEMA);
  const replica = await opened(t, { file: place("gym.db"), url: "http://127.0.0.1:1" });
  const name = "Ana Ruíz ".repeat(100_000);
  db.run("INSERT INTO members VALUES ('m1', ?, NULL)", name);
  const [many, few] = await Promise.all([replica.log(), replica.log({ limit: 0 })]);
  assert.equal(many.events[0].after.name, name);
  assert.deepEqual(few, { events: [], more: true });
  db.close();
});

test("a URL is tried before there is a replica", async (t) => {
  const place = folder(t);
  const report = await testConnection({ url: await hub(t, place("hub.db")) });
  assert.deepEqual([report.usable, report.can_write], [true, true]);
  const nobody = await testConnection({ url: "http://127.0.0.1:1" });
  assert.equal(nobody.usable, false);
  assert.ok(nobody.findings[0].hint);
});

test("what cannot be started is said with what to do", async (t) => {
  const place = folder(t);
  const options = { file: place("gym.db"), url: "http://127.0.0.1:1" };
  const missing = { code: "sidecar_missing", kind: "usage" };
  await assert.rejects(open({ ...options, binary: place("nothing") }), missing);
  const env = { ...process.env, DRIFTLESS_BINARY: undefined };
  await assert.rejects(open({ ...options, env }), { ...missing, message: /@driftless\/\w+-\w+ is not installed/ });
  await assert.rejects(open({ ...options, binary: process.execPath }), { code: "sidecar_ended" });
  if (process.platform !== "win32") {
    writeFileSync(place("text"), "no program");
    await assert.rejects(open({ ...options, binary: place("text") }), { code: "sidecar_ended" });
    // Of another version.
    const error = { code: -32002, message: "this program speaks version 9", data: { code: "usage", kind: "usage", hint: "use the two of one release", remote_code: null } };
    const answer = JSON.stringify({ jsonrpc: "2.0", id: 1, error });
    writeFileSync(place("other"), `#!/bin/sh\nread line\necho '${answer}'\nread line\n`);
    chmodSync(place("other"), 0o755);
    await assert.rejects(open({ ...options, binary: place("other") }), { code: "sidecar_protocol", message: /version 9/ });
  }
  await assert.rejects(open({ file: place("gym.db"), url: "nonsense" }), { code: "invalid_url" });
  await assert.rejects(open({ file: place("gym.db") }), { code: "no_remote" });
});

test("a closed replica says so, and leaves the file free", async (t) => {
  const place = folder(t);
  const url = await hub(t, place("hub.db"));
  sqlite(place("gym.db")).exec(SCHEMA);
  const replica = await open({ file: place("gym.db"), url });
  const exit = once(replica, "exit");
  await Promise.all([replica.close(), replica.close()]);
  assert.deepEqual(await exit, [{ code: 0, signal: null, restart_ms: null }]);
  await assert.rejects(replica.sync(), { code: "shut_down" });
  const again = await opened(t, { file: place("gym.db"), url });
  await again.sync();
  assert.equal(again.status.state !== "standby", true);
});

test("killed at any moment, it is started again and nothing is lost", async (t) => {
  const place = folder(t);
  const url = await hub(t, place("hub.db"));
  const db = sqlite(place("gym.db"));
  db.exec(SCHEMA);
  let written = 0;
  for (let round = 0; round < 3; round += 1) {
    const replica = await opened(t, { file: place("gym.db"), url });
    const exits = [];
    replica.on("exit", (exit) => exits.push(exit));
    // A third kill would be followed by a wait of 5 s.
    while (exits.length < 2) {
      const end = Date.now() + Math.random() * 150;
      while (Date.now() < end) {
        written += 1;
        db.run("INSERT INTO members VALUES (?, ?, NULL)", `m${written}`, "somebody");
        await sleep(1);
      }
      const seen = exits.length;
      process.kill(await until("it runs", () => replica.pid), "SIGKILL");
      await until("its end is told", () => exits.length > seen);
      assert.deepEqual([exits.at(-1).signal, replica.status.state], ["SIGKILL", "stopped"]);
      assert.equal(replica.status.code, "replication_stopped");
    }
    assert.deepEqual(exits.map((exit) => exit.restart_ms), [200, 1_000]);
    await until("it runs again", () => replica.pid);
    await replica.close();
  }
  const last = await opened(t, { file: place("gym.db"), url });
  await last.sync();
  const web = sqlite(place("hub.db"));
  assert.equal(web.all("SELECT count(*) AS n FROM members")[0].n, written);
  assert.equal(web.all("SELECT count(*) AS n FROM driftless_events")[0].n, written);
  assert.equal(db.all("PRAGMA integrity_check")[0].integrity_check, "ok");
  db.close();
  web.close();
});

test("without `restart` it stays ended", async (t) => {
  const place = folder(t);
  sqlite(place("gym.db")).exec(SCHEMA);
  const replica = await opened(t, { file: place("gym.db"), url: "http://127.0.0.1:1", restart: false });
  const exit = once(replica, "exit");
  process.kill(replica.pid, "SIGKILL");
  assert.equal((await exit)[0].restart_ms, null);
  await assert.rejects(replica.sync(), { code: "sidecar_ended" });
  assert.equal(replica.status.hint, "start it again");
});

// F72: the sidecar must not live on with the token and the file of a user who has logged out.
test("it ends with an application that is killed", async (t) => {
  const place = folder(t);
  sqlite(place("gym.db")).exec(SCHEMA);
  const program = `
    const { open } = require(${JSON.stringify(new URL("../lib/index.cjs", import.meta.url).pathname)});
    open({ file: ${JSON.stringify(place("gym.db"))}, url: "http://127.0.0.1:1" })
      .then((replica) => console.log(replica.pid));
  `;
  const parent = spawn(process.execPath, ["-e", program], { env: { ...process.env, DRIFTLESS_BINARY: BINARY }, stdio: ["ignore", "pipe", "inherit"] });
  const [line] = await once(parent.stdout, "data");
  const pid = Number(line);
  const lives = () => {
    try {
      return process.kill(pid, 0);
    } catch {
      return false;
    }
  };
  assert.ok(pid > 0 && lives());
  parent.kill("SIGKILL");
  await until("it ends", () => !lives());
});
