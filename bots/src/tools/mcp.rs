//! Tools of MCP servers (Model Context Protocol), by its official SDK: a program that this node starts, or a server over HTTP.
//!
//! A server is begun again with a growing wait when it ends; while it is away its tools are not offered. A program gets its own
//! small environment: nothing of the node's own is in it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::process::Stdio;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use rmcp::model::{CallToolRequestParams, CallToolResult, ClientConfig, ContentBlock};
use rmcp::service::{NotificationContext, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::child_process::TokioChildProcess;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientHandler, Peer, RoleClient, ServiceExt};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{ChildStderr, Command};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{Arguments, Caller, Risk, Tool, ToolCard, ToolError, ToolSource, wire_name};
use crate::model::{Secret, ToolOffer};

/// How long a server may take to say which tools it has.
const START_MAX: Duration = Duration::from_secs(60);
/// How often it is looked whether a server is there, and how long it may take to say so.
const LOOK: Duration = Duration::from_secs(15);
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(300);
/// The most tools taken of one server: models get worse with more.
const TOOLS_MAX: usize = 64;
/// The longest description of a tool, characters, and the longest schema, bytes.
const DESCRIPTION_MAX: usize = 1_024;
const SCHEMA_BYTES_MAX: usize = 16 * 1024;
/// What a program gets of the node's environment.
const ENVIRONMENT: [&str; 5] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"];

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum McpPlace {
    /// A program that speaks on its standard streams.
    Program {
        /// The program and its arguments; never empty.
        command: Vec<String>,
        /// What is added to its environment.
        env: BTreeMap<String, String>,
    },
    /// Streamable HTTP.
    Http {
        /// The whole address.
        url: Url,
        /// Sent as a bearer token.
        token: Option<Secret>,
    },
}

/// A server as the owner configured it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct McpConfig {
    /// The owner's name for it; the tools carry it.
    pub name: String,
    /// Where it is.
    pub place: McpPlace,
    /// Names of tools that are taken, `*` at the end for any ending; empty takes all.
    pub allow: Vec<String>,
    /// Names of tools that are called without asking, in the same way.
    pub safe: Vec<String>,
}

/// How a server is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct McpState {
    /// The owner's name for it.
    pub name: String,
    /// How many tools it offers now.
    pub tools: usize,
    /// Why it is away; none while it is there.
    pub error: Option<String>,
}

#[derive(Default)]
struct Now {
    peer: Option<Peer<RoleClient>>,
    tools: Vec<Arc<McpTool>>,
    error: Option<String>,
}

/// One server and its tools.
pub struct McpServer {
    config: McpConfig,
    now: RwLock<Now>,
}

/// What the server tells without being asked.
struct Listener(Arc<Notify>);

impl ClientHandler for Listener {
    fn get_info(&self) -> ClientConfig {
        let mut info = ClientConfig::default();
        "timmy".clone_into(&mut info.client_info.name);
        env!("CARGO_PKG_VERSION").clone_into(&mut info.client_info.version);
        info
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.0.notify_one();
    }
}

/// A server that can be talked with.
enum Started {
    Program(TokioChildProcess),
    Http(StreamableHttpClientTransportConfig),
}

type Session = RunningService<RoleClient, Listener>;

impl McpServer {
    /// A server that is not connected yet; see [`McpServer::run`].
    pub fn new(config: McpConfig) -> Arc<Self> {
        let now = Now { error: Some("it has not been reached yet".to_owned()), ..Now::default() };
        Arc::new(Self { config, now: RwLock::new(now) })
    }

    /// Keeps the server connected until `cancel`.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let mut wait = WAIT_MIN;
        while !cancel.is_cancelled() {
            let why = tokio::select! {
                () = cancel.cancelled() => break,
                ended = self.session(&mut wait) => ended,
            };
            tracing::warn!(server = self.config.name, error = why, "an MCP server is away");
            self.set(Now { error: Some(why), ..Now::default() });
            tokio::select! {
                () = cancel.cancelled() => break,
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(WAIT_MAX),
            }
        }
        self.set(Now::default());
    }

    /// How it is doing.
    pub fn state(&self) -> McpState {
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
        McpState { name: self.config.name.clone(), tools: now.tools.len(), error: now.error.clone() }
    }

    fn set(&self, now: Now) {
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// One connection from its beginning to its end; gives why it ended.
    async fn session(&self, wait: &mut Duration) -> String {
        let (started, errors) = match &self.config.place {
            McpPlace::Program { command, env } => match start(command, env) {
                Ok((program, errors)) => (Started::Program(program), errors),
                Err(why) => return why,
            },
            McpPlace::Http { url, token } => {
                let mut config = StreamableHttpClientTransportConfig::with_uri(url.as_str());
                if let Some(token) = token {
                    config = config.auth_header(token.expose());
                }
                (Started::Http(config), None)
            }
        };
        tokio::select! {
            why = self.talk(started, wait) => why,
            never = log(&self.config.name, errors) => match never {},
        }
    }

    async fn talk(&self, started: Started, wait: &mut Duration) -> String {
        let changed = Arc::new(Notify::new());
        let listener = Listener(Arc::clone(&changed));
        let begun = async {
            match started {
                Started::Program(program) => listener.serve(program).await,
                Started::Http(config) => listener.serve(StreamableHttpClientTransport::from_config(config)).await,
            }
        };
        match tokio::time::timeout(START_MAX, begun).await {
            Ok(Ok(session)) => self.keep(session, &changed, wait).await,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it did not begin within {} s", START_MAX.as_secs()),
        }
    }

    /// Follows the server's list of tools until it is away; gives why.
    async fn keep(&self, session: Session, changed: &Notify, wait: &mut Duration) -> String {
        let peer = session.peer().clone();
        let end = session.waiting();
        tokio::pin!(end);
        let mut patience = START_MAX;
        loop {
            match tokio::time::timeout(patience, peer.list_all_tools()).await {
                Ok(Ok(tools)) => {
                    self.set(Now { tools: self.taken(tools, &peer), peer: Some(peer.clone()), error: None })
                }
                Ok(Err(error)) => return format!("it does not list its tools: {error}"),
                Err(_) => return "it does not list its tools in time".to_owned(),
            }
            (*wait, patience) = (WAIT_MIN, LOOK);
            // A server over HTTP does not say when it goes.
            tokio::select! {
                () = changed.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
                _ = &mut end => return "it has ended".to_owned(),
            }
        }
    }

    /// What of a server's list is offered.
    fn taken(&self, tools: Vec<rmcp::model::Tool>, peer: &Peer<RoleClient>) -> Vec<Arc<McpTool>> {
        let fits = |tool: &rmcp::model::Tool| {
            let schema = serde_json::to_string(&tool.input_schema).map_or(usize::MAX, |text| text.len());
            schema <= SCHEMA_BYTES_MAX && (self.config.allow.is_empty() || is_named(&self.config.allow, &tool.name))
        };
        let tool = |tool: rmcp::model::Tool| {
            let said = tool.description.unwrap_or_default();
            let description: String = said.chars().take(DESCRIPTION_MAX).collect();
            let parameters = Value::Object(tool.input_schema.as_ref().clone());
            let offer = ToolOffer::new(&wire_name(&[&self.config.name, &tool.name]), &description, parameters);
            let is_safe = is_named(&self.config.safe, &tool.name);
            Arc::new(McpTool { offer, name: tool.name.into_owned(), is_safe, peer: peer.clone() })
        };
        tools.into_iter().filter(fits).take(TOOLS_MAX).map(tool).collect()
    }
}

