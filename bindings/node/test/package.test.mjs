// The package as it is published: packed, installed into an empty folder, and laid out as
// electron-builder does.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { BINARY, SCHEMA, folder, requireInstalled, sqlite } from "./support.mjs";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const PLATFORM = `${process.platform}-${process.arch}`;

function run(program, args, cwd, env = {}) {
  const shell = process.platform === "win32";
  return execFileSync(program, args, { cwd, shell, encoding: "utf8", env: { ...process.env, DRIFTLESS_BINARY: "", ...env } });
}

/** Packs a folder, and gives the archive. */
function pack(from, to) {
  const [{ filename, files }] = JSON.parse(run("npm", ["pack", "--json", "--offline", "--pack-destination", to], from));
  return { archive: path.join(to, filename.replace("@", "").replace("/", "-")), files: files.map((file) => file.path) };
}

/** Both packages, packed once. */
const { main, platform } = (() => {
  const place = folder({ after });
  const binary = place("driftless");
  // With its symbols for debugging it takes long to pack.
  run("strip", ["-o", binary, BINARY], ROOT);
  run(process.execPath, [path.join(ROOT, "scripts/platform-package.mjs"), PLATFORM, binary, place("platform")], ROOT);
  return { main: pack(ROOT, place(".")), platform: pack(place("platform"), place(".")) };
})();

/** The program of an application: it replicates a file, and says what it has opened. */
const PROGRAM = `
  import { open, findBinary } from "driftless";
  const replica = await open({ file: process.argv[2], url: "http://127.0.0.1:1" });
  console.log(JSON.stringify({ tables: replica.tables, binary: findBinary() }));
  await replica.close();
`;

test("it is packed, installed into an empty folder, and works there", (t) => {
  const place = folder(t);
  assert.deepEqual(platform.files.sort(), ["bin/driftless", "package.json"]);
  assert.ok(main.files.includes("types/protocol.d.ts") && main.files.includes("indicator/indicator.js"));
  assert.ok(main.files.every((file) => !file.startsWith("test/") && !file.startsWith("bench/")), `${main.files}`);
  mkdirSync(place("app"));
  writeFileSync(place("app/package.json"), JSON.stringify({ name: "app", private: true, type: "module" }));
  run("npm", ["install", "--offline", "--no-audit", "--no-fund", main.archive, platform.archive], place("app"));
  writeFileSync(place("app/main.mjs"), PROGRAM);
  sqlite(place("gym.db")).exec(SCHEMA);
  const said = JSON.parse(run(process.execPath, ["main.mjs", place("gym.db")], place("app")));
  assert.deepEqual(said.tables, ["members"]);
  assert.ok(said.binary.endsWith(path.join("@driftless", PLATFORM, "bin", "driftless")), said.binary);
  // A script of CommonJS, as most main processes of Electron are.
  const script = `require("driftless").open({ file: process.argv[1], url: "http://127.0.0.1:1" }).then((r) => { console.log(r.tables[0]); return r.close(); })`;
  assert.equal(run(process.execPath, ["-e", script, place("gym.db")], place("app")), "members\n");
});

// electron-builder puts the application into resources/app.asar, and what it unpacks beside it
// into resources/app.asar.unpacked. Within Electron a module is found below app.asar in either
// case. Here app.asar is a folder, in which the executable is a text that cannot be started.
test("it starts from beside the asar archive", (t) => {
  const place = folder(t);
  const asar = place("resources/app.asar");
  mkdirSync(asar, { recursive: true });
  writeFileSync(path.join(asar, "package.json"), JSON.stringify({ name: "app", private: true, type: "module" }));
  run("npm", ["install", "--offline", "--no-audit", "--no-fund", main.archive, platform.archive], asar);
  writeFileSync(path.join(asar, "main.mjs"), PROGRAM);
  const within = path.join("node_modules", "@driftless", PLATFORM);
  const unpacked = path.join(place("resources/app.asar.unpacked"), within);
  cpSync(path.join(asar, within), unpacked, { recursive: true });
  const archived = path.join(asar, within, "bin", "driftless");
  writeFileSync(archived, "within an archive");
  chmodSync(archived, 0o644);
  sqlite(place("gym.db")).exec(SCHEMA);
  const said = JSON.parse(run(process.execPath, [path.join(asar, "main.mjs"), place("gym.db")], place(".")));
  assert.deepEqual(said, { tables: ["members"], binary: path.join(unpacked, "bin", "driftless") });
  // An application that was packed without it says what to do.
  rmSync(place("resources/app.asar.unpacked"), { recursive: true });
  assert.throws(
    () => run(process.execPath, [path.join(asar, "main.mjs"), place("gym.db")], place(".")),
    /asarUnpack/,
  );
});

