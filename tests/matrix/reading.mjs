// What a person sees of an event: its text, what it belongs to, and the shield that Element draws beside it.
import { EventShieldColour, EventShieldReason } from "matrix-js-sdk/lib/crypto-api/index.js";

/** Types a message has: the second as long as it cannot be read. */
export const MESSAGES = ["m.room.message", "m.room.encrypted"];

/** The relation stands outside the ciphertext, where the server can read it. */
export function relation(event) {
  return event.getWireContent()["m.relates_to"] ?? event.getContent()["m.relates_to"] ?? {};
}

export function isEdit(event) {
  return relation(event).rel_type === "m.replace";
}

function relations(event) {
  const relates = relation(event);
  return {
    edit_of: isEdit(event) ? relates.event_id : undefined,
    thread: relates.rel_type === "m.thread" ? relates.event_id : undefined,
    // Within a thread, old clients are given a reply to the message before; nobody replied to it.
    reply_to: relates.is_falling_back ? undefined : relates["m.in_reply_to"]?.event_id,
  };
}

function attached(content) {
  if (!content.file && !content.url) return undefined;
  const { mimetype: mime, size } = content.info ?? {};
  return { name: content.filename ?? content.body, mime, size, encrypted: Boolean(content.file) };
}

/** A message as it is read: `content` is what it says now or, of an edit, what it changes the message to. */
export function message(event, content) {
  const failed = event.isDecryptionFailure();
  return {
    room: event.getRoomId(),
    event_id: event.getId(),
    sender: event.getSender(),
    body: failed ? undefined : content.body,
    msgtype: failed ? undefined : content.msgtype,
    formatted: failed ? undefined : content.formatted_body,
    mentions: content["m.mentions"]?.user_ids,
    file: failed ? undefined : attached(content),
    ...relations(event),
    encrypted: event.isEncrypted(),
    failed,
    failure: failed ? event.decryptionFailureReason : undefined,
  };
}

/** Colour and reason of the shield, by the rules of Element's EventTile; nulls where the text itself is missing. */
export async function shield(client, event) {
  const crypto = client.getCrypto();
  if (event.isDecryptionFailure()) return { shield: null, shield_reason: null };
  if (!event.isEncrypted()) {
    const expected = (await crypto.isEncryptionEnabledInRoom(event.getRoomId())) && !event.isState() && !event.isRedacted();
    return expected ? { shield: "RED", shield_reason: "SENT_IN_CLEAR" } : { shield: "NONE", shield_reason: null };
  }
  const info = await crypto.getEncryptionInfoForEvent(event);
  if (!info) return { shield: null, shield_reason: null };
  return { shield: EventShieldColour[info.shieldColour], shield_reason: EventShieldReason[info.shieldReason] ?? null };
}
