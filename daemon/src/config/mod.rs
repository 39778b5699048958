//! The configuration: one TOML file, every key documented in `reference.toml`, unknown keys refused with the nearest known one.

mod check;
mod unknown;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nips::identity::ExternalIdentity;
use nostr::{PublicKey, RelayUrl};
use serde::{Deserialize, Deserializer, Serialize};
use url::Url;

/// Every key with its default and what it means.
pub const REFERENCE: &str = include_str!("reference.toml");

/// What is wrong with a configuration; exit status 2.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {reason}")]
pub struct ConfigError {
    file: String,
    reason: String,
}

macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident : $kind:ty = $default:expr),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name { $($(#[$field_doc])* pub $field: $kind),* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default),* }
            }
        }
    };
}

section! {
    /// `[node]`
    Node {
        /// NIP-05 local part and name.
        name: String = "timmy".to_owned(),
        /// Words for people.
        about: String = "A sovereign agent node: send it a NIP-90 job or a NIP-17 message.".to_owned(),
        /// NIP-05 domain.
        domain: Option<String> = None,
        /// Relay and HTTP.
        #[serde(deserialize_with = "one_or_many")]
        listen: Vec<SocketAddr> = vec![SocketAddr::from(([127, 0, 0, 1], 7777))],
        /// How others reach it.
        public_url: Option<Url> = None,
        /// Addresses or networks whose X-Forwarded-For is believed.
        trusted_proxies: Vec<Network> = vec![],
        /// NIP-49 passphrase.
        passphrase_file: Option<PathBuf> = None,
        /// NIP-46 signer.
        bunker_file: Option<PathBuf> = None,
        /// NIP-39.
        identities: Vec<String> = vec![],
        /// File with the values and the voice of the agent; without it a good default.
        soul: Option<PathBuf> = None,
    }
}

section! {
    /// `[owner]`
    Owner {
        /// Obeyed over Nostr.
        npub: Option<PublicKey> = None,
        /// Obeyed over Matrix: `@alice:example.org`.
        mxid: Option<String> = None,
        /// ISO 3166 country.
        country: Option<String> = None,
        /// NIP-OA: the four elements of an `auth` tag.
        attestation: Vec<String> = vec![],
    }
}

section! {
    /// `[safety]`
    Safety {
        /// The owner hears of a crisis.
        tell_owner: bool = true,
        /// Own crisis lines.
        lines_file: Option<PathBuf> = None,
    }
}

section! {
    /// `[nostr]`
    Nostr {
        /// Outside relays.
        relays: Vec<RelayUrl> = vec![],
        /// Others who may talk to the agent.
        allow: Vec<PublicKey> = vec![],
    }
}

section! {
    /// `[relay]`
    Relay {
        /// Bytes of strangers' events.
        max_bytes: u64 = 2_000_000_000,
        /// Connections in all.
        max_connections: usize = 1024,
        /// Who must authenticate.
        auth: Auth = Auth::Dm,
        /// Who may write.
        write: Write = Write::Open,
        /// Days that strangers' events are kept.
        retention_days: u32 = 30,
    }
}

section! {
    /// `[dvm]`
    Dvm {
        /// Jobs are taken.
        enabled: bool = true,
        /// Kinds; empty = everything possible.
        kinds: Vec<u16> = vec![],
        /// At once.
        max_running: usize = 4,
        /// Waiting.
        max_queued: usize = 64,
        /// For each customer.
        jobs_per_author_per_min: u32 = 10,
        /// Hours.
        catch_up_h: u64 = 24,
        /// `host:port` that URL inputs may name although they are not public.
        private_hosts: Vec<String> = vec![],
    }
}

section! {
    /// `[embedder]`
    Embedder {
        /// Who makes vectors of texts.
        kind: EmbedderKind = EmbedderKind::Static,
        /// Folder with MiniLM's three files.
        model_dir: Option<PathBuf> = None,
        /// Up to and without `/embeddings`.
        base_url: Option<Url> = None,
        /// The server's name of the model.
        model: Option<String> = None,
        /// File with the key.
        api_key_file: Option<PathBuf> = None,
        /// The owner's word that a server elsewhere may read what is remembered.
        sees_memory: Option<bool> = None,
    }
}

section! {
    /// `[matrix]`: the account of the agent. `timmy matrix login` logs it in; with `password_file` the first start does.
    Matrix {
        /// The homeserver, `https://matrix.example.org`.
        homeserver: Option<Url> = None,
        /// The agent's own account, `@timmy:example.org`.
        user: Option<String> = None,
        /// File with its password, for the first login.
        password_file: Option<PathBuf> = None,
        /// Who may talk beside the owner (`owner.mxid`).
        allow: Vec<String> = vec![],
    }
}

