// Attachments, encrypted as Element Web does it (matrix-encrypt-attachment, AES in the browser's WebCrypto).
import { decryptAttachment, encryptAttachment } from "matrix-encrypt-attachment";

const KINDS = ["image", "audio", "video"];

function exact(bytes) {
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
}

/** Uploads the bytes and gives the content of the message that carries them; `content` is merged into it. */
export async function fileMessage(client, { name, mime, base64, content: more = {} }, encrypted) {
  const clear = Buffer.from(base64, "base64");
  const kind = KINDS.find((kind) => mime.startsWith(`${kind}/`)) ?? "file";
  const content = { msgtype: `m.${kind}`, body: name, filename: name, info: { mimetype: mime, size: clear.length }, ...more };
  const upload = async (bytes, type) => {
    return (await client.uploadContent(new Blob([bytes]), { type, includeFilename: false })).content_uri;
  };
  if (!encrypted) return { ...content, url: await upload(clear, mime) };
  const sealed = await encryptAttachment(exact(clear));
  return { ...content, file: { ...sealed.info, url: await upload(sealed.data, "application/octet-stream") } };
}

/** Downloads what a message carries, checks its hash and decrypts it. */
export async function openFile(client, content) {
  const [, server, media] = /^mxc:\/\/([^/]+)\/([^/]+)$/.exec(content.file?.url ?? content.url);
  const answer = await fetch(`${client.getHomeserverUrl()}/_matrix/client/v1/media/download/${server}/${media}`, {
    headers: { Authorization: `Bearer ${client.getAccessToken()}` },
  });
  if (!answer.ok) throw new Error(`media ${server}/${media}: ${answer.status}`);
  const bytes = await answer.arrayBuffer();
  const clear = content.file ? await decryptAttachment(bytes, content.file) : bytes;
  return { name: content.filename ?? content.body, mime: content.info?.mimetype, base64: Buffer.from(clear).toString("base64") };
}
