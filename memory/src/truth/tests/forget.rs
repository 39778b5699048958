//! Forgetting.

use super::*;

#[test]
fn what_is_forgotten_does_not_come_back_and_the_rest_stays() {
    let (mut a, mut b) = (Node::new(), Node::new());
    a.meets(&b);
    let secret = a.add("the phrase nobody may know");
    a.add("kept by a");
    b.add("kept by b");
    sync(&mut a, &mut b);
    let old = a.events("fleet");
    let forgotten = b.truth().forget(&Selector::Id(secret), NOW).unwrap();
    assert_eq!((forgotten.entries.len(), forgotten.moved), (1, 1));
    // Written meanwhile into the shard that b retired.
    a.add("written in between");
    sync(&mut a, &mut b);
    sync(&mut a, &mut b);
    let rest: BTreeSet<String> = ["kept by a", "kept by b", "written in between"].map(str::to_owned).into();
    assert_eq!((a.texts(), b.texts()), (rest.clone(), rest));
    let again = b.take(&old);
    assert!(again.iter().all(|o| *o != Outcome::New), "{again:?}");
    // Neither an import by id, nor one of the same words.
    let by_id = Draft { id: Some(secret), ..Draft::new("the phrase nobody may know") };
    for (node, draft) in [(&mut a, by_id.clone()), (&mut b, by_id)] {
        assert!(matches!(node.truth().add(vec![draft], Twice::Skip, NOW), Err(TruthError::Forgotten(_))));
        let words = Draft::new("the phrase nobody may know");
        assert!(matches!(node.truth().add(vec![words], Twice::Skip, NOW), Err(TruthError::Forgotten(_))));
    }
    assert_eq!(b.truth().restore(old, NOW).unwrap().iter().filter(|o| **o == Outcome::New).count(), 0);
    a.truth().check().unwrap();
    b.truth().check().unwrap();
    assert_eq!(a.heads(), b.heads());
}

#[test]
fn an_older_copy_of_a_node_forgets_when_it_meets_the_tombstone() {
    let (mut a, mut b) = (Node::new(), Node::new());
    a.meets(&b);
    a.add("the phrase");
    sync(&mut a, &mut b);
    let copy = a.dir.path().join("old.sqlite");
    a.truth().back_up_to(&copy).unwrap();
    let id = *b.truth().select(&Selector::Author(a.author)).unwrap().keys().next().unwrap();
    b.truth().forget(&Selector::Id(id), NOW).unwrap();
    a.truth = None;
    std::fs::rename(&copy, a.path()).unwrap();
    for beside in ["changes.sqlite-wal", "changes.sqlite-shm"] {
        let _ = std::fs::remove_file(a.dir.path().join(beside));
    }
    a.open().unwrap();
    assert_eq!(a.texts().len(), 1);
    sync(&mut a, &mut b);
    assert!(a.texts().is_empty() && b.texts().is_empty());
}

#[test]
fn a_member_cannot_forget_what_others_wrote() {
    let (mut a, mut b) = (Node::new(), Node::new());
    a.meets(&b);
    let id = a.add("mine");
    sync(&mut a, &mut b);
    let guest = Keys::generate();
    b.known.add(guest.public_key(), guest.public_key(), false, &["fleet"]);
    let copies = b.truth().copies(&id).unwrap();
    let document = b.truth().name(copies[0].document).unwrap();
    let tombstone = Tombstone { space: Space::fleet(), entries: [id].into(), retired: [document].into() };
    let event = tombstone.to_event().sign_with_keys(&guest).unwrap();
    b.take(&[event]);
    assert_eq!(b.texts(), BTreeSet::from(["mine".to_owned()]));
    assert!(b.truth().check().unwrap().entries == 1);
}

#[test]
fn a_forgotten_page_begins_anew() {
    let (mut a, mut b) = (Node::new(), Node::new());
    a.meets(&b);
    a.edit("list", &[PageEdit::Add("a secret".into())]);
    sync(&mut a, &mut b);
    let name = "list".parse().unwrap();
    a.truth().forget_named(&Space::fleet(), &name, NOW).unwrap();
    sync(&mut a, &mut b);
    assert!(b.truth().page(&Space::fleet(), &name).unwrap().is_none());
    b.edit("list", &[PageEdit::Add("new".into())]);
    sync(&mut a, &mut b);
    assert_eq!(a.page("list").items, ["new"]);
}