impl ToolSource for McpServer {
    fn tools(&self) -> Vec<Arc<dyn Tool>> {
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
        let is_there = now.peer.as_ref().is_some_and(|peer| !peer.is_transport_closed());
        let tools = now.tools.iter().filter(|_| is_there);
        tools.map(|tool| Arc::clone(tool) as Arc<dyn Tool>).collect()
    }
}

fn start(
    command: &[String],
    env: &BTreeMap<String, String>,
) -> Result<(TokioChildProcess, Option<ChildStderr>), String> {
    let [program, arguments @ ..] = command else { return Err("no program is named".to_owned()) };
    let mut child = Command::new(program);
    child.args(arguments).env_clear().kill_on_drop(true);
    child.envs(ENVIRONMENT.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    child.envs(env);
    let started = TokioChildProcess::builder(child).stderr(Stdio::piped()).spawn();
    started.map_err(|error| format!("`{program}` cannot be started: {error}"))
}

/// What a program says about itself goes to the log, line by line. Never ends.
async fn log(server: &str, errors: Option<ChildStderr>) -> Infallible {
    if let Some(errors) = errors {
        let mut lines = BufReader::new(errors).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            tracing::debug!(server, line, "an MCP server says");
        }
    }
    std::future::pending().await
}

fn is_named(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => pattern == name,
    })
}

/// One tool of a server.
struct McpTool {
    offer: ToolOffer,
    name: String,
    is_safe: bool,
    peer: Peer<RoleClient>,
}

#[async_trait]
impl Tool for McpTool {
    fn card(&self) -> ToolCard {
        let offer = self.offer.clone();
        ToolCard { offer, is_private: true, is_from_outside: true }
    }

    /// What a server says of its own tools ("read only") is no reason to believe it: the owner names those that are safe.
    fn risk(&self, _: &Arguments, _: &Caller<'_>) -> Risk {
        if self.is_safe { Risk::None } else { Risk::Dangerous }
    }

    async fn call(&self, arguments: &Arguments, _: &Caller<'_>) -> Result<String, ToolError> {
        let call = CallToolRequestParams::new(self.name.clone()).with_arguments(arguments.clone());
        let result = self.peer.call_tool(call).await.map_err(|error| ToolError::Failed(error.to_string()))?;
        let text = words(&result);
        if result.is_error == Some(true) { Err(ToolError::Failed(text)) } else { Ok(text) }
    }
}

/// The words of a result. What is no text is named.
fn words(result: &CallToolResult) -> String {
    let word = |block: &ContentBlock| match block {
        ContentBlock::Text(text) => text.text.clone(),
        ContentBlock::Image(_) => "[an image]".to_owned(),
        ContentBlock::Audio(_) => "[a sound]".to_owned(),
        ContentBlock::Resource(resource) => serde_json::to_string(resource).unwrap_or_default(),
        ContentBlock::ResourceLink(link) => format!("[{}: {}]", link.name, link.uri),
        _ => "[something]".to_owned(),
    };
    let text = result.content.iter().map(word).collect::<Vec<_>>().join("\n");
    match &result.structured_content {
        Some(value) if text.is_empty() => value.to_string(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_whole_names_or_beginnings() {
        let patterns = ["read_*".to_owned(), "list".to_owned()];
        assert!(is_named(&patterns, "read_file") && is_named(&patterns, "list"));
        assert!(!is_named(&patterns, "lists") && !is_named(&patterns, "write_file") && !is_named(&[], "x"));
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_said_and_has_no_tools() {
        let place = McpPlace::Program { command: vec!["/no/such/program".into()], env: BTreeMap::new() };
        let server = McpServer::new(McpConfig { name: "x".into(), place, allow: vec![], safe: vec![] });
        let why = server.session(&mut WAIT_MIN.clone()).await;
        assert!(why.contains("/no/such/program"), "{why}");
        assert!(server.tools().is_empty());
    }
}
