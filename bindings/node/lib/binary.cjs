"use strict";

const fs = require("node:fs");
const path = require("node:path");
const { DriftlessError } = require("./error.cjs");

/** The package with the executable for a kind of machine. */
function platformPackage(platform = process.platform, arch = process.arch) {
  return `@driftless/${platform}-${arch}`;
}

/** The executable within that package. */
function executable(platform = process.platform) {
  return path.join("bin", platform === "win32" ? "driftless.exe" : "driftless");
}

/**
 * A program cannot be started from within an asar archive. electron-builder and Electron Forge
 * unpack packages with executables beside it.
 */
function outsideOfAsar(file) {
  return file.replace(/([\\/])app\.asar(?=[\\/])/, "$1app.asar.unpacked");
}

/**
 * The executable of the sidecar: `binary`, or the environment's DRIFTLESS_BINARY, or that of the
 * installed package for this machine.
 */
function findBinary(binary, env = process.env) {
  const named = binary ?? (env.DRIFTLESS_BINARY || undefined);
  if (named !== undefined) return existing(named, "check the path");
  const name = platformPackage();
  let folder;
  try {
    folder = path.dirname(require.resolve(`${name}/package.json`));
  } catch {
    throw new DriftlessError(`the package ${name} is not installed`, {
      code: "sidecar_missing",
      kind: "usage",
      hint:
        "install it beside `driftless` (it is an optional dependency, which `npm install " +
        "--omit=optional` leaves out), or name an executable by the option `binary` or the " +
        "variable DRIFTLESS_BINARY",
    });
  }
  const found = outsideOfAsar(path.join(folder, executable()));
  return existing(found, `let the packager unpack it: asarUnpack: ["**/node_modules/@driftless/**"]`);
}

function existing(file, hint) {
  if (fs.existsSync(file)) return file;
  const message = `there is no executable ${file}`;
  throw new DriftlessError(message, { code: "sidecar_missing", kind: "usage", hint });
}

module.exports = { findBinary, executable, outsideOfAsar, platformPackage };
