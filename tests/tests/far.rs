//! Sister nodes that no connection joins: neither listens, so all that is between them is a relay of another codebase. They join by it, tell
//! each other what they know, and work for each other.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use nostr::{Filter, Kind};
use serde_json::Value;
use tests::sisters::{is, let_in, npub, seen};
use tests::{ModelDouble, Node, Outside, eventually};

/// Nobody listens: as behind two NATs.
const FAR: &str = "[federation]\nenabled = true\nmdns = false\nlisten = []";

async fn far(relay: &Outside, more: &str) -> Node {
    Node::builder().config(FAR).config(&Outside::config(&[relay])).config(more).start().await
}

async fn learns(node: &Node, text: &str) {
    eventually(text, async || {
        let found = node.json(&["memory", "search", text]).await;
        found.as_array().unwrap().iter().any(|one| one["text"] == text).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_have_only_a_relay_in_common_are_one_federation() {
    let mut relay = Outside::start().await;
    let model = ModelDouble::start(&["by ", "relay"], Duration::ZERO).await;
    let a = far(&relay, "").await;
    let mut b = far(&relay, &model.config("")).await;
    a.json(&["memory", "add", "told before the two met"]).await;
    assert_eq!(let_in(&a, &b, &[]).await["role"], "sibling");
    assert_eq!(seen(&a, &b).await.unwrap()["via"], "relay");
    // What was there, and what is told now.
    learns(&b, "told before the two met").await;
    b.json(&["memory", "add", "told by the other"]).await;
    learns(&a, "told by the other").await;
    // Work.
    eventually("the other can do it", async || {
        let peer = seen(&a, &b).await?;
        peer["abilities"].as_array().unwrap().iter().any(|one| one == "5050").then_some(())
    })
    .await;
    let done = a.json(&["job", "submit", "--kind", "5050", "--input", "tell"]).await;
    assert_eq!((done["output"].as_str(), done["executed_by"].as_str()), (Some("by relay"), Some(&*npub(&b))));
    // The relay goes away for a while; what is told meanwhile comes when it is back.
    relay.stop();
    a.json(&["memory", "add", "told while there was no relay"]).await;
    relay.run().await;
    learns(&b, "told while there was no relay").await;
    // A third that only knows who invited it hears of the other by it.
    let mut c = far(&relay, "").await;
    let_in(&a, &c, &[]).await;
    eventually("who never met know each other", async || {
        (is(&b, &c, "member").await && is(&c, &b, "member").await).then_some(())
    })
    .await;
    learns(&c, "told by the other").await;
    assert!(c.stop().await.success());
    // One is away, and comes back.
    let dir = b.dir().to_owned();
    assert!(b.stop().await.success());
    a.json(&["memory", "add", "told while the other was away"]).await;
    let back = Node::builder().dir(&dir).start().await;
    learns(&back, "told while the other was away").await;
    eventually("equal, and each has the other's word for it", async || {
        let (_, out, _) = back.cli(&["peer", "doctor", "--json"]).await;
        let report: Value = serde_json::from_str(&out).unwrap();
        let peers = report["peers"].as_array().unwrap();
        let of_a = peers.iter().find(|peer| peer["npub"] == npub(&a).as_str()).unwrap();
        (of_a["ok"] == true && of_a["digest"]["kind"] == 9774).then_some(())
    })
    .await;
    // The relay saw sealed letters, and nothing of ours in the clear.
    let kinds = (9760..=9779).map(Kind::from_u16);
    assert!(relay.query(Filter::new().kinds(kinds)).await.is_empty());
    let letters = relay.query(Filter::new().kind(Kind::GiftWrap)).await;
    assert!(!letters.is_empty() && letters.iter().all(|letter| letter.tags.expiration().is_some()), "letters end");
}
