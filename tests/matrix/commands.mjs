// What a person can be told to do. Each takes the fields of its command and gives the fields of its answer.
import { ClientEvent, KnownMembership, Method } from "matrix-js-sdk";
import { AllDevicesIsolationMode, OnlySignedDevicesIsolationMode } from "matrix-js-sdk/lib/crypto-api/index.js";
import { fileMessage, openFile } from "./files.mjs";
import { comesTrue, reset } from "./identity.mjs";
import { MESSAGES, isEdit, message, shield } from "./reading.mjs";
import { ask, follow } from "./verification.mjs";

/** How long a verification may take. */
const PATIENCE_MS = 60_000;
const SIGNATURE_MS = 5_000;
const ENCRYPTION = { type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } };

function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`took too long: ${what}`)), PATIENCE_MS); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** The room, once this client has joined it and taken in its state: in a room it does not know, the SDK sends clear text. */
async function known(client, id, encrypted = false) {
  const ready = async () => {
    const room = client.getRoom(id);
    if (room?.getMyMembership() !== KnownMembership.Join || !room.currentState.getStateEvents("m.room.create", "")) return false;
    // A sync may fall into the making of a room, when it is not encrypted yet.
    if (!encrypted && !room.hasEncryptionStateEvent()) return true;
    return client.getCrypto().isEncryptionEnabledInRoom(id);
  };
  if (!(await comesTrue(ready))) throw new Error(`never joined: ${id}`);
  return client.getRoom(id);
}

/** The event from the timeline, else from the server. */
async function found(client, room, id) {
  const event = client.getRoom(room)?.findEventById(id) ?? client.getEventMapper()(await client.fetchRoomEvent(room, id));
  await client.decryptEventIfNeeded(event);
  return event;
}

function rooms(client) {
  const create = async (options, encrypted) => {
    const { room_id: id } = await client.createRoom({ ...options, initial_state: encrypted ? [ENCRYPTION] : [] });
    await known(client, id, encrypted);
    return id;
  };
  return {
    async create_dm({ user, encrypted = true }) {
      const room = await create({ preset: "trusted_private_chat", is_direct: true, invite: [user] }, encrypted);
      const direct = client.getAccountData("m.direct")?.getContent() ?? {};
      await client.setAccountData("m.direct", { ...direct, [user]: [...(direct[user] ?? []), room] });
      return { room };
    },
    async create_room({ users = [], encrypted = true, name }) {
      return { room: await create({ preset: "private_chat", invite: users, name }, encrypted) };
    },
    async join({ room }) {
      await client.joinRoom(room);
      await known(client, room);
    },
    invite: async ({ room, user }) => { await client.invite(room, user); },
    leave: async ({ room }) => { await client.leave(room); },
    kick: async ({ room, user, reason }) => { await client.kick(room, user, reason); },
    async members({ room }) {
      const members = (await known(client, room)).getMembers();
      return { members: members.map(({ userId, membership }) => ({ user: userId, membership })) };
    },
  };
}

/** The content of a text message; `more` is merged into it (`formatted_body`, `m.mentions`, another `msgtype`). */
function textMessage({ text, content: more = {}, reply_to: replyTo, thread, edit_of: editOf }) {
  const content = { msgtype: "m.text", body: text, ...more };
  if (editOf) {
    const replace = { rel_type: "m.replace", event_id: editOf };
    return { ...content, body: `* ${text}`, "m.new_content": content, "m.relates_to": replace };
  }
  const reply = { "m.in_reply_to": { event_id: replyTo ?? thread } };
  if (thread) content["m.relates_to"] = { rel_type: "m.thread", event_id: thread, is_falling_back: !replyTo, ...reply };
  else if (replyTo) content["m.relates_to"] = reply;
  return content;
}

