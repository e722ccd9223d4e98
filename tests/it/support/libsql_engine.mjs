// libSQL's own engine, of the npm package `libsql`, on a pipe: `node libsql_engine.mjs DB`.
//
// Each line of standard input is a JSON object: `{"exec": SQL}` runs any statements, `{"rows": SQL}` one
// that gives rows, with the values of `args` bound, and `{"look": SQL}` a SELECT whose text need not be UTF-8, which the package cannot read.
// The answer is a line: `{"rows": [[value]], "auto": whether no transaction is open}`,
// or `{"error": message, "auto": …}`. A value is null, an integer as a string, or an object: `{"t": text in hex}`,
// `{"x": blob in hex}`, `{"r": a REAL's eight bytes in hex}`. Ends when standard input does.

import { createRequire } from "node:module";
import path from "node:path";
import readline from "node:readline";

const modules = path.resolve(process.env.DRIFTLESS_TEST_NODE_MODULES);
const Database = createRequire(path.join(modules, "x.js"))("libsql");
const db = new Database(process.argv[2]).defaultSafeIntegers(true);

function encode(value) {
  if (value === null || value === undefined) return null;
  if (typeof value === "bigint") return value.toString();
  if (typeof value === "string") return { t: Buffer.from(value).toString("hex") };
  if (typeof value === "number") {
    const bytes = Buffer.alloc(8);
    bytes.writeDoubleBE(value);
    return { r: bytes.toString("hex") };
  }
  return { x: Buffer.from(value).toString("hex") };
}

function decode(value) {
  if (value === null) return null;
  if (typeof value === "string") return BigInt(value);
  if (value.t !== undefined) return Buffer.from(value.t, "hex").toString();
  if (value.x !== undefined) return Buffer.from(value.x, "hex");
  return Buffer.from(value.r, "hex").readDoubleBE();
}

function rows(sql, args) {
  const statement = db.prepare(sql);
  if (statement.reader) return statement.raw(true).all(args).map((row) => row.map(encode));
  statement.run(args);
  return [];
}

function look(sql) {
  const names = db.prepare(sql).columns().map((_, at) => `c${at}`);
  const bytes = names.map((name) => `iif(typeof(${name}) = 'text', CAST(${name} AS BLOB), ${name})`);
  const kinds = names.map((name) => `typeof(${name})`);
  const list = (names) => names.join(", ");
  const found = db
    .prepare(`WITH looked_at(${list(names)}) AS (${sql}) SELECT ${list([...bytes, ...kinds])} FROM looked_at`)
    .raw(true)
    .all([]);
  return found.map((row) =>
    names.map((_, at) => {
      const isText = row[names.length + at] === "text";
      return isText ? { t: Buffer.from(row[at]).toString("hex") } : encode(row[at]);
    }),
  );
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  const asked = JSON.parse(line);
  const answer = { rows: [] };
  try {
    if (asked.exec !== undefined) db.exec(asked.exec);
    else answer.rows = asked.look === undefined ? rows(asked.rows, asked.args.map(decode)) : look(asked.look);
  } catch (error) {
    answer.error = error.message;
  }
  answer.auto = !db.inTransaction;
  console.log(JSON.stringify(answer));
}
