// <driftless-indicator>: how the synchronisation is, and the changes that lost.
//
//   import "driftless/indicator";
//   indicator.status = status;           // each status of the replica
//   indicator.conflicts = conflicts;     // when it asks for them: the event `driftless-open`
//   indicator.addEventListener("driftless-restore", ({ detail }) => restore(detail));
//   indicator.addEventListener("driftless-dismiss", ({ detail }) => dismiss(detail));
//
// It knows no replica: in Electron it is in a page, and the replica in the main process.
import { describe, speaker } from "./describe.js";

export { describe } from "./describe.js";
export { WORDS } from "./words.js";

/** The signs, by kind: a shape of its own for each, so that colour carries nothing alone. */
const SIGNS = {
  good: "M3 8.5l3.2 3.2L13 4.8",
  saved: "M8 2.5v7M4.8 6.6L8 9.8l3.2-3.2M3 13h10",
  busy: "M13 8a5 5 0 1 1-1.6-3.7M13 2.6V5h-2.4",
  offline: "M2.5 2.5l11 11M5 6.2A3.6 3.6 0 0 0 4.6 13H11M7.3 4.3A3.6 3.6 0 0 1 11.6 8 2.6 2.6 0 0 1 13.4 11.6",
  paused: "M5.5 3.5v9M10.5 3.5v9",
  stopped: "M8 2.6L14 13H2zM8 6.6v3M8 11.2v.1",
  degraded: "M8 2.6L14 13H2zM8 6.6v3M8 11.2v.1",
};

const STYLE = `
  :host {
    --text: #1d2433; --soft: #4e5a70; --face: #ffffff; --line: #c9d0dc; --hover: #eef1f6;
    --good: #166534; --busy: #1e4fa3; --saved: #1e4fa3; --offline: #6b4a00; --paused: #4e5a70;
    --stopped: #a61b1b; --degraded: #8a4b00; --lost: #a61b1b; --focus: #1e4fa3;
    color: var(--text); display: inline-block; font: 14px/1.4 system-ui, sans-serif; position: relative;
  }
  @media (prefers-color-scheme: dark) {
    :host {
      --text: #e6eaf2; --soft: #a8b3c7; --face: #1a2030; --line: #3a445a; --hover: #262e42;
      --good: #6ee7a0; --busy: #8ab4ff; --saved: #8ab4ff; --offline: #f3c969; --paused: #a8b3c7;
      --stopped: #ff9a94; --degraded: #ffb86b; --lost: #ff9a94; --focus: #8ab4ff;
    }
  }
  :host([hidden]) { display: none; }
  * { box-sizing: border-box; }
  .bar { align-items: center; display: flex; flex-wrap: wrap; gap: 4px 8px; }
  button {
    background: var(--face); border: 1px solid var(--line); border-radius: 6px; color: inherit;
    cursor: pointer; font: inherit; padding: 3px 9px; text-align: start;
  }
  button:hover { background: var(--hover); }
  button:focus-visible { outline: 2px solid var(--focus); outline-offset: 2px; }
  button:disabled { cursor: default; opacity: 0.6; }
  .now { align-items: center; display: inline-flex; gap: 7px; }
  .now svg { flex: none; height: 16px; width: 16px; }
  path { fill: none; stroke: currentColor; stroke-linecap: round; stroke-linejoin: round; stroke-width: 1.7; }
  .sign { color: var(--kind); display: inline-flex; }
  .busy svg { animation: turn 1.6s linear infinite; }
  @keyframes turn { to { transform: rotate(360deg); } }
  @media (prefers-reduced-motion: reduce) { .busy svg { animation: none; } }
  .age { color: var(--soft); }
  .age:empty { display: none; }
  .lost { border-color: currentColor; color: var(--lost); font-weight: 600; }
  .panel {
    background: var(--face); border: 1px solid var(--line); border-radius: 8px; box-shadow: 0 6px 24px #0003;
    inset-block-start: calc(100% + 6px); inset-inline-start: 0; max-block-size: 70vh; max-inline-size: 92vw;
    inline-size: 34em; overflow: auto; padding: 14px 16px; position: absolute; z-index: 10;
  }
  .head { align-items: baseline; display: flex; gap: 12px; justify-content: space-between; }
  h2, h3 { font-size: 1em; margin: 0; }
  h2 { font-size: 1.1em; }
  h3 { margin-block: 14px 6px; }
  ul { display: grid; gap: 12px; list-style: none; margin: 0; padding: 0; }
  .notes { gap: 4px; margin-block-start: 8px; }
  .notes li::before { content: "! "; color: var(--degraded); font-weight: 700; }
  .conflict { border-block-start: 1px solid var(--line); padding-block-start: 10px; }
  .what { font-weight: 600; overflow-wrap: anywhere; }
  .why { color: var(--soft); }
  table { border-collapse: collapse; inline-size: 100%; margin-block: 8px; table-layout: fixed; }
  th, td { border-block-end: 1px solid var(--line); overflow-wrap: anywhere; padding: 3px 6px; text-align: start; vertical-align: top; }
  thead th, tbody th { color: var(--soft); font-weight: 500; }
  .differs { font-weight: 600; }
  .by { display: block; font-size: 0.9em; font-weight: 400; }
  .acts { display: flex; flex-wrap: wrap; gap: 8px; }
`;

