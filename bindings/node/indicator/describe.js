// What the indicator says of a status. It is a pure function, for other user interfaces too.
import { WORDS } from "./words.js";

/** States in which nothing moves until a person does something. */
const STOPPED = ["refused", "other_remote", "rolled_back", "trouble", "stopped"];

/** Puts numbers and names into the words of one language. */
export function speaker(words = {}, language = "en") {
  const table = { ...WORDS, ...words };
  const numbers = new Intl.NumberFormat(language);
  const plurals = new Intl.PluralRules(language);
  const times = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit" });
  const days = new Intl.DateTimeFormat(language, { dateStyle: "short", timeStyle: "short" });
  const say = (name, values = {}) => {
    const entry = table[name];
    const forms = typeof entry === "string" ? { other: entry } : entry;
    const text = forms[plurals.select(values.count ?? 0)] ?? forms.other;
    return text.replace(/\{(\w+)\}/g, (_, key) =>
      typeof values[key] === "number" ? numbers.format(values[key]) : String(values[key] ?? ""),
    );
  };
  /** A time of today by the clock, another one with its day. */
  const time = (then, now) => {
    const isToday = new Date(then).toDateString() === new Date(now).toDateString();
    return (isToday ? times : days).format(then);
  };
  const age = (ms) => {
    const seconds = Math.floor(Math.max(0, ms) / 1_000);
    if (seconds < 2) return say("justNow");
    if (seconds < 60) return say("secondsAgo", { count: seconds });
    if (seconds < 3_600) return say("minutesAgo", { count: Math.floor(seconds / 60) });
    return say("hoursAgo", { count: Math.floor(seconds / 3_600) });
  };
  return { say, time, age, table };
}

/**
 * What to show of a status: `kind` (for the sign and the colour), `text`, `age` beside it (null
 * unless all is up to date), and `notes`: what does not flow, by name.
 *
 * It says "up to date" only if every change that was made here has its verdict, everything that
 * the remote is known to have is here, the remote has said so within the bound of health, and
 * nothing is held up.
 */
export function describe(status, { now = Date.now(), words, language } = {}) {
  const { say, time, age } = speaker(words, language);
  const saved = (count) => (count > 0 ? say("alsoSaved", { count }) : "");
  const shown = (kind, text, more = {}) => ({ kind, text, age: null, notes: [], ...more });
  if (!status) return shown("busy", say("starting"));
  const { state, pending, lag, health, last_success: success, first_sync: first } = status;
  const notes = [];
  if (status.quarantined > 0) notes.push(say("waiting", { count: status.quarantined }));
  for (const { table, reason } of status.unwritable) notes.push(say("unwritable", { table, reason }));
  for (const { table, reason, why } of status.left_out) {
    if (why === "unfit" || why === "later" || why === "gone") notes.push(say("leftOut", { table, reason }));
  }
  const more = { notes };
  if (status.paused) return shown("paused", say("paused") + saved(pending), more);
  if (STOPPED.includes(state)) {
    const what = status.hint ?? status.trouble;
    if (what && status.trouble && status.hint) notes.unshift(status.trouble);
    return shown("stopped", what ? say("stopped", { what }) : say("stoppedWithoutReason"), more);
  }
  if (state === "offline") {
    const text = success ? say("offline", { time: time(success, now) }) : say("neverConnected");
    return shown("offline", text + saved(pending), more);
  }
  if (state === "first_sync") {
    const rows = first?.table ? say("firstSyncRows", { table: first.table, count: first.rows ?? 0 }) : say("firstSync");
    return shown("busy", rows, more);
  }
  if (health === "red" && status.trouble) {
    return shown("stopped", say("stopped", { what: status.hint ?? status.trouble }), more);
  }
  if (pending > 0) {
    if (state === "syncing") return shown("busy", say("sending"), more);
    return shown("saved", say("savedHere", { count: pending }), more);
  }
  if (lag > 0 || status.in_parts) return shown("busy", say("receiving"), more);
  const isInStep = state === "in_step" || state === "standby" || state === "syncing";
  if (isInStep && success && health !== "red") {
    if (notes.length > 0) return shown("degraded", say("notAll"), more);
    return shown("good", say("upToDate"), { ...more, age: age(now - success) });
  }
  return shown("busy", say(state === "starting" ? "starting" : "behind"), more);
}
