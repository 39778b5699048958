//! `timmy doctor`: the checks of the start, run now, without a running node too.

mod matrix;

use anyhow::Result;
use serde::Serialize;

use crate::cli::Context;
use crate::config::{Config, ConfigError, EmbedderKind};
use crate::http::{Client, Status};
use crate::journal::{Journal, VERSION};
use crate::keys::{NodeKeys, Passport};
use crate::node::RESERVE_BYTES;

/// One check.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Check {
    pub name: &'static str,
    pub ok: bool,
    pub message: String,
    pub cure: Option<String>,
}

/// All checks.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    pub ok: bool,
    pub checks: Vec<Check>,
}

fn good(name: &'static str, message: impl Into<String>) -> Check {
    Check { name, ok: true, message: message.into(), cure: None }
}

fn bad(name: &'static str, message: impl Into<String>, cure: impl Into<String>) -> Check {
    Check { name, ok: false, message: message.into(), cure: Some(cure.into()) }
}

/// Runs every check.
pub(crate) async fn examine(context: &Context) -> Report {
    let config = context.config();
    let mut checks = vec![configuration(context, &config)];
    let config = config.unwrap_or_default();
    checks.push(folder(context));
    checks.push(disk(context));
    let opened = open_keys(context, &config);
    checks.push(keys(opened.as_ref()));
    checks.push(journal(context));
    checks.extend(memory(context, opened.as_ref().and_then(|keys| keys.as_ref().ok())).await);
    checks.extend(embedder(&config).await);
    checks.push(running(context));
    checks.extend(ports(context, &config).await);
    checks.extend(models(&config).await);
    checks.extend(tools(context, &config).await);
    checks.extend(relays(&config).await);
    checks.extend(matrix::examine(context, &config, opened.as_ref().and_then(|keys| keys.as_ref().ok())).await);
    checks.push(clock());
    Report { ok: checks.iter().all(|c| c.ok), checks }
}

fn configuration(context: &Context, config: &Result<Config, ConfigError>) -> Check {
    match config {
        Ok(_) if context.config_file.exists() => {
            good("configuration", format!("{} is right", context.config_file.display()))
        }
        Ok(_) => good("configuration", "none; the defaults are in force"),
        Err(error) => {
            bad("configuration", error.to_string(), "correct the file; `timmy config reference` shows every key")
        }
    }
}

fn folder(context: &Context) -> Check {
    let home = &context.home;
    match home.create() {
        Ok(()) => good("data folder", home.dir().display().to_string()),
        Err(error) => {
            bad("data folder", format!("{error:#}"), "choose another with --data-dir DIR, or mend its owner and mode")
        }
    }
}

fn disk(context: &Context) -> Check {
    match context.home.free_bytes() {
        Ok(free) if free > RESERVE_BYTES => good("disk", format!("{} MB free", free >> 20)),
        Ok(free) => bad(
            "disk",
            format!("{} MB free; strangers are refused below {} MB", free >> 20, RESERVE_BYTES >> 20),
            "free some space",
        ),
        Err(error) => bad("disk", format!("{error:#}"), "look at the file system"),
    }
}

/// None when there are none yet.
fn open_keys(context: &Context, config: &Config) -> Option<Result<NodeKeys>> {
    if !context.home.keys().join("install").exists() {
        return None;
    }
    let passport = if config.node.bunker_file.is_some() { Passport::Remote } else { Passport::File };
    let passphrase = crate::commands::passphrase(&context.home, config);
    Some(passphrase.and_then(|p| NodeKeys::peek(&context.home, passport, p.as_ref())))
}

fn keys(opened: Option<&Result<NodeKeys>>) -> Check {
    match opened {
        None => good("keys", "none yet; the first start makes them"),
        Some(Ok(_)) => good("keys", "they open"),
        Some(Err(error)) => {
            bad("keys", format!("{error:#}"), "put the key files back from a backup: `timmy restore FILE`")
        }
    }
}

/// The truth is looked at in its file; the index is asked of the node that runs, and made again by the next one if it is damaged.
async fn memory(context: &Context, keys: Option<&NodeKeys>) -> Vec<Check> {
    let file = context.home.memory_file();
    if !file.exists() {
        return vec![good("memory", "none yet")];
    }
    let Some(keys) = keys else {
        return vec![bad("memory", "it rests under a key that does not open", "see `keys` above")];
    };
    let mut checks = vec![match memory::inspect(&file, &keys.memory) {
        Ok(found) if found.quarantined > 0 => bad(
            "memory",
            format!("{} entries; {} writers are no longer believed", found.entries, found.quarantined),
            "`timmy status` names them: stop the copied data folder",
        ),
        Ok(found) if found.is_older => {
            good("memory", format!("{} entries; the next start upgrades it, after a copy", found.entries))
        }
        Ok(found) => good("memory", format!("{} entries; it opens", found.entries)),
        Err(error) => {
            bad("memory", chain(&error), "nothing was changed; if it stays: `timmy restore FILE` into an empty folder")
        }
    }];
    checks.extend(index(context).await);
    if crate::keys::is_encrypted(&context.home.keys().join("memory")) {
        checks.push(good(
            "disk encryption",
            "the passphrase seals keys and memory; the memory's index and the relay's events are not encrypted: that is the disk's part",
        ));
    }
    checks
}

