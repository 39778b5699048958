//! Jobs (NIP-90) from the outside.

#![allow(clippy::unwrap_used)]

use tests::client::request;
use tests::node::keys;
use tests::{Client, Node};

#[tokio::test]
async fn a_job_gets_its_result() {
    let node = Node::start().await;
    let mut client = Client::connect(node.relay()).await;
    let asked = request(&keys(), 5000, &[&["i", "hello", "text"], &["p", &node.public_key().to_hex()]]);
    client.must_publish(&asked).await;
    let result = client.result(&asked).await;
    assert_eq!((result.pubkey, result.content.as_str()), (node.public_key(), "hello"));
}
