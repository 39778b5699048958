// A person's cross-signing identity, secret storage and key backup.
import { setTimeout as sleep } from "node:timers/promises";

const PATIENCE_MS = 30_000;
const POLL_MS = 20;

/** Whether `holds` comes true within `patienceMs`. Much of what was sent off is known only once the server has said it back. */
export async function comesTrue(holds, patienceMs = PATIENCE_MS) {
  for (const end = Date.now() + patienceMs; Date.now() < end; await sleep(POLL_MS)) {
    if (await holds()) return true;
  }
  return false;
}

/** Until this client sees its own device signed it may refuse to send, as it would to any unsigned device of a verified user. */
async function signed(client) {
  const own = () => client.getCrypto().getDeviceVerificationStatus(client.getUserId(), client.getDeviceId());
  if (!(await comesTrue(async () => (await own())?.signedByOwner))) throw new Error("this device was not signed");
}

/** Makes an identity, signs this device with it and stores its keys under a new recovery key, which is given back. */
async function make(client, auth) {
  const crypto = client.getCrypto();
  await crypto.bootstrapCrossSigning({ authUploadDeviceSigningKeys: auth });
  let made;
  const createSecretStorageKey = async () => { made = await crypto.createRecoveryKeyFromPassphrase(); return made; };
  await crypto.bootstrapSecretStorage({ createSecretStorageKey, setupNewKeyBackup: true });
  return made.encodedPrivateKey;
}

/** Takes the identity out of secret storage, signs this device with it and reads the key backup from now on. */
async function recover(client, auth, recoveryKey) {
  const crypto = client.getCrypto();
  await crypto.bootstrapCrossSigning({ authUploadDeviceSigningKeys: auth });
  await crypto.loadSessionBackupPrivateKeyFromSecretStorage();
  await crypto.checkKeyBackupAndEnable();
  return recoveryKey;
}

/** Signs this device with the person's identity, and gives the recovery key. */
export async function setUp(client, auth, recoveryKey) {
  const exists = await client.getCrypto().userHasCrossSigningKeys(client.getUserId(), true);
  if (exists && !recoveryKey) {
    // No unsigned device of this account stays behind.
    await client.logout(true);
    throw new Error('this account has an identity already: give its recovery_key, or "sign": false');
  }
  const key = exists ? await recover(client, auth, recoveryKey) : await make(client, auth);
  await signed(client);
  return key;
}

/** Throws the identity away and makes another, as who lost all devices and the recovery key does. */
export async function reset(client, auth) {
  await client.getCrypto().resetEncryption(auth);
  await signed(client);
}
