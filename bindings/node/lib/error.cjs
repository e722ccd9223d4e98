"use strict";

/**
 * An error of the sidecar, or of the way to it. Act on `code` or `kind`; show `message` and `hint`.
 * Three codes are of this package and not of the sidecar: `sidecar_missing` (there is no executable
 * for this machine), `sidecar_ended` (the process ended before it had answered) and
 * `sidecar_protocol` (the executable is of another version).
 */
class DriftlessError extends Error {
  constructor(message, { code, kind, hint = null, remoteCode = null }) {
    super(message);
    this.name = "DriftlessError";
    this.code = code;
    this.kind = kind;
    this.hint = hint;
    this.remoteCode = remoteCode;
  }

  /** The error of a failed request. */
  static of({ message, data }) {
    const { code, kind, hint, remote_code: remoteCode } = data;
    return new DriftlessError(message, { code, kind, hint, remoteCode });
  }
}

module.exports = { DriftlessError };
