//! The relay beside nostr-rs-relay: what it accepts, how fast it answers, how it starts with much stored.

use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::events::{AUTHORS, Notes, SPACING_S, root, verified_per_s};
use crate::process::Process;
use crate::report::{Report, digits, p50_p99, percentile, thousands};
use crate::wire::{Wire, frame};

/// Connections, and the events each has in flight.
const LANES: usize = 8;
const WINDOW: usize = 64;
/// Shares of the events that are sent in turns, in hundredths: to one relay, then the same to the other.
const TURNS: [usize; 4] = [10, 10, 20, 60];
/// Queries of each shape, and how long they may take together.
const QUERIES: usize = 500;
const QUERIES_MAX: Duration = Duration::from_secs(5);
const RESTARTS: usize = 5;

/// A relay under test, and what it did.
struct Contender {
    name: &'static str,
    process: Process,
    rates: Vec<f64>,
}

impl Contender {
    fn new(name: &'static str, process: Process) -> Self {
        Self { name, process, rates: Vec::new() }
    }
}

/// Measures and reports.
pub fn run(report: &mut Report, binary: &Path, peer: Option<&Path>, dir: &Path, count: usize) {
    let notes = Notes::sign(count);
    let home = dir.join("relay");
    let mut relays = vec![Contender::new("timmy", Process::timmy(binary, &home, ""))];
    if let Some(peer) = peer {
        relays.push(Contender::new("nostr-rs-relay", Process::nostr_rs_relay(peer, &dir.join("peer"))));
    }
    let signatures = accepting(report, &notes, &mut relays);
    report.say(&format!(
        "Events of kind 1, {} bytes of JSON on the mean, {AUTHORS} authors; a quarter has an `e` tag. {LANES} connections × {WINDOW} \
         in flight. The relays get the same events in turns ({} % of {}); each waits until the other is done. \
         Checking signatures alone: {} events/s, two threads with `nostr`'s `Event::verify`, measured before each turn.",
        notes.mean_bytes,
        TURNS.map(|turn| turn.to_string()).join(", "),
        thousands(count as f64),
        thousands(signatures),
    ));
    querying(report, &notes, &relays);
    report.say(&format!(
        "One connection, one question at a time, {QUERIES} of each shape (fewer where they took more than {} s). Events \
         are {SPACING_S} s apart; a window is 40 s.",
        QUERIES_MAX.as_secs()
    ));
    let memory = relays[0].process.memory();
    let node = relays.swap_remove(0).process;
    drop(relays);
    node.kill();
    restarting(report, binary, &home, count);
    report.say(&format!(
        "Memory with {} events stored, right after the load: RSS {} MB, of that anonymous {} MB (the rest is the store's map, which the kernel takes back at will).",
        thousands(count as f64),
        digits(memory.rss),
        digits(memory.anonymous),
    ));
}

/// Gives each relay its share in turns; answers how many signatures alone the cores could check.
fn accepting(report: &mut Report, notes: &Notes, relays: &mut [Contender]) -> f64 {
    let count = notes.events.len();
    let mut signatures = Vec::new();
    let mut from = 0;
    for turn in TURNS {
        let to = from + count * turn / 100;
        signatures.push(verified_per_s(&notes.events[from..to.min(from + 20_000)]));
        for relay in relays.iter_mut() {
            relay.rates.push(accept(&relay.process.address, &notes.frames[from..to]));
        }
        from = to;
    }
    let alone = overall(&signatures);
    let ours = overall(&relays[0].rates);
    report.table(
        "Relay: events accepted a second, one OK each",
        &["relay", "in turns", "in all", "of signatures alone", "timmy is faster by", "goal"],
    );
    for relay in relays.iter() {
        let rate = overall(&relay.rates);
        let turns: Vec<String> = relay.rates.iter().map(|rate| thousands(*rate)).collect();
        let (times, goal) = match relay.name {
            "timmy" => (String::new(), "≥ 60 % of signatures alone"),
            _ => (format!("{} ×", digits(ours / rate)), "≥ 2 ×"),
        };
        let share = format!("{:.0} %", rate / alone * 100.0);
        report.row(&[relay.name, &turns.join(", "), &thousands(rate), &share, &times, goal]);
    }
    alone
}

/// All events over all the time, from the rates of the turns.
fn overall(rates: &[f64]) -> f64 {
    let time: f64 = TURNS.iter().zip(rates).map(|(turn, rate)| *turn as f64 / rate).sum();
    TURNS.iter().sum::<usize>() as f64 / time
}

/// Sends `frames` over several connections and waits for an OK for each; events a second.
fn accept(address: &str, frames: &[Vec<u8>]) -> f64 {
    let gate = Barrier::new(LANES + 1);
    std::thread::scope(|scope| {
        let gate = &gate;
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| {
                scope.spawn(move || {
                    let mut wire = Wire::connect(address);
                    gate.wait();
                    feed(&mut wire, frames.iter().skip(lane).step_by(LANES));
                })
            })
            .collect();
        gate.wait();
        let started = Instant::now();
        lanes.into_iter().for_each(|lane| lane.join().unwrap());
        frames.len() as f64 / started.elapsed().as_secs_f64()
    })
}

