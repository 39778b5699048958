//! The command line.

pub mod matrix;
pub mod memory;
pub mod peer;

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use tracing_subscriber::EnvFilter;

use self::matrix::MatrixCommand;
use self::memory::MemoryCommand;
use self::peer::PeerCommand;
use crate::commands;
use crate::config::{Config, ConfigError};
use crate::document;
use crate::home::Home;
use crate::http::NotRunning;
use crate::node::RunOptions;

/// A sovereign agent node: its own keys, its own Nostr relay, jobs (NIP-90) and messages (NIP-17).
#[derive(Debug, Parser)]
#[command(
    name = "timmy",
    version,
    max_term_width = 100,
    after_help = "Start with `timmy run`; it needs no configuration.\n\
Exit status: 0 done, 1 failed, 2 wrong usage or configuration, 3 no node runs on this data folder."
)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// Where the node keeps everything [default: the platform's data folder + /timmy]
    #[arg(long, global = true, env = "TIMMY_HOME", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The configuration [default: DIR/config.toml; a missing file means defaults]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print one JSON value on stdout and nothing else there
    #[arg(long, global = true)]
    pub json: bool,
    /// How logs are written (to stderr)
    #[arg(long, global = true, value_enum, default_value = "text", value_name = "FORM")]
    pub log_format: LogFormat,
    /// What is logged: error, warn, info, debug, or a tracing filter
    #[arg(long, global = true, env = "TIMMY_LOG", default_value = "info", value_name = "LEVEL")]
    pub log: String,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the node; the first start makes its keys
    Run {
        /// Listen here instead of node.listen; port 0 takes a free one
        #[arg(long, value_name = "IP:PORT")]
        listen: Option<SocketAddr>,
        /// Do not look for model servers on this machine (Ollama, llama.cpp, LM Studio, vLLM)
        #[arg(long)]
        no_find_models: bool,
        /// Speak for the passport although another install does (after a restore)
        #[arg(long)]
        take_over: bool,
    },
    /// Ask the few questions that matter, test each answer, write the configuration
    Init,
    /// Who this node is, with a QR code
    Id,
    /// Health in a screen: jobs, models, relays; warnings last, each with its cure
    Status,
    /// The checks of the start, run now; works without a running node too
    Doctor,
    /// Say something to the agent; the answer is streamed
    Ask {
        /// What to say
        #[arg(required = true, value_name = "TEXT")]
        text: Vec<String>,
    },
    /// Jobs of this node
    #[command(subcommand)]
    Job(JobCommand),
    /// What the agent remembers
    #[command(subcommand)]
    Memory(MemoryCommand),
    /// Sister nodes
    #[command(subcommand)]
    Peer(PeerCommand),
    /// The agent's Matrix account
    #[command(subcommand)]
    Matrix(MatrixCommand),
    /// Sign, as the owner, that a node is yours (NIP-OA); prints the line for its configuration
    Attest {
        /// The node's npub
        npub: String,
        /// Read your secret key (nsec) from this file; only you may be able to read it
        #[arg(long, value_name = "FILE")]
        owner_key_file: PathBuf,
        /// For so many days [default: for ever]
        #[arg(long)]
        days: Option<u32>,
    },
    /// Auctions between sister nodes
    #[command(subcommand)]
    Auction(AuctionCommand),
    /// Write an encrypted backup of keys, configuration, journal, memory and relay
    Backup {
        /// The file to write; it must not exist
        file: PathBuf,
        /// Read the passphrase from this file instead of asking
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
    /// Bring a backup back into an empty data folder; install and transport keys are made anew
    Restore {
        /// The backup
        file: PathBuf,
        /// Read the passphrase from this file instead of asking
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
    /// The configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Where everything is kept
    Paths,
    /// Completions for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// The manual page, with every configuration key (view: `timmy man | man -l -`)
    Man,
    /// Read one document (PDF, office) from standard input under limits; the node starts itself so
    #[command(name = document::COMMAND, hide = true)]
    ReadDocument,
}

/// Jobs of this node.
#[derive(Debug, Subcommand)]
pub enum JobCommand {
    /// Have a job done and wait for the result
    Submit {
        /// Job kind: 5000 text of a page, 5001 summary, 5050 text generation, 5302 search …
        #[arg(long)]
        kind: u16,
        /// What to work on: a text, or a URL
        #[arg(long, value_name = "TEXT")]
        input: String,
        /// A parameter, as NAME=VALUE
        #[arg(long = "param", value_name = "NAME=VALUE", value_parser = parse_param)]
        params: Vec<(String, String)>,
        /// The node that is to do it [default: this one if it can, else a sister node, found by auction]
        #[arg(long, value_name = "NPUB")]
        on: Option<String>,
        /// Do not wait; `job show ID` has the result later
        #[arg(long)]
        no_wait: bool,
    },
    /// The newest jobs
    List {
        /// How many
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// One job: what was asked, where it stands, where the answer went
    Show {
        /// Its id
        id: String,
    },
    /// Run a job's journal through the machine again and print each step
    Replay {
        /// Its id
        id: String,
    },
    /// Stop a job, and the work on it
    Cancel {
        /// Its id
        id: String,
    },
}

/// Auctions between sister nodes.
#[derive(Debug, Subcommand)]
pub enum AuctionCommand {
    /// Recompute an auction from its signed events: who won, at what price, and whether that follows
    Verify {
        /// A job of this node, or a task of a sister node
        id: String,
    },
}

/// The configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say whether the configuration is right, and if not where
    Check,
    /// Print the configuration in force, defaults included
    Show,
    /// Print every key with its default and what it means
    Reference,
}

fn parse_param(text: &str) -> Result<(String, String), String> {
    text.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).ok_or_else(|| format!("`{text}` is not NAME=VALUE"))
}

