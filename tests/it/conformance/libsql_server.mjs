// libSQL's own engine behind as much of Hrana as replicas speak: `node libsql_server.mjs DB TOKEN`.
//
// The engine is that of the npm package `libsql`, on which `@libsql/client` builds; libSQL server is
// no npm package. Prints `listening on URL`, and ends when standard input does. Requests run one after
// the other, so a lock that another stream holds is an error at once and nothing waits.

import http from "node:http";
import { createRequire } from "node:module";
import path from "node:path";

const modules = path.resolve(process.env.DRIFTLESS_TEST_NODE_MODULES);
const Database = createRequire(path.join(modules, "x.js"))("libsql");
const [file, token] = process.argv.slice(2);

// libSQL server's limit of an answer, in bytes of values.
const RESPONSE_BYTES = 10_000_000;

const streams = new Map();
const idle = [];
let counter = 0;

class Failure extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

function open() {
  const waiting = idle.pop();
  if (waiting) return waiting;
  const db = new Database(file);
  db.pragma("journal_mode = WAL");
  return { db: db.defaultSafeIntegers(true), sqls: new Map() };
}

function decode(value) {
  switch (value.type) {
    case "null":
      return null;
    case "integer":
      return BigInt(value.value);
    case "float":
    case "text":
      return value.value;
    case "blob":
      return Buffer.from(value.base64, "base64");
    default:
      throw new Failure("ARGS_INVALID", `no value has the type ${value.type}`);
  }
}

function encode(value, room) {
  if (value === null || value === undefined) return { type: "null" };
  if (typeof value === "bigint") return { type: "integer", value: value.toString() };
  if (typeof value === "number") return { type: "float", value };
  const length = typeof value === "string" ? Buffer.byteLength(value) : value.length;
  room.left -= length;
  if (room.left < 0) throw new Failure("RESPONSE_TOO_LARGE", "Response is too large");
  if (typeof value === "string") return { type: "text", value };
  return { type: "blob", base64: Buffer.from(value).toString("base64").replace(/=+$/, "") };
}

function text(stream, of) {
  if (of.sql !== undefined && of.sql !== null) return of.sql;
  if (!stream.sqls.has(of.sql_id)) {
    throw new Failure("SQL_NOT_FOUND", `SQL text ${of.sql_id} not found`);
  }
  return stream.sqls.get(of.sql_id);
}

function execute(stream, stmt, room) {
  const statement = stream.db.prepare(text(stream, stmt));
  const named = (stmt.named_args ?? []).map(({ name, value }) => [
    name.replace(/^[:@$]/, ""),
    decode(value),
  ]);
  const args = named.length > 0 ? Object.fromEntries(named) : (stmt.args ?? []).map(decode);
  if (!statement.reader) {
    const { changes, lastInsertRowid } = statement.run(args);
    return {
      cols: [],
      rows: [],
      affected_row_count: changes,
      last_insert_rowid: String(lastInsertRowid),
      replication_index: null,
    };
  }
  const cols = statement.columns().map(({ name, type }) => ({ name, decltype: type }));
  const rows = statement.raw(true).all(args);
  return {
    cols,
    rows: rows.map((row) => row.map((value) => encode(value, room))),
    affected_row_count: 0,
    last_insert_rowid: null,
    replication_index: null,
  };
}

function failed(error) {
  if (error instanceof Failure) return { message: error.message, code: error.code };
  // libSQL server reports no extended codes.
  const code = /^SQLITE_[A-Z]+/.exec(error.code ?? "")?.[0] ?? "SQLITE_UNKNOWN";
  return { message: `SQLite error: ${error.message}`, code };
}

function holds(stream, condition, results, errors) {
  switch (condition?.type) {
    case undefined:
      return true;
    case "ok":
      return results[condition.step] != null;
    case "error":
      return errors[condition.step] != null;
    case "not":
      return !holds(stream, condition.cond, results, errors);
    case "and":
      return condition.conds.every((one) => holds(stream, one, results, errors));
    case "or":
      return condition.conds.some((one) => holds(stream, one, results, errors));
    case "is_autocommit":
      return !stream.db.inTransaction;
    default:
      throw new Failure("BATCH_COND_BAD", `no condition has the type ${condition.type}`);
  }
}

