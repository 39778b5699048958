//! Changes that are well signed and make automerge panic.

use automerge::{AutoCommit, ExpandedChange, ObjType, ROOT};

use super::*;

/// A change of the page that writes into an object which is nowhere: its causes are left out.
fn into_nothing(keys: &Keys, id: &DocumentId, start: u8) -> Event {
    let actor = ActorId::new(&keys.public_key(), [start; 16]);
    let mut document = AutoCommit::new().with_actor(shard::actor(&actor));
    let lost = document.put_object(ROOT, "lost", ObjType::Map).unwrap();
    document.commit();
    document.put(&lost, "key", "value").unwrap();
    document.commit();
    let mut expanded: ExpandedChange = document.get_last_local_change().unwrap().decode();
    expanded.deps.clear();
    expanded.seq = 1;
    expanded.start_op = std::num::NonZeroU64::MIN;
    let change = automerge::Change::from(expanded);
    Change::to_event(id, &actor, 1, &change.hash().0, change.raw_bytes())
        .custom_created_at(Timestamp::from(NOW))
        .sign_with_keys(keys)
        .unwrap()
}

#[test]
fn a_signed_change_that_makes_automerge_panic_is_refused_and_takes_nothing_with_it() {
    let mut node = Node::new();
    let liar = Keys::generate();
    node.known.add(liar.public_key(), liar.public_key(), false, &["fleet"]);
    let id: DocumentId = "fleet/page/0/list".parse().unwrap();
    node.edit("list", &[PageEdit::Add("milk".into())]);
    let broken = into_nothing(&liar, &id, 1);
    let panics = guard::apply(&mut page::base(&id), vec![opened_of(&broken)]);
    assert_eq!(panics, Err(guard::Unfit::Panicked), "it is broken indeed");
    for _ in 0..2 {
        let outcomes = node.take(std::slice::from_ref(&broken));
        assert_eq!(outcomes, [Outcome::Refused(Refusal::Malformed)]);
        // The page is as it was, goes on, and so after a start.
        node.edit("list", &[PageEdit::Add("bread".into())]);
        assert!(node.page("list").items.starts_with(&["milk".to_owned(), "bread".to_owned()]));
        node.open().unwrap();
    }
}

#[test]
fn one_that_waited_for_its_causes_is_left_out_when_they_come() {
    let mut node = Node::new();
    let (liar, honest) = (Keys::generate(), Keys::generate());
    for keys in [&liar, &honest] {
        node.known.add(keys.public_key(), keys.public_key(), false, &["fleet"]);
    }
    let id: DocumentId = "fleet/page/0/list".parse().unwrap();
    let actor = ActorId::new(&honest.public_key(), [1; 16]);
    let mut document = page::base(&id).with_actor(shard::actor(&actor));
    page::edit(&mut document, &PageEdit::Add("milk".into())).unwrap();
    let cause = signed(&honest, &id, &actor, &mut document);

    let mut expanded = opened_of(&into_nothing(&liar, &id, 2)).decode();
    expanded.deps = document.get_heads();
    let last = document.get_last_local_change().unwrap().max_op();
    expanded.start_op = std::num::NonZeroU64::new(last + 1).unwrap();
    let change = automerge::Change::from(expanded);
    let actor = ActorId::new(&liar.public_key(), [2; 16]);
    let broken = Change::to_event(&id, &actor, 1, &change.hash().0, change.raw_bytes())
        .custom_created_at(Timestamp::from(NOW))
        .sign_with_keys(&liar)
        .unwrap();
    assert_eq!(node.take(&[broken]), [Outcome::New], "it waits");
    assert_eq!(node.take(&[cause]), [Outcome::New]);
    assert_eq!(node.page("list").items, ["milk"]);
    node.edit("list", &[PageEdit::Add("bread".into())]);
    node.open().unwrap();
    assert_eq!(node.page("list").items, ["milk", "bread"]);
}

fn opened_of(event: &Event) -> automerge::Change {
    let Message::Change(change) = Message::parse(event).unwrap() else { panic!("a change") };
    shard::parsed(&change).unwrap()
}
