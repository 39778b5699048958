// One human with a Matrix client: matrix-js-sdk with the Rust crypto stack, as in Element Web, keys in memory.
// Takes its account as one JSON argument, then commands as JSON lines on stdin; answers and tells what happens as JSON lines on
// stdout (README.md has the table). It runs until `stop` or the end of stdin.
import "./prelude.mjs";
import readline from "node:readline";
import { ClientEvent, SyncState, createClient } from "matrix-js-sdk";
import { AllDevicesIsolationMode, decodeRecoveryKey } from "matrix-js-sdk/lib/crypto-api/index.js";
import { commands } from "./commands.mjs";
import { watch } from "./events.mjs";
import { setUp } from "./identity.mjs";

function print(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}
process.stdout.on("error", () => process.exit(1));

/** Answers the server's question for the password, which it asks when cross-signing keys are replaced. */
function withPassword(userId, password) {
  return (request) => request({ type: "m.login.password", identifier: { type: "m.id.user", user: userId }, password });
}

/** Logs in as a new device. Its secret storage is opened by `recoveryKey`, or by the key it makes itself. */
async function logIn({ url, user, password, device, recovery_key: recoveryKey }) {
  const { user_id: userId, device_id: deviceId, access_token: accessToken } = await createClient({ baseUrl: url }).loginRequest({
    type: "m.login.password",
    identifier: { type: "m.id.user", user },
    password,
    initial_device_display_name: device ?? "a person of a test",
  });
  let storageKey = recoveryKey && decodeRecoveryKey(recoveryKey);
  const cryptoCallbacks = {
    getSecretStorageKey: async ({ keys }) => (storageKey ? [Object.keys(keys)[0], storageKey] : null),
    cacheSecretStorageKey: (_id, _info, key) => { storageKey = key; },
  };
  return createClient({ baseUrl: url, userId, deviceId, accessToken, cryptoCallbacks, verificationMethods: ["m.sas.v1"] });
}

function synced(client) {
  return new Promise((resolve) => {
    client.on(ClientEvent.Sync, (state) => { if (state === SyncState.Prepared) resolve(); });
  });
}

async function start(account) {
  const client = await logIn(account);
  await client.initRustCrypto({ useIndexedDB: false });
  // What Element Web does unless told to exclude unsigned devices (its DeviceIsolationModeController, 2026).
  client.getCrypto().setDeviceIsolationMode(new AllDevicesIsolationMode(false));

  // Nothing is told before the ready line.
  const held = [];
  let tell = (event) => held.push(event);
  watch(client, (event) => tell(event), account);

  const first = synced(client);
  await client.startClient({ initialSyncLimit: 50 });
  await first;
  const auth = withPassword(client.getUserId(), account.password);
  const recoveryKey = account.sign === false ? null : await setUp(client, auth, account.recovery_key);

  print({ event: "ready", user_id: client.getUserId(), device_id: client.getDeviceId(), recovery_key: recoveryKey });
  held.forEach(print);
  tell = print;
  return commands(client, print, auth);
}

// Commands sent before the ready line wait for it.
const ready = start(JSON.parse(process.argv[2]));
ready.catch((error) => {
  process.stderr.write(`${error?.stack ?? error}\n`);
  process.exit(1);
});

const lines = readline.createInterface({ input: process.stdin });
lines.on("close", () => process.exit(0));
lines.on("line", async (line) => {
  const { id, do: name, ...given } = JSON.parse(line);
  const doable = await ready;
  try {
    if (!Object.hasOwn(doable, name)) throw new Error(`no such command: ${name}`);
    print({ id, ok: true, ...(await doable[name](given)) });
    if (name === "stop") process.exit(0);
  } catch (error) {
    print({ id, ok: false, error: String(error?.message ?? error) });
  }
});
