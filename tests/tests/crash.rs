//! kill -9 at each named step, and at random moments: each accepted job ends in exactly one result, none is lost.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nostr::{Event, EventBuilder, EventId, Filter, Keys, Kind, PublicKey, ToBech32};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::Value;
use tempfile::TempDir;
use tests::client::{decrypt, message, request, sealed_request};
use tests::node::keys;
use tests::{Client, Node, Outside, eventually};

/// Every point in the code, in the order of a job's life.
const POINTS: [&str; 10] = [
    "desk.before-journal",
    "journal.before-commit",
    "journal.after-commit",
    "desk.after-journal",
    "worker.executing",
    "worker.before-report",
    "desk.before-publish",
    "outbox.before-local-publish",
    "outbox.after-local-publish",
    // Walked in tools.rs: no job comes there.
    "talk.approved",
];
/// A point that is passed more often than this in one short run is not walked to its end.
const PASSES_MAX: u32 = 60;

fn points_in(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            points_in(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let names = text.split("crash_point!(\"").skip(1).filter_map(|rest| rest.split('"').next());
            found.extend(names.map(str::to_owned));
        }
    }
}

#[test]
fn every_crash_point_of_the_code_is_walked() {
    let mut found = BTreeSet::new();
    points_in(&PathBuf::from("../daemon/src"), &mut found);
    assert_eq!(found, POINTS.iter().map(|p| (*p).to_owned()).collect());
}

/// One walk: a data folder that lives through many crashes, and an outside relay that stays up.
struct Walk {
    dir: TempDir,
    outside: Outside,
    config: String,
}

/// A job and whether a relay said OK to it.
struct Asked {
    event: Event,
    accepted: bool,
}

impl Walk {
    async fn new() -> Self {
        let outside = Outside::start().await;
        let config = Outside::config(&[&outside]);
        Self { dir: TempDir::new().unwrap(), outside, config }
    }

    async fn start(&self, crash_at: &str) -> Result<Node, String> {
        Node::builder().dir(self.dir.path()).config(&self.config).env("TIMMY_CRASH_AT", crash_at).try_start().await
    }

    /// Publishes one job to the node's own relay and one to the outside relay.
    async fn ask(&self, node: &Node, name: &str) -> Vec<Asked> {
        let p = node.public_key().to_hex();
        let own = request(&keys(), 5000, &[&["i", name, "text"], &["p", &p]]);
        let outer = request(&keys(), 5001, &[&["i", name, "text"], &["p", &p]]);
        self.outside.must_publish(&outer).await;
        let taken = match Client::try_connect(node.relay()).await {
            Some(client) => client.publish_until_cut(vec![own.clone()]).await,
            None => vec![],
        };
        vec![Asked { accepted: taken.contains(&own.id), event: own }, Asked { accepted: true, event: outer }]
    }
}

/// True when every job that `asked` holds came to its end, false when the node died first.
async fn survives(node: &mut Node, asked: &[Asked]) -> bool {
    let deadline = tokio::time::Instant::now() + tests::PATIENCE;
    while !node.has_ended() {
        assert!(tokio::time::Instant::now() < deadline, "neither a crash nor an end:\n{}", node.log());
        let (_, out, _) = node.cli(&["job", "list", "--limit", "1000", "--json"]).await;
        let jobs: Vec<Value> = serde_json::from_str(&out).unwrap_or_default();
        let settled = |a: &Asked| jobs.iter().any(|j| j["id"] == a.event.id.to_hex() && j["state"] == "settled");
        if asked.iter().all(settled) {
            return !node.has_ended();
        }
    }
    false
}

/// Every accepted job has exactly one result, on the node's relay and on the one it was published to.
async fn answered_once(walk: &Walk, node: &Node, asked: &[Asked], what: &str) {
    let mut client = Client::connect(node.relay()).await;
    for Asked { event, accepted } in asked {
        if *accepted {
            client.result(event).await;
        }
        let results = results_of(&mut client, &[event.id]).await;
        let count = results.get(&event.id).copied().unwrap_or_default();
        assert_eq!(count, usize::from(*accepted || count > 0), "{what}: results of {}", event.id);
        if *accepted {
            settled_and_replayed(node, event, what).await;
        }
    }
    let outer = &asked[1].event;
    let filter = Filter::new().event(outer.id).kind(Kind::from_u16(6001));
    let found = eventually("the result reaches the outside relay", async || {
        Some(walk.outside.query(filter.clone()).await).filter(|f| !f.is_empty())
    })
    .await;
    assert_eq!(found.len(), 1, "{what}: results on the outside relay");
}

/// The job settles, and replayed its journal tells the same run.
async fn settled_and_replayed(node: &Node, event: &Event, what: &str) {
    let id = event.id.to_hex();
    eventually("the job settles", async || {
        Some(node.json(&["job", "show", &id]).await).filter(|job| job["state"] == "settled")
    })
    .await;
    let run = node.json(&["job", "replay", &id]).await;
    assert_eq!((&run["same_as_journal"], &run["state"]), (&true.into(), &"settled".into()), "{what}: {run}");
}

