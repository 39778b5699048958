use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;

use automerge::transaction::Transactable;
use nips::memory::{Change, Message, Tombstone};
use nostr::Timestamp;

use super::*;
use crate::entry::{Draft, MAX_TEXT};
use crate::truth::entries::Twice;

mod broken;
mod forget;
mod older;
mod sync;

/// Everybody whom the tests named.
#[derive(Default)]
struct Known(Mutex<BTreeMap<PublicKey, (Writer, BTreeSet<Space>)>>);

impl Known {
    fn add(&self, install: PublicKey, npub: PublicKey, acts_for_owner: bool, spaces: &[&str]) {
        let spaces = spaces.iter().map(|s| s.parse().unwrap()).collect();
        self.0.lock().unwrap().insert(install, (Writer { npub, acts_for_owner }, spaces));
    }
}

impl Directory for Known {
    fn writer(&self, install: &PublicKey) -> Option<Writer> {
        self.0.lock().unwrap().get(install).map(|(writer, _)| writer.clone())
    }

    fn may_share(&self, install: &PublicKey, space: &Space) -> bool {
        self.0.lock().unwrap().get(install).is_some_and(|(_, spaces)| spaces.contains(space))
    }
}

struct Node {
    dir: tempfile::TempDir,
    install: Keys,
    author: PublicKey,
    known: Arc<Known>,
    truth: Option<Truth>,
}

const NOW: u64 = 1_795_221_470;

impl Node {
    fn new() -> Self {
        let (install, author) = (Keys::generate(), Keys::generate().public_key());
        let mut node = Self { dir: tempfile::tempdir().unwrap(), install, author, known: Arc::default(), truth: None };
        node.open().unwrap();
        node
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("changes.sqlite")
    }

    fn open(&mut self) -> Result<Option<Salvage>, TruthError> {
        self.truth = None;
        let (truth, salvage) = Truth::open(&self.options())?;
        self.truth = Some(truth);
        Ok(salvage)
    }

    fn options(&self) -> TruthOptions {
        TruthOptions {
            path: self.path(),
            install: self.install.clone(),
            author: self.author,
            key: SealKey::new([9; 32]),
            directory: Arc::clone(&self.known) as Arc<dyn Directory>,
        }
    }

    /// Siblings know each other and share the fleet.
    fn meets(&self, other: &Self) {
        self.known.add(other.install.public_key(), other.author, true, &["fleet", "garden"]);
        other.known.add(self.install.public_key(), self.author, true, &["fleet", "garden"]);
    }

    fn truth(&mut self) -> &mut Truth {
        self.truth.as_mut().unwrap()
    }

    fn add(&mut self, text: &str) -> EntryId {
        self.add_draft(Draft::new(text))
    }

    fn add_draft(&mut self, draft: Draft) -> EntryId {
        self.truth().add(vec![draft], Twice::Keep, NOW).unwrap()[0].id
    }

    fn texts(&self) -> BTreeSet<String> {
        let reader = self.truth.as_ref().unwrap().reader(&self.path()).unwrap();
        reader.rows(0, usize::MAX).unwrap().into_iter().map(|(_, entry)| entry.text).collect()
    }

    fn events(&self, space: &str) -> Vec<Event> {
        let truth = self.truth.as_ref().unwrap();
        let ids: Vec<EventId> =
            truth.event_ids(&space.parse().unwrap()).unwrap().into_iter().map(|(_, id)| id).collect();
        truth.events(&ids).unwrap()
    }

    fn take(&mut self, events: &[Event]) -> Vec<Outcome> {
        let vetted: Vec<Vetted> = events.iter().cloned().map(Vetted::new).collect();
        self.truth().take(&vetted, NOW).unwrap()
    }

    fn page(&mut self, name: &str) -> Page {
        let name = name.parse().unwrap();
        self.truth().page(&Space::fleet(), &name).unwrap().unwrap()
    }

    fn edit(&mut self, name: &str, edits: &[PageEdit]) -> Page {
        let name = name.parse().unwrap();
        self.truth().edit_page(&Space::fleet(), &name, edits, NOW).unwrap()
    }

    fn heads(&self) -> BTreeMap<String, Vec<String>> {
        let all = self.truth.as_ref().unwrap().heads().unwrap();
        all.into_iter().filter(|(_, heads)| !heads.is_empty()).collect()
    }
}

