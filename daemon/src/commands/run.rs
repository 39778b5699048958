//! `timmy run`

use std::fmt::Write;

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Context;
use crate::node::{self, Node, RunOptions};

/// Starts the node and waits for SIGTERM or SIGINT.
pub(crate) async fn run(context: &Context, options: RunOptions) -> Result<()> {
    let config = context.config()?;
    let passphrase = super::passphrase(&context.home, &config)?;
    // Handlers stand before anything starts: a signal in the first moment is not lost.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let node = node::start(&context.home, &config, &options, passphrase.as_ref()).await?;
    context.print(&serde_json::to_value(&node.ready)?, || welcome(&node, context))?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = node.failed() => {
            node.stop().await;
            anyhow::bail!("the node stopped by itself; the log above says why");
        }
    }
    tracing::info!("stopping");
    node.stop().await;
    Ok(())
}

fn welcome(node: &Node, context: &Context) -> String {
    let ready = &node.ready;
    let kinds: Vec<String> = node.kinds.iter().map(u16::to_string).collect();
    let mut text = super::qr(&format!("nostr:{}", ready.npub));
    let _ = writeln!(text, "\n  {}\n", ready.npub);
    let _ = writeln!(text, "  relay    {}", ready.relay);
    let _ = writeln!(text, "  web      {}", ready.http);
    let _ = writeln!(text, "  data     {}", context.home.dir().display());
    let _ = writeln!(
        text,
        "  offers   {}",
        if kinds.is_empty() { "nothing".to_owned() } else { format!("NIP-90 jobs of kind {}", kinds.join(", ")) }
    );
    let _ = writeln!(text, "\nNext:");
    if let Some(claim) = &node.claim {
        let _ = writeln!(text, "  - become its owner: send it this code by direct message (NIP-17):  {claim}");
    }
    let _ = writeln!(text, "  - talk with it here:   timmy ask \"What can you do?\"");
    let _ = writeln!(text, "  - see how it is:       timmy status");
    let _ = writeln!(text, "  - set it up:           timmy init\n");
    text
}
