// NDK's DVM helpers as a customer: a plain job, an encrypted one, feedback, and the offer.
import "./webcrypto.mjs";
import { WebSocket, check, run, within } from "./common.mjs";
import NDK, { NDKDVMJobFeedback, NDKDVMJobResult, NDKDVMRequest, NDKKind, NDKPrivateKeySigner, NDKRelaySet } from "@nostr-dev-kit/ndk";

globalThis.WebSocket = WebSocket;

/** Waits for an event that `test` takes (it may be async). */
function first(ndk, filter, test, what) {
  return within(new Promise((resolve, reject) => {
    ndk.subscribe(filter, {
      closeOnEose: false,
      onEvent: (event) => Promise.resolve(test(event)).then((found) => found && resolve(found), reject),
    });
  }), what);
}

const answers = (request, kinds) => ({ kinds, "#e": [request.id] });

async function plain(ndk, node) {
  const request = new NDKDVMRequest(ndk, { kind: NDKKind.DVMReqTextExtraction });
  request.addInput("a plain text for NDK", "text");
  request.dvm = node;
  await within(request.publish(), "publication of a job");
  const event = await first(ndk, answers(request, [6000]), (e) => e, "result");
  const result = NDKDVMJobResult.from(event);
  check(result.pubkey === node.pubkey && result.result === "a plain text for NDK", "the result as NDK reads it");
  check(result.jobRequestId === request.id, "NDK finds the job's id in the result");
  check(result.jobRequest?.id === request.id, "NDK finds the request in the result");
  return result.result;
}

async function sealed(ndk, node, signer) {
  const request = new NDKDVMRequest(ndk, { kind: NDKKind.DVMReqTextExtraction });
  request.addInput("a secret text for NDK", "text");
  request.addParam("unknown", "value");
  request.bid = 1000;
  await request.encryption(node, signer);
  await within(request.publish(), "publication of an encrypted job");
  const event = await first(ndk, answers(request, [6000]), (e) => e, "encrypted result");
  check(!JSON.stringify(event.rawEvent()).includes("secret text"), "the encrypted result shows nothing");
  check(NDKDVMJobResult.from(event).jobRequestId === request.id, "NDK finds the job's id in the encrypted result");
  await event.decrypt(node, signer);
  check(event.content === "a secret text for NDK", "NDK opens the encrypted result");
  return event.content;
}

/** A job that must fail, in clear and encrypted: the reason reaches the customer through NDK's own parser. */
async function feedback(ndk, node, signer, encrypted) {
  const request = new NDKDVMRequest(ndk, { kind: NDKKind.DVMReqTextExtraction });
  request.addInput("http://127.0.0.1:9/hidden-place", "url");
  if (encrypted) await request.encryption(node, signer);
  else request.dvm = node;
  await within(request.publish(), "publication of a job that fails");
  const read = async (event) => {
    const raw = JSON.stringify(event.rawEvent());
    const word = await NDKDVMJobFeedback.from(event);
    return word.status === "error" ? { status: word.status, raw, text: word.tagValue("status") && word.getMatchingTags("status")[0][2], content: word.content } : undefined;
  };
  const found = await first(ndk, answers(request, [7000]), read, "feedback `error`");
  if (encrypted) check(!found.raw.includes("\"error\"") && !found.raw.includes("hidden-place"), `encrypted feedback shows nothing: ${found.raw}`);
  return found.text ?? found.content;
}

async function offer(ndk, node) {
  const event = await first(ndk, { kinds: [31990], authors: [node.pubkey] }, (e) => e, "the offer");
  const about = JSON.parse(event.content);
  check(event.getMatchingTags("k").some((t) => t[1] === "5000"), "the offer names kind 5000");
  check(typeof about.name === "string" && typeof about.about === "string", "the offer has name and about");
  const beat = await first(ndk, { kinds: [11998], authors: [node.pubkey] }, (e) => e, "the heartbeat");
  check(beat.dTag === event.dTag || beat.tagValue("d") === event.dTag, "the beat names the offer");
  return event.getMatchingTags("k").map((t) => Number(t[1]));
}

run(async ({ relay, node: pubkey }) => {
  const signer = NDKPrivateKeySigner.generate();
  const ndk = new NDK({ explicitRelayUrls: [relay], signer, enableOutboxModel: false, autoConnectUserRelays: false });
  await within(new Promise((resolve) => { ndk.pool.on("relay:connect", resolve); ndk.connect(); }), "NDK's connection");
  const node = ndk.getUser({ pubkey });
  return {
    ok: true,
    kinds: await offer(ndk, node),
    plain: await plain(ndk, node),
    sealed: await sealed(ndk, node, signer),
    error: await feedback(ndk, node, signer, false),
    sealed_error: await feedback(ndk, node, signer, true),
  };
});
