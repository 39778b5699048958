//! `timmy auction …`

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::Value;

use super::jobs::segment;
use crate::cli::{AuctionCommand, Context};
use crate::http::Client;

pub(crate) async fn auction(context: &Context, command: AuctionCommand) -> Result<ExitCode> {
    let AuctionCommand::Verify { id } = command;
    let client = Client::connect(&context.home)?;
    let found: Value = client.get(&format!("/auctions/{}/verify", segment(&id))).await?;
    context.print(&found, || verified(&found))?;
    Ok(if found["ok"] == true { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn verified(found: &Value) -> String {
    let of = |key: &str| found[key].as_str().unwrap_or("?");
    if found["ok"] != true {
        return format!("NOT what the signed events say: {}\n", of("message"));
    }
    let mut text = format!(
        "{} events, all signed, and the award follows from them\nrequester  {}\nwinner     {}\nprice      {} msat\n",
        found["events"].as_array().map_or(0, Vec::len),
        of("requester"),
        of("winner"),
        found["price"],
    );
    for (key, words) in [("unrevealed", "bid and did not reveal"), ("left_out", "revealed, and was not counted")] {
        for who in found[key].as_array().into_iter().flatten() {
            let _ = writeln!(text, "{words}: {}", who.as_str().unwrap_or("?"));
        }
    }
    text
}
