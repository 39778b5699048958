//! The tools of this node: those that every node has, and those of the configuration.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use bots::Toolbox;
use bots::model::{Secret, ToolOffer};
use bots::tools::{
    Arguments, Caller, Fetch, Grant, McpConfig, McpPlace, McpServer, Recall, Remember, Risk, Time, Tool, ToolCard,
    ToolError, WasmConfig, WasmTool,
};
use memory::Memory;
use nostr::{PublicKey, ToBech32};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Config, Mcp, Wasm};
use crate::desk::person_of;
use crate::journal::{JobRow, Journal};
use crate::sisters::Sisters;
use crate::skills::Skills;

/// Instructions that a WebAssembly tool may carry out in a second, about.
const FUEL_PER_S: u64 = 1_000_000_000;
/// Jobs that are listed.
const JOBS: u32 = 10;
/// How a job is named in a list.
const SHORT_ID: usize = 8;

/// All tools, and the servers whose health is shown.
#[derive(Default)]
pub struct Furnished {
    /// Who may have what.
    pub toolbox: Toolbox,
    /// The MCP servers.
    pub servers: Vec<Arc<McpServer>>,
    /// How things are done here; none where no folder is named.
    pub skills: Option<Skills>,
}

/// What the built-in tools work on.
pub struct Shelf {
    /// The memory, as a talk asks it.
    pub memories: Arc<dyn bots::Memories>,
    /// The memory.
    pub memory: Memory,
    /// The fetcher and the models.
    pub workshop: Arc<bots::Workshop>,
    /// Jobs.
    pub journal: Journal,
    /// The sister nodes.
    pub sisters: Option<Sisters>,
}

/// Puts the tools together and begins to reach the servers.
///
/// # Errors
/// When a WebAssembly module or a token cannot be read: the owner named it.
pub fn furnish(config: &Config, shelf: &Shelf, tracker: &TaskTracker, cancel: &CancellationToken) -> Result<Furnished> {
    let mut toolbox = Toolbox::default();
    toolbox.add(Arc::new(Time), Grant::people());
    toolbox.add(Arc::new(Recall(Arc::clone(&shelf.memories))), Grant::people());
    toolbox.add(Arc::new(Remember(Arc::clone(&shelf.memories))), Grant::people());
    toolbox.add(Arc::new(Fetch(Arc::clone(&shelf.workshop))), Grant::people());
    toolbox.add(Arc::new(Jobs(shelf.journal.clone())), Grant::owner());
    if let Some(sisters) = &shelf.sisters {
        toolbox.add(Arc::new(Peers(sisters.clone())), Grant::owner());
    }
    for wasm in &config.tools.wasm {
        toolbox.add(Arc::new(module(wasm)?), grant(&wasm.people));
    }
    let mut servers = Vec::new();
    for mcp in &config.tools.mcp {
        let server = McpServer::new(server(mcp)?);
        tracker.spawn(Arc::clone(&server).run(cancel.clone()));
        toolbox.add_source(Arc::clone(&server) as _, grant(&mcp.people));
        servers.push(server);
    }
    let skills = config.tools.skills.clone();
    let skills = skills.map(|folder| Skills::new(folder, shelf.memory.clone(), shelf.journal.clone()));
    if let Some(skills) = skills.clone() {
        tracker.spawn(skills.run(cancel.clone()));
    }
    Ok(Furnished { toolbox, servers, skills })
}

fn module(wasm: &Wasm) -> Result<WasmTool> {
    let config = WasmConfig {
        name: wasm.name.clone(),
        description: wasm.description.clone(),
        parameters: serde_json::from_str(&wasm.parameters)?,
        file: wasm.file.clone(),
        fuel: FUEL_PER_S.saturating_mul(wasm.time_s),
        memory_bytes: wasm.memory_mib << 20,
        time: Duration::from_secs(wasm.time_s),
    };
    WasmTool::load(config).with_context(|| format!("tools.wasm `{}` cannot be used", wasm.name))
}

