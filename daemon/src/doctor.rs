//! `timmy doctor`: the checks of the start, run now, without a running node too.

use serde::Serialize;

use crate::cli::Context;
use crate::config::{Config, ConfigError};
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
    checks.push(keys(context, &config));
    checks.push(journal(context));
    checks.push(running(context));
    checks.extend(ports(context, &config).await);
    checks.extend(models(&config).await);
    checks.extend(relays(&config).await);
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

fn keys(context: &Context, config: &Config) -> Check {
    if !context.home.keys().join("install").exists() {
        return good("keys", "none yet; the first start makes them");
    }
    let passport = if config.node.bunker_file.is_some() { Passport::Remote } else { Passport::File };
    let opened = crate::commands::passphrase(&context.home, config)
        .and_then(|p| NodeKeys::peek(&context.home, passport, p.as_ref()));
    match opened {
        Ok(_) => good("keys", "they open"),
        Err(error) => bad("keys", format!("{error:#}"), "put the key files back from a backup: `timmy restore FILE`"),
    }
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
            Ok(()) => good("model", format!("`{}` answers; serves {:?}", model.name, model.serves())),
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
