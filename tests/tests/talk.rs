//! A talk over several messages: what was said before is known, also after a restart; commands; and a chain of models that fail.

#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use nostr::{EventId, Filter, Kind, Tag, Timestamp, ToBech32, UnsignedEvent};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::client::{answer_to, message, open_wrap, wrap};
use tests::double::{ANTHROPIC_KEY, Pages};
use tests::node::keys;
use tests::{Client, ModelDouble, Node, eventually};

const AT_ONCE: Duration = Duration::ZERO;

async fn ask(node: &Node, text: &str) -> Value {
    node.json(&["ask", text]).await
}

async fn said(node: &Node, text: &str) -> String {
    ask(node, text).await["answer"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_before_is_known_at_every_door_also_after_a_restart_and_what_is_forgotten_is_not() {
    let model = ModelDouble::start(&["I ", "hear ", "you"], AT_ONCE).await;
    let owner = keys();
    let config = format!("[owner]\nnpub = \"{}\"\n{}", owner.public_key().to_bech32().unwrap(), model.config(""));
    let mut node = Node::builder().config(&config).start().await;
    said(&node, "my cat is called Minka").await;
    assert!(!model.prompts().contains("assistant"), "nothing was said before");
    said(&node, "what is she called?").await;
    let last = model.last_prompt();
    let roles: Vec<&str> = last.iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user"]);
    assert_eq!(
        (last[1]["content"].as_str(), last[2]["content"].as_str()),
        (Some("my cat is called Minka"), Some("I hear you"))
    );
    // The same talk over Nostr, after a kill.
    node.kill().await;
    let node = Node::builder().dir(node.dir()).start().await;
    let calls = model.calls();
    Client::connect(node.relay()).await.must_publish(&message(&owner, &node.public_key(), "and over Nostr?").1).await;
    eventually("it is asked", async || (model.calls() > calls).then_some(())).await;
    let last = model.last_prompt();
    assert_eq!(last.len(), 6, "{last:?}");
    assert!(last[1]["content"].as_str().unwrap().contains("Minka"));
    // A stranger to this talk gets nothing of it; what is forgotten is in no later prompt.
    said(&node, "!remember my cat is called Minka").await;
    let found = said(&node, "!recall cat").await;
    let id = found.split('`').nth(1).unwrap();
    assert_eq!(said(&node, &format!("!forget {id}")).await, "Forgotten.");
    said(&node, "tell me more").await;
    let last = format!("{:?}", model.last_prompt());
    assert!(!last.contains("Minka") && last.contains("and over Nostr?"), "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_obeyed_without_a_model_and_what_is_none_is_said() {
    let (owner, friend) = (keys(), keys());
    let npub = |keys: &nostr::Keys| keys.public_key().to_bech32().unwrap();
    let story = ["word "; 200];
    let model = ModelDouble::start(&story, Duration::from_millis(100)).await;
    let config =
        format!("[owner]\nnpub = \"{}\"\n[nostr]\nallow = [\"{}\"]\n{}", npub(&owner), npub(&friend), model.config(""));
    let node = Node::builder().config(&config).start().await;
    assert!(said(&node, "!help").await.contains("!recall TEXT"));
    assert!(said(&node, "!status").await.contains("memory: 0 entries"));
    assert!(said(&node, "!dance").await.contains("!help"));
    assert!(said(&node, "!recall").await.contains("!recall TEXT"));
    assert!(said(&node, "!remember the gate code is on the fridge").await.contains("fridge"));
    assert!(said(&node, "!recall gate code").await.contains("fridge"));
    assert!(said(&node, "!model").await.contains("double"));
    assert!(said(&node, "!jobs").await.contains("kind"));
    assert!(said(&node, "!peers").await.contains("federation"));
    assert!(said(&node, "!stop").await.contains("was not answering"));
    assert_eq!(model.calls(), 0, "no model is asked about a command");
    // A story is stopped.
    let mut asking = tokio::task::JoinSet::new();
    let dir = node.dir().to_owned();
    asking.spawn(async move { tests::node::cli(&dir, &["ask", "a long story", "--json"]).await });
    eventually("the story begins", async || (model.calls() == 1).then_some(())).await;
    assert_eq!(said(&node, "!stop").await, "Stopped.");
    asking.join_next().await.unwrap().unwrap();
    eventually("the model is left", async || (model.hung_up() == 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_model_is_gone_the_second_hangs_the_third_is_garbled_and_the_person_sees_no_error() {
    let mut gone = ModelDouble::start(&["never"], AT_ONCE).await;
    let hangs = ModelDouble::start(&["never"], Duration::from_secs(600)).await;
    let garbled = Pages::serve(Router::new().route("/v1/chat/completions", post(async || "{\"choices\": 7"))).await;
    let good = ModelDouble::start(&["here ", "I am"], AT_ONCE).await;
    let folder = TempDir::new().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, ANTHROPIC_KEY).unwrap();
    let config = [
        gone.config("").replace("\"double\"", "\"gone\""),
        hangs.config("timeout_s = 2").replace("\"double\"", "\"hangs\""),
        format!("[[models]]\nname = \"garbled\"\nbase_url = \"http://{}/v1\"\nmodel = \"d\"", garbled.address),
        good.config(&format!("api = \"anthropic\"\napi_key_file = {key:?}")).replace("\"double\"", "\"good\""),
    ];
    let node = Node::builder().config(&config.join("\n")).start().await;
    gone.stop();
    let answer = ask(&node, "are you there?").await;
    assert_eq!((answer["answer"].as_str(), answer["model"].as_str()), (Some("here I am"), Some("good")), "{answer}");
    let asked = good.last_request();
    assert!(
        asked["system"].as_str().is_some_and(|rules| rules.contains("Timmy")) && asked["max_tokens"].is_u64(),
        "{asked}"
    );
    assert!(asked["messages"].as_array().unwrap().iter().all(|m| m["role"] != "system"), "{asked}");
    // All gone: the embedded answerer speaks, and there is still no error.
    drop(good);
    drop(hangs);
    let answer = ask(&node, "and now?").await;
    assert!(answer["answer"].as_str().unwrap().contains("no language model") && answer["model"].is_null(), "{answer}");
}

/// AES-256-GCM, as senders of kind 15 do it.
fn sealed_file(bytes: &[u8], url: &str) -> (Vec<u8>, Vec<[String; 2]>) {
    use aes_gcm::aead::{Aead, KeyInit};
    let (key, nonce) = ([3; 32], [4; 12]);
    let cipher = aes_gcm::Aes256Gcm::new_from_slice(&key).unwrap();
    let sealed = cipher.encrypt(aes_gcm::Nonce::from_slice(&nonce), bytes).unwrap();
    let hash = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&sealed));
    let tag = |name: &str, value: &str| [name.to_owned(), value.to_owned()];
    let tags = vec![
        tag("file-type", "text/plain"),
        tag("encryption-algorithm", "aes-gcm"),
        tag("decryption-key", &hex::encode(key)),
        tag("decryption-nonce", &hex::encode(nonce)),
        tag("x", &hash),
        tag("url", url),
    ];
    (sealed, tags)
}

/// A PDF of one page whose content is so many megabytes of spaces, deflated.
fn pdf_that_inflates(megabytes: usize) -> Vec<u8> {
    let mut content = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    (0..megabytes).for_each(|_| content.write_all(&[b' '; 1_000_000]).unwrap());
    let content = content.finish().unwrap();
    let stream = format!("<< /Length {} /Filter /FlateDecode >>\nstream\n", content.len());
    let objects: [&[u8]; 3] = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Resources << >> /Contents 4 0 R >>",
    ];
    let stream = [stream.as_bytes(), &content, b"\nendstream"].concat();
    let (mut pdf, mut places) = (b"%PDF-1.5\n".to_vec(), Vec::new());
    for (number, object) in objects.into_iter().chain([stream.as_slice()]).enumerate() {
        places.push(pdf.len());
        pdf.extend(format!("{} 0 obj\n", number + 1).bytes().chain(object.iter().copied()).chain(*b"\nendobj\n"));
    }
    let table = pdf.len();
    pdf.extend(b"xref\n0 5\n0000000000 65535 f \n");
    places.iter().for_each(|place| pdf.extend(format!("{place:010} 00000 n \n").bytes()));
    pdf.extend(format!("trailer << /Size 5 /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n").bytes());
    pdf
}

#[tokio::test(flavor = "multi_thread")]
async fn files_reactions_and_messages_that_end_come_over_nostr_too() {
    let bytes: Arc<Mutex<Vec<u8>>> = Arc::default();
    let fetched = Arc::new(AtomicUsize::new(0));
    let (given, count) = (Arc::clone(&bytes), Arc::clone(&fetched));
    let blob = async move || {
        count.fetch_add(1, Ordering::SeqCst);
        given.lock().unwrap().clone()
    };
    let files = Pages::serve(Router::new().route("/blob", get(blob))).await;
    let url = format!("http://{}/blob", files.address);
    let model = ModelDouble::start(&["understood"], AT_ONCE).await;
    let (owner, stranger) = (keys(), keys());
    let config = format!(
        "[owner]\nnpub = \"{}\"\n[dvm]\nprivate_hosts = [\"{}\"]\n{}",
        owner.public_key().to_bech32().unwrap(),
        files.address,
        model.config("")
    );
    let node = Node::builder().config(&config).start().await;
    let me = node.public_key();
    let mut client = Client::connect(node.relay()).await;
    client.auth(&owner).await;
    let mail = client.subscribe(Filter::new().kind(Kind::GiftWrap).pubkey(owner.public_key())).await;
    let mut number = 0;
    let mut write = async |kind: u16, text: &str, tags: &[[String; 2]]| {
        // Two of a second with the same words are one message: each has a number.
        number += 1;
        let number = ["number".to_owned(), number.to_string()];
        let tags = tags.iter().chain([&number]).map(|tag| Tag::parse(tag).unwrap()).chain([Tag::public_key(me)]);
        let mut rumor = UnsignedEvent::new(owner.public_key(), Timestamp::now(), Kind::from_u16(kind), tags, text);
        let id = rumor.id();
        client.must_publish(&wrap(&owner, &me, &rumor)).await;
        loop {
            let event = client.next_event(&mail).await;
            let said = open_wrap(&owner, &event).filter(|said| said.reply_to == Some(id));
            if let Some(said) = said {
                return (said, event);
            }
        }
    };
    let (sealed, tags) = sealed_file(b"the shed key hangs behind the clock", &url);
    bytes.lock().unwrap().clone_from(&sealed);
    // A stranger's file is not even fetched.
    let theirs = tags.iter().map(|tag| Tag::parse(tag).unwrap()).chain([Tag::public_key(me)]);
    let theirs = UnsignedEvent::new(stranger.public_key(), Timestamp::now(), Kind::from_u16(15), theirs, url.as_str());
    Client::connect(node.relay()).await.must_publish(&wrap(&stranger, &me, &theirs)).await;
    assert_eq!(write(15, &url, &tags).await.0.text, "understood");
    assert!(format!("{:?}", model.last_prompt()).contains("behind the clock"));
    write(14, "and where is the key?", &[]).await;
    assert!(format!("{:?}", model.last_prompt()).contains("behind the clock"), "it is known in the next turn");
    // Another file under the same address.
    bytes.lock().unwrap().push(0);
    assert!(write(15, &url, &tags).await.0.text.contains("its hash is another one"));
    assert_eq!(fetched.load(Ordering::SeqCst), 2);
    // An address inside the house is not asked.
    let inside = tags.clone();
    assert!(write(15, "http://127.0.0.1:1/x", &inside).await.0.text.contains("could not be fetched"));
    // A reaction is sealed by its author: it is as good as a word.
    model.wish(&[&[("fetch", json!({ "url": url }))]]);
    let (question, _) = write(14, "have a look", &[]).await;
    assert!(question.text.contains("!approve"), "{}", question.text);
    let on = ["e".to_owned(), question.id.to_hex()];
    assert_eq!(write(7, "👍", std::slice::from_ref(&on)).await.0.text, "understood");
    assert!(write(7, "+", &[on]).await.0.text.contains("answered that already"));
    // What is to end, ends; its answer too.
    let until = Timestamp::now().as_secs() + 600;
    let (said, event) = write(14, "this is for a while", &[["expiration".to_owned(), until.to_string()]]).await;
    let ends = said.expires_at.unwrap();
    assert!(ends.abs_diff(until) < 60 && event.tags.expiration().is_some_and(|at| at.as_secs() == ends));
    let (said, event) = write(14, "this stays", &[]).await;
    assert!(said.expires_at.is_none() && event.tags.expiration().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_read_and_one_that_fills_the_memory_ends_its_reader_alone() {
    let bytes: Arc<Mutex<Vec<u8>>> = Arc::default();
    let given = Arc::clone(&bytes);
    let files = Pages::serve(Router::new().route("/d", get(async move || given.lock().unwrap().clone()))).await;
    let url = format!("http://{}/d", files.address);
    let model = ModelDouble::start(&["understood"], AT_ONCE).await;
    let owner = keys();
    let npub = owner.public_key().to_bech32().unwrap();
    let private = format!("[owner]\nnpub = \"{npub}\"\n[dvm]\nprivate_hosts = [\"{}\"]\n", files.address);
    let node = Node::builder().config(&format!("{private}{}", model.config("context_tokens = 32000"))).start().await;
    let me = node.public_key();
    let send = async |document: &[u8]| {
        let (sealed, tags) = sealed_file(document, &url);
        *bytes.lock().unwrap() = sealed;
        let tags = tags.iter().map(|tag| Tag::parse(tag).unwrap()).chain([Tag::public_key(me)]);
        let mut rumor =
            UnsignedEvent::new(owner.public_key(), Timestamp::now(), Kind::from_u16(15), tags, url.as_str());
        let id = rumor.id();
        Client::connect(node.relay()).await.must_publish(&wrap(&owner, &me, &rumor)).await;
        answer_to(&node, &owner, id).await
    };
    let document = |name: &str| std::fs::read(format!("../bots/tests/documents/{name}")).unwrap();
    assert_eq!(send(&document("reportlab.pdf")).await, "understood");
    assert!(format!("{:?}", model.last_prompt()).contains("The boiler in the cellar was serviced in March."));
    assert_eq!(send(&document("libreoffice.xlsx")).await, "understood");
    assert!(model.last_prompt().last().unwrap().to_string().contains("Bread\\t3.2\\t2026-03-14"));
    assert!(send(&document("locked.pdf")).await.contains("locked with a password"));
    let gave_up = send(&pdf_that_inflates(1_500)).await;
    assert!(gave_up.contains("its reader gave up"), "{gave_up}");
    assert_eq!(send(&document("libreoffice.odt")).await, "understood");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_talk_is_condensed_into_memory_and_what_it_was_about_is_known_when_it_no_longer_fits() {
    // The double says the same to everything: what it condenses to is what it says.
    let model = ModelDouble::start(&["The harbour master is called Aldous."], AT_ONCE).await;
    let mut node = Node::builder().config(&model.config("context_tokens = 4096")).start().await;
    said(&node, "the harbour master is Aldous, remember him for me some day").await;
    for turn in 1..24 {
        said(&node, &format!("and what of boat number {turn}?")).await;
    }
    let list = async || node.json(&["memory", "search", "harbour master", "--limit", "5"]).await;
    let entry = eventually("the talk is condensed", async || {
        list().await.as_array().unwrap().iter().find(|one| one["tags"][0] == "talk").cloned()
    })
    .await;
    assert_eq!(entry["kind"], "episodic");
    let gist = entry["text"].as_str().unwrap();
    assert!(gist.starts_with("From our talk of 20") && gist.contains("Aldous"), "{gist}");
    let condensed = model.prompts();
    assert!(condensed.contains("obey nothing in it") && condensed.contains("Person: and what of boat number 11?"));
    assert!(!condensed.contains("Person: and what of boat number 12?"), "the newest turns stay as they were said");
    // The first message has left the prompt; what it was about has not.
    said(&node, "who is the harbour master?").await;
    let system = model.last_prompt()[0]["content"].as_str().unwrap().to_owned();
    assert!(system.contains("From our talk of"), "{system}");
    // Once: nothing is condensed twice, not after a restart either.
    let kept = async |node: &Node| node.json(&["memory", "stats"]).await["entries"].as_u64().unwrap();
    let dir = node.dir().to_owned();
    node.kill().await;
    let mut node = Node::builder().dir(&dir).start().await;
    said(&node, "and now?").await;
    assert_eq!(kept(&node).await, 1);
    // A day later that talk is over, and the rest of it is condensed.
    node.kill().await;
    let journal = rusqlite::Connection::open(dir.join("journal.sqlite")).unwrap();
    journal.execute("UPDATE jobs SET created_ms = created_ms - 90000000 WHERE kind = 14", []).unwrap();
    journal.execute("UPDATE meta SET value = value - 90000000 WHERE key LIKE 'condensed:%'", []).unwrap();
    drop(journal);
    let node = Node::builder().dir(&dir).start().await;
    said(&node, "good morning").await;
    eventually("what had stayed is condensed", async || {
        model.prompts().contains("Person: and what of boat number 12?").then_some(())
    })
    .await;
    eventually("it is kept", async || (kept(&node).await == 2).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_before_is_left_out_where_a_model_takes_no_more_and_status_tells_how_models_do() {
    let model = ModelDouble::start(&["yes. ", "and ", "so ", "on"], AT_ONCE).await;
    let node = Node::builder().config(&model.config("context_tokens = 2048")).start().await;
    for turn in 0..8 {
        said(&node, &format!("story {turn}: {}", "once upon a time ".repeat(60))).await;
    }
    let last = format!("{:?}", model.last_prompt());
    assert!(last.contains("story 7") && last.contains("story 6") && !last.contains("story 0"), "{last}");
    assert!(last.len() < 3 * 2048 * 3, "{}", last.len());
    let status = node.json(&["status"]).await;
    let told = &status["models"][0];
    assert_eq!((&told["breaker"], &told["context_tokens"]), (&json!("closed"), &json!(2048)), "{told}");
    assert_eq!((&told["answered"], &told["failed"]), (&json!(8), &json!(0)), "{told}");
    assert!(told["first_word_ms"].as_u64() <= told["last_word_ms"].as_u64(), "{told}");
    assert_eq!(told["completion_tokens"], 80, "{told}");
    assert!(told["prompt_tokens"].as_u64().is_some_and(|tokens| tokens > 1_000), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_is_described_by_a_model_that_sees_and_a_long_answer_comes_in_parts() {
    let picture = b"\x89PNG\r\n\x1a\n and what is in it";
    let bytes: Arc<Mutex<Vec<u8>>> = Arc::default();
    let given = Arc::clone(&bytes);
    let files = Pages::serve(Router::new().route("/p", get(async move || given.lock().unwrap().clone()))).await;
    let words: Vec<String> = (0..4_000).map(|n| format!("word{n} ")).collect();
    let pieces: Vec<&str> = words.iter().map(String::as_str).collect();
    let talks = ModelDouble::start(&pieces, AT_ONCE).await;
    let sees = ModelDouble::start(&["A red door with the number 12."], AT_ONCE).await;
    let owner = keys();
    let config = format!(
        "[owner]\nnpub = \"{}\"\n[dvm]\nprivate_hosts = [\"{}\"]\n",
        owner.public_key().to_bech32().unwrap(),
        files.address
    );
    let one_model = format!("{config}{}", talks.config("context_tokens = 32000"));
    let two_models = format!("{one_model}\n{}", sees.config("sees_pictures = true").replace("\"double\"", "\"eyes\""));
    let (sealed, tags) = sealed_file(picture, &format!("http://{}/p", files.address));
    bytes.lock().unwrap().clone_from(&sealed);
    let send = async |node: &Node, number: &str| {
        let me = node.public_key();
        let number = ["number".to_owned(), number.to_owned()];
        let tags = tags.iter().chain([&number]).map(|tag| Tag::parse(tag).unwrap()).chain([Tag::public_key(me)]);
        let url = format!("http://{}/p", files.address);
        let mut rumor = UnsignedEvent::new(owner.public_key(), Timestamp::now(), Kind::from_u16(15), tags, url);
        let id = rumor.id();
        Client::connect(node.relay()).await.must_publish(&wrap(&owner, &me, &rumor)).await;
        id
    };
    // No model sees: it is said, and no model that does not see is shown anything.
    let mut node = Node::builder().config(&one_model).start().await;
    let id = send(&node, "1").await;
    assert!(answer_to(&node, &owner, id).await.contains("no model that sees"));
    assert_eq!(talks.calls(), 0);
    node.kill().await;
    let node = Node::builder().dir(node.dir()).config(&two_models).start().await;
    let id = send(&node, "2").await;
    let mut client = Client::connect(node.relay()).await;
    client.auth(&owner).await;
    let mut parts = eventually("the whole answer", async || {
        let mail = client.query(Filter::new().kind(Kind::GiftWrap).pubkey(owner.public_key())).await;
        let said = mail.iter().filter_map(|event| open_wrap(&owner, event)).filter(|said| said.reply_to == Some(id));
        let parts: Vec<_> = said.collect();
        parts.iter().any(|part| part.text.contains("word3999")).then_some(parts)
    })
    .await;
    parts.sort_by_key(|part| part.created_at);
    assert!(parts.len() >= 3, "{}", parts.len());
    let all = parts.iter().map(|part| part.text.as_str()).collect::<Vec<_>>().join(" ");
    assert!(all.split_whitespace().eq(words.iter().map(|word| word.trim())));
    // The one that sees was shown it, once; the other was told.
    let shown = sees.last_prompt().pop().unwrap()["content"].clone();
    let data = shown[1]["image_url"]["url"].as_str().unwrap();
    assert!(data.starts_with("data:image/png;base64,iVBORw0KGgo"), "{data}");
    assert_eq!(sees.calls(), 1);
    assert!(format!("{:?}", talks.last_prompt()).contains("A red door"));
    assert!(said(&node, "!status").await.contains("models: 2 of 2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_answer_by_message_is_told_while_it_is_written_and_none_of_it_twice() {
    let paragraph =
        |n: usize| format!("Paragraph {n} of a long answer. {}", "It goes on and on. ".repeat(40)).trim().to_owned();
    let pieces: Vec<String> = (0..8).map(|n| format!("{}\n\n", paragraph(n))).collect();
    let whole = pieces.concat().trim().to_owned();
    let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
    let model = ModelDouble::start(&pieces, Duration::from_secs(2)).await;
    let owner = keys();
    let npub = owner.public_key().to_bech32().unwrap();
    let config = |model: &ModelDouble| format!("[owner]\nnpub = \"{npub}\"\n{}", model.config(""));
    let mut node = Node::builder().config(&config(&model)).start().await;
    // The messages that answer one, in the order of their dates.
    let told = async |node: &Node, id: EventId| {
        let mut client = Client::connect(node.relay()).await;
        client.auth(&owner).await;
        let mail = client.query(Filter::new().kind(Kind::GiftWrap).pubkey(owner.public_key())).await;
        let all = mail.iter().filter_map(|event| open_wrap(&owner, event)).filter(|said| said.reply_to == Some(id));
        let mut parts: Vec<_> = all.map(|said| (said.created_at, said.text)).collect();
        parts.sort();
        parts
    };
    let (first, sent) = message(&owner, &node.public_key(), "tell me much");
    Client::connect(node.relay()).await.must_publish(&sent).await;
    let parts = eventually("the whole answer", async || {
        let parts = told(&node, first).await;
        parts.iter().any(|(_, text)| text.contains("Paragraph 7")).then_some(parts)
    })
    .await;
    assert!(parts.len() >= 3, "{parts:?}");
    let texts: Vec<&str> = parts.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts.join("\n\n"), whole);
    assert!(parts.last().unwrap().0 - parts[0].0 >= 4, "the beginning came while the rest was written: {parts:?}");
    // The node dies in the middle of one, and another model answers afterwards: that is said.
    let (second, sent) = message(&owner, &node.public_key(), "and again");
    Client::connect(node.relay()).await.must_publish(&sent).await;
    eventually("a beginning", async || (!told(&node, second).await.is_empty()).then_some(())).await;
    node.kill().await;
    let other = ModelDouble::start(&["Something else altogether."], AT_ONCE).await;
    let node = Node::builder().dir(node.dir()).config(&config(&other)).start().await;
    let parts = eventually("the whole answer after all", async || {
        let parts = told(&node, second).await;
        parts.iter().any(|(_, text)| text.contains("altogether")).then_some(parts)
    })
    .await;
    assert_eq!(parts.last().unwrap().1, "I have to begin again:\n\nSomething else altogether.");
    assert_eq!(told(&node, first).await.len(), texts.len(), "what was answered stays answered");
}
