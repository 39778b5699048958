//! Talks: what the node adds before the first and after the last word of a model, over each channel; what recall costs in that; and how
//! many people can talk at once.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nostr::{Filter, Keys, Kind, ToBech32};
use serde_json::{Value, json};
use tests::client::{message, open_wrap};
use tests::matrix::{Homeserver, Person, is_answer, is_open};
use tests::node::keys;
use tests::{Client, ModelDouble, Node};

use crate::process::{Memory, memory_of};
use crate::report::{Report, digits, p50_p99, thousands};

const SAID: usize = 200;
const SAID_IN_MATRIX: usize = 50;
/// Entries that recall looks through.
const ENTRIES: usize = 10_000;
/// People who talk at once, what each says, and how long their model thinks.
const PEOPLE: usize = 32;
const EACH: usize = 10;
const THINKS: Duration = Duration::from_millis(200);
/// How long a node is left alone before its memory is read.
const IDLE: Duration = Duration::from_secs(10);
const ANSWER: [&str; 3] = ["The bins ", "go out ", "on Friday."];
/// Where the tools of the Matrix tests are told from.
const TESTS: &str = env!("CARGO_MANIFEST_DIR");

/// Measures and reports.
pub fn run(report: &mut Report, dir: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    report.table("Talks", &["what", "measured", "goal"]);
    runtime.block_on(async {
        direct(report, dir).await;
        crowd(report).await;
        matrix(report, dir).await;
    });
    report.say(&format!(
        "The model is a double in this process that streams three words at once, so all that is measured is the node's and the clients' own \
         time. Before: a person publishes → the model has the whole request, with the soul, what is recalled, and the talk so far. After: the \
         model's last word leaves → the person has the answer, encrypted, on disk, and kept for the person's other clients. In Matrix the \
         person is Element's stack on Node, the homeserver Synapse on SQLite without message limits; both are in the time, and so they are \
         in the line below it. Memory with Matrix is of a node {} s after its last answer.",
        IDLE.as_secs()
    ));
}

/// When a question was asked, reached the model, was answered by it, and the answer came.
struct Turn {
    asked: Instant,
    reached: Instant,
    said: Instant,
    came: Instant,
}

/// The turn of a question, by what the model noted. The talk so far is also in later prompts: the first that ends with it counts.
fn turn(model: &ModelDouble, question: &str, asked: Instant, came: Instant) -> Turn {
    let ends_with = |request: &Value| {
        let last = request["messages"].as_array().and_then(|all| all.last()).map(|last| last["content"].to_string());
        last.is_some_and(|text| text.contains(question))
    };
    let at = model.requests().iter().position(ends_with).expect("the model was asked");
    let (reached, said) = model.times()[at];
    Turn { asked, reached, said: said.expect("the model has answered"), came }
}

fn rows(report: &mut Report, what: &str, turns: &[Turn]) {
    let before: Vec<Duration> = turns.iter().map(|turn| turn.reached - turn.asked).collect();
    // The answer may overtake the note that it was given.
    let after: Vec<Duration> = turns.iter().map(|turn| turn.came.saturating_duration_since(turn.said)).collect();
    let row = format!("{what}: before the model; after it (p50 / p99 of {})", turns.len());
    report.row(&[&row, &format!("{}; {}", p50_p99(&before), p50_p99(&after)), ""]);
}

async fn talk(node: &Node, model: &ModelDouble, who: &Keys, topic: &str) -> Vec<Turn> {
    let mut client = Client::connect(node.relay()).await;
    client.auth(who).await;
    let mail = client.subscribe(Filter::new().kind(Kind::GiftWrap).pubkey(who.public_key()).limit(0)).await;
    let mut turns = Vec::new();
    for number in 0..SAID {
        let question = format!("question {number} about {topic} please");
        let (id, wrap) = message(who, &node.public_key(), &question);
        let asked = Instant::now();
        client.send(json!(["EVENT", wrap])).await;
        let came = loop {
            let event = client.next_event(&mail).await;
            let came = Instant::now();
            if open_wrap(who, &event).is_some_and(|said| said.reply_to == Some(id)) {
                break came;
            }
        };
        turns.push(turn(model, &question, asked, came));
    }
    turns
}

/// Direct messages (NIP-17), with an empty memory and with a full one.
async fn direct(report: &mut Report, dir: &Path) {
    let model = ModelDouble::start(&ANSWER, Duration::ZERO).await;
    let owner = keys();
    let config = format!("[owner]\nnpub = \"{}\"\n{}", owner.public_key().to_bech32().unwrap(), model.config(""));
    let node = Node::builder().config(&config).start().await;
    let turns = talk(&node, &model, &owner, "the tide").await;
    rows(report, "direct message (NIP-17), nothing remembered", &turns);
    let mut lines = String::new();
    for number in 0..ENTRIES {
        let _ =
            writeln!(lines, "Boat {number} lies at berth {} and is painted {} below the water", number * 7, number % 9);
    }
    let file = dir.join("boats");
    std::fs::write(&file, lines).unwrap();
    node.json(&["memory", "import", file.to_str().unwrap()]).await;
    // The first search waits for what the import has left to do.
    node.json(&["memory", "search", "boat"]).await;
    let turns = talk(&node, &model, &owner, "boats and berths").await;
    rows(report, &format!("the same, {} entries remembered, five recalled", thousands(ENTRIES as f64)), &turns);
}

