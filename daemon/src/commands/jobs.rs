//! `timmy ask` and `timmy job`

use std::fmt::Write as _;
use std::io::Write;
use std::process::ExitCode;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::cli::{Context, JobCommand};
use crate::http::Client;

/// Says something to the agent; the answer is printed as it comes.
pub(crate) async fn ask(context: &Context, text: &str) -> Result<ExitCode> {
    let client = Client::connect(&context.home)?;
    let done = stream(context, &client, "/ask", &json!({ "text": text })).await?;
    if context.json {
        let answer = json!({ "answer": done["output"], "model": done["model"], "memories": done["memories"] });
        context.print(&answer, String::new)?;
    }
    Ok(exit(&done))
}

/// Streams an answer to the terminal; gives the last line.
async fn stream(context: &Context, client: &Client, path: &str, body: &Value) -> Result<Value> {
    let mut done = Value::Null;
    let mut shown = String::new();
    client
        .post(path, body, |line| {
            if let Some(text) = line["partial"].as_str() {
                show(context, &mut shown, text);
            } else {
                done = line;
            }
        })
        .await?;
    if done.is_null() {
        bail!("the node went away before the answer was complete; `timmy job list` shows what became of it");
    }
    let text = done["output"].as_str().unwrap_or_default();
    if succeeded(&done) {
        show(context, &mut shown, text);
    } else if !context.json {
        writeln!(std::io::stderr(), "timmy: the job is {}: {text}", done["state"].as_str().unwrap_or("lost"))?;
    }
    if !context.json && !shown.is_empty() {
        writeln!(std::io::stdout())?;
    }
    Ok(done)
}

/// Prints what is new since the last part; an answer that was begun anew starts on a line of its own.
fn show(context: &Context, shown: &mut String, text: &str) {
    if context.json {
        return;
    }
    let mut out = std::io::stdout().lock();
    let _ = match text.strip_prefix(shown.as_str()) {
        Some(new) => write!(out, "{new}"),
        None => write!(out, "\n{text}"),
    };
    let _ = out.flush();
    text.clone_into(shown);
}

fn succeeded(done: &Value) -> bool {
    matches!(done["state"].as_str(), Some("settled" | "delivered" | "received"))
}

fn exit(done: &Value) -> ExitCode {
    if succeeded(done) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// `timmy job …`
pub(crate) async fn job(context: &Context, command: JobCommand) -> Result<ExitCode> {
    let client = Client::connect(&context.home)?;
    match command {
        JobCommand::Submit { kind, input, params, on, no_wait } => {
            let on = on.map(|npub| super::peers::node(&npub)).transpose()?.map(|key| key.to_hex());
            let body = json!({ "kind": kind, "input": input, "params": params, "on": on, "wait": !no_wait });
            return submit(context, &client, &body, no_wait).await;
        }
        JobCommand::List { limit } => {
            let jobs: Value = client.get(&format!("/jobs?limit={limit}")).await?;
            context.print(&jobs, || table(&jobs))?;
        }
        JobCommand::Show { id } => {
            let job: Value = client.get(&format!("/jobs/{}", segment(&id))).await?;
            context.print(&job, || details(&job))?;
        }
        JobCommand::Replay { id } => {
            let run: Value = client.get(&format!("/jobs/{}/replay", segment(&id))).await?;
            context.print(&run, || steps(&run))?;
        }
        JobCommand::Cancel { id } => {
            let mut answer = Value::Null;
            client.post(&format!("/jobs/{}/cancel", segment(&id)), &json!({}), |line| answer = line).await?;
            context.print(&answer, || "cancelled\n".to_owned())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// An id as part of a path: whatever was typed stays one segment.
pub(super) fn segment(id: &str) -> String {
    url::form_urlencoded::byte_serialize(id.trim().as_bytes()).collect()
}

async fn submit(context: &Context, client: &Client, body: &Value, no_wait: bool) -> Result<ExitCode> {
    if no_wait {
        let mut answer = Value::Null;
        client.post("/jobs", body, |line| answer = line).await?;
        let id = answer["id"].as_str().unwrap_or_default().to_owned();
        context.print(&answer, || format!("{id}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let done = stream(context, client, "/jobs", body).await?;
    if context.json {
        context.print(&done, String::new)?;
    }
    Ok(exit(&done))
}

fn table(jobs: &Value) -> String {
    let jobs = jobs.as_array().cloned().unwrap_or_default();
    if jobs.is_empty() {
        return "no jobs yet\n".to_owned();
    }
    let mut text = format!("{:<64}  {:>5}  {:<10}  {:<8}  {}\n", "ID", "KIND", "STATE", "DOOR", "SINCE");
    for j in jobs {
        let since = j["created_at"]
            .as_i64()
            .and_then(|s| jiff::Timestamp::from_second(s).ok())
            .map(|t| t.to_string())
            .unwrap_or_default();
        let _ = writeln!(
            text,
            "{:<64}  {:>5}  {:<10}  {:<8}  {since}",
            j["id"].as_str().unwrap_or_default(),
            j["kind"].as_u64().unwrap_or_default(),
            j["state"].as_str().unwrap_or_default(),
            j["door"].as_str().unwrap_or_default(),
        );
    }
    text
}

fn details(job: &Value) -> String {
    let mut text = String::new();
    let known = ["id", "kind", "state", "customer", "door", "audience", "work", "executed_by", "task"];
    for key in known.into_iter().filter(|key| !job[key].is_null()) {
        let shown = job[key].as_str().map_or_else(|| job[key].to_string(), str::to_owned);
        let _ = writeln!(text, "{key:<10} {shown}");
    }
    for p in job["published"].as_array().into_iter().flatten() {
        let _ = writeln!(
            text,
            "published  kind {} to {}: {} {}",
            p["kind"],
            p["relay"],
            p["state"],
            p["message"].as_str().unwrap_or_default()
        );
    }
    if let Some(output) = job["output"].as_str() {
        let _ = writeln!(text, "\n{output}");
    }
    text
}

fn steps(run: &Value) -> String {
    let mut text = String::new();
    for step in run["steps"].as_array().into_iter().flatten() {
        let at = step["at_ms"]
            .as_i64()
            .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
            .map(|t| t.to_string())
            .unwrap_or_default();
        let effects: Vec<&str> =
            step["effects"].as_array().into_iter().flatten().filter_map(|e| e["effect"].as_str()).collect();
        let input = step["input"]["input"].as_str().unwrap_or_default();
        let state = step["state"].as_str().unwrap_or_default();
        let _ = writeln!(text, "{at}  {input:<12} → {state:<10}  {}", effects.join(", "));
    }
    let same =
        if run["same_as_journal"] == true { "the same as the journal says" } else { "NOT what the journal says" };
    let _ = writeln!(text, "ends {}, {same}", run["state"].as_str().unwrap_or_default());
    text
}
