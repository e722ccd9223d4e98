// Holds messages against the schema of the sidecar: lines of {message, to_sidecar, method}.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const require = createRequire(process.env.DRIFTLESS_TEST_NODE_MODULES + "/");
const Ajv = require("ajv/dist/2020").default;
const schema = JSON.parse(readFileSync(process.argv[2]));
const ajv = new Ajv({ allErrors: true, allowUnionTypes: true });
ajv.addSchema(schema, "sidecar");

function hold(pointer, value, line) {
  const validate = ajv.getSchema(pointer === "" ? "sidecar" : `sidecar#/$defs/${pointer}`);
  if (!validate) throw new Error(`the schema has no ${pointer}`);
  if (!validate(value)) {
    console.log(`${pointer || "message"}: ${ajv.errorsText(validate.errors)}\n${line}`);
    process.exit(1);
  }
}

let count = 0;
for (const line of readFileSync(0, "utf8").split("\n").filter(Boolean)) {
  const { message, to_sidecar: toSidecar, method } = JSON.parse(line);
  hold(toSidecar ? "Request" : "", message, line);
  const known = method && schema.$defs.Methods.properties[method];
  if (toSidecar && known) {
    // What is refused for its parameters is sent with `write`.
    hold(`Methods/properties/${method}/properties/params`, message.params, line);
  } else if (message.method) {
    if (!toSidecar) hold(`Notifications/properties/${method}`, message.params, line);
  } else if (known && "result" in message) {
    hold(`Methods/properties/${method}/properties/result`, message.result, line);
  }
  count += 1;
}
console.log(`${count} valid`);
