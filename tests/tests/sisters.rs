//! Sister nodes as real processes: one code makes a member, what one is told the other knows, a guest gets no memory, and who was removed
//! is out.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use tests::sisters::{SISTER, is, let_in, npub, seen, sister};
use tests::{Node, eventually};

async fn knows(node: &Node, text: &str) -> bool {
    let found = node.json(&["memory", "search", text]).await;
    found.as_array().unwrap().iter().any(|one| one["text"] == text)
}

async fn learns(node: &Node, text: &str) {
    eventually(text, async || knows(node, text).await.then_some(())).await;
}

/// How many changes `other` lacks of those here; none before it said what it has.
async fn lag(node: &Node, other: &Node) -> Option<u64> {
    let peer = seen(node, other).await?;
    peer["lag"].as_object().map(|shards| shards.values().filter_map(Value::as_u64).sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_is_told_the_other_knows_also_after_one_was_away() {
    let (a, mut b) = (sister().await, sister().await);
    a.json(&["memory", "add", "told before the two met"]).await;
    a.json(&["memory", "add", "for nobody else", "--space", "private"]).await;
    assert_eq!(let_in(&a, &b, &[]).await["role"], "sibling");
    learns(&b, "told before the two met").await;
    b.json(&["memory", "add", "told to the second"]).await;
    learns(&a, "told to the second").await;
    b.json(&["memory", "page", "edit", "list", "--add", "milk"]).await;
    eventually("the page", async || {
        let (code, out, _) = a.cli(&["memory", "page", "show", "list"]).await;
        (code == 0 && out.contains("milk")).then_some(())
    })
    .await;
    eventually("it says what it has", async || lag(&a, &b).await.is_some().then_some(())).await;
    // One is away, both are told things, and one thing is forgotten.
    let dir = b.dir().to_owned();
    assert!(b.stop().await.success());
    eventually("a lost member", async || is(&a, &b, "lost").await.then_some(())).await;
    a.json(&["memory", "add", "told while the second was away"]).await;
    eventually("what the other lacks is counted", async || (lag(&a, &b).await? > 0).then_some(())).await;
    let (code, examined, _) = a.cli(&["peer", "doctor"]).await;
    assert!(code == 1 && examined.contains("lacks"), "{examined}");
    let found = a.json(&["memory", "search", "told to the second"]).await;
    let gone = found.as_array().unwrap().iter().find(|one| one["text"] == "told to the second").unwrap();
    a.json(&["memory", "forget", gone["id"].as_str().unwrap(), "--yes"]).await;
    let back = Node::builder().dir(&dir).config(SISTER).start().await;
    learns(&back, "told while the second was away").await;
    eventually("forgotten on both", async || (!knows(&back, "told to the second").await).then_some(())).await;
    assert!(!knows(&back, "for nobody else").await);
    eventually("equal", async || {
        let (code, out, _) = back.cli(&["peer", "doctor", "--json"]).await;
        let report: Value = serde_json::from_str(&out).unwrap();
        (code == 0 && report["ok"] == true).then_some(())
    })
    .await;
    eventually("nothing is lacking", async || (lag(&a, &back).await? == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_gets_the_spaces_that_are_shared_with_it_and_no_others() {
    let (a, guest) = (sister().await, sister().await);
    assert_eq!(let_in(&a, &guest, &["--guest"]).await["role"], "guest");
    a.json(&["memory", "add", "for the fleet alone"]).await;
    a.json(&["memory", "share", "garden", &npub(&guest)]).await;
    guest.json(&["memory", "share", "garden", &npub(&a)]).await;
    a.json(&["memory", "add", "the roses are watered on Monday", "--space", "garden"]).await;
    learns(&guest, "the roses are watered on Monday").await;
    assert!(!knows(&guest, "for the fleet alone").await);
    let (code, _, err) = guest.cli(&["peer", "invite"]).await;
    assert!(code == 1 && err.contains("may not invite"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_learns_nothing_more_and_codes_say_what_is_wrong() {
    let (a, b, c) = (sister().await, sister().await, sister().await);
    let made = a.json(&["peer", "invite"]).await;
    let code = made["code"].as_str().unwrap();
    b.json(&["peer", "join", code]).await;
    let (status, _, err) = c.cli(&["peer", "join", code]).await;
    assert!(status == 1 && err.contains("used"), "{err}");
    for (wrong, word) in [("npub1xyz", "not an invitation"), (&code[..50], "cut"), ("hello", "timmy1")] {
        let (status, _, err) = c.cli(&["peer", "join", wrong]).await;
        assert!(status == 1 && err.contains(word), "{wrong}: {err}");
    }
    learns_after_add(&a, &b, "while both belonged").await;
    a.json(&["peer", "remove", &npub(&b)]).await;
    a.json(&["memory", "add", "after the removal"]).await;
    eventually("a removed node is gone from the list", async || seen(&a, &b).await.is_none().then_some(())).await;
    // Another member comes and learns it: so it did travel, and not to the removed one.
    let_in(&a, &c, &[]).await;
    learns(&c, "after the removal").await;
    assert!(!knows(&b, "after the removal").await);
    assert!(knows(&b, "while both belonged").await);
    // It comes back by a code that was made for it, and by no other.
    let any = a.json(&["peer", "invite"]).await;
    let (status, _, err) = b.cli(&["peer", "join", any["code"].as_str().unwrap()]).await;
    assert!(status == 1 && err.contains("removed"), "{err}");
    let_in(&a, &b, &["--readmit", &npub(&b)]).await;
    learns(&b, "after the removal").await;
}

async fn learns_after_add(a: &Node, b: &Node, text: &str) {
    a.json(&["memory", "add", text]).await;
    learns(b, text).await;
}

#[tokio::test]
async fn without_a_federation_the_commands_say_how_to_have_one() {
    let node = Node::start().await;
    let (code, _, err) = node.cli(&["peer", "list"]).await;
    assert!(code == 1 && err.contains("[federation] enabled = true"), "{err}");
    let alone = sister().await;
    assert_eq!(alone.json(&["peer", "list"]).await, json!([]));
    let (code, _, err) = alone.cli(&["peer", "remove", &npub(&node)]).await;
    assert!(code == 1 && err.contains("timmy peer invite"), "{err}");
}
