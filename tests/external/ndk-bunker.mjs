// NDK's NIP-46 backend as the remote signer of a node's passport. It runs until its stdin ends.
import "./webcrypto.mjs";
import readline from "node:readline";
import { WebSocket } from "./common.mjs";
import NDK, { NDKNip46Backend, NDKPrivateKeySigner } from "@nostr-dev-kit/ndk";

globalThis.WebSocket = WebSocket;

/** A backend that lets in who brings the secret of the bunker:// address, and counts what it was asked. */
class Bunker extends NDKNip46Backend {
  allowed = new Set();
  asked = {};

  constructor(ndk, signer, secret) {
    super(ndk, signer, async ({ pubkey, method }) => {
      this.asked[method] = (this.asked[method] ?? 0) + 1;
      return this.allowed.has(pubkey);
    });
    this.secret = secret;
  }

  async applyToken(pubkey, token) {
    // The secret is spent by the first who brings it.
    if (token !== this.secret || (this.allowed.size > 0 && !this.allowed.has(pubkey))) throw new Error("invalid secret");
    this.allowed.add(pubkey);
  }
}

const lines = readline.createInterface({ input: process.stdin });
let bunker;
lines.on("line", async (line) => {
  const { relay, key, secret } = JSON.parse(line);
  if (!relay) {
    process.stdout.write(`${JSON.stringify({ asked: bunker.asked })}\n`);
    return;
  }
  const ndk = new NDK({ explicitRelayUrls: [relay], enableOutboxModel: false, autoConnectUserRelays: false });
  const connected = new Promise((resolve) => { ndk.pool.on("relay:connect", resolve); });
  ndk.connect();
  await connected;
  const signer = new NDKPrivateKeySigner(key);
  bunker = new Bunker(ndk, signer, secret);
  await bunker.start();
  process.stdout.write(`${JSON.stringify({ ready: true, pubkey: (await signer.user()).pubkey })}\n`);
});
lines.on("close", () => process.exit(0));
