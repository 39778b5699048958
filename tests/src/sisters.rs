//! Nodes of one federation, on loopback.

use serde_json::Value;

use crate::{Node, eventually};

/// Loopback alone, and nobody else's nodes.
pub const SISTER: &str = "[federation]\nenabled = true\nmdns = false\n\
    listen = [\"/ip4/127.0.0.1/udp/0/quic-v1\", \"/ip4/127.0.0.1/tcp/0\"]";

pub async fn sister() -> Node {
    Node::builder().config(SISTER).start().await
}

pub fn npub(node: &Node) -> String {
    node.ready["npub"].as_str().unwrap().to_owned()
}

/// How `node` sees `other`.
pub async fn seen(node: &Node, other: &Node) -> Option<Value> {
    let npub = npub(other);
    let peers = node.json(&["peer", "list"]).await;
    peers.as_array().unwrap().iter().find(|peer| peer["npub"] == npub.as_str()).cloned()
}

pub async fn is(node: &Node, other: &Node, state: &str) -> bool {
    seen(node, other).await.is_some_and(|peer| peer["state"] == state)
}

/// Lets `joiner` in by a code of `inviter`.
pub async fn let_in(inviter: &Node, joiner: &Node, invite: &[&str]) -> Value {
    let mut args = vec!["peer", "invite"];
    args.extend(invite);
    let made = inviter.json(&args).await;
    let code = made["code"].as_str().unwrap();
    assert!(code.starts_with("timmy1") && made["expires_at"].is_u64(), "{made}");
    let joined = joiner.json(&["peer", "join", code]).await;
    eventually("members of each other", async || {
        (is(inviter, joiner, "member").await && is(joiner, inviter, "member").await).then_some(())
    })
    .await;
    joined
}
