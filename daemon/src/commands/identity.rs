//! `timmy id`, `status`, `doctor`

use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use nips::Attestation;
use nostr::{FromBech32, PublicKey, ToBech32};
use serde_json::json;
use zeroize::Zeroizing;

use crate::cli::Context;
use crate::doctor;
use crate::http::{Client, Status};
use crate::journal::now_ms;
use crate::keys::{NodeKeys, Passport};

/// Who this node is.
pub(crate) async fn id(context: &Context) -> Result<()> {
    let config = context.config()?;
    let nip05 = config.node.domain.as_ref().map(|domain| format!("{}@{domain}", config.node.name));
    let (npub, pubkey, peer_id) = match context.home.running() {
        Some(ready) => (ready.npub, ready.pubkey, ready.peer_id),
        None => {
            let passport = if config.node.bunker_file.is_some() { Passport::Remote } else { Passport::File };
            let passphrase = super::passphrase(&context.home, &config)?;
            let keys = NodeKeys::peek(&context.home, passport, passphrase.as_ref())?;
            let Some(key) = keys.passport.as_ref().map(nostr::Keys::public_key) else {
                anyhow::bail!("the passport lives in a remote signer; start the node (`timmy run`) to ask it");
            };
            (key.to_bech32()?, key.to_hex(), keys.peer_id())
        }
    };
    let value = json!({ "npub": npub, "pubkey": pubkey, "peer_id": peer_id, "nip05": nip05 });
    context.print(&value, || {
        let nip05 = nip05.clone().unwrap_or_else(|| "not claimed (node.domain)".to_owned());
        format!(
            "{}\n  npub     {npub}\n  hex      {pubkey}\n  peer id  {peer_id}\n  nip-05   {nip05}\n",
            super::qr(&format!("nostr:{npub}"))
        )
    })
}

/// The owner says that a node is theirs.
pub(crate) fn attest(context: &Context, npub: &str, key_file: &Path, days: Option<u32>) -> Result<()> {
    let node = PublicKey::from_bech32(npub).or_else(|_| PublicKey::from_hex(npub));
    let node = node.with_context(|| format!("`{npub}` is no npub; `timmy id` shows it"))?;
    let mode = std::fs::metadata(key_file)
        .with_context(|| format!("cannot read {}", key_file.display()))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        anyhow::bail!("{} can be read by others: chmod 600 it first", key_file.display());
    }
    let text = Zeroizing::new(
        std::fs::read_to_string(key_file).with_context(|| format!("cannot read {}", key_file.display()))?,
    );
    let owner = nostr::Keys::parse(text.trim())
        .with_context(|| format!("{} holds no secret key (nsec1…)", key_file.display()))?;
    let until = days.map(|days| now_ms() / 1000 + u64::from(days) * 24 * 3600);
    let conditions = until.map_or_else(|| "kind=0".to_owned(), |at| format!("kind=0&created_at<{at}"));
    let made = Attestation::sign(&owner, &node, &conditions)?.tag();
    let elements = made.as_slice();
    context.print(&json!({ "attestation": elements }), || {
        let quoted: Vec<String> = elements.iter().map(|element| format!("{element:?}")).collect();
        format!("[owner]\nattestation = [{}]\n", quoted.join(", "))
    })
}

/// Health in a screen.
pub(crate) async fn status(context: &Context) -> Result<()> {
    let status: Status = Client::connect(&context.home)?.get("/status").await?;
    context.print(&serde_json::to_value(&status)?, || screen(&status))
}

fn screen(s: &Status) -> String {
    let mut text = String::new();
    let list = |items: Vec<String>, none: &str| if items.is_empty() { none.to_owned() } else { items.join(", ") };
    let _ = writeln!(text, "{}  (up {}, timmy {})", s.npub, span(s.uptime_s), s.version);
    let _ = writeln!(text, "  owner    {}", s.owner.as_deref().unwrap_or("none yet"));
    let _ = writeln!(text, "  relay    {}  {} connections, {} events taken", s.relay, s.connections, s.events_stored);
    let _ = writeln!(text, "  offers   {}", list(s.offered.iter().map(u16::to_string).collect(), "nothing"));
    let _ = writeln!(
        text,
        "  jobs     {}; {} running",
        list(s.jobs.iter().map(|(k, v)| format!("{v} {k}")).collect(), "none yet"),
        s.running
    );
    for m in &s.models {
        let state = match (m.reachable, m.breaker.as_str()) {
            (Some(false), _) => "does not answer",
            (_, "open") => "rests after failures",
            (Some(true), _) => "answers",
            (None, _) => "not asked yet",
        };
        let speed = match (m.first_word_ms, m.last_word_ms) {
            (Some(first), Some(last)) => format!(", first word after {first} ms, last after {last} ms"),
            _ => String::new(),
        };
        let _ = writeln!(
            text,
            "  model    {}: {state}{speed}; {} answers, {} failures; strangers used {} tokens today",
            m.name, m.answered, m.failed, m.stranger_tokens_today
        );
    }
    let m = &s.memory;
    let waiting = if m.pending + m.unembedded > 0 {
        format!(", {} wait for the index, {} for a vector", m.pending, m.unembedded)
    } else {
        String::new()
    };
    let _ = writeln!(
        text,
        "  memory   {} entries, {} indexed{waiting}, {:.1} MB",
        m.entries,
        m.indexed,
        m.bytes_on_disk as f64 / 1e6
    );
    if let Some(m) = &s.matrix {
        let link = if m.connected { "connected" } else { "not connected" };
        let _ =
            writeln!(text, "  matrix   {}: {link}, {} rooms", m.user.as_deref().unwrap_or("not logged in"), m.rooms);
    }
    for r in s.relays.iter().filter(|r| r.configured) {
        let rtt = r.rtt_ms.map(|ms| format!(", {ms} ms")).unwrap_or_default();
        let _ = writeln!(text, "  outside  {}: {}{rtt}, {} events", r.url, r.state, r.events);
    }
    for (relay, o) in &s.outbox {
        let _ = writeln!(
            text,
            "  outbox   {relay}: {} waiting, {} sent, {} refused, {} given up",
            o.pending, o.done, o.refused, o.expired
        );
    }
    for w in &s.warnings {
        let _ = writeln!(text, "\n{}: {} [{}]\n  cure: {}", w.severity, w.message, w.code, w.cure);
    }
    text
}

fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// The checks of the start.
pub(crate) async fn doctor(context: &Context) -> Result<ExitCode> {
    let report = Box::pin(doctor::examine(context)).await;
    context.print(&serde_json::to_value(&report)?, || {
        let mut text = String::new();
        for check in &report.checks {
            let _ = writeln!(text, "{}  {:<14} {}", if check.ok { "ok " } else { "NO " }, check.name, check.message);
            if let Some(cure) = check.cure.as_ref().filter(|_| !check.ok) {
                let _ = writeln!(text, "    {:<14} cure: {cure}", "");
            }
        }
        text
    })?;
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
