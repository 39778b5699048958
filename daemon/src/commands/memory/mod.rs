//! `timmy memory …`

mod carry;
mod pages;
mod tend;

use std::fmt::Write as _;
use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::cli::Context;
use crate::cli::memory::{AddArgs, ForgetArgs, MemoryCommand, SearchArgs};
use crate::http::Client;

/// Runs one of them.
pub(crate) async fn memory(context: &Context, command: MemoryCommand) -> Result<ExitCode> {
    let client = Client::connect(&context.home)?;
    match command {
        MemoryCommand::Add(args) => add(context, &client, &args).await?,
        MemoryCommand::Search(args) => search(context, &client, &args).await?,
        MemoryCommand::Show { id } => {
            let entry: Value = client.get(&format!("/memory/entries/{}", segment(&id))).await?;
            context.print(&entry, || details(&entry))?;
        }
        MemoryCommand::Import { from, space } => return carry::import(context, &client, &from, &space).await,
        MemoryCommand::Export { to, space } => carry::export(context, &client, to.as_deref(), space.as_ref()).await?,
        MemoryCommand::Forget(args) => forget(context, &client, &args).await?,
        MemoryCommand::Reindex => reindex(context, &client).await?,
        MemoryCommand::Stats => {
            let stats: Value = client.get("/memory/stats").await?;
            context.print(&stats, || counts(&stats))?;
        }
        MemoryCommand::Consolidate { older_than, dry_run } => {
            tend::consolidate(context, &client, older_than, dry_run).await?;
        }
        MemoryCommand::Prune { superseded_after, unused_after, dry_run } => {
            tend::prune(context, &client, (superseded_after, unused_after), dry_run).await?;
        }
        MemoryCommand::Share { space, person, revoke } => {
            let body = json!({ "space": space, "person": person, "revoke": revoke });
            let done: Value = client.ask("/memory/share", &body).await?;
            let words = if revoke { "is no longer shared with" } else { "is shared with" };
            context.print(&done, || format!("{space} {words} {}\n", done["npub"].as_str().unwrap_or_default()))?;
        }
        MemoryCommand::Page(page) => pages::page(context, &client, page).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A name as one segment of a path.
fn segment(name: &str) -> String {
    // A space is %20 in a path, not the + of a form.
    url::form_urlencoded::byte_serialize(name.trim().as_bytes()).collect::<String>().replace('+', "%20")
}

async fn add(context: &Context, client: &Client, args: &AddArgs) -> Result<()> {
    let body = json!({
        "text": args.text.join(" "),
        "space": args.space,
        "kind": args.kind,
        "tags": args.tags,
        "person": args.person,
        "importance": args.importance,
        "valid_until": args.valid_until,
        "supersedes": args.supersedes,
    });
    let added: Value = client.ask("/memory", &body).await?;
    context.print(&added, || format!("{}\n", added["id"].as_str().unwrap_or_default()))
}

async fn search(context: &Context, client: &Client, args: &SearchArgs) -> Result<()> {
    let body = json!({
        "query": args.query.join(" "),
        "limit": args.limit,
        "spaces": args.spaces,
        "kinds": args.kinds,
        "tags": args.tags,
        "author": args.author,
        "person": args.person,
        "since": args.since,
        "until": args.until,
        "explain": args.explain,
    });
    let found: Value = client.ask("/memory/search", &body).await?;
    context.print(&found, || results(&found))
}

fn day(seconds: &Value) -> String {
    let at = seconds.as_i64().and_then(|s| jiff::Timestamp::from_second(s).ok());
    at.map(|at| at.to_zoned(jiff::tz::TimeZone::system()).date().to_string()).unwrap_or_default()
}

fn results(found: &Value) -> String {
    let found = found.as_array().cloned().unwrap_or_default();
    if found.is_empty() {
        return "nothing is remembered that fits\n".to_owned();
    }
    let mut text = String::new();
    for one in found {
        let id = one["id"].as_str().unwrap_or_default();
        let tags: Vec<&str> = one["tags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let tags = if tags.is_empty() { String::new() } else { format!("  #{}", tags.join(" #")) };
        let _ = writeln!(
            text,
            "{:.2}  {}  {}  {}/{}{tags}",
            one["score"].as_f64().unwrap_or_default(),
            id.get(..8).unwrap_or(id),
            day(&one["created_at"]),
            one["space"].as_str().unwrap_or_default(),
            one["kind"].as_str().unwrap_or_default(),
        );
        for line in one["text"].as_str().unwrap_or_default().lines() {
            let _ = writeln!(text, "      {line}");
        }
        if let Some(reasons) = one.get("reasons").and_then(Value::as_object) {
            let parts = reasons.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| match v.as_f64() {
                Some(number) => format!("{k} {number:.3}"),
                None => format!("{k} {v}"),
            });
            let _ = writeln!(text, "      why: {}", parts.collect::<Vec<_>>().join(", "));
        }
    }
    text
}

fn details(entry: &Value) -> String {
    let mut text = String::new();
    for (key, value) in entry.as_object().into_iter().flatten().filter(|(key, _)| *key != "text") {
        let shown = match (key.as_str(), value) {
            (_, Value::Null) => continue,
            ("created_at" | "valid_from" | "valid_until", at) => day(at),
            (_, Value::String(word)) => word.clone(),
            (_, Value::Array(all)) if all.is_empty() => continue,
            (_, Value::Array(all)) => all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
            (_, other) => other.to_string(),
        };
        let _ = writeln!(text, "{key:<11} {shown}");
    }
    let _ = writeln!(text, "\n{}", entry["text"].as_str().unwrap_or_default());
    text
}

fn counts(stats: &Value) -> String {
    let mut text = String::new();
    for (name, key) in [
        ("entries", "entries"),
        ("shards", "shards"),
        ("indexed", "indexed"),
        ("waiting for the index", "pending"),
        ("waiting for a vector", "unembedded"),
        ("bytes on disk", "bytes_on_disk"),
        ("embedder", "embedder"),
        ("index", "state"),
    ] {
        let shown = stats[key].as_str().map_or_else(|| stats[key].to_string(), str::to_owned);
        let _ = writeln!(text, "{name:<22} {shown}");
    }
    text
}

async fn forget(context: &Context, client: &Client, args: &ForgetArgs) -> Result<()> {
    let what = &args.what;
    let mut body = json!({ "id": what.id, "author": what.author, "person": what.person, "space": what.space });
    body["dry_run"] = true.into();
    let meant: Value = client.ask("/memory/forget", &body).await?;
    let (entries, pages) = (meant["entries"].as_u64().unwrap_or(0), meant["pages"].as_u64().unwrap_or(0));
    if !args.yes {
        let shown = match (entries, meant["first"].as_str()) {
            (1, Some(text)) => format!("“{}”", text.chars().take(200).collect::<String>()),
            _ if pages > 0 => format!("{entries} entries and {pages} pages"),
            _ => format!("{entries} entries"),
        };
        confirm(&format!("Forget {shown} for good?"))?;
    }
    body["dry_run"] = false.into();
    let done: Value = client.ask("/memory/forget", &body).await?;
    context.print(&done, || {
        let count = done["forgotten"].as_array().map_or(0, Vec::len);
        let pages = done["pages"].as_u64().unwrap_or(0);
        format!(
            "forgot {count} entries and {pages} pages; blanked {} places in the journal\n",
            done["journal"].as_u64().unwrap_or(0)
        )
    })
}

/// Asks at the terminal.
///
/// # Errors
/// When the answer is not yes, or there is nobody to ask.
fn confirm(question: &str) -> Result<()> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        bail!("this cannot be undone and there is no terminal to ask at; add --yes if it is meant");
    }
    write!(std::io::stderr(), "{question} [y/N] ")?;
    std::io::stderr().flush()?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    bail!("nothing was forgotten")
}

async fn reindex(context: &Context, client: &Client) -> Result<()> {
    let mut last = Value::Null;
    let shows = std::io::stderr().is_terminal() && !context.json;
    let told = |line: Value| {
        if let (true, Some(done)) = (shows, line["done"].as_u64()) {
            let _ = write!(std::io::stderr(), "\r{done} of {} entries", line["total"]);
        }
        last = line;
    };
    client.post("/memory/reindex", &json!({}), told).await?;
    if shows {
        let _ = writeln!(std::io::stderr());
    }
    if let Some(error) = last["error"].as_str() {
        bail!("{error}");
    }
    if last["reindexed"] != true {
        bail!("the node went away before the index was made; it goes on at its next start");
    }
    context.print(&last, || "the index is made anew\n".to_owned())
}