fn server(mcp: &Mcp) -> Result<McpConfig> {
    let read = |path: &std::path::PathBuf| {
        let why = || format!("cannot read the token of tools.mcp `{}` from {}", mcp.name, path.display());
        std::fs::read_to_string(path).with_context(why)
    };
    let token = mcp.token_file.as_ref().map(read).transpose()?;
    let place = match &mcp.url {
        Some(url) => McpPlace::Http { url: url.clone(), token: token.as_deref().map(Secret::new) },
        None => McpPlace::Program { command: mcp.command.clone(), env: mcp.env.clone() },
    };
    Ok(McpConfig { name: mcp.name.clone(), place, allow: mcp.allow.clone(), safe: mcp.safe.clone() })
}

/// Whom the owner named; the configuration was checked.
fn grant(people: &[String]) -> Grant {
    let key = |one: &String| if one.starts_with('@') { Some(person_of(one)) } else { PublicKey::parse(one).ok() };
    let keys: BTreeSet<PublicKey> = people.iter().filter_map(key).collect();
    Grant { people: people.iter().any(|one| one == "people"), keys }
}

fn without_arguments(name: &str, description: &str) -> ToolCard {
    let offer = ToolOffer::new(name, description, json!({ "type": "object", "properties": {} }));
    ToolCard { offer, is_private: true, is_from_outside: false }
}

/// `jobs`: the newest jobs of this node, for its owner.
struct Jobs(Journal);

#[async_trait]
impl Tool for Jobs {
    fn card(&self) -> ToolCard {
        without_arguments("jobs", "The newest jobs of this node: id, kind and state.")
    }

    fn risk(&self, _: &Arguments, _: &Caller<'_>) -> Risk {
        Risk::None
    }

    async fn call(&self, _: &Arguments, _: &Caller<'_>) -> Result<String, ToolError> {
        newest_jobs(&self.0).await.map_err(ToolError::Failed)
    }
}

/// `peers`: the sister nodes, for the owner.
struct Peers(Sisters);

#[async_trait]
impl Tool for Peers {
    fn card(&self) -> ToolCard {
        without_arguments("peers", "The sister nodes of this node and whether they are there.")
    }

    fn risk(&self, _: &Arguments, _: &Caller<'_>) -> Risk {
        Risk::None
    }

    async fn call(&self, _: &Arguments, _: &Caller<'_>) -> Result<String, ToolError> {
        sister_nodes(&self.0).await.map_err(ToolError::Failed)
    }
}

/// The newest jobs, a line each.
///
/// # Errors
/// Why the journal does not tell, in words.
pub async fn newest_jobs(journal: &Journal) -> Result<String, String> {
    let rows = journal.jobs(JOBS).await.map_err(|error| error.to_string())?;
    let line = |row: &JobRow| {
        let id: String = row.id.to_string().chars().take(SHORT_ID).collect();
        format!("- `{id}` kind {}: {}", row.kind, row.state)
    };
    let lines: Vec<String> = rows.iter().map(line).collect();
    Ok(if lines.is_empty() { "There are no jobs yet.".to_owned() } else { lines.join("\n") })
}

/// The sister nodes, a line each.
///
/// # Errors
/// Why the federation does not tell, in words.
pub async fn sister_nodes(sisters: &Sisters) -> Result<String, String> {
    let peers = sisters.federation.peers().await.map_err(|error| error.to_string())?;
    let line = |peer: &federation::Peer| {
        let npub = peer.passport.and_then(|key| key.to_bech32().ok())?;
        let state = match peer.state {
            federation::PeerState::Member => "here",
            federation::PeerState::Lost => "away",
            federation::PeerState::Seen => "seen",
        };
        Some(format!("- {npub}: {state}"))
    };
    let lines: Vec<String> = peers.iter().filter_map(line).collect();
    Ok(if lines.is_empty() { "There are no sister nodes yet.".to_owned() } else { lines.join("\n") })
}
