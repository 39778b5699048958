//! What a parsed configuration must also satisfy.

use std::collections::BTreeSet;

use nips::Attestation;
use nips::identity::{ExternalIdentity, is_local_part};
use nips::job::REQUEST_KINDS;
use nostr::PublicKey;

use super::{Config, Embedder, EmbedderKind};

/// Says in words what is wrong.
pub(super) fn check(config: &Config) -> Result<(), String> {
    voice(config)?;
    node(config)?;
    federation(config)?;
    attestation(config)?;
    matrix(config)?;
    tools(config)?;
    dvm(config)?;
    embedder(config)?;
    if let Some(country) = &config.owner.country
        && !(country.len() == 2 && country.bytes().all(|b| b.is_ascii_uppercase()))
    {
        return Err(format!("owner.country: `{country}` is not a two-letter country code such as \"US\""));
    }
    for model in &config.models {
        if model.timeout_s == 0 {
            return Err(format!("models.timeout_s of `{}` must be at least 1", model.name));
        }
        if model.context_tokens.is_some_and(|tokens| tokens < 1_024) {
            return Err(format!("models.context_tokens of `{}` must be at least 1024", model.name));
        }
        if !matches!(model.base_url.scheme(), "http" | "https") {
            return Err(format!("models.base_url of `{}` must be http:// or https://", model.name));
        }
    }
    Ok(())
}

fn voice(config: &Config) -> Result<(), String> {
    let voice = &config.voice;
    let is_used = voice.hears.is_some() || voice.speaks.is_some() || voice.api_key_file.is_some();
    match &voice.base_url {
        None if is_used => {
            Err("voice.base_url: name the speech server, for example \"http://127.0.0.1:8000/v1\"".to_owned())
        }
        None => Ok(()),
        Some(url) if !matches!(url.scheme(), "http" | "https") => {
            Err("voice.base_url must be http:// or https://".to_owned())
        }
        Some(_) if voice.hears.is_none() && voice.speaks.is_none() => {
            Err("voice: name a model that hears, for example hears = \"whisper-1\", or one that speaks".to_owned())
        }
        Some(_) => Ok(()),
    }
}

fn tools(config: &Config) -> Result<(), String> {
    let tools = &config.tools;
    let names =
        tools.mcp.iter().map(|m| ("tools.mcp", &m.name)).chain(tools.wasm.iter().map(|w| ("tools.wasm", &w.name)));
    let mut seen = BTreeSet::new();
    for (section, name) in names {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
        if name.is_empty() || name.len() > 24 || !name.chars().all(is_plain) {
            return Err(format!("{section}.name: `{name}` must be 1 to 24 of a-z, 0-9, '-' and '_'"));
        }
        if !seen.insert(name) {
            return Err(format!("{section}.name: `{name}` is there twice"));
        }
    }
    for mcp in &tools.mcp {
        match (&mcp.url, mcp.command.is_empty()) {
            (None, true) | (Some(_), false) => {
                return Err(format!("tools.mcp `{}`: name either a command or a url", mcp.name));
            }
            (Some(url), true) if !matches!(url.scheme(), "http" | "https") => {
                return Err(format!("tools.mcp `{}`: url must be http:// or https://", mcp.name));
            }
            (Some(_), true) | (None, false) => {}
        }
        grantees("tools.mcp", &mcp.name, &mcp.people)?;
    }
    for wasm in &tools.wasm {
        grantees("tools.wasm", &wasm.name, &wasm.people)?;
        let is_object = serde_json::from_str::<serde_json::Value>(&wasm.parameters).is_ok_and(|v| v.is_object());
        if !is_object {
            return Err(format!("tools.wasm `{}`: parameters must be a JSON Schema, a JSON object", wasm.name));
        }
        if !(1..=1024).contains(&wasm.memory_mib) || !(1..=60).contains(&wasm.time_s) {
            return Err(format!("tools.wasm `{}`: memory_mib must be 1 to 1024 and time_s 1 to 60", wasm.name));
        }
    }
    Ok(())
}

fn grantees(section: &str, name: &str, people: &[String]) -> Result<(), String> {
    let is_known = |one: &String| {
        matches!(one.as_str(), "owner" | "people") || one.starts_with('@') || PublicKey::parse(one).is_ok()
    };
    match people.iter().find(|one| !is_known(one)) {
        Some(one) => {
            Err(format!("{section} `{name}`: for: `{one}` is neither \"people\" nor an npub nor a Matrix user id"))
        }
        None => Ok(()),
    }
}

fn federation(config: &Config) -> Result<(), String> {
    let federation = &config.federation;
    if !(1..=600).contains(&federation.lease_s) {
        return Err("federation.lease_s must be 1 to 600 seconds".to_owned());
    }
    if !(50..=10_000).contains(&federation.auction_ms) {
        return Err("federation.auction_ms must be 50 to 10000 milliseconds".to_owned());
    }
    Ok(())
}