section! {
    /// `[federation]`
    Federation {
        /// On or off.
        enabled: bool = true,
        /// Discovery on the LAN.
        mdns: bool = true,
        /// Multiaddresses to listen on.
        listen: Vec<String> = vec!["/ip4/0.0.0.0/udp/0/quic-v1".to_owned(), "/ip4/0.0.0.0/tcp/0".to_owned()],
        /// How long a worker has before it must say that it lives, seconds.
        lease_s: u64 = 8,
        /// How long bids are taken, ms; and revealed, the same.
        auction_ms: u64 = 400,
        /// What this node says about others' finished work goes to relays too.
        publish_labels: bool = true,
    }
}

section! {
    /// `[voice]`: a server that speaks OpenAI's `/v1/audio`.
    Speech {
        /// Up to and including `/v1`.
        base_url: Option<Url> = None,
        /// File with the key.
        api_key_file: Option<PathBuf> = None,
        /// The model that writes speech down.
        hears: Option<String> = None,
        /// The model that speaks.
        speaks: Option<String> = None,
        /// Its voice.
        voice: String = "alloy".to_owned(),
    }
}

/// `[tools]`: what a model may do in the talk of a person.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ToolsSection {
    /// Folder whose folders hold a `SKILL.md`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skills: Option<PathBuf>,
    /// MCP servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mcp: Vec<Mcp>,
    /// Tools in WebAssembly.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub wasm: Vec<Wasm>,
}

/// One of `[[tools.mcp]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mcp {
    /// Its tools carry it.
    pub name: String,
    /// A program that speaks on its standard streams, with its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Added to the program's environment, which holds nothing of the node's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Or a server over HTTP.
    pub url: Option<Url>,
    /// File with its bearer token.
    pub token_file: Option<PathBuf>,
    /// Who may use it beside the owner: npubs, MXIDs, or "people".
    #[serde(default, rename = "for")]
    pub people: Vec<String>,
    /// Tools that are taken; empty takes all.
    #[serde(default)]
    pub allow: Vec<String>,
    /// Tools that are called without asking.
    #[serde(default)]
    pub safe: Vec<String>,
}

/// One of `[[tools.wasm]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wasm {
    /// The tool's name.
    pub name: String,
    /// The module.
    pub file: PathBuf,
    /// What it does, for the model.
    pub description: String,
    /// JSON Schema of its arguments.
    #[serde(default = "any_object")]
    pub parameters: String,
    /// Who may use it beside the owner.
    #[serde(default, rename = "for")]
    pub people: Vec<String>,
    /// Memory of one call, MiB.
    #[serde(default = "wasm_memory")]
    pub memory_mib: usize,
    /// Time of one call, seconds.
    #[serde(default = "wasm_time")]
    pub time_s: u64,
}

fn any_object() -> String {
    r#"{"type":"object"}"#.to_owned()
}

const fn wasm_memory() -> usize {
    64
}

const fn wasm_time() -> u64 {
    5
}

/// `embedder.kind`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EmbedderKind {
    /// The one inside the binary.
    Static,
    /// MiniLM, read from a folder; it computes in this process.
    Minilm,
    /// Any OpenAI-compatible server.
    Openai,
}

impl Embedder {
    /// The host of a server elsewhere, which gets to read what is remembered although the owner did not say so; none for those
    /// inside this process and for this machine.
    pub fn unasked(&self) -> Option<&str> {
        let is_asked = self.kind != EmbedderKind::Openai || self.sees_memory == Some(true);
        let url = self.base_url.as_ref().filter(|url| !is_asked && !is_loopback(url))?;
        url.host_str()
    }
}

/// `relay.auth`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// Nobody.
    None,
    /// Readers of gift wraps.
    Dm,
    /// Everybody.
    All,
}

/// `relay.write`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Write {
    /// Everybody.
    Open,
    /// Those whom the owner knows.
    Members,
}

/// `models.api`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// Any OpenAI-compatible server.
    Openai,
    /// Anthropic's Messages API.
    Anthropic,
}

/// `models.serves`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Serves {
    /// Strangers too.
    Anyone,
    /// Owner and allowed people.
    People,
    /// The owner.
    Owner,
}

/// One of `[[models]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Name in `status` and answers.
    pub name: String,
    /// Protocol.
    #[serde(default = "openai")]
    pub api: Api,
    /// Up to and without `/chat/completions`.
    pub base_url: Url,
    /// The server's name of it.
    pub model: String,
    /// File with the key.
    pub api_key_file: Option<PathBuf>,
    /// Seconds for one answer.
    #[serde(default = "minute")]
    pub timeout_s: u64,
    /// For whom.
    pub serves: Option<Serves>,
    /// May be shown memory.
    pub sees_memory: Option<bool>,
    /// Sees pictures.
    #[serde(default)]
    pub sees_pictures: bool,
    /// Tokens for all strangers together.
    #[serde(default = "stranger_tokens")]
    pub stranger_tokens_per_day: u64,
    /// Tokens of prompt and answer together that it takes; its server's word for it unless set.
    pub context_tokens: Option<u64>,
}