/// Each gives the other what it lacks, until nothing is new.
fn sync(a: &mut Node, b: &mut Node) {
    for _ in 0..4 {
        let (from_a, from_b) = (a.events("fleet"), b.events("fleet"));
        let new_b = b.take(&from_a).contains(&Outcome::New);
        let new_a = a.take(&from_b).contains(&Outcome::New);
        if !new_a && !new_b {
            return;
        }
    }
}

use nostr::{Event, EventId};

#[test]
fn what_is_added_is_there_after_a_start_and_every_document_loads() {
    let mut node = Node::new();
    let first = node.add("the key is under the mat");
    node.edit("shopping-list", &[PageEdit::Add("milk".into())]);
    node.open().unwrap();
    let second = node.add("the cat is called Miez");
    assert_eq!(node.texts().len(), 2);
    let truth = node.truth();
    assert_eq!(truth.entry(&first).unwrap().unwrap().author, truth.author);
    assert!(truth.entry(&second).unwrap().is_some());
    assert_eq!(truth.check().unwrap(), Check { documents: 2, entries: 2, incomplete: 0 });
    assert_eq!(node.page("shopping-list").items, ["milk"]);
}

#[test]
fn an_event_comes_out_as_it_was_signed() {
    let mut node = Node::new();
    node.add("short");
    node.add(&"long words that compress ".repeat(100));
    let id = node.add("gone");
    node.truth().forget(&Selector::Id(id), NOW).unwrap();
    let events = node.events("fleet");
    assert!(events.len() >= 3);
    for event in events {
        event.verify().unwrap();
        Message::parse(&event).unwrap();
    }
}

#[test]
fn two_nodes_hold_the_same_after_they_met_and_private_stays() {
    let (mut a, mut b) = (Node::new(), Node::new());
    a.meets(&b);
    a.add("from a");
    b.add("from b");
    a.add_draft(Draft { space: Space::private(), ..Draft::new("mine alone") });
    a.edit("list", &[PageEdit::Add("milk".into()), PageEdit::Set("shop".into(), "corner".into())]);
    b.edit("list", &[PageEdit::Add("bread".into()), PageEdit::Append("on Friday".into())]);
    sync(&mut a, &mut b);
    assert_eq!(b.texts(), ["from a", "from b"].map(str::to_owned).into());
    assert_eq!(a.page("list"), b.page("list"));
    assert_eq!(a.page("list").items.len(), 2);
    assert!(a.take(&b.events("fleet")).iter().all(|o| *o == Outcome::Known));
    let mine = a.events("private");
    assert_eq!(b.take(&mine), [Outcome::Refused(Refusal::Space)]);
    let public =
        |node: &Node| node.heads().into_iter().filter(|(name, _)| name.starts_with("fleet")).collect::<Vec<_>>();
    assert_eq!(public(&a), public(&b));
}

#[test]
fn what_comes_in_any_order_counts_the_same() {
    let (mut a, mut b, mut c) = (Node::new(), Node::new(), Node::new());
    a.meets(&b);
    a.meets(&c);
    for n in 0..40 {
        a.add(&format!("entry {n}"));
        a.edit("page", &[PageEdit::Append(format!("line {n}"))]);
    }
    let events = a.events("fleet");
    let backwards: Vec<Event> = events.iter().rev().cloned().collect();
    for event in &backwards {
        assert_eq!(b.take(std::slice::from_ref(event)), [Outcome::New]);
    }
    c.take(&events);
    assert_eq!((b.texts(), b.page("page"), b.heads()), (a.texts(), a.page("page"), a.heads()));
    assert_eq!((c.texts(), c.heads()), (a.texts(), a.heads()));
    b.truth().check().unwrap();
}

