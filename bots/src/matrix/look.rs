//! What `timmy doctor` asks a homeserver, without opening the stores.

use std::time::Duration;

use reqwest::{Client, StatusCode, header};

use super::Session;

/// How long a homeserver may take.
const PATIENCE: Duration = Duration::from_secs(8);

/// What a homeserver said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// It takes the session. Its clock is so many seconds ahead of ours, where it says what time it is.
    Well {
        /// Seconds; below zero when it is behind.
        ahead_s: Option<i64>,
    },
    /// It no longer knows the session.
    Revoked,
    /// It wants to be asked less often.
    Limited,
    /// It answers something else.
    Odd(u16),
    /// It does not answer.
    Away(String),
}

/// Asks the homeserver of `session` whether it knows it; `now` in Unix seconds.
pub async fn look(session: &Session, now: u64) -> Seen {
    let url = format!("{}/_matrix/client/v3/account/whoami", session.homeserver.trim_end_matches('/'));
    let Ok(client) = Client::builder().timeout(PATIENCE).build() else { return Seen::Away("no TLS".to_owned()) };
    let asked = client.get(url).bearer_auth(&session.session.tokens.access_token).send().await;
    let response = match asked {
        Ok(response) => response,
        Err(error) => return Seen::Away(error.without_url().to_string()),
    };
    match response.status() {
        StatusCode::OK => {
            let date = response.headers().get(header::DATE).and_then(|value| value.to_str().ok());
            let theirs = date.and_then(|date| httpdate::parse_http_date(date).ok());
            let theirs_s = theirs.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok()).map(|at| at.as_secs());
            let ahead = |theirs_s: u64| Some(i64::try_from(theirs_s).ok()? - i64::try_from(now).ok()?);
            Seen::Well { ahead_s: theirs_s.and_then(ahead) }
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Seen::Revoked,
        StatusCode::TOO_MANY_REQUESTS => Seen::Limited,
        other => Seen::Odd(other.as_u16()),
    }
}
