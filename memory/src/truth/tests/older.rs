//! Stores of other schemas. `UPDATE_FIXTURES=1` makes the older one anew: the store of today without what came since.

use super::*;

const FIXTURE: &str = "tests/fixtures/schema-1.sqlite";

/// The node that wrote the fixture.
fn writer() -> Node {
    let key = |byte: u8| Keys::new(nostr::SecretKey::from_slice(&[byte; 32]).unwrap());
    let dir = tempfile::tempdir().unwrap();
    Node { dir, install: key(1), author: key(2).public_key(), known: Arc::default(), truth: None }
}

fn make_fixture() {
    let mut node = writer();
    node.open().unwrap();
    let first = node.add("what an older release wrote");
    let forgotten = node.add("and what it was told to forget");
    node.add_draft(Draft { supersedes: [first].into(), ..Draft::new("what came after") });
    node.truth().forget(&Selector::Id(forgotten), NOW).unwrap();
    node.edit("list", &[PageEdit::Add("milk".to_owned())]);
    node.truth = None;
    let connection = Connection::open(node.path()).unwrap();
    connection
        .execute_batch(
            "DROP INDEX changes_entry; ALTER TABLE changes DROP COLUMN entry; DROP TABLE recalls; PRAGMA user_version = 1;
             PRAGMA journal_mode = DELETE; PRAGMA page_size = 512; VACUUM;",
        )
        .unwrap();
    drop(connection);
    std::fs::create_dir_all("tests/fixtures").unwrap();
    std::fs::copy(node.path(), FIXTURE).unwrap();
}

/// A node with the older store.
fn older() -> Node {
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        make_fixture();
    }
    let node = writer();
    std::fs::copy(FIXTURE, node.path()).unwrap();
    node
}

fn schema(path: &Path) -> i64 {
    let connection = Connection::open(path).unwrap();
    connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
}

#[test]
fn a_store_of_an_older_release_is_backed_up_and_upgraded_and_goes_on() {
    let mut node = older();
    let is_older = |node: &Node| inspect(&node.path(), &node.options().key).unwrap().is_older;
    assert!(is_older(&node));
    node.open().unwrap();
    assert!(!is_older(&node));
    let backup = node.path().with_extension("schema-1.bak");
    assert_eq!((schema(&backup), schema(&node.path())), (1, schema::VERSION));
    assert_eq!(node.texts().len(), 2);
    assert_eq!(node.page("list").items, ["milk"]);
    node.truth().check().unwrap();
    // What is new since: it forgets by copies, and counts recalls.
    let id = node.add("written now");
    node.truth().note_recalls(&[id], NOW).unwrap();
    let author = node.author;
    let old = *node.truth().select(&Selector::Author(author)).unwrap().keys().find(|old| **old != id).unwrap();
    assert_eq!(node.truth().copies(&old).unwrap().len(), 1);
    node.truth().forget(&Selector::Id(old), NOW).unwrap();
    node.open().unwrap();
    assert_eq!(node.texts().len(), 2);
    // The copy is a store that opens on its own.
    let mut before = writer();
    std::fs::copy(&backup, before.path()).unwrap();
    before.open().unwrap();
    assert_eq!(before.texts().len(), 2);
}

#[test]
fn an_upgrade_that_is_refused_leaves_the_older_store_as_it_was() {
    let mut node = older();
    let options = TruthOptions { key: SealKey::new([8; 32]), ..node.options() };
    let refused = Truth::open(&options).map(|_| ()).unwrap_err();
    assert!(matches!(refused, TruthError::Key { .. }), "{refused}");
    assert_eq!(schema(&node.path()), 1);
    node.open().unwrap();
    assert_eq!(node.texts().len(), 2);
}

#[test]
fn a_store_of_a_newer_release_is_refused_and_left_alone() {
    let mut node = older();
    Connection::open(node.path()).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    let before = std::fs::read(node.path()).unwrap();
    let refused = node.open().unwrap_err();
    assert!(matches!(refused, TruthError::Newer { found: 99, .. }), "{refused}");
    assert!(refused.to_string().contains("upgrade timmy"), "{refused}");
    assert!(inspect(&node.path(), &node.options().key).is_err());
    let after = Connection::open(node.path()).unwrap();
    let tables: i64 =
        after.query_row("SELECT COUNT(*) FROM sqlite_schema WHERE name = 'recalls'", [], |r| r.get(0)).unwrap();
    drop(after);
    assert_eq!((schema(&node.path()), tables), (99, 0));
    assert!(!before.is_empty() && !node.path().with_extension("schema-99.bak").exists());
}