#[test]
fn strangers_foreign_writers_and_forgeries_are_refused() {
    let (mut a, mut b) = (Node::new(), Node::new());
    a.add("hello");
    let events = a.events("fleet");
    assert_eq!(b.take(&events), [Outcome::Refused(Refusal::UnknownWriter)]);
    a.meets(&b);
    let mut forged = events[0].clone();
    forged.content.push('A');
    assert_eq!(b.take(&[forged]), [Outcome::Refused(Refusal::Malformed)]);
    // A member who signs a change for somebody else's shard, or as somebody else's actor.
    let thief = Keys::generate();
    b.known.add(thief.public_key(), thief.public_key(), false, &["fleet"]);
    let stolen = nostr::EventBuilder::new(events[0].kind, &events[0].content).tags(events[0].tags.clone());
    assert_eq!(b.take(&[stolen.sign_with_keys(&thief).unwrap()]), [Outcome::Refused(Refusal::Malformed)]);
    // A guest speaks for himself alone, and in what was shared with him.
    let guest = shard_change(&thief, "I am somebody else", a.author, "fleet");
    assert_eq!(b.take(&[guest]), [Outcome::Refused(Refusal::Author)]);
    let elsewhere = shard_change(&thief, "in another space", thief.public_key(), "garden");
    assert_eq!(b.take(&[elsewhere]), [Outcome::Refused(Refusal::Space)]);
    let own = shard_change(&thief, "my own", thief.public_key(), "fleet");
    assert_eq!(b.take(&[own]), [Outcome::New]);
    assert_eq!(b.take(&events), [Outcome::New]);
}

/// A change that puts one entry, made by hand.
fn shard_change(keys: &Keys, text: &str, author: PublicKey, space: &str) -> Event {
    changed(
        keys,
        [1; 16],
        |document, _| {
            let entry = entry(text, author, space);
            document.put(automerge::ROOT, entry.id.to_string(), serde_json::to_string(&entry).unwrap()).unwrap();
        },
        space,
    )
}

fn entry(text: &str, author: PublicKey, space: &str) -> Entry {
    Entry {
        id: EntryId::from_bytes(rand::random()),
        text: text.to_owned(),
        kind: crate::entry::EntryKind::Semantic,
        space: space.parse().unwrap(),
        author,
        created_at: NOW,
        person: None,
        tags: BTreeSet::new(),
        importance: 0.5,
        valid_from: None,
        valid_until: None,
        supersedes: BTreeSet::new(),
    }
}

fn changed(
    keys: &Keys,
    start: [u8; 16],
    edit: impl FnOnce(&mut automerge::AutoCommit, &DocumentId),
    space: &str,
) -> Event {
    let id: DocumentId = format!("{space}/shard/{}/2026-11/0", keys.public_key().to_hex()).parse().unwrap();
    let actor = ActorId::new(&keys.public_key(), start);
    let mut document = automerge::AutoCommit::new().with_actor(shard::actor(&actor));
    edit(&mut document, &id);
    signed(keys, &id, &actor, &mut document)
}

fn signed(keys: &Keys, id: &DocumentId, actor: &ActorId, document: &mut automerge::AutoCommit) -> Event {
    let made = shard::committed(document, NOW, id).unwrap();
    Change::to_event(id, actor, made.seq, &made.hash, &made.frame)
        .custom_created_at(Timestamp::from(NOW))
        .sign_with_keys(keys)
        .unwrap()
}

#[test]
fn a_change_of_a_shard_that_does_anything_but_put_one_good_entry_is_refused() {
    let mut b = Node::new();
    let keys = Keys::generate();
    b.known.add(keys.public_key(), keys.public_key(), false, &["fleet"]);
    let author = keys.public_key();
    let put = |document: &mut automerge::AutoCommit, key: String, entry: &Entry| {
        document.put(automerge::ROOT, key, serde_json::to_string(entry).unwrap()).unwrap();
    };
    let refuse = |b: &mut Node, what: &str, event: Event| {
        assert_eq!(b.take(&[event]), [Outcome::Refused(Refusal::Malformed)], "{what}");
    };
    let good = entry("x", author, "fleet");
    let two = changed(
        &keys,
        [2; 16],
        |d, _| {
            put(d, good.id.to_string(), &good);
            put(d, "b".into(), &good);
        },
        "fleet",
    );
    refuse(&mut b, "two puts", two);
    refuse(&mut b, "another key", changed(&keys, [3; 16], |d, _| put(d, "other".into(), &good), "fleet"));
    let object = |d: &mut automerge::AutoCommit| {
        d.put_object(automerge::ROOT, "x", automerge::ObjType::Map).unwrap();
    };
    refuse(&mut b, "an object", changed(&keys, [4; 16], |d, _| object(d), "fleet"));
    let long = entry(&"x".repeat(MAX_TEXT + 1), author, "fleet");
    refuse(&mut b, "too long", changed(&keys, [5; 16], |d, _| put(d, long.id.to_string(), &long), "fleet"));
    let elsewhere = entry("x", author, "garden");
    refuse(
        &mut b,
        "another space",
        changed(&keys, [6; 16], |d, _| put(d, elsewhere.id.to_string(), &elsewhere), "fleet"),
    );
    let second = Entry { text: "y".to_owned(), ..good.clone() };
    let overwrite = |d: &mut automerge::AutoCommit| {
        put(d, good.id.to_string(), &good);
        d.commit();
        put(d, good.id.to_string(), &second);
    };
    refuse(&mut b, "an overwrite", changed(&keys, [7; 16], |d, _| overwrite(d), "fleet"));
    assert!(b.texts().is_empty());
}

