//! The events in `spec/memory.md`: made here from fixed keys, compared with the document, and read back by the code that nodes run.
//! `UPDATE_SPEC=1` writes them anew.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::PathBuf;

use automerge::transaction::{CommitOptions, Transactable};
use automerge::{AutoCommit, ROOT};
use memory::{Entry, EntryKind};
use nips::memory::{ActorId, Change, DocumentId, EntryId, Message, Space, Tombstone, verified};
use nostr::secp256k1::{Keypair, Message as Digest};
use nostr::{Event, EventBuilder, JsonUtil, Keys, Timestamp};

const AT: u64 = 1_800_000_000;

fn sign(builder: EventBuilder, keys: &Keys) -> Event {
    let mut event = builder.custom_created_at(Timestamp::from(AT)).build(keys.public_key());
    let id = event.id();
    let pair = Keypair::from_secret_key(nostr::SECP256K1, keys.secret_key());
    // Without randomness, so that the examples stay the same.
    let sig = nostr::SECP256K1.sign_schnorr_no_aux_rand(&Digest::from_digest(id.to_bytes()), &pair);
    Event::new(id, event.pubkey, event.created_at, event.kind, event.tags, event.content, sig)
}

fn change(install: &Keys, author: &Keys) -> Event {
    let entry = Entry {
        id: EntryId::from_bytes([0xab; 16]),
        text: "The spare key lies under the flower pot.".into(),
        kind: EntryKind::Semantic,
        space: Space::fleet(),
        author: author.public_key(),
        created_at: AT,
        person: None,
        tags: BTreeSet::from(["home".to_owned()]),
        importance: 0.5,
        valid_from: None,
        valid_until: None,
        supersedes: BTreeSet::new(),
    };
    let actor = ActorId::new(&install.public_key(), [7; 16]);
    let id: DocumentId = format!("fleet/shard/{}/2027-01/0", install.public_key().to_hex()).parse().unwrap();
    let mut document = AutoCommit::new().with_actor(automerge::ActorId::from(&actor.as_bytes()[..]));
    document.put(ROOT, entry.id.to_string(), serde_json::to_string(&entry).unwrap()).unwrap();
    let hash = document.commit_with(CommitOptions::default().with_time(i64::try_from(AT).unwrap())).unwrap();
    let frame = document.get_change_by_hash(&hash).unwrap().bytes().into_owned();
    sign(Change::to_event(&id, &actor, 1, &hash.0, &frame), install)
}

fn tombstone(install: &Keys) -> Event {
    let retired = format!("fleet/shard/{}/2027-01/0", install.public_key().to_hex()).parse().unwrap();
    let entries = BTreeSet::from([EntryId::from_bytes([0xab; 16])]);
    sign(Tombstone { space: Space::fleet(), entries, retired: BTreeSet::from([retired]) }.to_event(), install)
}

#[test]
fn the_examples_are_what_the_code_writes() {
    let (author, install) = (Keys::parse(&"01".repeat(32)).unwrap(), Keys::parse(&"03".repeat(32)).unwrap());
    let (change, tombstone) = (change(&install, &author), tombstone(&install));
    assert!(matches!(verified(&change), Ok(Message::Change(_))));
    assert!(matches!(verified(&tombstone), Ok(Message::Tombstone(_))));
    let path = PathBuf::from("../spec/memory.md");
    for (name, event) in [("change", change), ("tombstone", tombstone)] {
        let document = std::fs::read_to_string(&path).unwrap();
        let open = format!("<!-- example: {name} -->\n```json\n");
        let start = document.find(&open).unwrap_or_else(|| panic!("no example `{name}`")) + open.len();
        let end = start + document[start..].find("```").unwrap();
        let expected = event.as_pretty_json();
        if std::env::var_os("UPDATE_SPEC").is_some() {
            std::fs::write(&path, format!("{}{expected}\n{}", &document[..start], &document[end..])).unwrap();
        } else {
            assert_eq!(document[start..end].trim_end(), expected, "example `{name}`; after a change: UPDATE_SPEC=1");
        }
    }
}