/// Many people at once, each waiting for an answer before the next question.
async fn crowd(report: &mut Report) {
    let model = ModelDouble::start(&["yes"], THINKS).await;
    let people: Vec<Keys> = (0..PEOPLE).map(|_| keys()).collect();
    let allowed: Vec<String> = people.iter().map(|who| who.public_key().to_bech32().unwrap()).collect();
    for (most, how) in [(4, "4 at once (default)"), (PEOPLE, "`max_running = 32`")] {
        let config = format!("[nostr]\nallow = {allowed:?}\n[dvm]\nmax_running = {most}\n{}", model.config(""));
        let node = Node::builder().config(&config).start().await;
        let began = Instant::now();
        let talks = people.iter().map(async |who| {
            let mut client = Client::connect(node.relay()).await;
            client.auth(who).await;
            let mail = client.subscribe(Filter::new().kind(Kind::GiftWrap).pubkey(who.public_key()).limit(0)).await;
            let mut waited = Vec::new();
            for number in 0..EACH {
                let (id, wrap) = message(who, &node.public_key(), &format!("is it {number} o'clock?"));
                let asked = Instant::now();
                client.send(json!(["EVENT", wrap])).await;
                while open_wrap(who, &client.next_event(&mail).await).is_none_or(|said| said.reply_to != Some(id)) {}
                waited.push(asked.elapsed());
            }
            waited
        });
        let waited: Vec<Duration> = futures_util::future::join_all(talks).await.concat();
        let rate = digits(waited.len() as f64 / began.elapsed().as_secs_f64());
        let most = digits(most as f64 / THINKS.as_secs_f64());
        report.row(&[
            &format!(
                "{PEOPLE} people, a model that thinks {} ms, {how}: answers; waited (p50 / p99)",
                THINKS.as_millis()
            ),
            &format!("{rate}/s of {most}/s that the model allows; {}", p50_p99(&waited)),
            "",
        ]);
    }
}

async fn matrix(report: &mut Report, dir: &Path) {
    let back = std::env::current_dir().unwrap();
    if std::env::set_current_dir(TESTS).is_err() || !Homeserver::can_run() {
        report.row(&["Matrix", "not measured: `make tools` brings Synapse and Element's stack", ""]);
        return;
    }
    let server = Homeserver::fast(&["alice", "bob"]).await;
    let model = ModelDouble::start(&ANSWER, Duration::ZERO).await;
    let config = format!("{}{}", server.config(&dir.join("password")), model.config(""));
    let node = Node::builder().config(&config).start().await;
    is_open(&node).await;
    let (mut alice, mut bob) = (server.person("alice").await, server.person("bob").await);
    let room = alice.chat().await;
    let first = alice.say(&room, "hello").await;
    alice.answer(&first).await;
    let mut turns = Vec::new();
    for number in 0..SAID_IN_MATRIX {
        let question = format!("question {number} about the bins please");
        let asked = Instant::now();
        let id = alice.say(&room, &question).await;
        let whole = ANSWER.concat();
        alice
            .hears("the whole answer", |event| is_answer(event) && event["reply_to"] == *id && event["body"] == *whole)
            .await;
        turns.push(turn(&model, &question, asked, Instant::now()));
    }
    rows(report, "Matrix, encrypted", &turns);
    let between = two_people(&mut alice, &mut bob).await;
    let row = format!("Element to Element over the same Synapse: said → read (p50 / p99 of {})", between.len());
    report.row(&[&row, &p50_p99(&between), ""]);
    tokio::time::sleep(IDLE).await;
    let Memory { rss, pss, anonymous } = memory_of(&node.pid().to_string());
    let memory = format!("{} / {} / {} MB", digits(rss), digits(pss), digits(anonymous));
    report.row(&["memory when idle, with Matrix: RSS / PSS / of that anonymous", &memory, ""]);
    std::env::set_current_dir(back).unwrap();
}

/// What the homeserver and the clients take by themselves.
async fn two_people(alice: &mut Person, bob: &mut Person) -> Vec<Duration> {
    let room = alice.does("create_room", json!({ "users": ["@bob:localhost"] })).await["room"].clone();
    bob.does("join", json!({ "room": room })).await;
    let room = room.as_str().unwrap();
    let mut times = Vec::new();
    for number in 0..=SAID_IN_MATRIX {
        let text = format!("note {number}");
        let asked = Instant::now();
        alice.say(room, &text).await;
        bob.hears("what alice says", |event| event["body"] == *text && event["failed"] != true).await;
        times.push(asked.elapsed());
    }
    // The first hands over the room's key.
    times.split_off(1)
}
