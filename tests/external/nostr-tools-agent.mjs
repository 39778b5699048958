// nostr-tools as the owner and as a customer: NIP-42, a NIP-17 talk, NIP-90 jobs in clear and under NIP-44.
import "./webcrypto.mjs";
import { Relay, useWebSocketImplementation } from "nostr-tools/relay";
import { unwrapEvent, wrapManyEvents } from "nostr-tools/nip17";
import * as nip44 from "nostr-tools/nip44";
import { finalizeEvent, generateSecretKey, getPublicKey } from "nostr-tools/pure";
import { hexToBytes } from "nostr-tools/utils";
import { WebSocket, check, run, within } from "./common.mjs";

useWebSocketImplementation(WebSocket);

const now = () => Math.floor(Date.now() / 1000);

/** Collects events of a subscription; `next(test)` waits for one. */
function inbox(relay, filter) {
  const events = [];
  const waiting = [];
  const opened = new Promise((resolve, reject) => {
    relay.subscribe([filter], {
      onevent: (event) => {
        events.push(event);
        for (const wake of waiting) wake();
      },
      oneose: resolve,
      onclose: (reason) => reject(new Error(reason)),
    });
  });
  const next = (test, what) => within(new Promise((resolve) => {
    const look = () => {
      const found = events.find(test);
      if (found) resolve(found);
    };
    waiting.push(look);
    look();
  }), what);
  return { events, next, opened: within(opened, "EOSE") };
}

/** A connection that has answered the relay's challenge (NIP-42). */
async function authenticated(url, secret) {
  const relay = new Relay(url);
  const sign = async (template) => finalizeEvent(template, secret);
  const challenge = new Promise((resolve) => {
    relay.onauth = (template) => { resolve(); return sign(template); };
  });
  await within(relay.connect(), "connection");
  await within(challenge, "the relay's challenge");
  await within(relay.auth(sign), "OK of AUTH");
  return relay;
}

async function talk({ relay: url, node, owner }) {
  const secret = hexToBytes(owner);
  const me = getPublicKey(secret);
  // Without AUTH nobody reads gift wraps.
  const stranger = await within(Relay.connect(url), "connection");
  const refused = await within(new Promise((resolve) => {
    stranger.subscribe([{ kinds: [1059], "#p": [me] }], { onclose: resolve, oneose: () => resolve("served") });
  }), "an answer to an unauthenticated reader");
  check(refused.startsWith("auth-required:"), `an unauthenticated reader hears ${refused}`);
  stranger.close();

  const relay = await authenticated(url, secret);
  const box = inbox(relay, { kinds: [1059], "#p": [me] });
  await box.opened;
  for (const wrap of wrapManyEvents(secret, [{ publicKey: node }], "What can you do?")) {
    await within(relay.publish(wrap), "OK of a gift wrap");
  }
  const opened = (wrap) => {
    try { return unwrapEvent(wrap, secret); } catch { return undefined; }
  };
  const wrap = await box.next((event) => opened(event)?.pubkey === node, "the node's answer");
  const rumor = opened(wrap);
  check(rumor.kind === 14, "the answer is a chat message");
  check(rumor.tags.some((t) => t[0] === "p" && t[1] === me), "the answer is to us");
  check(wrap.pubkey !== node && wrap.pubkey !== me, "the wrap hides its author");
  // A stranger with an authenticated key of its own does not see them.
  const other = await authenticated(url, generateSecretKey());
  const seen = [];
  await within(new Promise((resolve) => {
    other.subscribe([{ "#p": [me] }], { onevent: (e) => seen.push(e), oneose: resolve, onclose: resolve });
  }), "an answer to a spy");
  check(!seen.some((e) => e.kind === 1059), "a spy sees no wraps");
  other.close();
  relay.close();
  return rumor.content;
}

async function jobs({ relay: url, node }) {
  const relay = await within(Relay.connect(url), "connection");
  const secret = generateSecretKey();
  const me = getPublicKey(secret);
  const box = inbox(relay, { kinds: [7000, 6000, 6001], "#p": [me] });
  await box.opened;

  const plain = finalizeEvent({ kind: 5000, content: "", created_at: now(), tags: [["i", "in clear", "text"], ["p", node]] }, secret);
  await within(relay.publish(plain), "OK of a job");
  const result = await box.next((e) => e.kind === 6000 && e.tags.some((t) => t[0] === "e" && t[1] === plain.id), "result");
  check(result.pubkey === node && result.content === "in clear", "the result of the plain job");
  const request = JSON.parse(result.tags.find((t) => t[0] === "request")[1]);
  check(request.id === plain.id && request.sig === plain.sig, "the result holds the request");
  check(result.tags.some((t) => t[0] === "i" && t[1] === "in clear"), "the result repeats the input");

  const key = nip44.getConversationKey(secret, node);
  const word = "xylophone";
  const hidden = JSON.stringify([["i", `sealed ${word}`, "text"], ["output", "text/plain"]]);
  const sealed = finalizeEvent({ kind: 5000, content: nip44.encrypt(hidden, key), created_at: now(), tags: [["p", node], ["encrypted"]] }, secret);
  await within(relay.publish(sealed), "OK of an encrypted job");
  const answer = await box.next((e) => e.kind === 6000 && e.tags.some((t) => t[0] === "e" && t[1] === sealed.id), "encrypted result");
  check(answer.tags.some((t) => t[0] === "encrypted"), "the result says that it is encrypted");
  check(nip44.decrypt(answer.content, key) === `sealed ${word}`, "the result opens with NIP-44");
  const clear = box.events.filter((e) => e.tags.some((t) => t[0] === "e" && t[1] === sealed.id));
  check(clear.every((e) => !JSON.stringify(e).includes(word) && !e.tags.some((t) => t[0] === "i")), "nothing of it is in clear");
  for (const feedback of clear.filter((e) => e.kind === 7000 && e.content)) {
    check(Array.isArray(JSON.parse(nip44.decrypt(feedback.content, key))), "encrypted feedback is an array of tags");
  }

  const broken = finalizeEvent({ kind: 5000, content: "", created_at: now(), tags: [["i", "x", "nonsense"], ["p", node]] }, secret);
  await within(relay.publish(broken), "OK of a malformed job");
  const error = await box.next((e) => e.kind === 7000 && e.tags.some((t) => t[0] === "e" && t[1] === broken.id) && e.tags.some((t) => t[0] === "status" && t[1] === "error"), "feedback `error`");
  relay.close();
  return { results: box.events.filter((e) => e.kind === 6000).length, reason: error.tags.find((t) => t[0] === "status")[2] ?? error.content };
}

run(async (task) => ({ ok: true, answer: task.owner ? await talk(task) : null, jobs: await jobs(task) }));
