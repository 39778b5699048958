// A SAS verification with somebody who finds all emojis right (or, asked to, all wrong).
import { VerificationPhase, VerificationRequestEvent, VerifierEvent } from "matrix-js-sdk/lib/crypto-api/index.js";

const PHASES = Object.fromEntries(Object.entries(VerificationPhase).map(([name, number]) => [number, name.toLowerCase()]));

/** Goes through with `request`; `start`: begins the emojis itself as soon as the other is ready. Resolves when both are done. */
export function follow(request, tell, { start = false, mismatch = false } = {}) {
  return new Promise((resolve, reject) => {
    const about = () => ({
      user: request.otherUserId,
      room: request.roomId,
      transaction: request.transactionId,
      by_me: request.initiatedByMe,
    });
    const confirm = (shown) => {
      tell({ event: "verification", phase: "emojis", ...about(), emojis: shown.sas.emoji?.map((emoji) => emoji.join(" ")) });
      if (mismatch) shown.mismatch();
      else shown.confirm().catch(reject);
    };
    const met = new Set();
    const meet = (verifier) => {
      if (!verifier || met.has(verifier)) return;
      met.add(verifier);
      verifier.on(VerifierEvent.ShowSas, confirm);
      verifier.verify().catch(reject);
    };
    let last;
    const step = () => {
      const phase = PHASES[request.phase];
      if (phase !== last) {
        last = phase;
        tell({ event: "verification", phase, ...about(), code: request.cancellationCode ?? undefined });
        if (phase === "ready" && start) request.startVerification("m.sas.v1").then(meet, reject);
      }
      if (phase === "started") meet(request.verifier);
      if (phase === "done") resolve();
      if (phase === "cancelled") reject(new Error(`cancelled: ${request.cancellationCode} by ${request.cancellingUserId}`));
    };
    request.on(VerificationRequestEvent.Change, step);
    step();
  });
}

/** Asks `user` to verify: in `room`, or by to-device messages to `device`, which need not be named where they have one only. */
export async function ask(client, { user, room, device }) {
  const crypto = client.getCrypto();
  await crypto.userHasCrossSigningKeys(user, true);
  if (room) return crypto.requestVerificationDM(user, room);
  if (device) return crypto.requestDeviceVerification(user, device);
  if (user === client.getUserId()) return crypto.requestOwnUserVerification();
  const devices = [...((await crypto.getUserDeviceInfo([user], true)).get(user)?.keys() ?? [])];
  if (devices.length !== 1) throw new Error(`which device of ${user}? ${devices.join(", ")}`);
  return crypto.requestDeviceVerification(user, devices[0]);
}