/// How many results each of `ids` has on the relay.
async fn results_of(client: &mut Client, ids: &[EventId]) -> BTreeMap<EventId, usize> {
    let kinds = [6000, 6001].map(Kind::from_u16);
    let mut counts = BTreeMap::new();
    for some in ids.chunks(100) {
        for result in client.query(Filter::new().events(some.iter().copied()).kinds(kinds).limit(5000)).await {
            let job = nips::job::reply::answered_job(&result).unwrap();
            *counts.entry(EventId::from_byte_array(*job.as_bytes())).or_default() += 1;
        }
    }
    counts
}

/// Lets the node die at the first, second, … pass of `point`, until a run passes it less often.
async fn walk(point: &str) {
    let walk = Walk::new().await;
    walk.start("").await.unwrap().stop().await;
    let mut crashes = 0;
    for pass in 1..=PASSES_MAX {
        let what = format!("{point}:{pass}");
        let mut survived = false;
        let mut asked = vec![];
        if let Ok(mut node) = walk.start(&what).await {
            asked = walk.ask(&node, &what).await;
            survived = survives(&mut node, &asked).await;
        }
        if survived {
            break;
        }
        crashes += 1;
        if asked.is_empty() {
            continue;
        }
        let node = walk.start("").await.unwrap();
        answered_once(&walk, &node, &asked, &what).await;
    }
    println!("{point}: {crashes} crashes");
    assert!(crashes > 0, "{point} was never reached");
}

#[tokio::test]
async fn a_crash_around_the_desks_journal_loses_and_doubles_nothing() {
    walk("desk.before-journal").await;
    walk("desk.after-journal").await;
}

#[tokio::test]
async fn a_crash_before_a_commit_loses_and_doubles_nothing() {
    walk("journal.before-commit").await;
}

#[tokio::test]
async fn a_crash_after_a_commit_loses_and_doubles_nothing() {
    walk("journal.after-commit").await;
}

#[tokio::test]
async fn a_crash_of_a_worker_loses_and_doubles_nothing() {
    walk("worker.executing").await;
    walk("worker.before-report").await;
}

#[tokio::test]
async fn a_crash_around_publishing_loses_and_doubles_nothing() {
    walk("desk.before-publish").await;
    walk("outbox.before-local-publish").await;
    walk("outbox.after-local-publish").await;
}

/// A number from the environment.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

/// What the relay of a node took over many lives.
struct Taken {
    owner: Keys,
    /// Who asked in secret, by job.
    secretive: BTreeMap<EventId, Keys>,
    /// Jobs sent; with an OK or without.
    jobs: BTreeMap<EventId, bool>,
    /// The owner's messages by wrap: the message's own id, and whether its wrap got an OK.
    messages: BTreeMap<EventId, (EventId, bool)>,
    /// Notes that got an OK.
    notes: Vec<EventId>,
}

impl Taken {
    fn new() -> Self {
        Self {
            owner: keys(),
            secretive: BTreeMap::new(),
            jobs: BTreeMap::new(),
            messages: BTreeMap::new(),
            notes: vec![],
        }
    }

    /// A few jobs, each by somebody else, one of them encrypted, and a message of the owner.
    fn asked(&mut self, round: u64, node: &PublicKey) -> Vec<Event> {
        let (p, text) = (node.to_hex(), format!("round {round}"));
        let job = |kind| request(&keys(), kind, &[&["i", &text, "text"], &["p", &p]]);
        let asker = keys();
        let sealed = sealed_request(&asker, node, 5000, &[&["i", &text, "text"]]);
        self.secretive.insert(sealed.id, asker);
        let mut events = vec![job(5000), job(5001), sealed];
        self.jobs.extend(events.iter().map(|job| (job.id, false)));
        let (id, wrap) = message(&self.owner, node, &text);
        self.messages.insert(wrap.id, (id, false));
        events.insert(usize::try_from(round % 4).unwrap(), wrap);
        events
    }

    /// True when `feedback` says that `job` is given up, in clear or to the one who asked.
    fn is_given_up(&self, job: &EventId, feedback: &Event) -> bool {
        let error = ["status", "error"];
        let in_clear = feedback.tags.iter().any(|tag| tag.as_slice().starts_with(&error.map(str::to_owned)));
        let sealed = self.secretive.get(job).and_then(|asker| decrypt(asker, feedback));
        let sealed: Vec<Vec<String>> = sealed.and_then(|tags| serde_json::from_str(&tags).ok()).unwrap_or_default();
        in_clear || sealed.iter().any(|tag| tag.starts_with(&error.map(str::to_owned)))
    }

    fn accepted(&mut self, ids: Vec<EventId>) {
        for id in ids {
            if let Some((_, ok)) = self.messages.get_mut(&id) {
                *ok = true;
            } else {
                self.jobs.insert(id, true);
            }
        }
    }
}

/// A burst of notes.
fn notes(round: u64) -> Vec<Event> {
    let author = Keys::generate();
    let note = |n| EventBuilder::text_note(format!("note {n} of round {round}")).sign_with_keys(&author).unwrap();
    (0..12).map(note).collect()
}

