// Makes types/protocol.d.ts of schema/sidecar.json.
//
//   node scripts/types.mjs           writes it
//   node scripts/types.mjs --check   fails if it is not what would be written
import { readFileSync, writeFileSync } from "node:fs";

const SCHEMA = new URL("../../../schema/sidecar.json", import.meta.url);
const TYPES = new URL("../types/protocol.d.ts", import.meta.url);
/** Definitions that describe whole messages, which this package reads and writes itself. */
const MESSAGES = ["Request", "Notification", "Answer", "Failure"];
/** Definitions of `types/codes.d.ts`, which a test of the library writes (`error::code`). */
const CODES = ["ErrorCode"];

const PLAIN = { string: "string", number: "number", integer: "number", boolean: "boolean", null: "null", object: "Record<string, unknown>" };

function comment(schema, indent) {
  const text = schema.description;
  return text ? `${indent}/** ${text.replaceAll("*/", "* /")} */\n` : "";
}

/** The type of a schema. What this does not know, it refuses. */
function type(schema, indent = "") {
  const known = ["description", "$ref", "type", "enum", "const", "anyOf", "items", "properties", "required", "additionalProperties", "minimum", "pattern"];
  const unknown = Object.keys(schema).find((key) => !known.includes(key));
  if (unknown) throw new Error(`this does not know \`${unknown}\``);
  if (schema.$ref) return schema.$ref.replace("#/$defs/", "");
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((word) => JSON.stringify(word)).join(" | ");
  if (schema.anyOf) return schema.anyOf.map((one) => type(one, indent)).join(" | ");
  if (schema.properties) return object(schema, indent);
  const types = [schema.type].flat();
  return types.map((name) => {
    if (name === "array") return `Array<${type(schema.items, indent)}>`;
    if (name === "object" && schema.additionalProperties) {
      return `Record<string, ${type(schema.additionalProperties, indent)}>`;
    }
    return PLAIN[name];
  }).join(" | ");
}

function object(schema, indent) {
  const inner = `${indent}  `;
  const fields = Object.entries(schema.properties).map(([name, field]) => {
    const optional = schema.required?.includes(name) ? "" : "?";
    return `${comment(field, inner)}${inner}${name}${optional}: ${type(field, inner)};\n`;
  });
  return fields.length === 0 ? "Record<string, never>" : `{\n${fields.join("")}${indent}}`;
}

const { $defs } = JSON.parse(readFileSync(SCHEMA, "utf8"));
let text = `// Made by scripts/types.mjs of schema/sidecar.json. Do not edit it.
import type { ErrorCode } from "./codes.js";

export type { ErrorCode };
`;
for (const [name, schema] of Object.entries($defs)) {
  if (MESSAGES.includes(name) || CODES.includes(name)) continue;
  const isInterface = schema.properties && Object.keys(schema.properties).length > 0;
  const head = isInterface ? `interface ${name} ` : `type ${name} = `;
  text += `\n${comment(schema, "")}export ${head}${type(schema)}${isInterface ? "" : ";"}\n`;
}

if (process.argv.includes("--check")) {
  let current = "";
  try {
    current = readFileSync(TYPES, "utf8");
  } catch {}
  if (current !== text) {
    console.error("types/protocol.d.ts is not that of schema/sidecar.json: run `node scripts/types.mjs`");
    process.exit(1);
  }
} else {
  writeFileSync(TYPES, text);
}
