// Proves the counterparts themselves: a real homeserver, people on it, and what they can and cannot read of each other.
//   node_modules/.bin/node selftest.mjs PYTHON        (PYTHON: the one that has Synapse installed; default python3)
import { spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import readline from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

const PATIENCE_MS = 60_000;
const HERE = import.meta.dirname;
const started = Date.now();

function check(condition, what) {
  if (!condition) throw new Error(`wrong: ${what}`);
}

function say(what) {
  console.log(`${((Date.now() - started) / 1000).toFixed(1).padStart(6)} s  ${what}`);
}

/** A program that talks in JSON lines. */
class Program {
  static all = [];
  heard = [];
  waiting = new Set();
  next = 1;

  constructor(command, args, stderr = "inherit") {
    this.process = spawn(command, args, { stdio: ["pipe", "pipe", stderr] });
    this.ended = new Promise((resolve) => { this.process.on("exit", resolve); });
    readline.createInterface({ input: this.process.stdout }).on("line", (line) => {
      this.heard.push(JSON.parse(line));
      for (const look of this.waiting) look();
    });
    Program.all.push(this);
  }

  /** The first line, said already or to come, that `fits`. */
  hears(what, fits) {
    return new Promise((resolve, reject) => {
      const end = (settle, value) => {
        this.waiting.delete(look);
        clearTimeout(timer);
        settle(value);
      };
      const timer = setTimeout(() => end(reject, new Error(`never heard: ${what}`)), PATIENCE_MS);
      const look = () => {
        const line = this.heard.find(fits);
        if (line) end(resolve, line);
      };
      this.waiting.add(look);
      this.ended.then((code) => end(reject, new Error(`ended with ${code} before: ${what}`)));
      look();
    });
  }

  async asks(what, fields = {}) {
    const id = this.next++;
    this.process.stdin.write(`${JSON.stringify({ id, do: what, ...fields })}\n`);
    const { id: _id, ok, error, ...answer } = await this.hears(`answer to ${what}`, (line) => line.id === id);
    if (!ok) throw new Error(`${what}: ${error}`);
    return answer;
  }

  refuses(what, fields) {
    return this.asks(what, fields).then(() => check(false, `${what} went well`), (error) => error.message);
  }

  reads(body, event = "message") {
    return this.hears(`${event} "${body}"`, (line) => line.event === event && line.body === body);
  }

  async ends() {
    this.process.stdin.end();
    return this.ended;
  }
}

async function until(what, holds) {
  for (const end = Date.now() + PATIENCE_MS; !(await holds()); await sleep(100)) check(Date.now() < end, `never: ${what}`);
}

async function homeserver(directory, python) {
  const accounts = ["--exempt", "alice:a", "--user", "bob:b", "--user", "carol:c"];
  const server = new Program(python, [path.join(HERE, "homeserver.py"), directory, ...accounts]);
  const { url, secret } = await server.hears("the homeserver", (line) => line.ready);
  return { server, url, secret };
}

function personProgram(account, stderr) {
  return new Program(process.execPath, [path.join(HERE, "person.mjs"), JSON.stringify(account)], stderr);
}

async function person(url, user, password, more = {}) {
  const one = personProgram({ url, user, password, ...more });
  return Object.assign(one, await one.hears(`${user} to be ready`, (line) => line.event === "ready"));
}

/** Until the last that `one` heard of `user` in the room is this `membership`. */
function sees(one, room, user, membership) {
  const of = (line) => line.event === "membership" && line.room === room && line.user === user;
  return until(`${user}: ${membership}`, () => one.heard.findLast(of)?.membership === membership);
}

async function join(one, room) {
  await sees(one, room, one.user_id, "invite");
  await one.asks("join", { room });
}

/** An account by shared secret over plain HTTP, as a harness in another language makes it. */
async function register(url, secret, username, password) {
  const { nonce } = await (await fetch(`${url}/_synapse/admin/v1/register`)).json();
  const mac = createHmac("sha1", secret).update([nonce, username, password, "notadmin"].join("\0")).digest("hex");
  const body = JSON.stringify({ nonce, username, password, admin: false, mac });
  const answer = await fetch(`${url}/_synapse/admin/v1/register`, { method: "POST", body });
  check(answer.ok, `registered ${username}: ${answer.status}`);
}

/** The DM of two signed people: everything reads, and Element draws no shield. */
async function messages(alice, bob) {
  const { room } = await alice.asks("create_dm", { user: bob.user_id, encrypted: true });
  const early = await alice.asks("send", { room, text: "before you came" });
  await join(bob, room);
  const seen = await bob.reads("before you came");
  check(seen.event_id === early.event_id && seen.encrypted && !seen.failed, "a message sent before the join reads");
  check(seen.shield === "NONE" && seen.sender === alice.user_id, "no shield");

  await bob.asks("typing", { room });
  await alice.hears("typing", (line) => line.event === "typing" && line.users.includes(bob.user_id));
  const answer = await bob.asks("send", { room, text: "here I am", reply_to: early.event_id });
  const heard = await alice.reads("here I am");
  check(heard.shield === "NONE" && heard.encrypted && heard.reply_to === early.event_id, "the answer, no shield");

  await alice.asks("read", { room, event: answer.event_id });
  const hers = (line) => line.event === "receipt" && line.event_id === answer.event_id && line.user === alice.user_id;
  await bob.hears("receipt", hers);
  check((await bob.asks("read_receipts", { room, event: answer.event_id })).users.includes(alice.user_id), "the receipt is kept");
  check((await bob.asks("encryption_info", { room, event: early.event_id })).shield === "NONE", "encryption_info");

  await alice.asks("react", { room, event: answer.event_id, key: "✅" });
  await bob.hears("reaction", (line) => line.event === "reaction" && line.target === answer.event_id && line.key === "✅");
  await alice.asks("send", { room, text: "in the thread", thread: early.event_id });
  const threaded = await bob.reads("in the thread");
  check(threaded.thread === early.event_id && threaded.reply_to === undefined, "the thread");
  say("messages, reply, thread, reaction, typing, receipt");
  return room;
}

async function edits(alice, bob, room) {
  const { event_id: id } = await alice.asks("send", { room, text: "draft" });
  await bob.reads("draft");
  await alice.asks("send", { room, text: "final", edit_of: id });
  const edit = await bob.reads("final");
  check(edit.edit_of === id && edit.shield === "NONE", "the edit");
  const { messages } = await bob.asks("messages", { room });
  const shown = messages.filter((message) => message.event_id === id);
  check(shown.length === 1 && shown[0].body === "final" && shown[0].edited, "the timeline shows the edit");
  await alice.asks("redact", { room, event: id });
  await bob.hears("redaction", (line) => line.event === "redaction" && line.target === id);
  say("edits and redactions show");
}

async function clearText(alice, bob, room) {
  await alice.asks("send_clear", { room, text: "in the clear" });
  const seen = await bob.reads("in the clear");
  check(!seen.encrypted && seen.shield === "RED" && seen.shield_reason === "SENT_IN_CLEAR", "clear text has a red shield");
  say("clear text in an encrypted room is marked");
}

async function attachments(alice, bob, room) {
  const base64 = Buffer.from("the bytes of a file, \u0000\u00ff and all").toString("base64");
  await alice.asks("send_file", { room, name: "note.bin", mime: "application/octet-stream", base64 });
  const seen = await bob.reads("note.bin");
  check(seen.file.encrypted && seen.msgtype === "m.file" && seen.shield === "NONE", "the file is encrypted");
  const got = await bob.asks("get_file", { room, event: seen.event_id });
  check(got.base64 === base64 && got.name === "note.bin", "the file decrypts");
  say("attachments decrypt");
}

async function verifies(alice, bob, room) {
  const before = await alice.asks("user_status", { user: bob.user_id });
  check(!before.verified && before.has_identity && before.devices.every((device) => device.signed_by_owner), "not verified yet");
  check((await alice.asks("verify", { user: bob.user_id, room })).verified, "alice verified bob");
  check((await alice.asks("user_status", { user: bob.user_id })).verified, "and it stays");
  const emojis = (one) => one.hears("emojis", (line) => line.event === "verification" && line.phase === "emojis");
  const [hers, his] = await Promise.all([emojis(alice), emojis(bob)]);
  check(hers.emojis.length === 7 && hers.emojis.join() === his.emojis.join(), "both saw the same emojis");
  await bob.hears("done", (line) => line.event === "verification" && line.phase === "done");
  await until("bob verified alice", async () => (await bob.asks("user_status", { user: alice.user_id })).verified);
  say(`verified in the room: ${hers.emojis.join(", ")}`);
}

async function verifiesByDevice(bob, carol) {
  // A client keeps the devices of those only with whom it shares an encrypted room.
  const { room } = await bob.asks("create_room", { users: [carol.user_id] });
  await join(carol, room);
  await sees(bob, room, carol.user_id, "join");
  check((await bob.asks("verify", { user: carol.user_id })).verified, "bob verified carol");
  const wrong = await carol.refuses("verify", { user: bob.user_id, mismatch: true });
  check(wrong.includes("m.mismatched_sas"), `a mismatch cancels: ${wrong}`);
  say("verified by to-device messages; a mismatch cancels");
}

/** Mallory never signed her device: a red shield, and nothing either way for who excludes such devices. */
async function unsigned(alice, mallory) {
  const { room } = await alice.asks("create_room", { users: [mallory.user_id], encrypted: true });
  await join(mallory, room);
  await alice.asks("send", { room, text: "for all devices" });
  check((await mallory.reads("for all devices")).encrypted, "an unsigned device reads");
  await mallory.asks("send", { room, text: "I am unsigned" });
  const red = await alice.reads("I am unsigned");
  check(red.shield === "RED" && red.shield_reason === "UNSIGNED_DEVICE", `a red shield: ${red.shield} ${red.shield_reason}`);
  const status = await alice.asks("user_status", { user: mallory.user_id });
  check(!status.has_identity && status.devices.every((device) => !device.signed_by_owner), "no identity, no signature");

  await alice.asks("isolate", { on: true });
  const { event_id: kept } = await alice.asks("send", { room, text: "for signed devices" });
  const withheld = await mallory.hears("what is withheld", (line) => line.event === "message" && line.event_id === kept);
  check(withheld.failed && withheld.failure.startsWith("MEGOLM_KEY_WITHHELD"), `no key: ${withheld.failure}`);
  const { event_id: refused } = await mallory.asks("send", { room, text: "still unsigned" });
  const mute = await alice.hears("what is refused", (line) => line.event === "message" && line.event_id === refused);
  check(mute.failed && mute.body === undefined && mute.shield === null, `refused: ${mute.failure}`);
  check((await alice.asks("encryption_info", { room, event: refused })).failed, "encryption_info says so");
  await alice.asks("isolate", { on: false });
  say(`an unsigned device: red, and when isolated ${withheld.failure} / ${mute.failure}`);
}

/** A second device opens the secret storage, is signed, and reads by key backup what was said before it came. */
async function secondDevice(url, alice, bob, room) {
  const refused = personProgram({ url, user: "bob", password: "b" }, "ignore");
  check((await refused.ended) === 1, "a device without the recovery key refuses to replace the identity");
  const second = await person(url, "bob", "b", { recovery_key: bob.recovery_key, device: "a second device" });
  const { devices } = await alice.asks("user_status", { user: bob.user_id });
  const device = devices.find((device) => device.device_id === second.device_id);
  check(device?.signed_by_owner && device.verified, "the second device is signed");
  const late = await second.reads("before you came", "decrypted");
  const before = second.heard.find((line) => line.event === "message" && line.event_id === late.event_id);
  check(before.failed, "it could not be read at first");
  await alice.asks("send", { room, text: "to both" });
  await Promise.all([bob.reads("to both"), second.reads("to both")]);
  await second.asks("logout");
  check((await second.ends()) === 0, "it ended");
  say("a second device by recovery key reads the past out of the backup");
}

async function identityReset(alice, bob, room) {
  for (const one of [alice, bob]) await one.asks("isolate", { on: false, strict: true });
  await bob.asks("reset_identity");
  // What he had signed of her is void with the keys he signed it with.
  await bob.refuses("send", { room, text: "not before I looked" });
  await bob.asks("withdraw", { user: alice.user_id });
  await bob.asks("send", { room, text: "who am I" });
  await alice.reads("who am I");
  await until("the reset shows", async () => {
    const status = await alice.asks("user_status", { user: bob.user_id });
    return status.was_verified && !status.verified && status.needs_approval;
  });
  await alice.refuses("send", { room, text: "not before I looked" });
  await alice.asks("isolate", { on: false });
  await alice.asks("send", { room, text: "without looking" });
  await bob.reads("without looking");
  await alice.asks("isolate", { on: false, strict: true });
  await alice.asks("withdraw", { user: bob.user_id });
  await alice.asks("send", { room, text: "fine" });
  await bob.reads("fine");
  say("an identity reset shows, and stops the strict who had verified it");
}

/** Synapse's own limit on messages (0.2/s, burst 10) holds for all but those who are exempt. */
async function limits(alice, carol) {
  const hurried = async (one) => {
    const { room } = await one.asks("create_room", { encrypted: false });
    for (let sent = 0; sent < 30; sent++) await one.asks("send_clear", { room, text: "again" });
  };
  await hurried(alice);
  const refusal = await hurried(carol).then(() => "", (error) => error.message);
  check(refusal.includes("429"), `the limit on messages: ${refusal}`);
  say("the limit on messages");
}

function toldOnce(one) {
  const ids = one.heard.filter((line) => line.event === "message").map((line) => line.event_id);
  check(new Set(ids).size === ids.length, "no message is told twice");
}

async function restart(directory, python, url, server, alice, bob, room) {
  check((await server.ends()) === 0, "the homeserver ends with its stdin");
  const again = await homeserver(directory, python);
  check(again.url === url, "the same address");
  await alice.asks("send", { room, text: "after the restart" });
  await bob.reads("after the restart");
  say("people go on after a restart of the homeserver");
  return again.server;
}

/** She signs it after all; and a new identity of somebody never verified waits for approval, but hinders nothing. */
async function repaired(alice, mallory) {
  const { room } = await alice.asks("create_room", { users: [mallory.user_id], encrypted: true });
  await join(mallory, room);
  const status = () => alice.asks("user_status", { user: mallory.user_id });
  await mallory.asks("reset_identity");
  await until("signed", async () => (await status()).devices.every((device) => device.signed_by_owner));
  check(!(await status()).needs_approval, "a first identity needs no approval");
  await alice.asks("isolate", { on: true });
  await mallory.asks("send", { room, text: "signed now" });
  check((await alice.reads("signed now")).shield === "NONE", "no shield any more");
  await alice.asks("isolate", { on: false });
  await mallory.asks("reset_identity");
  await until("the change shows", async () => (await status()).needs_approval);
  await alice.asks("approve", { user: mallory.user_id });
  check(!(await status()).needs_approval, "approved");
  say("signed later: no shield; a changed identity waits for approval");
}

async function withoutEncryption(alice, bob) {
  const { room } = await alice.asks("create_dm", { user: bob.user_id, encrypted: false });
  await join(bob, room);
  await alice.asks("send", { room, text: "plain" });
  const seen = await bob.reads("plain");
  check(!seen.encrypted && seen.shield === "NONE", "no shield in a room without encryption");
  await alice.asks("leave", { room });
  await sees(bob, room, alice.user_id, "leave");
}

async function removal(alice, bob) {
  const { room } = await alice.asks("create_room", { users: [bob.user_id], encrypted: false });
  await join(bob, room);
  await alice.asks("kick", { room, user: bob.user_id });
  await sees(bob, room, bob.user_id, "leave");
  const { members } = await alice.asks("members", { room });
  check(members.find((member) => member.user === bob.user_id).membership === "leave", "bob left");
  await alice.asks("invite", { room, user: bob.user_id });
  await join(bob, room);
  await alice.refuses("fly");
  say("rooms without encryption, kick, leave");
}

async function main() {
  const python = process.argv[2] ?? "python3";
  const directory = await fs.mkdtemp(path.join(os.tmpdir(), "matrix-selftest-"));
  try {
    const { server, url, secret } = await homeserver(directory, python);
    say(`homeserver at ${url}`);
    await register(url, secret, "mallory", "m");
    const [alice, bob, carol, mallory] = await Promise.all([
      person(url, "alice", "a"),
      person(url, "bob", "b"),
      person(url, "carol", "c"),
      person(url, "mallory", "m", { sign: false }),
    ]);
    say("four people");
    const room = await messages(alice, bob);
    await edits(alice, bob, room);
    await clearText(alice, bob, room);
    await attachments(alice, bob, room);
    await verifies(alice, bob, room);
    await verifiesByDevice(bob, carol);
    await unsigned(alice, mallory);
    await repaired(alice, mallory);
    await withoutEncryption(alice, bob);
    await removal(alice, bob);
    await secondDevice(url, alice, bob, room);
    const after = await restart(directory, python, url, server, alice, bob, room);
    await identityReset(alice, bob, room);
    await limits(alice, carol);
    for (const one of [alice, bob, carol, mallory]) toldOnce(one);
    await carol.asks("stop");
    for (const one of [alice, bob, carol, mallory]) check((await one.ends()) === 0, "people end with their stdin");
    check((await after.ends()) === 0, "the homeserver ends");
    say("all is well");
  } finally {
    for (const { process } of Program.all) process.kill("SIGKILL");
    await fs.rm(directory, { recursive: true, force: true });
  }
}

main().then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
