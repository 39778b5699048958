// Imported before the SDK, which takes hold of the console when it loads: stdout carries nothing but the protocol.
import { format } from "node:util";

const NODE_MAJOR_MIN = 22;
if (Number(process.versions.node.split(".")[0]) < NODE_MAJOR_MIN) {
  const { node } = process.versions;
  process.stderr.write(`matrix-js-sdk needs Node ${NODE_MAJOR_MIN}, this is ${node}: run node_modules/.bin/node\n`);
  process.exit(1);
}

const log = process.env.PERSON_LOG ? (...words) => process.stderr.write(`${format(...words)}\n`) : () => {};
for (const name of ["trace", "debug", "log", "info", "warn", "error"]) console[name] = log;

// What the SDK does in the background may fail while a test stops the server. That is no end of the person.
process.on("unhandledRejection", (error) => log("unhandled:", error));
