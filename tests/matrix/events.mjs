// Tells what happens around a person: messages of others as they become readable, typing, receipts, reactions, memberships.
import { ClientEvent, MatrixEventEvent, RoomEvent, RoomMemberEvent } from "matrix-js-sdk";
import { CryptoEvent } from "matrix-js-sdk/lib/crypto-api/index.js";
import { MESSAGES, isEdit, message, relation, shield } from "./reading.mjs";
import { follow } from "./verification.mjs";

async function told(client, name, event) {
  const content = event.getOriginalContent();
  const said = message(event, (isEdit(event) && content["m.new_content"]) || content);
  return { event: name, ...said, ...(await shield(client, event)) };
}

function messages(client, tell) {
  const unreadable = new Set();
  let order = Promise.resolve();
  const inOrder = (work) => { order = order.then(work).catch((error) => console.error("not told:", error)); };

  client.on(RoomEvent.Timeline, (event, _room, atStart, removed) => {
    if (atStart || removed || event.getSender() === client.getUserId()) return;
    const decrypted = client.decryptEventIfNeeded(event);
    inOrder(async () => {
      await decrypted;
      if (event.isRedacted() || !MESSAGES.includes(event.getType())) return;
      if (event.isDecryptionFailure()) unreadable.add(event.getId());
      tell(await told(client, "message", event));
    });
  });
  client.on(MatrixEventEvent.Decrypted, (event) => {
    if (event.isDecryptionFailure() || !unreadable.delete(event.getId())) return;
    inOrder(async () => tell(await told(client, "decrypted", event)));
  });
}

function reactions(client, tell) {
  client.on(RoomEvent.Timeline, (event, _room, atStart, removed) => {
    if (atStart || removed || event.getSender() === client.getUserId()) return;
    const about = { room: event.getRoomId(), event_id: event.getId(), sender: event.getSender() };
    if (event.getType() === "m.reaction") {
      const { event_id: target, key } = relation(event);
      tell({ event: "reaction", ...about, target, key });
    } else if (event.isRedaction()) {
      tell({ event: "redaction", ...about, target: event.getAssociatedId() });
    }
  });
}

/** Typing and receipts are taken as the server sent them: the SDK also makes up a receipt for each message somebody sends. */
function ephemeral(client, tell) {
  client.on(ClientEvent.Event, (event) => {
    const room = event.getRoomId();
    if (event.getType() === "m.typing") {
      tell({ event: "typing", room, users: event.getContent().user_ids.filter((user) => user !== client.getUserId()) });
    } else if (event.getType() === "m.receipt") {
      for (const [event_id, kinds] of Object.entries(event.getContent())) {
        for (const user of Object.keys(kinds["m.read"] ?? {})) {
          if (user !== client.getUserId()) tell({ event: "receipt", room, event_id, user });
        }
      }
    }
  });
}

function memberships(client, tell) {
  client.on(RoomMemberEvent.Membership, (_event, member) => {
    tell({ event: "membership", room: member.roomId, user: member.userId, membership: member.membership });
  });
}

/** Verifications that others ask for are accepted and their emojis confirmed, unless the person was told not to. */
function verifications(client, tell, { accept = true }) {
  client.on(CryptoEvent.VerificationRequestReceived, (request) => {
    follow(request, tell).catch((error) => console.error("verification:", error));
    if (accept) request.accept().catch((error) => console.error("verification:", error));
  });
}

export function watch(client, tell, account) {
  messages(client, tell);
  reactions(client, tell);
  ephemeral(client, tell);
  memberships(client, tell);
  verifications(client, tell, account);
}