function sending(client) {
  const send = async (room, type, content) => {
    await known(client, room);
    return { event_id: (await client.sendEvent(room, null, type, content)).event_id };
  };
  return {
    send: ({ room, ...said }) => send(room, "m.room.message", textMessage(said)),
    async send_clear({ room, text }) {
      const path = `/rooms/${encodeURIComponent(room)}/send/m.room.message/${client.makeTxnId()}`;
      return client.http.authedRequest(Method.Put, path, undefined, { msgtype: "m.text", body: text });
    },
    async send_file({ room, name, mime, base64, content }) {
      const encrypted = (await known(client, room)).hasEncryptionStateEvent();
      return send(room, "m.room.message", await fileMessage(client, { name, mime, base64, content }, encrypted));
    },
    react({ room, event, key }) {
      return send(room, "m.reaction", { "m.relates_to": { rel_type: "m.annotation", event_id: event, key } });
    },
    async redact({ room, event, reason }) {
      return { event_id: (await client.redactEvent(room, event, undefined, { reason })).event_id };
    },
    read: async ({ room, event }) => { await client.sendReadReceipt(await found(client, room, event)); },
    typing: async ({ room, on = true }) => { await client.sendTyping(room, on, 4000); },
  };
}

function reading(client) {
  // By event id, who ever marked it as read: the server keeps the latest mark only.
  const receipts = new Map();
  client.on(ClientEvent.Event, (event) => {
    if (event.getType() !== "m.receipt") return;
    for (const [id, kinds] of Object.entries(event.getContent())) {
      const users = Object.keys(kinds["m.read"] ?? {});
      receipts.set(id, new Set([...(receipts.get(id) ?? []), ...users]));
    }
  });
  return {
    async messages({ room }) {
      const events = (await known(client, room)).getLiveTimeline().getEvents();
      await Promise.all(events.map((event) => client.decryptEventIfNeeded(event)));
      const shown = events.filter((event) => MESSAGES.includes(event.getType()) && !isEdit(event));
      const told = shown.map((event) => ({
        ...message(event, event.getContent()),
        edited: Boolean(event.replacingEvent()),
        redacted: event.isRedacted(),
      }));
      return { messages: told };
    },
    async get_file({ room, event }) {
      return openFile(client, (await found(client, room, event)).getContent());
    },
    read_receipts: async ({ event }) => ({ users: [...(receipts.get(event) ?? [])] }),
    async encryption_info({ room, event }) {
      const original = await found(client, room, event);
      const drawn = original.replacingEvent() ?? original;
      await client.decryptEventIfNeeded(drawn);
      const failed = drawn.isDecryptionFailure();
      const failure = failed ? drawn.decryptionFailureReason : undefined;
      return { ...(await shield(client, drawn)), encrypted: drawn.isEncrypted(), failed, failure };
    },
  };
}

function trust(client, tell, auth) {
  const crypto = client.getCrypto();
  return {
    async isolate({ on = true, strict = false }) {
      crypto.setDeviceIsolationMode(on ? new OnlySignedDevicesIsolationMode() : new AllDevicesIsolationMode(strict));
    },
    async verify({ start = true, mismatch, ...whom }) {
      const request = await ask(client, whom);
      await within(follow(request, tell, { start, mismatch }), "the verification");
      // Both sides are done before the signature on the other's identity has come back from the server.
      const back = async () => (await crypto.getUserVerificationStatus(whom.user)).isVerified();
      return { verified: await comesTrue(back, SIGNATURE_MS) };
    },
    async user_status({ user }) {
      const status = await crypto.getUserVerificationStatus(user);
      const known = (await crypto.getUserDeviceInfo([user], true)).get(user) ?? new Map();
      // Of a user with whom it shares no encrypted room, the client knows the devices only by name.
      const devices = await Promise.all([...known.values()].map(async ({ deviceId, displayName }) => {
        const device = await crypto.getDeviceVerificationStatus(user, deviceId);
        return { device_id: deviceId, name: displayName, signed_by_owner: device?.signedByOwner, verified: device?.isVerified() };
      }));
      return {
        has_identity: await crypto.userHasCrossSigningKeys(user, true),
        verified: status.isVerified(),
        was_verified: status.wasCrossSigningVerified(),
        needs_approval: status.needsUserApproval,
        devices,
      };
    },
    approve: async ({ user }) => { await crypto.pinCurrentUserIdentity(user); },
    withdraw: async ({ user }) => { await crypto.withdrawVerificationRequirement(user); },
    reset_identity: () => reset(client, auth),
  };
}

export function commands(client, tell, auth) {
  return {
    ...rooms(client),
    ...sending(client),
    ...reading(client),
    ...trust(client, tell, auth),
    logout: async () => { await client.logout(true); },
    stop: async () => { client.stopClient(); },
  };
}
