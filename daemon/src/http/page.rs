//! The page for people who open the relay's address in a browser.

use super::Shared;

/// A plain page: who this is and how to talk with it.
pub(crate) async fn page(shared: &Shared) -> String {
    let escape =
        |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    let name = escape(&shared.identity.name);
    let about = escape(&shared.identity.about);
    let npub = escape(&shared.ready.npub);
    let kinds = shared.tools.workshop.offered_kinds();
    let kinds: Vec<String> = kinds.iter().map(u16::to_string).collect();
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{name}</title><style>body{{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem}}\
         code{{overflow-wrap:anywhere}}</style><h1>{name}</h1><p>{about}</p>\
         <p>This is a Nostr relay and an agent. Its key is <code>{npub}</code>.</p>\
         <ul><li>Send it a direct message (NIP-17) from any Nostr client.</li><li>Send it a job (NIP-90) of kind {}.</li>\
         <li>Add this address to your client's relays.</li></ul>{}</html>",
        escape(&kinds.join(", ")),
        work_done(shared).await,
    )
}

/// What requesters say about this node's work for its sisters.
async fn work_done(shared: &Shared) -> String {
    let Some(sisters) = &shared.tools.sisters else { return String::new() };
    match sisters.federation.reputation(shared.tools.speaker.node).await {
        Ok(Some(said)) => format!(
            "<p>Its sister nodes say: {} tasks done, {} promises broken, as {} of them tell.</p>",
            said.done,
            said.broken + said.unrevealed,
            said.requesters
        ),
        Ok(None) | Err(_) => String::new(),
    }
}
