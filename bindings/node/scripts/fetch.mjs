#!/usr/bin/env node
// Puts the executable for another platform into node_modules, for an installer that is built on
// this machine for that one: npm installs the package of the machine that it runs on alone.
//
//   npx driftless-fetch win32-x64                       from the registry
//   npx driftless-fetch win32-x64 --from FILE.tgz       from a package that was fetched before
//   npx driftless-fetch win32-x64 --to DIR              below another folder than node_modules
import { execFileSync } from "node:child_process";
import { mkdtempSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";

const options = { from: { type: "string" }, to: { type: "string", default: "node_modules" } };
const { values, positionals } = parseArgs({ options, allowPositionals: true });
const main = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
const name = `@driftless/${positionals[0]}`;
const version = main.optionalDependencies[name];
if (version === undefined) {
  const known = Object.keys(main.optionalDependencies).map((name) => name.split("/")[1]);
  console.error(`usage: driftless-fetch PLATFORM [--from FILE.tgz] [--to DIR]\nplatforms: ${known.join(", ")}`);
  process.exit(2);
}
const place = path.join(values.to, ...name.split("/"));
mkdirSync(path.dirname(place), { recursive: true });
// On the same disk, so that it can be renamed.
const work = mkdtempSync(path.join(path.dirname(place), ".fetch-"));
try {
  let archive = values.from && path.resolve(values.from);
  if (!archive) {
    const shell = process.platform === "win32";
    execFileSync("npm", ["pack", `${name}@${version}`, "--silent", "--pack-destination", work], { shell, stdio: ["ignore", "ignore", "inherit"] });
    archive = path.join(work, readdirSync(work).find((file) => file.endsWith(".tgz")));
  }
  // tar is part of Windows 10, of macOS and of every Linux.
  execFileSync("tar", ["-xzf", path.relative(work, archive)], { cwd: work });
  const found = JSON.parse(readFileSync(path.join(work, "package", "package.json"), "utf8"));
  if (found.name !== name || found.version !== version) {
    throw new Error(`the archive has ${found.name} ${found.version}, and ${name} ${version} is wanted`);
  }
  rmSync(place, { recursive: true, force: true });
  renameSync(path.join(work, "package"), place);
  console.log(place);
} catch (error) {
  console.error(`error: ${error.message}`);
  process.exitCode = 1;
} finally {
  rmSync(work, { recursive: true, force: true });
}