fn matrix(config: &Config) -> Result<(), String> {
    let owner = config.owner.mxid.iter().map(|mxid| ("owner.mxid", mxid));
    let user = config.matrix.user.iter().map(|mxid| ("matrix.user", mxid));
    let allowed = config.matrix.allow.iter().map(|mxid| ("matrix.allow", mxid));
    for (key, mxid) in owner.chain(user).chain(allowed) {
        let is_one = mxid
            .strip_prefix('@')
            .and_then(|rest| rest.split_once(':'))
            .is_some_and(|(a, b)| !a.is_empty() && !b.is_empty());
        if !is_one {
            return Err(format!("{key}: `{mxid}` is no Matrix user id such as \"@alice:example.org\""));
        }
    }
    match &config.matrix.homeserver {
        Some(url) if !matches!(url.scheme(), "http" | "https") => {
            Err("matrix.homeserver must be https:// (or http:// on this machine)".to_owned())
        }
        Some(_) | None => Ok(()),
    }
}

fn attestation(config: &Config) -> Result<(), String> {
    if config.owner.attestation.is_empty() {
        return Ok(());
    }
    let attestation = Attestation::parse(&config.owner.attestation).map_err(|e| format!("owner.attestation: {e}"))?;
    match config.owner.npub {
        Some(owner) if owner != attestation.owner => {
            Err("owner.attestation is signed by somebody else than owner.npub".to_owned())
        }
        Some(_) | None => Ok(()),
    }
}

fn node(config: &Config) -> Result<(), String> {
    let node = &config.node;
    if !is_local_part(&node.name) {
        return Err(format!("node.name: `{}` may only hold a-z, 0-9, '-', '_' and '.' (NIP-05)", node.name));
    }
    if node.listen.is_empty() {
        return Err("node.listen: name at least one address, for example \"127.0.0.1:7777\"".to_owned());
    }
    if let Some(url) = &node.public_url
        && !matches!(url.scheme(), "ws" | "wss")
    {
        return Err(format!("node.public_url: `{url}` must begin with wss:// (or ws://)"));
    }
    for identity in &node.identities {
        identity.parse::<ExternalIdentity>().map_err(|e| format!("node.identities: {e}"))?;
    }
    Ok(())
}

fn dvm(config: &Config) -> Result<(), String> {
    let dvm = &config.dvm;
    if let Some(kind) = dvm.kinds.iter().find(|k| !REQUEST_KINDS.contains(k)) {
        return Err(format!("dvm.kinds: {kind} is not a job kind (5000–5999)"));
    }
    if let Some(host) =
        dvm.private_hosts.iter().find(|h| h.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()))
    {
        return Err(format!("dvm.private_hosts: `{host}` is not of the form host:port"));
    }
    if dvm.max_running == 0 || dvm.max_queued == 0 {
        return Err(
            "dvm.max_running and dvm.max_queued must be at least 1; `enabled = false` switches jobs off".to_owned()
        );
    }
    Ok(())
}

fn embedder(config: &Config) -> Result<(), String> {
    let embedder = &config.embedder;
    let of_a_server = [
        ("base_url", embedder.base_url.is_some()),
        ("model", embedder.model.is_some()),
        ("api_key_file", embedder.api_key_file.is_some()),
        ("sees_memory", embedder.sees_memory.is_some()),
    ];
    let named = of_a_server.iter().find(|(_, is_set)| *is_set).map(|(key, _)| key);
    match (embedder.kind, named) {
        (EmbedderKind::Static | EmbedderKind::Minilm, Some(key)) => Err(format!(
            "embedder.{key} is for kind = \"openai\"; the static embedder and MiniLM are inside timmy and need no server"
        )),
        (EmbedderKind::Static | EmbedderKind::Openai, _) if embedder.model_dir.is_some() => {
            Err("embedder.model_dir is for kind = \"minilm\"".to_owned())
        }
        (EmbedderKind::Static, None) => Ok(()),
        (EmbedderKind::Minilm, None) => match &embedder.model_dir {
            Some(dir) if !dir.as_os_str().is_empty() => Ok(()),
            Some(_) | None => {
                Err("embedder.model_dir: name the folder with MiniLM's files, a copy of memory/model/minilm-256 \
                                   from timmy's sources"
                    .to_owned())
            }
        },
        (EmbedderKind::Openai, _) => server(embedder),
    }
}

fn server(embedder: &Embedder) -> Result<(), String> {
    let Some(url) = &embedder.base_url else {
        return Err("embedder.base_url: name the server, for example \"http://127.0.0.1:11434/v1\"".to_owned());
    };
    if !matches!(url.scheme(), "http" | "https") {
        return Err("embedder.base_url must be http:// or https://".to_owned());
    }
    if embedder.model.as_ref().is_none_or(|model| model.trim().is_empty()) {
        return Err("embedder.model: name the server's model, for example \"nomic-embed-text\"".to_owned());
    }
    Ok(())
}
