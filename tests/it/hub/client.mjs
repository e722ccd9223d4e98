// Drives a hub with @libsql/client: `node client.mjs URL TOKEN`. Exits with 1 at the first surprise.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import path from "node:path";

const modules = path.resolve(process.env.DRIFTLESS_TEST_NODE_MODULES);
const { createClient } = createRequire(path.join(modules, "x.js"))("@libsql/client/http");
const [url, authToken] = process.argv.slice(2);
const db = createClient({ url, authToken });

const names = async (client = db) =>
  (await client.execute("SELECT name FROM t ORDER BY id")).rows.map((row) => row.name);

const tests = {
  async "execute, with positional and named arguments"() {
    await db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL)");
    const inserted = await db.execute("INSERT INTO t (name) VALUES (?)", ["a"]);
    assert.equal(inserted.rowsAffected, 1);
    assert.equal(inserted.lastInsertRowid, 1n);
    await db.execute({ sql: "INSERT INTO t (name) VALUES (:name)", args: { name: "b" } });
    await db.execute({ sql: "INSERT INTO t (name) VALUES ($name)", args: { $name: "c" } });
    const selected = await db.execute("SELECT id, name AS called FROM t WHERE id > ?", [1]);
    assert.deepEqual(selected.columns, ["id", "called"]);
    assert.deepEqual(selected.columnTypes, ["INTEGER", "TEXT"]);
    assert.deepEqual(selected.rows.map((row) => [row.id, row.called]), [[2, "b"], [3, "c"]]);
  },

  async "a batch is one transaction"() {
    const [inserted, counted] = await db.batch(
      [{ sql: "INSERT INTO t (name) VALUES (?)", args: ["d"] }, "SELECT count(*) AS n FROM t"],
      "write",
    );
    assert.equal(inserted.rowsAffected, 1);
    assert.equal(counted.rows[0].n, 4);
    const failing = ["DELETE FROM t", "INSERT INTO t (name) VALUES (NULL)"];
    for (const mode of ["write", "deferred"]) {
      await assert.rejects(db.batch(failing, mode), { code: "SQLITE_CONSTRAINT" });
    }
    assert.deepEqual(await names(), ["a", "b", "c", "d"]);
    await assert.rejects(db.batch(["DELETE FROM t"], "read"), { code: "SQLITE_READONLY" });
    const [read] = await db.batch(["SELECT name FROM t WHERE id = 1"], "read");
    assert.equal(read.rows[0].name, "a");
  },

  async "interactive transactions commit, roll back and are closed"() {
    const kept = await db.transaction("write");
    await kept.execute("INSERT INTO t (name) VALUES ('e')");
    assert.deepEqual(await names(kept), ["a", "b", "c", "d", "e"]);
    assert.deepEqual(await names(), ["a", "b", "c", "d"]);
    await kept.batch(["INSERT INTO t (name) VALUES ('f')", "DELETE FROM t WHERE name = 'a'"]);
    await kept.commit();
    assert.deepEqual(await names(), ["b", "c", "d", "e", "f"]);

    const undone = await db.transaction("deferred");
    await undone.execute("DELETE FROM t");
    await undone.rollback();
    const closed = await db.transaction("write");
    await closed.execute("DELETE FROM t");
    await assert.rejects(closed.execute("SELECT * FROM missing"), /no such table: missing/);
    closed.close();
    assert.deepEqual(await names(), ["b", "c", "d", "e", "f"]);
  },

  async "blobs"() {
    const bytes = Uint8Array.from({ length: 1_000_001 }, (_, index) => index % 251);
    for (const blob of [bytes, bytes.slice(0, 1), bytes.slice(0, 2), new Uint8Array()]) {
      const { rows } = await db.execute("SELECT ? AS blob", [blob]);
      assert.deepEqual(new Uint8Array(rows[0].blob), blob);
    }
  },

  async "text"() {
    for (const text of ["", "it's \"quoted\" \\ \u0001\n", "\u{1f3cb}".repeat(100_000)]) {
      const { rows } = await db.execute("SELECT ? AS text, length(?) AS size", [text, text]);
      assert.equal(rows[0].text, text);
      assert.equal(rows[0].size, [...text].length);
    }
  },

  async "numbers, in every integer mode"() {
    const { rows } = await db.execute("SELECT ? AS a, ? AS b, NULL AS c", [0.1, 1n]);
    assert.deepEqual([rows[0].a, rows[0].b, rows[0].c], [0.1, 1, null]);
    const extremes = "SELECT 9223372036854775807 AS high, ? AS low";
    const low = [-9223372036854775808n];
    await assert.rejects(db.execute(extremes, low), RangeError);
    const expected = {
      bigint: [9223372036854775807n, -9223372036854775808n],
      string: ["9223372036854775807", "-9223372036854775808"],
    };
    for (const [intMode, values] of Object.entries(expected)) {
      const client = createClient({ url, authToken, intMode });
      const { rows } = await client.execute(extremes, low);
      assert.deepEqual([rows[0].high, rows[0].low], values);
      client.close();
    }
  },

  async "several statements in one text"() {
    await db.executeMultiple("DELETE FROM t WHERE id < 4; INSERT INTO t (name) VALUES ('g;');");
    assert.deepEqual(await names(), ["d", "e", "f", "g;"]);
    await db.migrate(["CREATE TABLE u (t REFERENCES t)", "INSERT INTO u VALUES (4)"]);
    await assert.rejects(db.execute("INSERT INTO u VALUES (5000)"), /FOREIGN KEY constraint failed/);
  },

  async "errors have a code and a reason"() {
    await assert.rejects(db.execute("SELEC 1"), { code: "SQL_PARSE_ERROR" });
    await assert.rejects(db.execute("SELECT absent FROM t"), { code: "SQL_INPUT_ERROR" });
    await assert.rejects(db.execute("INSERT INTO t (name) VALUES ('d')"), (error) => {
      assert.equal(error.code, "SQLITE_CONSTRAINT");
      assert.match(error.message, /UNIQUE constraint failed: t.name/);
      return true;
    });
    await assert.rejects(db.execute("SELECT ?"), { code: "ARGS_INVALID" });
  },

  async "a wrong token, or none, is answered with 401"() {
    for (const client of [createClient({ url, authToken: "wrong" }), createClient({ url })]) {
      await assert.rejects(client.execute("SELECT 1"), (error) => {
        assert.equal(error.code, "SERVER_ERROR");
        assert.match(error.message, /401/);
        return true;
      });
      client.close();
    }
  },
};

for (const [name, test] of Object.entries(tests)) {
  try {
    await test();
  } catch (error) {
    console.error(`${name}:`, error);
    process.exit(1);
  }
}
db.close();
console.log(`all of ${Object.keys(tests).length} passed`);
