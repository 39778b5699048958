"""The Python bindings of nostr-sdk as a client: NIP-01, NIP-42, NIP-17 as the owner, NIP-77, NIP-90. The task comes as JSON on stdin."""

import asyncio
import json
import os
import sys
import tempfile
from datetime import timedelta

from nostr_sdk import (
    ClientBuilder,
    EventBuilder,
    Filter,
    Keys,
    Kind,
    NostrLmdb,
    PublicKey,
    RelayUrl,
    ReqTarget,
    SignerAuthenticator,
    SyncDirection,
    SyncOptions,
    Tag,
    UnwrappedGift,
    nip17_make_private_msg,
    uniffi_set_event_loop,
)

PATIENCE = 60


async def client_of(keys, url, database=None):
    builder = ClientBuilder().authenticator(SignerAuthenticator(keys))
    client = (builder.database(database) if database else builder).build()
    await client.add_relay(url)
    await client.connect(and_wait=timedelta(seconds=PATIENCE))
    return client


async def publish(client, event):
    output = await client.send_event(event)
    assert output.success and not output.failed, f"refused: {output}"


async def fetch(client, filter):
    return await client.fetch_events(ReqTarget.auto([filter]), timeout=timedelta(seconds=PATIENCE))


async def eventually(what, attempt):
    """Asks until there is an answer."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while asyncio.get_running_loop().time() < deadline:
        found = await attempt()
        if found:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"never happened: {what}")


async def notes(client, keys):
    event = EventBuilder(Kind(1), "from the bindings \u4e16").tags([Tag.parse(["t", "python"])]).finalize(keys)
    await publish(client, event)
    found = await fetch(client, Filter().author(keys.public_key()).hashtag("python"))
    assert [e.id().to_hex() for e in found] == [event.id().to_hex()], found
    assert found[0].verify() and found[0].content() == "from the bindings \u4e16"


async def talk(client, owner, node):
    """The owner's client: NIP-42 by itself when the relay asks, then a message and its answer."""
    await publish(client, nip17_make_private_msg(owner, node, "What can you do?"))

    async def answered():
        for wrap in await fetch(client, Filter().kind(Kind(1059)).pubkey(owner.public_key())):
            gift = await opened(owner, wrap)
            if gift and gift.sender().to_hex() == node.to_hex():
                return gift.rumor()
        return None

    rumor = await eventually("the node's answer", answered)
    assert rumor.kind().as_u16() == 14
    return rumor.content()


async def opened(keys, wrap):
    try:
        return UnwrappedGift.from_gift_wrap(keys, wrap)
    except Exception:
        return None


async def reconcile(url, keys, writer, folder):
    """NIP-77 in both directions: what each side lacks comes over."""
    here = await client_of(keys, url, await NostrLmdb.open(folder))
    kind = Kind(1)
    remote = [EventBuilder(kind, f"remote {i}").tags([Tag.parse(["t", "sync"])]).finalize(keys) for i in range(30)]
    for event in remote:
        await publish(writer, event)
    local = [EventBuilder(kind, f"local {i}").tags([Tag.parse(["t", "sync"])]).finalize(keys) for i in range(5)]
    for event in local + remote[:10]:
        await here.database().save_event(event)
    options = SyncOptions().direction(SyncDirection.BOTH)
    output = await here.sync(Filter().hashtag("sync").author(keys.public_key()), opts=options)
    report = output.report
    assert output.success and not output.failed, f"{output}"
    assert len(report.received) == 20 and len(report.sent) == 5, f"received {len(report.received)}, sent {len(report.sent)}"
    stored = await fetch(writer, Filter().hashtag("sync").author(keys.public_key()))
    assert len(stored) == 35, len(stored)
    await here.shutdown()
    return {"received": len(report.received), "sent": len(report.sent)}


async def job(client, keys, node):
    tags = [Tag.parse(["i", "a text from the bindings", "text"]), Tag.parse(["p", node.to_hex()])]
    request = EventBuilder(Kind(5000), "").tags(tags).finalize(keys)
    await publish(client, request)
    wanted = Filter().kind(Kind(6000)).event(request.id()).author(node)
    found = await eventually("the job's result", lambda: fetch(client, wanted))
    assert len(found) == 1 and found[0].verify(), found
    return found[0].content()


async def main():
    # The bindings call back (for NIP-42) from threads of their own.
    uniffi_set_event_loop(asyncio.get_running_loop())
    task = json.load(sys.stdin)
    url, node = RelayUrl.parse(task["relay"]), PublicKey.parse(task["node"])
    owner, keys = Keys.parse(task["owner"]), Keys.generate()
    client, stranger = await client_of(owner, url), await client_of(keys, url)
    await notes(stranger, keys)
    with tempfile.TemporaryDirectory() as folder:
        synced = await reconcile(url, keys, stranger, folder)
    found = {
        "ok": True,
        "answer": await talk(client, owner, node),
        "synced": synced,
        "job": await job(stranger, keys, node),
    }
    await client.shutdown()
    await stranger.shutdown()
    print(json.dumps(found), flush=True)
    # The bindings' own threads may outlive the interpreter and crash it while it ends; nothing of it matters by then.
    os._exit(0)


asyncio.run(asyncio.wait_for(main(), 4 * PATIENCE))
