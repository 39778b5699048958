//! `timmy memory page …`

use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use nips::memory::{PageName, Space};
use serde_json::{Value, json};

use super::{confirm, segment};
use crate::cli::Context;
use crate::cli::memory::{PageCommand, PageEditArgs};
use crate::http::Client;

fn path(name: &PageName, space: &Space) -> String {
    format!("/memory/pages/{}?space={space}", segment(name.as_str()))
}

pub(super) async fn page(context: &Context, client: &Client, command: PageCommand) -> Result<()> {
    match command {
        PageCommand::List { space } => {
            let query = space.map(|space| format!("?space={space}")).unwrap_or_default();
            let pages: Value = client.get(&format!("/memory/pages{query}")).await?;
            context.print(&pages, || table(&pages))
        }
        PageCommand::Show { name, space } => {
            let page: Value = client.get(&path(&name, &space)).await?;
            context.print(&page, || screen(&page))
        }
        PageCommand::Edit(args) => edit(context, client, args).await,
        PageCommand::Forget { name, space, yes } => {
            let _: Value = client.get(&path(&name, &space)).await?;
            if !yes {
                confirm(&format!("Forget the page {name} in {space} for good?"))?;
            }
            let target = format!("/memory/pages/{}/forget?space={space}", segment(name.as_str()));
            let done: Value = client.ask(&target, &json!({})).await?;
            context.print(&done, || format!("forgot the page {name}\n"))
        }
    }
}

async fn edit(context: &Context, client: &Client, args: PageEditArgs) -> Result<()> {
    let mut edits: Vec<Value> = Vec::new();
    edits.extend(args.text.map(|text| json!({ "text": text })));
    edits.extend(args.append.iter().map(|line| json!({ "append": line })));
    edits.extend(args.add.iter().map(|item| json!({ "add": item })));
    edits.extend(args.remove.iter().map(|item| json!({ "remove": item })));
    edits.extend(args.set.iter().map(|(name, value)| json!({ "set": [name, value] })));
    edits.extend(args.unset.iter().map(|name| json!({ "unset": name })));
    let target = path(&args.name, &args.space);
    if edits.is_empty() {
        let pages: Value = client.get(&format!("/memory/pages?space={}", args.space)).await?;
        let is_there = pages.as_array().into_iter().flatten().any(|p| p["name"] == args.name.as_str());
        let before = if is_there { client.get::<Value>(&target).await? } else { Value::Null };
        let before = before["text"].as_str().unwrap_or_default().to_owned();
        let after = in_editor(context, &args.name, &before)?;
        if after == before {
            bail!("nothing was changed");
        }
        edits.push(json!({ "text": after }));
    }
    let page: Value = client.ask(&target, &Value::Array(edits)).await?;
    context.print(&page, || screen(&page))
}

/// The text as it leaves `$VISUAL` or `$EDITOR`. The file lies in the data folder, which nobody else reads.
fn in_editor(context: &Context, name: &PageName, text: &str) -> Result<String> {
    let editor = ["VISUAL", "EDITOR"].into_iter().find_map(|name| std::env::var(name).ok().filter(|e| !e.is_empty()));
    let Some(editor) = editor else {
        bail!("say what to change (--text, --append, --add, --remove, --set, --unset), or set $EDITOR");
    };
    let file = context.home.dir().join(format!("page-{}-{}.md", name.as_str(), std::process::id()));
    crate::home::write_private(&file, text.as_bytes())?;
    // The words of $EDITOR are a command line: `code --wait`.
    let status = Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(&file).status();
    let after = std::fs::read_to_string(&file);
    let _ = std::fs::remove_file(&file);
    let status = status.with_context(|| format!("cannot start the editor {editor}"))?;
    if !status.success() {
        bail!("the editor ended with {status}; nothing was changed");
    }
    Ok(after.context("cannot read what the editor wrote")?.trim_end_matches('\n').to_owned())
}

fn table(pages: &Value) -> String {
    let pages = pages.as_array().cloned().unwrap_or_default();
    if pages.is_empty() {
        return "no pages yet; `timmy memory page edit NAME --text TEXT` begins one\n".to_owned();
    }
    let mut text = String::new();
    for page in pages {
        let _ = writeln!(
            text,
            "{:<24} {:<12} {} bytes of text, {} items, {} fields",
            page["name"].as_str().unwrap_or_default(),
            page["space"].as_str().unwrap_or_default(),
            page["bytes"],
            page["items"],
            page["fields"],
        );
    }
    text
}

fn screen(page: &Value) -> String {
    let mut text = String::new();
    if let Some(words) = page["text"].as_str().filter(|t| !t.is_empty()) {
        let _ = writeln!(text, "{}", words.trim_end());
    }
    for item in page["items"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let _ = writeln!(text, "- {item}");
    }
    for (name, value) in page["fields"].as_object().into_iter().flatten() {
        let _ = writeln!(text, "{name}: {}", value.as_str().unwrap_or_default());
    }
    text
}