function batch(stream, steps, room, entry) {
  const results = [];
  const errors = [];
  steps.forEach((step, at) => {
    results[at] = errors[at] = null;
    if (!holds(stream, step.condition, results, errors)) return;
    try {
      results[at] = execute(stream, step.stmt, room);
    } catch (error) {
      errors[at] = failed(error);
    }
    entry?.(at, results[at], errors[at]);
  });
  return { step_results: results, step_errors: errors, replication_index: null };
}

const requests = {
  execute: (stream, { stmt }, room) => ({ result: execute(stream, stmt, room) }),
  batch: (stream, { batch: { steps } }, room) => ({ result: batch(stream, steps, room) }),
  sequence(stream, request) {
    stream.db.exec(text(stream, request));
    return {};
  },
  describe(stream, request) {
    const statement = stream.db.prepare(text(stream, request));
    const cols = statement.reader
      ? statement.columns().map(({ name, type }) => ({ name, decltype: type }))
      : [];
    return { result: { params: [], cols, is_explain: false, is_readonly: statement.reader } };
  },
  store_sql(stream, { sql_id, sql }) {
    stream.sqls.set(sql_id, sql);
    return {};
  },
  close_sql(stream, { sql_id }) {
    stream.sqls.delete(sql_id);
    return {};
  },
  get_autocommit: (stream) => ({ is_autocommit: !stream.db.inTransaction }),
  close(stream) {
    stream.closed = true;
    return {};
  },
};

function put(stream) {
  if (stream.closed) {
    if (stream.db.inTransaction) stream.db.exec("ROLLBACK");
    idle.push({ db: stream.db, sqls: new Map() });
    return null;
  }
  const baton = `stream-${counter++}`;
  streams.set(baton, stream);
  return baton;
}

function take(baton) {
  if (baton === null || baton === undefined) return open();
  const stream = streams.get(baton);
  streams.delete(baton);
  return stream;
}

function pipeline(stream, body) {
  const room = { left: RESPONSE_BYTES };
  const results = body.requests.map((request) => {
    try {
      const response = requests[request.type](stream, request, room);
      return { type: "ok", response: { type: request.type, ...response } };
    } catch (error) {
      return { type: "error", error: failed(error) };
    }
  });
  return JSON.stringify({ baton: put(stream), base_url: null, results });
}

function cursor(stream, body) {
  const lines = [];
  batch(stream, body.batch.steps, { left: Infinity }, (step, result, error) => {
    if (error) {
      lines.push({ type: "step_error", step, error });
      return;
    }
    lines.push({ type: "step_begin", step, cols: result.cols });
    lines.push(...result.rows.map((row) => ({ type: "row", row })));
    const { affected_row_count, last_insert_rowid } = result;
    lines.push({ type: "step_end", affected_row_count, last_insert_rowid });
  });
  lines.unshift({ baton: put(stream), base_url: null });
  return lines.map((line) => `${JSON.stringify(line)}\n`).join("");
}

const kinds = { pipeline, cursor };

const server = http.createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const answer = (status, body) => {
      response.writeHead(status, { "content-type": "application/json" });
      response.end(body);
    };
    const [, version, kind] = request.url.split("/");
    if (request.headers.authorization !== `Bearer ${token}`) return answer(401, "");
    if (version !== "v3" && version !== "v2") return answer(404, "");
    if (request.method === "GET") return answer(200, "");
    const body = JSON.parse(Buffer.concat(chunks).toString());
    const stream = take(body.baton);
    if (!stream || !kinds[kind]) return answer(stream ? 404 : 400, "");
    answer(200, kinds[kind](stream, body));
  });
});

server.listen(0, "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
process.stdin.on("end", () => process.exit(0)).resume();