const fn openai() -> Api {
    Api::Openai
}

const fn minute() -> u64 {
    60
}

const fn stranger_tokens() -> u64 {
    200_000
}

impl Model {
    /// One that was found on this machine. It works for the people whom the owner named; strangers get it when the owner says so.
    pub fn found(name: String, base_url: Url, model: String) -> Self {
        Self {
            name,
            api: Api::Openai,
            base_url,
            model,
            api_key_file: None,
            timeout_s: minute(),
            serves: Some(Serves::People),
            sees_memory: None,
            sees_pictures: false,
            stranger_tokens_per_day: stranger_tokens(),
            context_tokens: None,
        }
    }

    /// The server runs on this machine.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.base_url)
    }

    /// For whom: strangers only where it is keyless and on this machine, unless set.
    pub fn serves(&self) -> Serves {
        let free = self.is_loopback() && self.api_key_file.is_none();
        self.serves.unwrap_or(if free { Serves::Anyone } else { Serves::People })
    }

    /// May be shown memory: only on this machine, unless set.
    pub fn sees_memory(&self) -> bool {
        self.sees_memory.unwrap_or_else(|| self.is_loopback())
    }
}

pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// An address or a network, `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("`{text}` is neither an address nor a network such as 10.0.0.0/8");
        let (address, prefix) = text.split_once('/').map_or((text.as_str(), None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(most), |p| p.parse().map_err(|_| wrong()))?;
        if prefix > most { Err(wrong()) } else { Ok(Self { address, prefix }) }
    }
}

impl From<Network> for String {
    fn from(n: Network) -> Self {
        format!("{}/{}", n.address, n.prefix)
    }
}

impl Network {
    /// True when `ip` lies in the network; IPv4 inside IPv6 counts as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, ip.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                u32::from(net) & mask == u32::from(ip) & mask
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                u128::from(net) & mask == u128::from(ip) & mask
            }
            _ => false,
        }
    }
}

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `[node]`
    pub node: Node,
    /// `[owner]`
    pub owner: Owner,
    /// `[safety]`
    pub safety: Safety,
    /// `[nostr]`
    pub nostr: Nostr,
    /// `[relay]`
    pub relay: Relay,
    /// `[dvm]`
    pub dvm: Dvm,
    /// `[[models]]`
    pub models: Vec<Model>,
    /// `[embedder]`
    pub embedder: Embedder,
    /// `[matrix]`
    pub matrix: Matrix,
    /// `[tools]`
    pub tools: ToolsSection,
    /// `[voice]`
    pub voice: Speech,
    /// `[federation]`
    pub federation: Federation,
}

impl Config {
    /// Reads `path`; a missing file means defaults when it is the default one (`required` false).
    ///
    /// # Errors
    /// Names the file, the key and the nearest known one.
    pub fn load(path: &Path, required: bool) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !required => String::new(),
            Err(e) => return Err(ConfigError { file, reason: format!("cannot be read: {e}") }),
        };
        Self::parse(&text).map_err(|reason| ConfigError { file, reason })
    }

    /// Parses and checks a configuration.
    ///
    /// # Errors
    /// In words for the person who wrote it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let table: toml::Table = text.parse().map_err(|e: toml::de::Error| e.to_string())?;
        unknown::refuse(&table)?;
        let config: Self = toml::from_str(text).map_err(|e| e.to_string())?;
        check::check(&config)?;
        Ok(config)
    }

    /// External identities, parsed; [`Config::parse`] has checked them.
    pub fn external_identities(&self) -> Vec<ExternalIdentity> {
        self.node.identities.iter().filter_map(|i| i.parse().ok()).collect()
    }

    /// Hosts of the owner's own network that URL inputs may name; [`Config::parse`] has checked them.
    pub fn private_hosts(&self) -> Vec<(String, u16)> {
        let parsed = self.dvm.private_hosts.iter().filter_map(|h| h.rsplit_once(':'));
        parsed.filter_map(|(host, port)| Some((host.to_ascii_lowercase(), port.parse().ok()?))).collect()
    }

    /// The API key of `model`.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn api_key(model: &Model) -> Result<Option<String>> {
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the key of model `{}` from {}", model.name, path.display()))
        };
        Ok(model.api_key_file.as_ref().map(read).transpose()?.map(|k| k.trim().to_owned()))
    }

    /// The configuration in force as TOML.
    ///
    /// # Errors
    /// Never for a configuration that was parsed.
    pub fn show(&self) -> Result<String> {
        Ok(toml::to_string_pretty(self)?)
    }
}

fn one_or_many<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<SocketAddr>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        One(SocketAddr),
        Many(Vec<SocketAddr>),
    }
    Ok(match Either::deserialize(input)? {
        Either::One(address) => vec![address],
        Either::Many(addresses) => addresses,
    })
}

#[cfg(test)]
mod tests;
