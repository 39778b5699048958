// What the scripts share: the task comes as one JSON value on stdin, what was found goes as one JSON value to stdout.
import "./webcrypto.mjs";
import WebSocket from "ws";

globalThis.WebSocket ??= WebSocket;
export { WebSocket };

/** How long any single step may take; reached only when something is broken. */
export const PATIENCE_MS = 60_000;

export async function task() {
  let text = "";
  for await (const chunk of process.stdin) text += chunk;
  return JSON.parse(text);
}

/** Rejects with `what` when `promise` takes too long. */
export function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`never happened: ${what}`)), PATIENCE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export function check(condition, what) {
  if (!condition) throw new Error(`wrong: ${what}`);
}

/** Runs `main`, prints what it found and ends with 0, or with 1 and the reason on stderr. */
export function run(main) {
  task().then(main).then(
    (found) => process.stdout.write(`${JSON.stringify(found)}\n`, () => process.exit(0)),
    (error) => process.stderr.write(`${error?.stack ?? error}\n`, () => process.exit(1)),
  );
}
