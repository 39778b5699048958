//! `timmy init`: the few questions that matter. Each answer is tested before anything is saved; it can be run again.

use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nostr::{FromBech32, PublicKey, RelayUrl};
use toml::{Table, Value};
use url::Url;

use crate::cli::Context;
use crate::config::Config;
use crate::home::write_private;

/// How long a model server may take to say what it has.
const PROBE: Duration = Duration::from_secs(5);
/// Where model servers are looked for that speak OpenAI's protocol: Ollama, llama.cpp, LM Studio, vLLM.
const KNOWN: [&str; 4] =
    ["http://127.0.0.1:11434/v1", "http://127.0.0.1:8080/v1", "http://127.0.0.1:1234/v1", "http://127.0.0.1:8000/v1"];

/// Asks and saves.
pub(crate) async fn init(context: &Context) -> Result<()> {
    let current = context.config()?;
    let text = std::fs::read_to_string(&context.config_file).unwrap_or_default();
    let mut table: Table = text.parse().unwrap_or_default();
    let mut ask = Questions { input: std::io::stdin().lock() };
    ask.say("An empty answer keeps what stands in [brackets].\n")?;
    owner(&mut ask, &mut table, &current)?;
    relays(&mut ask, &mut table, &current)?;
    model(&mut ask, &mut table, &current).await?;
    matrix(&mut ask, &mut table, &current, context).await?;
    let text = toml::to_string_pretty(&table)?;
    let config = Config::parse(&text).map_err(|e| anyhow::anyhow!("the answers do not fit together: {e}"))?;
    if let Some(folder) = context.config_file.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    context.home.create()?;
    write_private(&context.config_file, text.as_bytes())
        .with_context(|| format!("cannot write {}", context.config_file.display()))?;
    context.print(&serde_json::to_value(&config)?, || {
        format!("wrote {}; start the node with `timmy run`\n", context.config_file.display())
    })
}

struct Questions<R> {
    input: R,
}

impl<R: BufRead> Questions<R> {
    /// Words go to stderr: stdout is for the result.
    fn say(&self, words: &str) -> Result<()> {
        Ok(std::io::stderr().write_all(words.as_bytes())?)
    }

    /// Asks until `test` takes the answer; an empty answer is none. Without a terminal a wrong answer ends it.
    fn ask<T>(&mut self, question: &str, current: &str, test: impl Fn(&str) -> Result<T>) -> Result<Option<T>> {
        loop {
            self.say(&format!("{question} [{current}]: "))?;
            let mut line = String::new();
            if self.input.read_line(&mut line)? == 0 || line.trim().is_empty() {
                return Ok(None);
            }
            match test(line.trim()) {
                Ok(value) => return Ok(Some(value)),
                Err(error) if std::io::stdin().is_terminal() => self.say(&format!("  {error:#}\n"))?,
                Err(error) => return Err(error),
            }
        }
    }
}

impl<R: BufRead> Questions<R> {
    /// Asks for something that is not to be seen; an empty answer is none.
    fn secret(&mut self, question: &str, otherwise: &str) -> Result<Option<String>> {
        let question = format!("{question} [{otherwise}]: ");
        let line = if std::io::stdin().is_terminal() {
            rpassword::prompt_password(question)?
        } else {
            self.say(&question)?;
            let mut line = String::new();
            self.input.read_line(&mut line)?;
            line.trim_end_matches(['\r', '\n']).to_owned()
        };
        Ok(Some(line).filter(|line| !line.is_empty()))
    }
}

fn section<'a>(table: &'a mut Table, name: &str) -> Result<&'a mut Table> {
    let section = table.entry(name).or_insert_with(|| Value::Table(Table::new()));
    section.as_table_mut().with_context(|| format!("`{name}` in the configuration is no section"))
}

fn owner<R: BufRead>(ask: &mut Questions<R>, table: &mut Table, current: &Config) -> Result<()> {
    let shown = current.owner.npub.and_then(|k| nostr::ToBech32::to_bech32(&k).ok());
    let test = |text: &str| match (PublicKey::from_bech32(text), text.starts_with("nsec")) {
        (Ok(_), _) => Ok(text.to_owned()),
        (_, true) => bail!("that is a secret key; never give it away. The public one begins with npub1"),
        _ => bail!("that is no npub; copy it from your Nostr client, it begins with npub1"),
    };
    let question = "Your npub (who is obeyed over Nostr)";
    if let Some(npub) = ask.ask(question, shown.as_deref().unwrap_or("none: a claim code is shown at start"), test)? {
        section(table, "owner")?.insert("npub".to_owned(), npub.into());
    }
    Ok(())
}