#[test]
fn spaces_and_persons_are_forgotten_whole() {
    let mut a = Node::new();
    let person = Keys::generate().public_key();
    a.add_draft(Draft { person: Some(person), ..Draft::new("of a person") });
    a.add_draft(Draft { space: "garden".parse().unwrap(), ..Draft::new("of the garden") });
    a.add("of nobody");
    a.truth().forget(&Selector::Person(person), NOW).unwrap();
    a.truth().forget(&Selector::Space("garden".parse().unwrap()), NOW).unwrap();
    assert_eq!(a.texts(), BTreeSet::from(["of nobody".to_owned()]));
    assert!(matches!(a.truth().forget(&Selector::Person(person), NOW), Err(TruthError::Missing(_))));
    let author = a.author;
    a.truth().forget(&Selector::Author(author), NOW).unwrap();
    assert!(a.texts().is_empty());
}

/// Three nodes, each knows the others.
fn three() -> [Node; 3] {
    let nodes = [Node::new(), Node::new(), Node::new()];
    for (at, a) in nodes.iter().enumerate() {
        nodes.iter().skip(at + 1).for_each(|b| a.meets(b));
    }
    nodes
}

fn sync_all(nodes: &mut [Node; 3]) {
    for _ in 0..3 {
        let [a, b, c] = nodes;
        sync(a, b);
        sync(b, c);
        sync(a, c);
    }
}

#[test]
fn an_entry_that_two_nodes_moved_at_once_is_forgotten_in_every_shard() {
    let mut nodes = three();
    let [one, phrase] = ["one", "the phrase"].map(|text| nodes[0].add(text));
    nodes[0].add("stays");
    sync_all(&mut nodes);
    // Both write what stays anew: three shards, of which the first is retired.
    nodes[1].truth().forget(&Selector::Id(one), NOW).unwrap();
    nodes[2].truth().forget(&Selector::Id(one), NOW).unwrap();
    sync_all(&mut nodes);
    assert!(nodes.iter_mut().all(|node| node.truth().copies(&phrase).unwrap().len() == 2));
    nodes[0].truth().forget(&Selector::Id(phrase), NOW).unwrap();
    sync_all(&mut nodes);
    let ids = nodes[0].events("fleet").iter().map(|event| event.id).collect::<BTreeSet<_>>();
    for node in &mut nodes {
        assert_eq!(node.texts(), BTreeSet::from(["stays".to_owned()]));
        assert!(node.truth().copies(&phrase).unwrap().is_empty());
        assert_eq!(node.events("fleet").iter().map(|event| event.id).collect::<BTreeSet<_>>(), ids);
        assert_eq!(node.truth().check().unwrap().incomplete, 0);
    }
}

#[test]
fn a_copy_that_its_forgetter_did_not_know_is_destroyed_and_its_shard_written_anew() {
    let mut nodes = three();
    let [one, phrase] = ["one", "the phrase"].map(|text| nodes[0].add(text));
    sync_all(&mut nodes);
    // The second node moves the phrase, and writes on; the first forgets it meanwhile.
    nodes[1].truth().forget(&Selector::Id(one), NOW).unwrap();
    let later = nodes[1].add("written later");
    nodes[0].truth().forget(&Selector::Id(phrase), NOW).unwrap();
    sync_all(&mut nodes);
    for node in &mut nodes {
        assert_eq!(node.texts(), BTreeSet::from(["written later".to_owned()]));
        assert!(node.truth().copies(&phrase).unwrap().is_empty());
        assert_eq!(node.truth().check().unwrap().incomplete, 0);
    }
    // Its writer goes on as before, also after a start.
    nodes[1].open().unwrap();
    nodes[1].add("and on");
    sync_all(&mut nodes);
    assert!(nodes.iter().all(|node| node.texts().len() == 2));
    assert!(nodes[2].truth().entry(&later).unwrap().is_some());
    assert!(nodes[0].truth().quarantined().unwrap().is_empty());
}
