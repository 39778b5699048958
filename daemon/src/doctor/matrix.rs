//! The checks of the Matrix account.

use bots::matrix::{Seen, Session, look};

use super::{Check, bad, good};
use crate::cli::Context;
use crate::config::Config;
use crate::http::{Client, Status};
use crate::journal::now_ms;
use crate::keys::NodeKeys;
use crate::matrix::{Files, MatrixStatus};

const NAME: &str = "matrix";
/// A clock that differs by more makes tokens and verifications fail, seconds.
const SKEW_MAX_S: u64 = 300;

/// Nothing where there is no account.
pub(super) async fn examine(context: &Context, config: &Config, keys: Option<&NodeKeys>) -> Vec<Check> {
    let wanted = config.matrix.user.is_some();
    let Some(keys) = keys else { return vec![] };
    let files = Files::new(&context.home, keys);
    let session = match files.session() {
        Ok(Some(session)) => session,
        Ok(None) if !wanted => return vec![],
        Ok(None) if config.matrix.password_file.is_some() => {
            return vec![good(NAME, "not logged in yet; the next start does")];
        }
        Ok(None) => return vec![bad(NAME, "not logged in", "`timmy matrix login`")],
        Err(error) => return vec![bad(NAME, format!("{error:#}"), "`timmy matrix login`")],
    };
    let mut checks = vec![homeserver(&session).await];
    if !files.has_store() {
        checks.push(bad(
            NAME,
            "the store is gone, and with it the device",
            "`timmy matrix login … --recovery-key-file FILE`: a new device",
        ));
    }
    if config.owner.mxid.is_none() && config.matrix.allow.is_empty() {
        checks.push(bad(NAME, "nobody may talk to the account", "set owner.mxid = \"@you:example.org\""));
    }
    if files.recovery_key().is_some() {
        checks.push(bad(
            NAME,
            "the recovery key lies here and nowhere else",
            "write it down: `timmy matrix recovery-key`",
        ));
    }
    // What only the node that runs can know.
    if let Ok(client) = Client::connect(&context.home)
        && let Ok(status) = client.get::<Status>("/status").await
    {
        checks.extend(status.matrix.iter().flat_map(running));
    }
    checks
}

async fn homeserver(session: &Session) -> Check {
    let (user, server) = (session.user(), &session.homeserver);
    match look(session, now_ms() / 1000).await {
        Seen::Well { ahead_s: Some(ahead) } if ahead.unsigned_abs() > SKEW_MAX_S => bad(
            NAME,
            format!("the homeserver's clock and this one differ by {} s", ahead.unsigned_abs()),
            "set this machine's clock (for example with chrony or systemd-timesyncd)",
        ),
        Seen::Well { .. } => good(NAME, format!("{server} knows {user} on device {}", session.device())),
        Seen::Revoked => {
            bad(NAME, format!("{server} no longer knows the session of {user}"), "log in anew: `timmy matrix login`")
        }
        Seen::Limited => bad(
            NAME,
            format!("{server} limits how often it is asked"),
            "wait; if it stays so, ask its operator for a higher limit",
        ),
        Seen::Odd(status) => bad(
            NAME,
            format!("{server} answers HTTP {status}"),
            "look at the address in matrix.homeserver, and at the homeserver",
        ),
        Seen::Away(why) => bad(
            NAME,
            format!("{server} does not answer: {why}"),
            "look at your network and at the homeserver; the node tries again by itself",
        ),
    }
}

fn running(status: &MatrixStatus) -> Vec<Check> {
    let mut checks = vec![match status.cross_signed {
        Some(false) => bad(
            NAME,
            "the device is not signed by its account: people see a red shield",
            "`timmy matrix login … --recovery-key-file FILE`",
        ),
        Some(true) => good(NAME, "the device is signed by its account"),
        None => {
            bad(NAME, status.trouble.clone().unwrap_or_else(|| "not connected yet".to_owned()), "the log says more")
        }
    }];
    if status.backup == Some(false) {
        checks.push(bad(NAME, "room keys are not backed up", "`timmy matrix login … --recovery-key-file FILE`"));
    }
    if status.unreadable > 0 {
        checks.push(bad(
            NAME,
            format!("{} messages wait for their keys", status.unreadable),
            "ask the sender to verify their session, or to write again",
        ));
    }
    checks
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_a_running_account_lacks_is_named_with_its_cure() {
        let well = MatrixStatus {
            user: Some("@timmy:localhost".to_owned()),
            connected: true,
            cross_signed: Some(true),
            backup: Some(true),
            rooms: 1,
            unreadable: 0,
            recovery_key_waits: false,
            trouble: None,
        };
        assert!(running(&well).iter().all(|check| check.ok));
        for (status, message, cure) in [
            (MatrixStatus { cross_signed: Some(false), ..well.clone() }, "red shield", "--recovery-key-file"),
            (MatrixStatus { backup: Some(false), ..well.clone() }, "not backed up", "--recovery-key-file"),
            (MatrixStatus { unreadable: 3, ..well.clone() }, "3 messages wait for their keys", "verify their session"),
            (MatrixStatus { cross_signed: None, ..well.clone() }, "not connected yet", "log"),
            (
                MatrixStatus { cross_signed: None, trouble: Some("the token is revoked".to_owned()), ..well },
                "the token is revoked",
                "log",
            ),
        ] {
            let checks = running(&status);
            let wrong: Vec<&Check> = checks.iter().filter(|check| !check.ok).collect();
            let [wrong] = wrong.as_slice() else { panic!("{wrong:?}") };
            assert!(wrong.message.contains(message) && wrong.cure.as_ref().unwrap().contains(cure), "{wrong:?}");
        }
    }
}