#[test]
fn two_changes_under_one_number_quarantine_their_writer_and_nobody_else() {
    let (mut a, mut b, mut honest) = (Node::new(), Node::new(), Node::new());
    a.meets(&b);
    a.meets(&honest);
    b.meets(&honest);
    let liar = Keys::generate();
    for node in [&a, &b, &honest] {
        node.known.add(liar.public_key(), liar.public_key(), false, &["fleet"]);
    }
    let one = shard_change(&liar, "to a", liar.public_key(), "fleet");
    let other = shard_change(&liar, "to b", liar.public_key(), "fleet");
    assert_eq!(a.take(std::slice::from_ref(&one)), [Outcome::New]);
    assert_eq!(b.take(std::slice::from_ref(&other)), [Outcome::New]);
    honest.add("an honest word");
    sync(&mut honest, &mut a);
    sync(&mut a, &mut b);
    sync(&mut b, &mut honest);
    for node in [&a, &b, &honest] {
        assert_eq!(node.texts(), BTreeSet::from(["an honest word".to_owned()]));
        let named = node.truth.as_ref().unwrap().quarantined().unwrap();
        assert_eq!(named.len(), 1);
        assert_eq!(named[0].0, liar.public_key());
        let proof = node.truth.as_ref().unwrap().events(&[named[0].1, named[0].2]).unwrap();
        assert!(proof.len() == 2 && proof.iter().all(|e| e.pubkey == liar.public_key() && e.verify().is_ok()));
    }
    honest.add("goes on");
    sync(&mut honest, &mut a);
    assert!(a.texts().contains("goes on"));
    assert_eq!(honest.truth().check().unwrap().entries, 2);
}

#[test]
fn a_page_goes_on_when_one_of_its_writers_lies_and_honest_words_stay() {
    let (mut a, mut b) = (Node::new(), Node::new());
    a.meets(&b);
    let liar = Keys::generate();
    let id: DocumentId = "fleet/page/0/list".parse().unwrap();
    let actor = ActorId::new(&liar.public_key(), [1; 16]);
    for node in [&a, &b] {
        node.known.add(liar.public_key(), liar.public_key(), false, &["fleet"]);
    }
    let lie = |item: &str| {
        let mut document = page::base(&id).with_actor(shard::actor(&actor));
        page::edit(&mut document, &PageEdit::Add(item.to_owned())).unwrap();
        signed(&liar, &id, &actor, &mut document)
    };
    a.take(&[lie("one")]);
    b.take(&[lie("two")]);
    // Both build on what they saw.
    a.edit("list", &[PageEdit::Add("milk".into()), PageEdit::Append("a was here".into())]);
    b.edit("list", &[PageEdit::Add("bread".into())]);
    sync(&mut a, &mut b);
    sync(&mut b, &mut a);
    let page = a.page("list");
    assert_eq!(page, b.page("list"));
    assert!(page.items.contains(&"milk".to_owned()) && page.items.contains(&"bread".to_owned()), "{page:?}");
    assert!(page.text.contains("a was here"));
    a.edit("list", &[PageEdit::Add("eggs".into())]);
    sync(&mut a, &mut b);
    assert!(b.page("list").items.contains(&"eggs".to_owned()));
}

#[test]
fn changes_that_wait_for_others_are_bounded() {
    let (mut a, mut b) = (Node::new(), Node::new());
    a.meets(&b);
    for n in 0..1_030 {
        a.edit("page", &[PageEdit::Set(format!("k{}", n % 7), n.to_string())]);
    }
    let mut events = a.events("fleet");
    events.retain(|e| !e.tags.iter().any(|t| t.as_slice() == ["seq", "1"]));
    let outcomes = b.take(&events);
    assert_eq!(outcomes.iter().filter(|o| **o == Outcome::New).count(), 1_000);
    assert!(outcomes.contains(&Outcome::Refused(Refusal::Full)));
    sync(&mut a, &mut b);
    sync(&mut a, &mut b);
    assert_eq!(a.page("page"), b.page("page"));
}

