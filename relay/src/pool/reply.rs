//! What a relay said about an event, in three words instead of free text.

/// The outcome of one publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishReply {
    /// The relay has the event, or a newer version of it.
    Accepted,
    /// The relay said no.
    Refused {
        /// True when the same bytes will never be taken.
        permanent: bool,
        /// The relay's words.
        message: String,
    },
    /// No answer came: no connection, or none in time. The event may have been stored all the same.
    Unreachable {
        /// What happened.
        message: String,
    },
}

/// Reads an `OK` (NIP-01 "machine-readable prefix"). A refusal without a known prefix is not taken as the last word.
pub fn classify(status: bool, message: &str) -> PublishReply {
    if status {
        return PublishReply::Accepted;
    }
    let prefix = message.split_once(':').map_or("", |(prefix, _)| prefix).trim();
    match prefix {
        // Some relays say so with OK false; `replaced` means that a newer version is there.
        "duplicate" | "replaced" => PublishReply::Accepted,
        "invalid" | "blocked" | "pow" | "restricted" | "unsupported" | "mute" => {
            PublishReply::Refused { permanent: true, message: message.to_owned() }
        }
        _ => PublishReply::Refused { permanent: false, message: message.to_owned() },
    }
}

/// Why a one-shot question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// No connection, or it was lost before the end of stored events.
    #[error("cannot reach the relay: {0}")]
    Unreachable(String),
    /// The relay closed the question, with its words.
    #[error("the relay refused: {0}")]
    Closed(String),
    /// No end of stored events in time.
    #[error("the relay did not finish its answer in time")]
    TimedOut,
    /// More events than one answer may hold.
    #[error("the answer is too large")]
    TooLarge,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_decide() {
        let permanent = |message| match classify(false, message) {
            PublishReply::Refused { permanent, .. } => Some(permanent),
            PublishReply::Accepted | PublishReply::Unreachable { .. } => None,
        };
        assert_eq!(classify(true, "anything"), PublishReply::Accepted);
        for done in ["duplicate: have it", "replaced: have newer event", "duplicate:"] {
            assert_eq!(classify(false, done), PublishReply::Accepted, "{done}");
        }
        for last in ["invalid: bad", "blocked: you", "pow: 28", "restricted: members", "unsupported: kind"] {
            assert_eq!(permanent(last), Some(true), "{last}");
        }
        for again in
            ["rate-limited: slow down", "error: disk", "auth-required: who", "", "no idea", "invalid without colon"]
        {
            assert_eq!(permanent(again), Some(false), "{again}");
        }
    }
}
