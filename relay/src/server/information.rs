//! The relay information document (NIP-11).

use serde_json::{Value, json};

use super::config::{AuthPolicy, ServerConfig, WritePolicy};

/// The NIPs that the relay keeps.
const NIPS: [u16; 13] = [1, 9, 11, 17, 40, 42, 45, 50, 59, 62, 65, 70, 77];

/// Writes the document.
pub(crate) fn document(config: &ServerConfig) -> Value {
    let limits = &config.limits;
    let mut document = json!({
        "name": config.name,
        "description": config.description,
        "self": config.node.to_hex(),
        "supported_nips": NIPS,
        "software": "timmy",
        "version": env!("CARGO_PKG_VERSION"),
        "limitation": {
            "max_message_length": limits.message_bytes,
            "max_subscriptions": limits.subscriptions,
            "max_filters": limits.filters,
            "max_limit": limits.limit,
            "default_limit": limits.default_limit,
            "max_subid_length": limits.subscription_id_chars,
            "max_event_tags": limits.event_tags,
            "max_content_length": limits.content_bytes,
            "max_filter_values": crate::store::MAX_FILTER_VALUES,
            "max_connections_per_address": limits.connections_per_address,
            "max_events_per_second": limits.events_per_s,
            "max_requests_per_second": limits.requests_per_s,
            "max_reconciliations": limits.reconciliations,
            "min_pow_difficulty": 0,
            "auth_required": config.auth == AuthPolicy::All,
            "payment_required": false,
            "restricted_writes": config.write == WritePolicy::Members,
            "created_at_upper_limit": limits.future_s,
        },
        "retention": [{ "time": u64::from(config.retention_days) * 86_400 }],
    });
    if let Some(fields) = document.as_object_mut() {
        if let Some(contact) = &config.contact {
            fields.insert("contact".to_owned(), json!(contact));
        }
        if let Some(owner) = &config.owner {
            fields.insert("pubkey".to_owned(), json!(owner.to_hex()));
        }
    }
    document
}
