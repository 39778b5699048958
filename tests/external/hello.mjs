// A first conversation with a node, by nostr-tools: a job (NIP-90) or a private message (NIP-17).
//
//   node hello.mjs job ws://127.0.0.1:7777 "text to summarise"
//   node hello.mjs message ws://127.0.0.1:7777 "words"
import './webcrypto.mjs'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { finalizeEvent, generateSecretKey, getPublicKey } from 'nostr-tools/pure'
import { Relay, useWebSocketImplementation } from 'nostr-tools/relay'
import { decode, nsecEncode } from 'nostr-tools/nip19'
import { unwrapEvent, wrapEvent } from 'nostr-tools/nip17'
import WebSocket from 'ws'

useWebSocketImplementation(WebSocket)

const [what, url, text] = process.argv.slice(2)
if (!['job', 'message'].includes(what) || !url || !text) {
  console.error('usage: node hello.mjs job|message RELAY-URL TEXT')
  process.exit(2)
}

const file = process.env.TIMMY_HELLO_KEY ?? join(homedir(), '.timmy-hello.nsec')
if (!existsSync(file)) writeFileSync(file, nsecEncode(generateSecretKey()) + '\n', { mode: 0o600 })
const secret = decode(readFileSync(file, 'utf8').trim()).data

// NIP-11 says who the node behind a relay is.
const about = await fetch(url.replace(/^ws/, 'http'), { headers: { Accept: 'application/nostr+json' } })
const node = (await about.json()).self
const relay = await Relay.connect(url)
const patience = setTimeout(() => { console.error('no answer within 60 seconds'); process.exit(1) }, 60_000)
const done = answer => { clearTimeout(patience); console.log(answer); relay.close(); process.exit(0) }

if (what === 'job') {
  const request = finalizeEvent(
    { kind: 5001, created_at: Math.floor(Date.now() / 1000), tags: [['i', text, 'text'], ['p', node]], content: '' }, secret)
  relay.subscribe([{ kinds: [6001], '#e': [request.id] }], { onevent: event => done(event.content) })
  await relay.publish(request)
} else {
  // Messages are shown only to their authenticated reader (NIP-42).
  relay.onauth = template => finalizeEvent(template, secret)
  const auth = () => relay.auth(template => finalizeEvent(template, secret))
  for (let tries = 0; ; tries++) {
    try { await auth(); break } catch (error) {
      // The relay's challenge may come a moment after the connection.
      if (tries > 100) throw error
      await new Promise(resolve => setTimeout(resolve, 20))
    }
  }
  const since = Math.floor(Date.now() / 1000)
  relay.subscribe([{ kinds: [1059], '#p': [getPublicKey(secret)] }], {
    onevent: wrap => {
      const message = unwrapEvent(wrap, secret)
      if (message.pubkey === node && message.created_at >= since - 1) done(message.content)
    },
  })
  await relay.publish(wrapEvent(secret, { publicKey: node }, text))
}