/// Keeps `WINDOW` events in flight until each has its OK.
fn feed<'a>(wire: &mut Wire, mut frames: impl Iterator<Item = &'a Vec<u8>>) {
    let mut burst: Vec<u8> = Vec::new();
    let mut in_flight = 0;
    loop {
        for frame in frames.by_ref().take(WINDOW - in_flight) {
            burst.extend(frame);
            in_flight += 1;
        }
        if in_flight == 0 {
            return;
        }
        wire.send(&burst);
        burst.clear();
        in_flight -= usize::from(is_ok(wire.next()));
        while let Some(message) = wire.arrived() {
            in_flight -= usize::from(is_ok(message));
        }
    }
}

fn is_ok(message: &str) -> bool {
    let ok = message.starts_with("[\"OK\"");
    assert!(!ok || message.contains(",true"), "{message}");
    ok
}

/// Shapes of questions: name, and the filter number `i`.
type Shape<'a> = (&'static str, Box<dyn Fn(usize) -> String + 'a>);

fn shapes(notes: &Notes) -> Vec<Shape<'_>> {
    let count = notes.events.len();
    let pick = move |i: usize| i.wrapping_mul(7_919) % count;
    vec![
        ("one id", Box::new(move |i| format!(r#"{{"ids":["{}"]}}"#, notes.events[pick(i)].id.to_hex()))),
        (
            "author + kind, limit 20",
            Box::new(|i| {
                let author = notes.authors[i % AUTHORS].public_key().to_hex();
                format!(r#"{{"authors":["{author}"],"kinds":[1],"limit":20}}"#)
            }),
        ),
        ("tag `e` (20 replies)", Box::new(move |i| format!(r##"{{"#e":["{}"],"kinds":[1]}}"##, root(pick(i) / 4)))),
        (
            "since/until (20 events)",
            Box::new(move |i| {
                let since = notes.first_s + pick(i).min(count - 21) as u64 * SPACING_S;
                format!(r#"{{"since":{since},"until":{}}}"#, since + 39)
            }),
        ),
        ("nothing matches", Box::new(|i| format!(r#"{{"authors":["{i:064x}"],"kinds":[1],"limit":20}}"#))),
    ]
}

fn querying(report: &mut Report, notes: &Notes, relays: &[Contender]) {
    let mut columns = vec!["filter"];
    columns.extend(relays.iter().map(|relay| relay.name));
    columns.push("goal");
    let title = format!("REQ → EOSE with {} events stored, p50 / p99", thousands(notes.events.len() as f64));
    report.table(&title, &columns);
    let shapes = shapes(notes);
    for (name, filter) in &shapes {
        let mut cells = vec![(*name).to_owned()];
        cells.extend(relays.iter().map(|relay| {
            let (times, found) = ask(&relay.process.address, filter);
            format!("{} ({found:.0} found)", p50_p99(&times))
        }));
        cells.push("≤ 1 ms".to_owned());
        report.row(&cells.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

/// Times each question on one connection; also the events found a question.
fn ask(address: &str, filter: &dyn Fn(usize) -> String) -> (Vec<Duration>, f64) {
    let mut wire = Wire::connect(address);
    let begun = Instant::now();
    let (mut times, mut found) = (Vec::new(), 0);
    while times.len() < QUERIES && begun.elapsed() < QUERIES_MAX {
        let number = times.len();
        let question = frame(&format!(r#"["REQ","q{number}",{}]"#, filter(number)));
        let started = Instant::now();
        wire.send(&question);
        loop {
            let message = wire.next();
            if message.starts_with("[\"EOSE\"") {
                break;
            }
            assert!(!message.starts_with("[\"CLOSED\"") && !message.starts_with("[\"NOTICE\""), "{message}");
            found += usize::from(message.starts_with("[\"EVENT\""));
        }
        times.push(started.elapsed());
        wire.send(&frame(&format!(r#"["CLOSE","q{number}"]"#)));
    }
    let each = found as f64 / times.len() as f64;
    (times, each)
}

fn restarting(report: &mut Report, binary: &Path, home: &Path, count: usize) {
    let after_kill = Process::timmy(binary, home, "");
    let killed = after_kill.start;
    after_kill.stop();
    let clean: Vec<Duration> = (0..RESTARTS)
        .map(|_| {
            let node = Process::timmy(binary, home, "");
            let time = node.start;
            node.stop();
            time
        })
        .collect();
    let stored = format!("Start with {} events stored", thousands(count as f64));
    report.table(&stored, &["what", "measured", "goal"]);
    let ms = |time: Duration| format!("{} ms", digits(time.as_secs_f64() * 1e3));
    report.row(&["after kill -9", &ms(killed), "≤ 300 ms"]);
    let p50 = format!("{} ms", digits(percentile(&clean, 0.5)));
    report.row(&[&format!("after an orderly end (p50 of {RESTARTS})"), &p50, "≤ 300 ms"]);
}
