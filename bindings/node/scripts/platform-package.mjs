// Makes the package of one platform of an executable, ready for `npm pack` or `npm publish`.
//
//   node scripts/platform-package.mjs linux-x64 target/release/driftless OUT
//
// writes OUT/package.json and OUT/bin/driftless (bin/driftless.exe for Windows).
import { chmodSync, copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { createRequire } from "node:module";

const { executable, platformPackage } = createRequire(import.meta.url)("../lib/binary.cjs");
const [platform, binary, out] = process.argv.slice(2);
const [os, cpu] = platform?.split("-") ?? [];
const main = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
const name = platformPackage(os, cpu);
if (!out || !(name in main.optionalDependencies)) {
  const known = Object.keys(main.optionalDependencies).map((name) => name.split("/")[1]);
  console.error(`usage: platform-package.mjs PLATFORM EXECUTABLE FOLDER; platforms: ${known.join(", ")}`);
  process.exit(2);
}
const file = path.join(out, executable(os));
mkdirSync(path.dirname(file), { recursive: true });
copyFileSync(binary, file);
chmodSync(file, 0o755);
const { version, license } = main;
const description = `The executable of driftless for ${platform}. Install \`driftless\` instead.`;
const manifest = { name, version, description, license, os: [os], cpu: [cpu], files: ["bin"] };
// Package managers that keep packages in archives must unpack this one.
manifest.preferUnplugged = true;
writeFileSync(path.join(out, "package.json"), JSON.stringify(manifest, null, 2) + "\n");