/** An element with attributes, listeners (functions) and children. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (value !== null && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  // Text of a database is text: never markup.
  element.append(...children.filter((child) => child !== null));
  return element;
}

function sign(kind) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", SIGNS[kind]);
  svg.append(path);
  return svg;
}

/** A value of a column, for people. */
function shown(value) {
  return value === null || value === undefined ? "–" : String(value);
}

// Where there is no page, as in the main process, the class is of no use but can be imported.
const Base = globalThis.HTMLElement ?? class {};

export class DriftlessIndicator extends Base {
  #status = null;
  #conflicts = [];
  #words = {};
  #clock = () => Date.now();
  #isOpen = false;
  #asked = new Set();
  #timer = null;
  #parts = null;

  /** The newest status of the replica; null before the first one. */
  get status() {
    return this.#status;
  }
  set status(status) {
    this.#status = status;
    this.#draw();
  }

  /** The conflicts of the list. */
  get conflicts() {
    return this.#conflicts;
  }
  set conflicts(conflicts) {
    this.#conflicts = conflicts ?? [];
    // What was asked for and is still there was refused: it may be asked for again.
    this.#asked.clear();
    this.#drawConflicts();
  }

  /** Words that take the place of the English ones. */
  set words(words) {
    this.#words = words ?? {};
    this.#draw();
    this.#drawConflicts();
  }

  /** What gives the time: for tests. */
  set clock(clock) {
    this.#clock = clock;
    this.#draw();
  }

  /** Whether the list is shown. */
  get open() {
    return this.#isOpen;
  }
  set open(open) {
    if (this.#isOpen === Boolean(open)) return;
    this.#isOpen = Boolean(open);
    this.#draw();
    this.#drawConflicts();
    if (!this.#isOpen) return;
    this.#tell("driftless-open", {});
    this.#parts.close.focus();
  }

  connectedCallback() {
    if (this.#parts === null) this.#build();
    this.#timer = setInterval(() => this.#draw(), 1_000);
    this.#draw();
    this.#drawConflicts();
  }

  disconnectedCallback() {
    clearInterval(this.#timer);
  }

  get #language() {
    return this.closest?.("[lang]")?.getAttribute("lang") || globalThis.navigator?.language || "en";
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true }));
  }

