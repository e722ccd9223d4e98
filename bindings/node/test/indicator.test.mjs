// The indicator: what it says of each status, and how it looks and is used in a browser.
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { describe } from "../indicator/indicator.js";
import { page, server } from "./browser.mjs";

/** Where the pictures are left for a person to look at. */
const PICTURES = fileURLToPath(new URL("../../../target/indicator/", import.meta.url));
const NOW = Date.UTC(2026, 11, 1, 14, 30, 0);
const STATES = ["starting", "first_sync", "in_step", "syncing", "offline", "refused", "other_remote", "rolled_back", "trouble", "standby", "stopped"];

/** A status in which all is well, but for what is said. */
function status(more = {}) {
  return {
    replica: "01M8RMAX4H6YB1HHZ3T4DGW4SJ", identity: [], remote: { url: "libsql://gym", reachable: true, epoch: "e", requests: 3, verified: null },
    state: "in_step", first_sync: null, process: 1, trouble: null, code: null, hint: null, pending: 0, oldest_pending_s: null,
    cursor: 7, lag: 0, in_parts: false, conflicts: 0, quarantined: 0, unwritable: [], dangling: [], left_out: [],
    last_success: NOW - 12_000, health: "ok", bytes: 1, paused: false, ...more,
  };
}

const refused = { state: "refused", health: "red", trouble: "the remote refuses the token", hint: "create a new token" };
const SHOWN = [
  ["Starting", null],
  ["Saved here, 3 to send", { pending: 3 }],
  ["Sending", { state: "syncing", pending: 3 }],
  ["Receiving", { state: "syncing", lag: 9 }],
  ["First sync: members, 1,200 rows", { state: "first_sync", first_sync: { step: "reading", table: "members", rows: 1_200 } }],
  ["Up to date", {}],
  ["Offline since 14:02, 3 saved here", { state: "offline", health: "degraded", pending: 3, last_success: NOW - 28 * 60_000 }],
  ["Not connected yet, 3 saved here", { state: "offline", health: "red", pending: 3, last_success: null }],
  ["Paused, 3 saved here", { state: "stopped", paused: true, pending: 3 }],
  ["Stopped: create a new token", refused],
  ["Up to date", { conflicts: 2 }],
  ["Not everything is synchronised: look", { quarantined: 4, left_out: [{ table: "notes", side: "both", why: "unfit", reason: "it has no primary key" }] }],
];

test("each status has its words", () => {
  process.env.TZ = "UTC";
  for (const [text, more] of SHOWN) {
    const found = describe(more && status(more), { now: NOW, language: "en-GB" });
    assert.equal(found.text, text);
    assert.equal(found.age, text === "Up to date" ? "12 s ago" : null);
  }
  const { kind, notes } = describe(status(SHOWN.at(-1)[1]), { now: NOW });
  assert.deepEqual([kind, notes], ["degraded", [
    "4 changes of others cannot be shown here yet",
    "Table notes is not replicated: it has no primary key",
  ]]);
  assert.deepEqual(describe(status(refused)).notes, ["the remote refuses the token"]);
});

test("it is never up to date before the verdict", () => {
  let seen = 0;
  for (const state of STATES) for (const pending of [0, 1]) for (const lag of [0, 1]) for (const health of ["ok", "degraded", "red"])
    for (const success of [null, NOW - 5_000]) for (const paused of [false, true]) for (const parts of [false, true]) {
      const { text } = describe(status({ state, pending, lag, health, last_success: success, paused, in_parts: parts }), { now: NOW });
      if (text !== "Up to date") continue;
      seen += 1;
      assert.deepEqual([pending, lag, success !== null, health !== "red", paused, parts], [0, 0, true, true, false, false], state);
      assert.ok(["in_step", "standby", "syncing"].includes(state), state);
    }
  assert.ok(seen > 3);
});

test("another language is a table", () => {
  const words = { savedHere: { one: "Hier gespeichert, {count} Änderung", other: "Hier gespeichert, {count} Änderungen" } };
  const text = (pending) => describe(status({ pending }), { now: NOW, words, language: "de" }).text;
  assert.deepEqual([text(1), text(12_345)], ["Hier gespeichert, 1 Änderung", "Hier gespeichert, 12.345 Änderungen"]);
});

/** An event of a conflict. */
function event(more) {
  return {
    seq: 9, id: "01M8RMAXN3000000017MSTD2GA", made_at: "2026-12-01T14:01:00.000Z", origin: "01M8RMAX4H6YB1HHZ3T4DGW4SJ", actor: null, unit: null,
    table: "members", key: ["m1"], op: "update", before: {}, after: {}, base: 1, cause: null, via: null, pair: null, verdict: "superseded", reason: "conflict", received_at: null, ...more,
  };
}

const CONFLICTS = [
  {
    id: "A", kind: "conflict", state: "open", noticed_at: "2026-12-01T14:02:00Z", group: "A", insert: null,
    event: event({ after: { phone: "+44 7700 900475", notes: "<img src=x onerror=alert(1)>" }, actor: "Rosa" }),
    winner: event({ id: "W", origin: "web", after: { phone: "+44 7700 900222" } }),
    theirs: { id: "m1", name: "Ana Ruiz", phone: "+44 7700 900222", notes: null },
  },
  {
    id: "B", kind: "collision", state: "open", noticed_at: "2026-12-01T14:02:00Z", group: "B", insert: null,
    event: event({ table: "payments", key: [17], op: "insert", after: { id: 17, amount: 25.5, method: "cash" } }),
    winner: event({ id: "V", op: "insert", origin: "01ZZ" }),
    theirs: { id: 17, amount: 40, method: "card" },
  },
];