/// Only the node that runs can tell.
async fn index(context: &Context) -> Option<Check> {
    let client = Client::connect(&context.home).ok()?;
    let status: Status = client.get("/status").await.ok()?;
    let memory = status.memory;
    let words = format!("{} of {} entries, {} wait", memory.indexed, memory.entries, memory.pending);
    Some(if memory.failures == 0 {
        good("memory index", words)
    } else {
        bad(
            "memory index",
            format!("{words}; its upkeep failed {} times", memory.failures),
            "the node's log says why; `timmy memory reindex` makes it anew",
        )
    })
}

/// Only the node that runs can tell.
async fn tools(context: &Context, config: &Config) -> Vec<Check> {
    let Ok(client) = Client::connect(&context.home) else { return vec![] };
    let Ok(status) = client.get::<Status>("/status").await else { return vec![] };
    let away: Vec<Check> = status
        .warnings
        .into_iter()
        .filter(|warning| warning.code == "tools_away")
        .map(|warning| bad("tools", warning.message, warning.cure))
        .collect();
    match (away.is_empty(), config.tools.mcp.len()) {
        (_, 0) => vec![],
        (true, count) => vec![good("tools", format!("{count} MCP servers are there"))],
        (false, _) => away,
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        words = format!("{words}: {deeper}");
        cause = deeper.source();
    }
    words
}

async fn embedder(config: &Config) -> Vec<Check> {
    let cure = match config.embedder.kind {
        EmbedderKind::Static => return vec![],
        EmbedderKind::Minilm => "put MiniLM's files into embedder.model_dir again, or set kind = \"static\"",
        EmbedderKind::Openai => "start its server, or correct [embedder]",
    };
    let embedder = match crate::embedder::open(&config.embedder) {
        Ok(embedder) => embedder,
        Err(error) => return vec![bad("embedder", format!("{error:#}"), "correct [embedder]")],
    };
    let mut checks = vec![match embedder.embed(&["hello".to_owned()]).await {
        Ok(vectors) => good("embedder", format!("answers with vectors of {}", vectors.first().map_or(0, Vec::len))),
        Err(error) => bad("embedder", error.to_string(), cure),
    }];
    if let Some(host) = config.embedder.unasked() {
        checks.push(bad(
            "embedder",
            format!("{host} is another machine: it gets to read everything that is remembered"),
            "set embedder.sees_memory = true if this is meant, or kind = \"static\"",
        ));
    }
    checks
}

fn journal(context: &Context) -> Check {
    match Journal::version_of(&context.home.journal()) {
        None => good("journal", "none yet"),
        Some(VERSION) => good("journal", format!("schema {VERSION}")),
        Some(found) if found > VERSION => {
            bad("journal", format!("written by a newer timmy (schema {found})"), "upgrade timmy")
        }
        Some(found) => good("journal", format!("schema {found}; the next start upgrades it")),
    }
}

fn running(context: &Context) -> Check {
    match context.home.running() {
        Some(ready) => good("node", format!("runs as pid {} at {}", ready.pid, ready.http)),
        None => good("node", "not running"),
    }
}

async fn ports(context: &Context, config: &Config) -> Vec<Check> {
    if context.home.running().is_some() {
        return vec![];
    }
    let mut checks = Vec::new();
    for address in &config.node.listen {
        checks.push(match tokio::net::TcpListener::bind(address).await {
            Ok(_) => good("port", format!("{address} is free")),
            Err(error) => {
                bad("port", format!("{address}: {error}"), "stop the program that has it, or change node.listen")
            }
        });
    }
    checks
}

async fn models(config: &Config) -> Vec<Check> {
    let metrics = crate::metrics::Metrics::new();
    let mut checks = Vec::new();
    for model in &config.models {
        let link = match crate::node::link(model, &metrics) {
            Ok(link) => link,
            Err(error) => {
                checks.push(bad("model", format!("{error:#}"), "correct [[models]]"));
                continue;
            }
        };
        checks.push(match link.model.probe().await {
            Ok(window) => {
                let takes = model.context_tokens.or(window).map(|tokens| format!(", takes {tokens} tokens"));
                let takes = takes.unwrap_or_default();
                good("model", format!("`{}` answers; serves {:?}{takes}", model.name, model.serves()))
            }
            Err(error) => {
                bad("model", format!("`{}`: {error}", model.name), "start its server, or correct [[models]] base_url")
            }
        });
    }
    checks
}

async fn relays(config: &Config) -> Vec<Check> {
    let mut checks = Vec::new();
    for url in &config.nostr.relays {
        let parsed = url::Url::parse(url.as_str());
        let target =
            parsed.ok().and_then(|u| Some((u.host_str()?.to_owned(), u.port_or_known_default().unwrap_or(443))));
        let Some((host, port)) = target else { continue };
        let dial = tokio::net::TcpStream::connect((host.trim_matches(['[', ']']), port));
        checks.push(match tokio::time::timeout(std::time::Duration::from_secs(5), dial).await {
            Ok(Ok(_)) => good("relay", format!("{url} can be reached")),
            Ok(Err(error)) => {
                bad("relay", format!("{url}: {error}"), "look at the address in nostr.relays and at your network")
            }
            Err(_) => bad(
                "relay",
                format!("{url}: no answer within 5 s"),
                "look at the address in nostr.relays and at your network",
            ),
        });
    }
    checks
}

/// A clock before this release was made is certainly wrong.
fn clock() -> Check {
    const RELEASE_S: u64 = 1_780_000_000;
    if crate::journal::now_ms() / 1000 > RELEASE_S {
        good("clock", "plausible")
    } else {
        bad(
            "clock",
            "the clock stands before this release was made",
            "set the clock; events with a wrong date are refused by relays",
        )
    }
}