  #build() {
    const root = this.attachShadow({ mode: "open" });
    const toggle = () => (this.open = !this.#isOpen);
    const close = () => {
      this.open = false;
      this.#parts.now.focus();
    };
    // The age changes each second, and is not read out each time.
    const [mark, text, age] = [make("span", { class: "sign" }), make("span", { role: "status" }), make("span", { class: "age" })];
    const now = make("button", { class: "now", type: "button", "aria-haspopup": "dialog", "aria-controls": "panel", click: toggle }, mark, text, age);
    const lost = make("button", { class: "lost", type: "button", hidden: true, "aria-controls": "panel", click: () => (this.open = true) });
    const head = make("h2", { id: "title" });
    const shut = make("button", { type: "button", click: close });
    const notes = make("ul", { class: "notes" });
    const heading = make("h3", {});
    const list = make("ul", { class: "list" });
    const top = make("div", { class: "head" }, head, shut);
    const panel = make("div", { id: "panel", class: "panel", role: "dialog", "aria-labelledby": "title", hidden: true }, top, notes, heading, list);
    const style = make("style", {}, STYLE);
    root.append(style, make("div", { class: "bar" }, now, lost), panel);
    root.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.#isOpen) {
        event.stopPropagation();
        close();
      }
    });
    this.#parts = { now, mark, text, age, lost, panel, title: head, close: shut, notes, heading, list };
  }

  #draw() {
    if (this.#parts === null) return;
    const { now, mark, text, age, lost, panel, title, close, notes } = this.#parts;
    const { say } = speaker(this.#words, this.#language);
    const options = { now: this.#clock(), words: this.#words, language: this.#language };
    const found = describe(this.#status, options);
    if (mark.dataset.kind !== found.kind) {
      mark.dataset.kind = found.kind;
      mark.className = `sign ${found.kind}`;
      mark.style.setProperty("--kind", `var(--${found.kind})`);
      mark.replaceChildren(sign(found.kind));
      this.dataset.kind = found.kind;
    }
    change(text, found.text);
    change(age, found.age ?? "");
    now.setAttribute("aria-expanded", String(this.#isOpen));
    const count = this.#status?.conflicts ?? 0;
    lost.hidden = count === 0;
    change(lost, count > 0 ? say("lost", { count }) : "");
    panel.hidden = !this.#isOpen;
    change(title, say("title"));
    change(close, say("close"));
    if (notes.dataset.notes !== JSON.stringify(found.notes)) {
      notes.dataset.notes = JSON.stringify(found.notes);
      notes.replaceChildren(...found.notes.map((note) => make("li", {}, note)));
    }
  }

  #drawConflicts() {
    if (this.#parts === null) return;
    const { heading, list } = this.#parts;
    const { say } = speaker(this.#words, this.#language);
    change(heading, say("conflicts"));
    const items = this.#conflicts.map((conflict) => this.#conflict(conflict));
    const none = make("li", { class: "why" }, say("noConflicts"));
    list.replaceChildren(...(items.length > 0 ? items : [none]));
  }

  /** A conflict: both versions, column by column, and what can be done. */
  #conflict(conflict) {
    const { say, time, table } = speaker(this.#words, this.#language);
    const { event, insert, winner, theirs, kind, id } = conflict;
    const now = this.#clock();
    const row = say("row", { table: event.table, key: event.key.map(shown).join(", ") });
    const by = (event, who) => {
      const op = table.ops[event.op];
      return say("by", { op, who: event.actor ?? who, time: time(Date.parse(event.made_at), now) });
    };
    const mine = { ...event.after, ...insert?.after };
    const isGone = theirs === null && (winner?.op === "delete" || event.op !== "insert");
    const columns = Object.keys(mine).length > 0 ? Object.keys(mine) : Object.keys(theirs ?? {});
    const rows = columns.map((column) => {
      const [ours, other] = [event.op === "delete" ? say("gone") : shown(mine[column]), isGone ? say("gone") : shown(theirs?.[column])];
      const attributes = ours === other ? {} : { class: "differs" };
      return make("tr", {}, make("th", { scope: "row" }, column), make("td", attributes, ours), make("td", attributes, other));
    });
    const who = winner?.origin === "web" ? say("web") : say("another");
    const told = { mine: by(event, say("me")), theirs: winner && by(winner, who) };
    const cells = ["column", "mine", "theirs"].map((name) =>
      make("th", { scope: "col" }, say(name), told[name] ? make("span", { class: "by" }, told[name]) : null),
    );
    const act = (name, detail) => {
      const button = make("button", {
        type: "button",
        "aria-label": say(`${name}Of`, { row }),
        disabled: this.#asked.has(id),
        click: () => {
          this.#asked.add(id);
          for (const one of button.parentElement.children) one.disabled = true;
          this.#tell(`driftless-${name}`, detail);
        },
      }, say(name));
      return button;
    };
    return make(
      "li",
      { class: "conflict" },
      make("div", { class: "what" }, row),
      make("div", { class: "why" }, table.kinds[kind]),
      make("table", {}, make("thead", {}, make("tr", {}, ...cells)), make("tbody", {}, ...rows)),
      make(
        "div",
        { class: "acts" },
        act("restore", kind === "collision" ? { ids: [id], new_key: "fresh" } : { ids: [id] }),
        act("dismiss", { ids: [id] }),
      ),
    );
  }
}

/** Changes a text, if it is another one: a screen reader reads out what is changed. */
function change(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

globalThis.customElements?.define("driftless-indicator", DriftlessIndicator);