/** The contrast of two colours, as WCAG counts it. */
function contrast(one, other) {
  const [a, b] = [one, other].map((color) => {
    const [r, g, b] = color.match(/[\d.]+/g).map((part) => {
      const value = Number(part) / 255;
      return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  });
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}

const skip = process.env.DRIFTLESS_TEST_CHROMIUM ? false : "no Chromium is named";

test("it is read, used by keyboard, and looked at, light and dark", { skip }, async (t) => {
  mkdirSync(PICTURES, { recursive: true });
  const { evaluate, press, scheme, size, picture, spoken, complaints } = await page(t, `${await server(t)}/test/indicator.html`);
  const all = SHOWN.map(([, more]) => more && status(more));
  const show = (statuses, conflicts = []) => evaluate(`show(${JSON.stringify(statuses)}, ${NOW}, ${JSON.stringify(conflicts)})`);
  const colours = `[...document.querySelectorAll("driftless-indicator")].flatMap((element) => {
    const root = element.shadowRoot;
    return [...root.querySelectorAll("button, [role=status], .age, .sign, .lost, .why, th, td, h2, li")]
      .filter((one) => one.checkVisibility() && one.textContent + one.querySelectorAll("svg").length)
      .map((one) => {
        const panel = one.closest(".panel") ?? one.closest("button");
        return { what: one.className + " " + one.textContent.slice(0, 30), text: getComputedStyle(one).color, face: getComputedStyle(panel).backgroundColor };
      });
  })`;
  for (const mode of ["light", "dark"]) {
    await scheme(mode);
    await size(560, 560);
    assert.equal(await show(all), SHOWN.length);
    writeFileSync(`${PICTURES}states-${mode}.png`, await picture());
    await size(640, 900);
    await show([status({ conflicts: 2, quarantined: 1 })], CONFLICTS);
    await evaluate(`document.querySelector("driftless-indicator").open = true`);
    writeFileSync(`${PICTURES}conflicts-${mode}.png`, await picture());
    const found = await evaluate(colours);
    assert.ok(found.length > 25, `${found.length}`);
    for (const { what, text, face } of found) {
      assert.ok(contrast(text, face) >= 4.5, `${mode}: ${what}: ${text} on ${face} has ${contrast(text, face)}`);
    }
  }

  // A narrow window: nothing is cut off.
  await scheme("light");
  await size(320, 900);
  await show([status({ conflicts: 2, ...refused, hint: "create a new token and put it into the settings of the front desk" })], CONFLICTS);
  await evaluate(`document.querySelector("driftless-indicator").open = true`);
  writeFileSync(`${PICTURES}narrow.png`, await picture());
  const wide = await evaluate(`[document.documentElement.scrollWidth, document.querySelector("driftless-indicator").shadowRoot.querySelector(".panel").scrollWidth]`);
  assert.ok(wide[0] <= 320 && wide[1] <= 320, `${wide}`);

  // By keyboard alone: to the indicator, into the list, restore, and back.
  await size(640, 900);
  await show([status({ conflicts: 2 })], CONFLICTS);
  await evaluate("heard.length = 0");
  const focused = `document.activeElement.shadowRoot?.activeElement?.textContent`;
  await press("Tab");
  assert.match(await evaluate(focused), /^Up to date12 s ago$/);
  await press("Tab");
  assert.equal(await evaluate(focused), "2 changes lost: look");
  await press("Enter");
  assert.equal(await evaluate(focused), "Close");
  const said = await spoken();
  for (const wanted of [
    "status", "dialog Synchronisation", "heading Changes that lost", "columnheader Mine (lost) changed by Rosa, 14:01", "rowheader phone",
    "button Restore mine of members m1", "button Keep theirs of payments 17", "button 2 changes lost: look",
  ]) {
    assert.ok(said.includes(wanted), `${wanted} is not in ${said.join(" · ")}`);
  }
  await press("Tab");
  assert.equal(await evaluate(focused), "Restore mine");
  await press("Enter");
  const disabled = `[...document.querySelector("driftless-indicator").shadowRoot.querySelectorAll(".acts button")].map((one) => one.disabled)`;
  assert.deepEqual(await evaluate(disabled), [true, true, false, false], "it cannot be asked for twice");
  await press("Tab");
  await press("Enter");
  assert.deepEqual(await evaluate("heard"), [
    { type: "driftless-open", detail: {} },
    { type: "driftless-restore", detail: { ids: ["A"] } },
    { type: "driftless-restore", detail: { ids: ["B"], new_key: "fresh" } },
  ]);
  await press("Escape");
  assert.match(await evaluate(focused), /^Up to date/);
  assert.equal(await evaluate(`document.querySelector("driftless-indicator").open`), false);

  // Text of a database is text.
  assert.equal(await evaluate(`document.querySelector("driftless-indicator").shadowRoot.querySelectorAll("img").length`), 0);
  assert.deepEqual(complaints(), []);
});