fn relays<R: BufRead>(ask: &mut Questions<R>, table: &mut Table, current: &Config) -> Result<()> {
    let shown: Vec<&str> = current.nostr.relays.iter().map(RelayUrl::as_str_without_trailing_slash).collect();
    let test = |text: &str| {
        let urls = text.split([',', ' ']).filter(|u| !u.is_empty());
        urls.map(|u| {
            RelayUrl::parse(u)
                .map(|_| Value::from(u))
                .with_context(|| format!("`{u}` is no relay; it begins with wss://"))
        })
        .collect::<Result<Vec<_>>>()
    };
    let shown = if shown.is_empty() { "none".to_owned() } else { shown.join(", ") };
    if let Some(urls) = ask.ask("Outside relays, separated by commas", &shown, test)? {
        section(table, "nostr")?.insert("relays".to_owned(), Value::Array(urls));
    }
    Ok(())
}

async fn model<R: BufRead>(ask: &mut Questions<R>, table: &mut Table, current: &Config) -> Result<()> {
    let mut found = None;
    for url in KNOWN {
        if let Ok(names) = names_of(url).await {
            found = Some((url, names));
            break;
        }
    }
    let shown = match (&current.models.first(), &found) {
        (Some(model), _) => model.base_url.to_string(),
        (None, Some((url, _))) => format!("none; one answers at {url}"),
        (None, None) => "none".to_owned(),
    };
    let test = |text: &str| Url::parse(text).context("that is no URL; it looks like http://127.0.0.1:11434/v1");
    let Some(url) = ask.ask("Model server (OpenAI-compatible URL)", &shown, test)? else { return Ok(()) };
    let names = names_of(url.as_str())
        .await
        .with_context(|| format!("{url} does not answer as a model server; nothing was saved"))?;
    let first = names
        .first()
        .cloned()
        .context("the server has no model; pull one first (for Ollama: `ollama pull llama3.1:8b`)")?;
    let known = |text: &str| {
        if names.iter().any(|n| n == text) { Ok(text.to_owned()) } else { bail!("it has: {}", names.join(", ")) }
    };
    let name = ask.ask("Which model", &first, known)?.unwrap_or(first);
    let mut entry = Table::new();
    entry.insert("name".to_owned(), "local".into());
    entry.insert("base_url".to_owned(), url.as_str().into());
    entry.insert("model".to_owned(), name.into());
    table.insert("models".to_owned(), Value::Array(vec![Value::Table(entry)]));
    Ok(())
}

/// Logs the agent in where it has an account: a password is tested by using it.
async fn matrix<R: BufRead>(
    ask: &mut Questions<R>,
    table: &mut Table,
    current: &Config,
    context: &Context,
) -> Result<()> {
    let shown = current.matrix.homeserver.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
    let test = |text: &str| {
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        url.context("that is no URL; it looks like https://matrix.example.org")
    };
    let question = "Matrix homeserver where the agent has an account of its own (URL)";
    let Some(url) = ask.ask(question, &shown, test)? else { return Ok(()) };
    is_homeserver(&url)
        .await
        .with_context(|| format!("{url} does not answer as a Matrix homeserver; nothing was saved"))?;
    let mxid = |text: &str| {
        let is_id = text.starts_with('@') && text.split_once(':').is_some_and(|(_, server)| !server.is_empty());
        if is_id { Ok(text.to_owned()) } else { bail!("that is no Matrix ID; it looks like @timmy:example.org") }
    };
    let known = current.matrix.user.clone();
    let user = ask.ask("The agent's account there", known.as_deref().unwrap_or("none"), mxid)?.or(known);
    let user = user.context("an agent without an account cannot talk there; nothing was saved")?;
    let owner = current.owner.mxid.as_deref().unwrap_or("none");
    if let Some(you) = ask.ask("Your own Matrix ID (who is obeyed there)", owner, mxid)? {
        section(table, "owner")?.insert("mxid".to_owned(), you.into());
    }
    let password = ask.secret("Password of the agent's account", "asked again by `timmy matrix login`")?;
    let section = section(table, "matrix")?;
    section.insert("homeserver".to_owned(), url.as_str().trim_end_matches('/').into());
    section.insert("user".to_owned(), user.clone().into());
    if let Some(password) = password {
        let (session, made) = super::matrix::log_in(context, current, (url.as_str(), &user), &password, None).await?;
        ask.say(&format!("{} is logged in as device {}.\n", session.user(), session.device()))?;
        if made {
            ask.say("A recovery key was made. Write it down, it is shown once:  timmy matrix recovery-key\n")?;
        }
    }
    Ok(())
}

async fn is_homeserver(url: &Url) -> Result<()> {
    let http = reqwest::Client::builder().timeout(PROBE).build()?;
    let at = format!("{}/_matrix/client/versions", url.as_str().trim_end_matches('/'));
    let answer: serde_json::Value = http.get(at).send().await?.error_for_status()?.json().await?;
    answer["versions"].as_array().context("the answer lists no versions").map(drop)
}

/// The models that a server has.
async fn names_of(base: &str) -> Result<Vec<String>> {
    let http = reqwest::Client::builder().no_proxy().timeout(PROBE).build()?;
    let answer: serde_json::Value =
        http.get(format!("{}/models", base.trim_end_matches('/'))).send().await?.error_for_status()?.json().await?;
    let list = answer["data"].as_array().context("the answer lists no models")?;
    Ok(list.iter().filter_map(|m| m["id"].as_str().map(str::to_owned)).collect())
}
