// nostr-tools as a client of the embedded relay: publish, query, live subscription, count, search, deletion, negentropy, NIP-11, NIP-05.
import "./webcrypto.mjs";
import { SimplePool, useWebSocketImplementation } from "nostr-tools/pool";
import { Relay, useWebSocketImplementation as useForRelay } from "nostr-tools/relay";
import { fetchRelayInformation } from "nostr-tools/nip11";
import { queryProfile, useFetchImplementation } from "nostr-tools/nip05";
import { finalizeEvent, generateSecretKey, getPublicKey } from "nostr-tools/pure";
import { WebSocket, check, run, within } from "./common.mjs";

// The package does not export this part of it by name, so it is taken by its place.
const nip77 = new URL("./node_modules/nostr-tools/lib/esm/nip77.js", import.meta.url);
const { NegentropyStorageVector, NegentropySync } = await import(nip77);

useWebSocketImplementation(WebSocket);
useForRelay(WebSocket);

const secret = generateSecretKey();
const author = getPublicKey(secret);
const now = () => Math.floor(Date.now() / 1000);
const note = (content, tags = [], kind = 1, created_at = now()) => finalizeEvent({ kind, content, tags, created_at }, secret);

/** Publishes, queries and watches: what each client sees of the other. */
async function pool(url) {
  const reader = new SimplePool();
  const writer = new SimplePool();
  let seen;
  const live = new Promise((resolve) => { seen = resolve; });
  await within(new Promise((resolve) => {
    reader.subscribeMany([url], { kinds: [1], authors: [author] }, { onevent: seen, oneose: resolve });
  }), "EOSE of a live subscription");
  const words = note("quetzalcoatl \u00e4\u4e16\ud83e\udd9c \"quoted\"\n\\ and a tab\t", [["t", "birds"]]);
  await within(Promise.all(writer.publish([url], words)), "OK of an event");
  const arrived = await within(live, "an event on the live subscription");
  check(arrived.id === words.id, "the live event is the one published");
  const byTag = await within(reader.querySync([url], { "#t": ["birds"], authors: [author] }), "query by tag");
  check(byTag.length === 1 && byTag[0].content === words.content, "the tag query gives the event as it was");
  const found = await within(reader.querySync([url], { kinds: [1], search: "quetzalcoatl" }), "search");
  check(found.length === 1 && found[0].id === words.id, "search finds the word");
  const none = await within(reader.querySync([url], { kinds: [1], search: "axolotl" }), "search for nothing");
  check(none.length === 0, "search finds only what matches");
  reader.close([url]);
  writer.close([url]);
}

/** Newest first, replaceable events, refusals, deletion and counts on one connection. */
async function relay(url) {
  const relay = await within(Relay.connect(url), "connection");
  const at = now() - 100;
  const many = Array.from({ length: 20 }, (_, i) => note(`number ${i}`, [["t", "series"]], 1, at + i));
  await within(Promise.all(many.map((event) => relay.publish(event))), "OKs of twenty events");
  const stored = await query(relay, { "#t": ["series"], limit: 5 });
  check(stored.map((e) => e.content).join() === "number 19,number 18,number 17,number 16,number 15", "limit gives the newest, newest first");
  const count = await within(relay.count([{ "#t": ["series"] }], {}), "COUNT");
  check(count === 20, `COUNT says ${count}`);
  await relay.publish(note("{\"name\":\"old\"}", [], 0, at));
  await relay.publish(note("{\"name\":\"new\"}", [], 0, at + 1));
  const profiles = await query(relay, { kinds: [0], authors: [author] });
  check(profiles.length === 1 && profiles[0].content.includes("new"), "a profile replaces the older one");
  const forged = { ...many[0], content: "forged" };
  const refusal = await within(relay.publish(forged).then(() => "taken", (e) => String(e.message ?? e)), "answer to a forged event");
  check(refusal.includes("invalid"), `a forged event is refused: ${refusal}`);
  await relay.publish(note("", [["e", many[19].id], ["k", "1"]], 5));
  const left = await query(relay, { ids: [many[19].id] });
  check(left.length === 0, "a deleted event is gone");
  const again = await within(relay.publish(many[19]).then(() => "taken", (e) => String(e.message ?? e)), "answer to a deleted event");
  check(again !== "taken", "a deleted event does not come back");
  const remaining = await within(relay.count([{ "#t": ["series"] }], {}), "COUNT");
  check(remaining === 19, `COUNT after the deletion says ${remaining}`);
  const synced = await negentropy(relay, many);
  relay.close();
  return { refusal, synced };
}

function query(relay, filter) {
  const events = [];
  return within(new Promise((resolve) => {
    const subscription = relay.subscribe([filter], {
      onevent: (event) => events.push(event),
      oneose: () => { subscription.close(); resolve(events); },
    });
  }), `EOSE of ${JSON.stringify(filter)}`);
}

/** NIP-77: we hold the first ten and one of our own; the relay has nine more. */
async function negentropy(relay, many) {
  const own = note("only here", [["t", "series"]], 1, now() - 200);
  const storage = new NegentropyStorageVector();
  for (const event of [...many.slice(0, 10), own]) storage.insert(event.created_at, event.id);
  storage.seal();
  const have = [];
  const need = [];
  await within(new Promise((resolve, reject) => {
    const sync = new NegentropySync(relay, storage, { "#t": ["series"] }, {
      onhave: (id) => have.push(id),
      onneed: (id) => need.push(id),
      onclose: (reason) => (reason ? reject(new Error(reason)) : resolve()),
    });
    sync.start().catch(reject);
  }), "end of the reconciliation");
  check(have.length === 1 && have[0] === own.id, `the relay lacks ${have.length} events`);
  check(need.sort().join() === many.slice(10, 19).map((e) => e.id).sort().join(), `we lack ${need.length} events`);
  return { have: have.length, need: need.length };
}

async function documents({ relay, http, node, name }) {
  const about = await within(fetchRelayInformation(relay), "NIP-11");
  for (const nip of [1, 9, 11, 17, 40, 42, 45, 50, 62, 65, 70, 77]) check(about.supported_nips.includes(nip), `NIP-11 names NIP-${nip}`);
  for (const key of ["max_message_length", "max_subscriptions", "max_limit", "max_subid_length", "max_event_tags", "max_content_length"]) {
    check(about.limitation[key] > 0, `NIP-11 has limitation.${key}`);
  }
  check(about.self === node, "NIP-11 names the node's key");
  // nostr-tools asks https://DOMAIN; here the domain is the node's own address.
  useFetchImplementation((url, options) => fetch(String(url).replace("https://timmy.test", http), options));
  const profile = await within(queryProfile(`${name}@timmy.test`), "NIP-05");
  check(profile?.pubkey === node, "NIP-05 gives the node's key");
  check(Array.isArray(profile.relays) && profile.relays.length > 0, "NIP-05 gives relays");
  const stranger = await within(queryProfile("nobody@timmy.test"), "NIP-05 of nobody");
  check(!stranger?.pubkey, "NIP-05 knows nobody else");
  const answer = await fetch(`${http}/.well-known/nostr.json?name=${name}`, { redirect: "error", headers: { origin: "https://client.example" } });
  check(answer.headers.get("access-control-allow-origin") === "*", "NIP-05 may be read by web pages");
  return { supported: about.supported_nips, relays: profile.relays };
}

run(async (task) => {
  await pool(task.relay);
  const relayed = await relay(task.relay);
  return { ok: true, ...relayed, documents: await documents(task) };
});