test("the executable for another platform is fetched", (t) => {
  const place = folder(t);
  mkdirSync(place("packed"));
  writeFileSync(place("driftless.exe"), "a program for Windows");
  const script = (name) => path.join(ROOT, "scripts", name);
  run(process.execPath, [script("platform-package.mjs"), "win32-x64", place("driftless.exe"), place("made")], ROOT);
  const { archive } = pack(place("made"), place("packed"));
  const fetch = (...args) => run(process.execPath, [script("fetch.mjs"), ...args], place("."));
  const said = fetch("win32-x64", "--from", archive);
  assert.equal(said.trim(), path.join("node_modules", "@driftless", "win32-x64"));
  const file = place("node_modules/@driftless/win32-x64/bin/driftless.exe");
  assert.equal(readFileSync(file, "utf8"), "a program for Windows");
  assert.ok(statSync(file).mode & 0o100);
  assert.throws(() => fetch("linux-x64", "--from", archive), /win32-x64/);
  assert.ok(!existsSync(place("node_modules/@driftless/linux-x64")));
  assert.throws(() => fetch("plan9-x64"), /platforms: darwin-arm64/);
});

test("the types are those of the schema, and compile", (t) => {
  run(process.execPath, [path.join(ROOT, "scripts/types.mjs"), "--check"], ROOT);
  const place = folder(t);
  const tsc = requireInstalled.resolve("typescript/bin/tsc");
  mkdirSync(place("node_modules/@types"), { recursive: true });
  cpSync(ROOT, place("node_modules/driftless"), { recursive: true });
  cpSync(path.dirname(requireInstalled.resolve("@types/node/package.json")), place("node_modules/@types/node"), { recursive: true });
  cpSync(path.dirname(requireInstalled.resolve("undici-types/package.json")), place("node_modules/undici-types"), { recursive: true });
  const good = `
    import { open, DriftlessError, type Status } from "driftless";
    const replica = await open({ file: "gym.db", url: "libsql://x", token: "t", tables: ["members"] });
    replica.on("status", (status: Status) => { const n: number = status.pending; void n; });
    replica.on("changes", ({ rows }) => rows.map((row) => row.op === "delete" && row.key));
    const { conflicts } = await replica.conflicts({ kind: "collision" });
    const name: string | number | null | undefined = conflicts[0]?.event.after?.name;
    await replica.restore({ ids: [conflicts[0]!.id], new_key: "fresh" });
    try { await replica.sync(); } catch (error) {
      if (error instanceof DriftlessError && error.code === "token_refused") console.log(error.hint, name);
    }
  `;
  const check = (text) => {
    writeFileSync(place("app.mts"), text);
    const flags = ["--noEmit", "--strict", "--skipLibCheck", "--target", "es2022", "--module", "nodenext", "--types", "node"];
    return run(process.execPath, [tsc, ...flags, "app.mts"], place("."));
  };
  assert.equal(check(good), "");
  const wrong = [["pending", "pendings"], ["token_refused", "token_lost"], ["tables", "tabels"]];
  const bad = wrong.reduce((text, [word, other]) => text.replace(word, other), good);
  assert.throws(() => check(bad), ({ stdout }) => {
    for (const [, other] of wrong) assert.ok(stdout.includes(other), stdout);
    return true;
  });
});
