//! `timmy memory consolidate` and `prune`

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::Context;
use crate::http::Client;

pub(super) async fn consolidate(context: &Context, client: &Client, older_than: u64, dry_run: bool) -> Result<()> {
    let body = json!({ "older_than_days": older_than, "dry_run": dry_run });
    let done: Value = client.ask("/memory/consolidate", &body).await?;
    context.print(&done, || {
        let groups = list(&done["groups"]);
        let mut text = String::new();
        for group in &groups {
            let count = group["originals"].as_array().map_or(0, Vec::len);
            let _ = writeln!(text, "{count} notes became one:\n      {}", group["text"].as_str().unwrap_or_default());
        }
        text + ending(groups.len(), "group", "condensed", dry_run).as_str()
    })
}

pub(super) async fn prune(context: &Context, client: &Client, days: (u64, u64), dry_run: bool) -> Result<()> {
    let body = json!({ "superseded_after_days": days.0, "unused_after_days": days.1, "dry_run": dry_run });
    let done: Value = client.ask("/memory/prune", &body).await?;
    context.print(&done, || {
        let pruned = list(&done["pruned"]);
        let mut text = String::new();
        for one in &pruned {
            let id = one["id"].as_str().unwrap_or_default();
            let reason = one["reason"].as_str().unwrap_or_default();
            let _ =
                writeln!(text, "{}  {reason}  {}", id.get(..8).unwrap_or(id), one["text"].as_str().unwrap_or_default());
        }
        text + ending(pruned.len(), "entry", "pruned", dry_run).as_str()
    })
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn ending(count: usize, what: &str, done: &str, dry_run: bool) -> String {
    let of = match (count, what) {
        (1, one) => one.to_owned(),
        (_, "entry") => "entries".to_owned(),
        (_, other) => format!("{other}s"),
    };
    let would = if dry_run { "would be " } else { "" };
    format!("{count} {of} {would}{done}\n")
}
