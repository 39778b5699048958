//! `timmy peer …`

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use nostr::{FromBech32, PublicKey};
use serde_json::{Value, json};

use super::qr;
use crate::cli::Context;
use crate::cli::peer::PeerCommand;
use crate::http::Client;

pub(crate) async fn peer(context: &Context, command: PeerCommand) -> Result<ExitCode> {
    let client = Client::connect(&context.home)?;
    match command {
        PeerCommand::List => {
            let peers: Value = client.get("/peers").await?;
            context.print(&peers, || table(&peers))?;
        }
        PeerCommand::Invite { guest, readmit } => {
            let readmit = readmit.map(|npub| node(&npub)).transpose()?.map(|key| key.to_hex());
            let made: Value = client.ask("/peers/invite", &json!({ "guest": guest, "readmit": readmit })).await?;
            context.print(&json!({ "code": made["code"], "expires_at": made["expires_at"] }), || invitation(&made))?;
        }
        PeerCommand::Join { code } => {
            let joined: Value = client.ask("/peers/join", &json!({ "code": code })).await?;
            context.print(&joined, || {
                format!("this node belongs now, as a {}\n", joined["role"].as_str().unwrap_or("member"))
            })?;
        }
        PeerCommand::Admin { npub } => {
            let done = about(&client, "/peers/admin", &npub).await?;
            context.print(&done, || format!("{npub} may invite and remove now\n"))?;
        }
        PeerCommand::Remove { npub } => {
            let done = about(&client, "/peers/remove", &npub).await?;
            context.print(&done, || {
                format!("{npub} is out; the federation has new keys. What it knows already it keeps knowing\n")
            })?;
        }
        PeerCommand::Doctor => {
            let report: Value = client.get("/peers/doctor").await?;
            context.print(&report, || examined(&report))?;
            return Ok(if report["ok"] == true { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn about(client: &Client, path: &str, npub: &str) -> Result<Value> {
    client.ask(path, &json!({ "npub": node(npub)?.to_hex() })).await
}

/// A node's key as somebody typed it.
pub(super) fn node(npub: &str) -> Result<PublicKey> {
    PublicKey::from_bech32(npub)
        .or_else(|_| PublicKey::from_hex(npub))
        .with_context(|| format!("`{npub}` is no npub; `timmy peer list` shows them"))
}

fn invitation(made: &Value) -> String {
    let code = made["code"].as_str().unwrap_or_default();
    let grants = if made["guest"] == true {
        "a guest: it works for this federation, and gets no memory but what `timmy memory share` gives"
    } else {
        "a sibling: it shares the space `fleet` of the memory, and works for this federation"
    };
    // Upper case is the same code and makes a smaller picture.
    let picture = qr(&code.to_uppercase());
    format!(
        "{picture}\n{code}\n\nOn the other node, within ten minutes:  timmy peer join CODE\nIt makes that node {grants}.\n"
    )
}

fn table(peers: &Value) -> String {
    let Some(all) = peers.as_array().filter(|all| !all.is_empty()) else {
        return "nobody yet; `timmy peer invite` makes a code that lets a node in\n".to_owned();
    };
    let mut text = String::new();
    for peer in all {
        let name = peer["npub"].as_str().or(peer["peer_id"].as_str()).unwrap_or("?");
        let of = |key: &str| peer[key].as_str().unwrap_or("");
        let _ = writeln!(text, "{:<7} {:<8} {:<6} {name}", of("state"), of("role"), of("via"));
        let kinds: Vec<&str> = peer["abilities"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if !kinds.is_empty() {
            let _ = writeln!(text, "{:<24}does {}{}", "", kinds.join(" "), said(&peer["reputation"]));
        }
    }
    text
}

/// What requesters say of a node.
fn said(reputation: &Value) -> String {
    let of = |key: &str| reputation[key].as_u64().unwrap_or_default();
    if reputation.is_null() {
        return String::new();
    }
    format!("; did {}, broke {}, of {} requesters", of("done"), of("broken") + of("unrevealed"), of("requesters"))
}

fn examined(report: &Value) -> String {
    let mut text = String::new();
    for peer in report["peers"].as_array().into_iter().flatten() {
        let sign = if peer["ok"] == true { "ok " } else { "NO " };
        let words = peer["message"].as_str().unwrap_or_default();
        let _ = writeln!(text, "{sign} {}  {words}", peer["npub"].as_str().unwrap_or("?"));
        for (key, says) in [("lacks", "it lacks"), ("has_more", "this node lacks")] {
            for (shard, count) in peer[key].as_object().into_iter().flatten() {
                let _ = writeln!(text, "       {says} {count} of {shard}");
            }
        }
        if let Some(id) = peer["digest"]["id"].as_str() {
            let _ = writeln!(text, "       signed by it: {id} (--json shows the event)");
        }
    }
    if text.is_empty() { "this node belongs to no federation yet\n".to_owned() } else { text }
}