/// One life: questions and notes go out on two connections, and the node is killed `after` the first was sent.
async fn live_and_die(node: &mut Node, round: u64, after: Duration, taken: &mut Taken) {
    let (asked, notes) = (taken.asked(round, &node.public_key()), notes(round));
    let (one, two) = (Client::connect(node.relay()).await, Client::connect(node.relay()).await);
    let death = async {
        tokio::time::sleep(after).await;
        node.kill().await;
    };
    let (asked, notes, ()) = tokio::join!(one.publish_until_cut(asked), two.publish_until_cut(notes), death);
    taken.accepted(asked);
    taken.notes.extend(notes);
}

/// Each accepted job gets its result; no job has two.
async fn jobs_are_answered_once(node: &Node, taken: &Taken) {
    let mut client = Client::connect(node.relay()).await;
    let accepted: Vec<EventId> = taken.jobs.iter().filter(|(_, ok)| **ok).map(|(id, _)| *id).collect();
    println!("{} jobs, {} accepted", taken.jobs.len(), accepted.len());
    // A slow machine may be killed five times under the same job: that one is given up, with a word, and has no result.
    let mut given_up = BTreeSet::new();
    for id in &accepted {
        let kinds = [6000, 6001, 7000].map(Kind::from_u16);
        let wait = client.subscribe(Filter::new().event(*id).kinds(kinds)).await;
        loop {
            let event = client.next_event(&wait).await;
            if event.kind != Kind::from_u16(7000) {
                break;
            }
            if taken.is_given_up(id, &event) {
                given_up.insert(*id);
                break;
            }
        }
        client.send(serde_json::json!(["CLOSE", wait])).await;
    }
    println!("{} given up with a word", given_up.len());
    let all: Vec<EventId> = taken.jobs.keys().copied().collect();
    let results = results_of(&mut client, &all).await;
    assert!(results.values().all(|count| *count == 1), "answered twice: {results:?}");
    assert!(accepted.iter().all(|id| results.contains_key(id) != given_up.contains(id)), "one last word for each");
    assert!(given_up.len() * 2 < accepted.len(), "most are done: {} of {}", given_up.len(), accepted.len());
}

/// How often each message of the owner was answered.
async fn replies(node: &Node, owner: &Keys) -> BTreeMap<EventId, usize> {
    let mut client = Client::connect(node.relay()).await;
    client.auth(owner).await;
    let mut counts = BTreeMap::new();
    for wrap in client.query(Filter::new().kind(Kind::GiftWrap).pubkey(owner.public_key()).limit(5000)).await {
        let said = tests::client::open_wrap(owner, &wrap).unwrap();
        *counts.entry(said.reply_to.unwrap()).or_default() += 1;
    }
    counts
}

async fn messages_are_answered_once(node: &Node, taken: &Taken) {
    let accepted: Vec<EventId> = taken.messages.values().filter(|(_, ok)| *ok).map(|(id, _)| *id).collect();
    println!("{} messages, {} accepted", taken.messages.len(), accepted.len());
    let counts = eventually("every accepted message is answered", async || {
        Some(replies(node, &taken.owner).await).filter(|counts| accepted.iter().all(|id| counts.contains_key(id)))
    })
    .await;
    assert!(counts.values().all(|count| *count == 1), "answered twice: {counts:?}");
}

async fn notes_are_kept(node: &Node, taken: &Taken) {
    let mut client = Client::connect(node.relay()).await;
    let mut kept = BTreeSet::new();
    for some in taken.notes.chunks(400) {
        kept.extend(client.query(Filter::new().ids(some.iter().copied()).limit(5000)).await.iter().map(|e| e.id));
    }
    let lost = taken.notes.iter().filter(|id| !kept.contains(*id)).count();
    println!("{} notes acknowledged", taken.notes.len());
    assert_eq!(lost, 0, "acknowledged events are lost");
}

#[tokio::test]
async fn random_kills_lose_no_accepted_job_answer_none_twice_and_lose_no_acknowledged_event() {
    let (kills, seed) = (setting("TIMMY_KILLS", 200), setting("TIMMY_SEED", rand::random::<u32>().into()));
    println!("TIMMY_SEED={seed} TIMMY_KILLS={kills}");
    let mut random = StdRng::seed_from_u64(seed);
    let dir = TempDir::new().unwrap();
    let mut taken = Taken::new();
    let owner = format!("[owner]\nnpub = \"{}\"", taken.owner.public_key().to_bech32().unwrap());
    // One person writes here as often as nobody does: the limit of messages a minute would come first.
    let config = format!("{owner}\n[dvm]\njobs_per_author_per_min = 100000");
    for round in 0..kills {
        let mut node = Node::builder().dir(dir.path()).config(&config).start().await;
        let after = Duration::from_micros(random.random_range(0..60_000));
        live_and_die(&mut node, round, after, &mut taken).await;
    }
    let node = Node::builder().dir(dir.path()).config(&config).start().await;
    jobs_are_answered_once(&node, &taken).await;
    messages_are_answered_once(&node, &taken).await;
    notes_are_kept(&node, &taken).await;
    assert!(taken.notes.len() as u64 >= kills, "too few notes were acknowledged to say anything");
}
