// docs/guides/electron.md, as it stands: its commands are run, and its files are written and used.
// A double takes the place of the module `electron`.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { page, server } from "./browser.mjs";
import { BINARY, folder, sqlite, until } from "./support.mjs";

const CLONE = fileURLToPath(new URL("../../..", import.meta.url));
const GUIDE = readFileSync(path.join(CLONE, "docs/guides/electron.md"), "utf8");

/** The blocks of the guide: language and text. */
const BLOCKS = [...GUIDE.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].map(([, language, text]) => ({ language, text }));

/** As much of Electron as the guide uses, both processes in one. */
const ELECTRON = `
  const { EventEmitter } = require("node:events");
  const handlers = new Map();
  const toPage = new EventEmitter();
  exports.app = Object.assign(new EventEmitter(), { whenReady: async () => {}, getPath: () => process.env.APP_DATA });
  exports.ipcMain = { handle: (channel, handler) => handlers.set(channel, handler) };
  exports.windows = [];
  exports.BrowserWindow = class {
    constructor(options) {
      this.options = options;
      this.webContents = { send: (channel, value) => toPage.emit(channel, {}, structuredClone(value)) };
      exports.windows.push(this);
    }
    isDestroyed() { return false; }
    async loadFile(file) { this.loaded = file; }
  };
  exports.ipcRenderer = {
    on: (channel, listener) => toPage.on(channel, listener),
    // What is sent between the processes is copied.
    invoke: async (channel, argument) => structuredClone(await handlers.get(channel)({}, argument)),
  };
  exports.worlds = {};
  exports.contextBridge = { exposeInMainWorld: (name, value) => (exports.worlds[name] = value) };
`;

test("an existing application synchronises after the guide's steps", async (t) => {
  const place = folder(t);
  const app = place("app");
  mkdirSync(app);
  writeFileSync(path.join(app, "package.json"), JSON.stringify({ name: "app", private: true }));
  // With its symbols for debugging it takes long to pack.
  mkdirSync(place("bin"));
  execFileSync("strip", ["-o", place("bin/driftless"), BINARY]);
  chmodSync(place("bin/driftless"), 0o755);
  const env = { ...process.env, CLONE, DRIFTLESS: place("bin/driftless"), DRIFTLESS_BINARY: "", PATH: `${place("bin")}:${process.env.PATH}` };

  // The commands, in their order. The hub goes on in the background, on a port that is free.
  const free = createServer().listen(0, "127.0.0.1");
  await once(free, "listening");
  const address = `127.0.0.1:${free.address().port}`;
  free.close();
  const commands = BLOCKS.filter(({ language }) => language === "sh").map(({ text }) => text);
  assert.equal(commands.length, 3);
  for (const command of commands) {
    if (!command.startsWith("driftless hub")) {
      execFileSync("bash", ["-euc", command], { cwd: app, env, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
      continue;
    }
    const hub = spawn("bash", ["-c", `exec ${command.replace("127.0.0.1:8080", address)}`], { cwd: place("."), env, stdio: ["ignore", "pipe", "ignore"] });
    t.after(() => hub.kill("SIGKILL"));
    await once(hub.stdout, "data");
  }

  mkdirSync(path.join(app, "node_modules/electron"));
  writeFileSync(path.join(app, "node_modules/electron/index.js"), ELECTRON);

  // The files, by the comments with their names.
  const files = BLOCKS.flatMap(({ language, text }) => {
    const name = text.match(/^(?:\/\/|<!--) ([\w.]+)/)?.[1];
    if (name) writeFileSync(path.join(app, name), text);
    return name ? [`${language} ${name}`] : [];
  });
  assert.deepEqual(files, ["js sync.js", "js main.js", "js preload.js", "html index.html"]);
  const asar = BLOCKS.find(({ language }) => language === "json").text;
  assert.deepEqual(JSON.parse(`{${asar}}`), { build: { asarUnpack: ["**/node_modules/@driftless/**"] } });

  // The application, with a file and rows of its own.
  const db = sqlite(place("gym.db"));
  db.exec(`CREATE TABLE members (id TEXT PRIMARY KEY, name TEXT, phone TEXT);
           CREATE TABLE payments (id TEXT PRIMARY KEY, member_id TEXT, amount REAL);
           INSERT INTO members VALUES ('m1', 'Ana', NULL)`);
  process.env.APP_DATA = place(".");
  process.env.SYNC_URL = `http://${address}`;
  // The executable is that of the package.
  delete process.env.DRIFTLESS_BINARY;
  const require = createRequire(path.join(app, "index.js"));
  const electron = require("electron");
  require("./main.js");
  t.after(async () => {
    electron.app.emit("will-quit");
    process.env.DRIFTLESS_BINARY = BINARY;
  });
  await until("the window is loaded", () => electron.windows[0]?.loaded === "index.html");
  require(electron.windows[0].options.webPreferences.preload);
  const { desk } = electron.worlds;
  const statuses = [];
  desk.onStatus((status) => statuses.push(status));
  const changes = [];
  desk.onChanges((change) => changes.push(change));
  db.run("INSERT INTO payments VALUES ('p1', 'm1', 25.5)");
  await until("it is in step", async () => {
    const { state, pending } = await desk.status();
    return state === "in_step" && pending === 0;
  });
  const web = sqlite(place("hub.db"));
  assert.equal(web.all("SELECT amount FROM payments")[0].amount, 25.5);
  web.run("UPDATE members SET phone = '555' WHERE id = 'm1'");
  await until("the change is told", () => changes.some(({ rows }) => rows.some(({ key }) => key[0] === "m1")));
  assert.equal(db.all("SELECT phone FROM members")[0].phone, "555");
  assert.deepEqual(await desk.conflicts(), []);
  assert.ok(statuses.length > 0);

  // The page, in a browser, with what the preload script offers.
  const before = `window.desk = {
    status: async () => (${JSON.stringify(await desk.status())}), conflicts: async () => [],
    restore: async () => {}, dismiss: async () => {}, onStatus: () => {}, onChanges: () => {},
  }`;
  const text = `document.querySelector("driftless-indicator").shadowRoot?.querySelector("[role=status]").textContent`;
  if (process.env.DRIFTLESS_TEST_CHROMIUM) {
    const { evaluate, complaints } = await page(t, `${await server(t, app)}/index.html`, { before, ready: text });
    await until("the indicator shows the status", async () => (await evaluate(text)) === "Up to date");
    assert.deepEqual(complaints(), []);
  }
  db.close();
  web.close();
});