fn damage(path: &Path, from: usize, length: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let end = (from + length).min(bytes.len());
    for byte in &mut bytes[from..end] {
        *byte = !*byte;
    }
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_store_is_set_aside_and_what_can_be_read_is_taken_over() {
    let mut a = Node::new();
    for n in 0..300 {
        a.add(&format!("entry number {n}"));
    }
    a.add_draft(Draft { space: Space::private(), ..Draft::new("private too") });
    a.edit("list", &[PageEdit::Add("milk".into())]);
    a.truth().connection().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    a.truth = None;
    let size = usize::try_from(std::fs::metadata(a.path()).unwrap().len()).unwrap();
    damage(&a.path(), size / 2, 4096);
    let salvage = a.open().unwrap().expect("set aside");
    assert!(salvage.aside.exists());
    assert!(salvage.kept > 150, "{salvage:?}");
    assert!(a.texts().len() > 150 && a.texts().contains("private too"));
    // What cannot be read leaves gaps, which peers fill; the rest loads.
    assert_eq!(a.truth().check().unwrap().incomplete, usize::from(salvage.kept < 302));
    a.add("goes on");
    // A file that is no database at all: nothing can be read, and the node starts all the same.
    a.truth = None;
    std::fs::write(a.path(), b"this is no database, whatever its name says").unwrap();
    for beside in ["changes.sqlite-wal", "changes.sqlite-shm"] {
        let _ = std::fs::remove_file(a.dir.path().join(beside));
    }
    let salvage = a.open().unwrap().expect("set aside");
    assert_eq!(salvage.kept, 0);
    assert!(salvage.aside.to_string_lossy().ends_with("damaged-2"), "{salvage:?}");
    a.add("begins anew");
}

#[test]
fn a_store_of_another_key_is_refused_and_left_alone() {
    let mut a = Node::new();
    a.add("sealed");
    a.truth = None;
    let before = std::fs::read(a.path()).unwrap();
    let mut options = a.options();
    options.key = SealKey::new([1; 32]);
    assert!(matches!(Truth::open(&options), Err(TruthError::Key { .. })));
    assert_eq!(before.len(), std::fs::read(a.path()).unwrap().len());
    a.open().unwrap();
    assert_eq!(a.texts().len(), 1);
}

#[test]
fn no_word_rests_in_the_clear() {
    let mut a = Node::new();
    a.add("xylophone zebra quark");
    a.edit("list", &[PageEdit::Append("xylophone zebra quark".into())]);
    for file in std::fs::read_dir(a.dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(9).any(|w| w == b"xylophone"));
    }
}

#[test]
fn an_import_that_runs_again_adds_nothing() {
    let mut a = Node::new();
    let draft = Draft::new("the same words");
    let first = a.truth().add(vec![draft.clone()], Twice::Skip, NOW).unwrap()[0];
    let second = a.truth().add(vec![draft.clone()], Twice::Skip, NOW).unwrap()[0];
    assert_eq!((first.is_new, second.is_new, first.id), (true, false, second.id));
    let other = Draft { space: "garden".parse().unwrap(), ..draft.clone() };
    assert!(a.truth().add(vec![other], Twice::Skip, NOW).unwrap()[0].is_new);
    assert!(a.truth().add(vec![draft], Twice::Keep, NOW).unwrap()[0].is_new);
}

#[test]
fn shards_are_cut_and_saved_whole_and_load_the_same() {
    let mut a = Node::new();
    a.truth().connection().execute_batch("BEGIN").unwrap();
    for n in 0..700 {
        a.add(&format!("{n} {}", hex::encode(rand::random::<[u8; 1024]>())));
    }
    a.truth().connection().execute_batch("COMMIT").unwrap();
    let check = a.truth().check().unwrap();
    assert!(check.documents >= 2 && check.entries == 700, "{check:?}");
    let snapshots: i64 =
        a.truth().connection().query_row("SELECT COUNT(*) FROM snapshots", [], |row| row.get(0)).unwrap();
    assert!(snapshots >= 1);
    a.truth().connection().execute("UPDATE snapshots SET body = zeroblob(40)", []).unwrap();
    assert_eq!(a.truth().check().unwrap(), check);
}
