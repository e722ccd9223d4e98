import type { Conflict, Status } from "../types/protocol.js";

/** The words: see `words.js`. */
export type Words = Record<string, string | Record<string, string>>;

/** What to show of a status. */
export interface Described {
  kind: "good" | "saved" | "busy" | "offline" | "paused" | "stopped" | "degraded";
  text: string;
  /** How long ago all was up to date; null if it is not. */
  age: string | null;
  /** What does not flow, by name. */
  notes: string[];
}

export function describe(
  status: Status | null,
  options?: { now?: number; words?: Words; language?: string },
): Described;

export const WORDS: Words;

/** What the events `driftless-restore` and `driftless-dismiss` have: the parameters of the calls. */
export interface Selected {
  ids: string[];
  new_key?: "fresh";
}

/** The element `<driftless-indicator>`. */
export class DriftlessIndicator extends HTMLElement {
  status: Status | null;
  conflicts: Conflict[];
  open: boolean;
  set words(words: Words | null);
  set clock(clock: () => number);
}