/// What a command needs.
pub(crate) struct Context {
    pub home: Home,
    pub config_file: PathBuf,
    pub config_given: bool,
    pub json: bool,
}

impl Context {
    /// Reads the configuration.
    pub(crate) fn config(&self) -> Result<Config, ConfigError> {
        Config::load(&self.config_file, self.config_given)
    }

    /// Prints what a command found: one JSON value, or text for people.
    pub(crate) fn print(&self, json: &serde_json::Value, text: impl FnOnce() -> String) -> Result<()> {
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{json}")?
        } else {
            write!(out, "{}", text())?
        }
        Ok(out.flush()?)
    }
}

/// Runs the command line and gives the process's exit status.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if matches!(cli.command, Command::ReadDocument) {
        return document::serve();
    }
    start_logging(&cli.global);
    relay::pool::choose_tls_provider();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(run(cli));
            runtime.shutdown_timeout(std::time::Duration::from_secs(1));
            result
        }
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            let mut err = std::io::stderr().lock();
            let _ = writeln!(err, "timmy: {error:#}");
            ExitCode::from(exit_status(&error))
        }
    }
}

fn exit_status(error: &anyhow::Error) -> u8 {
    if error.is::<ConfigError>() {
        2
    } else if error.is::<NotRunning>() {
        3
    } else {
        1
    }
}

/// The libraries below the memory's index tell of every file that they open. Their warnings are news, the rest only when it is asked
/// for by name.
const QUIET: &str = "lance=warn,datafusion=warn";

fn start_logging(global: &Global) {
    let asked = &global.log;
    let wanted = if asked.contains("lance") { asked.clone() } else { format!("{asked},{QUIET}") };
    let filter = EnvFilter::try_new(wanted).unwrap_or_else(|_| EnvFilter::new(format!("info,{QUIET}")));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match global.log_format {
        LogFormat::Text => builder.with_target(false).with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}

async fn run(cli: Cli) -> Result<ExitCode> {
    let home = Home::locate(cli.global.data_dir)?;
    let config_given = cli.global.config.is_some();
    let config_file = cli.global.config.unwrap_or_else(|| home.config());
    let context = Context { home, config_file, config_given, json: cli.global.json };
    match cli.command {
        Command::Run { listen, no_find_models, take_over } => {
            let options = RunOptions { listen, take_over, find_models: !no_find_models };
            Box::pin(commands::run::run(&context, options)).await?;
        }
        Command::Init => Box::pin(commands::init::init(&context)).await?,
        Command::Id => commands::identity::id(&context).await?,
        Command::Status => commands::identity::status(&context).await?,
        Command::Doctor => return Box::pin(commands::identity::doctor(&context)).await,
        Command::Ask { text } => return commands::jobs::ask(&context, &text.join(" ")).await,
        Command::Job(job) => return commands::jobs::job(&context, job).await,
        Command::Memory(memory) => return commands::memory::memory(&context, memory).await,
        Command::Peer(peer) => return commands::peers::peer(&context, peer).await,
        Command::Matrix(matrix) => Box::pin(commands::matrix::matrix(&context, matrix)).await?,
        Command::Attest { npub, owner_key_file, days } => {
            commands::identity::attest(&context, &npub, &owner_key_file, days)?
        }
        Command::Auction(auction) => return commands::auctions::auction(&context, auction).await,
        Command::Backup { file, passphrase_file } => {
            commands::files::backup(&context, &file, passphrase_file.as_deref())?
        }
        Command::Restore { file, passphrase_file } => {
            commands::files::restore(&context, &file, passphrase_file.as_deref())?
        }
        Command::Config(which) => commands::files::config(&context, &which)?,
        Command::Paths => commands::files::paths(&context)?,
        Command::Completions { shell } => commands::files::completions(shell)?,
        Command::Man => commands::files::man()?,
        // Before there is a runtime.
        Command::ReadDocument => return Ok(document::serve()),
    }
    Ok(ExitCode::SUCCESS)
}
