//! `timmy matrix …`

use std::io::IsTerminal;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use bots::matrix::Session;
use serde_json::{Value, json};

use crate::cli::Context;
use crate::cli::matrix::MatrixCommand;
use crate::config::Config;
use crate::http::Client;
use crate::keys::{NodeKeys, Passport};
use crate::matrix::Files;

pub(crate) async fn matrix(context: &Context, command: MatrixCommand) -> Result<()> {
    match command {
        MatrixCommand::Login { homeserver, user, password_file, recovery_key_file } => {
            let config = context.config()?;
            let homeserver = homeserver.or_else(|| config.matrix.homeserver.clone());
            let homeserver = homeserver.context("which homeserver? --homeserver https://matrix.example.org")?;
            let user =
                user.or_else(|| config.matrix.user.clone()).context("which account? --user @timmy:example.org")?;
            let password = password(password_file.as_deref().or(config.matrix.password_file.as_deref()))?;
            let recovery_key = recovery_key_file.map(|file| secret(&file, "the recovery key")).transpose()?;
            login(context, &config, (homeserver.as_str(), &user), &password, recovery_key.as_deref()).await
        }
        MatrixCommand::RecoveryKey { keep } => recovery_key(context, keep),
        MatrixCommand::Status => {
            let status: Value = Client::connect(&context.home)?.get("/matrix").await?;
            context.print(&status, || screen(&status))
        }
    }
}

fn secret(file: &Path, what: &str) -> Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {what} from {}", file.display()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn password(file: Option<&Path>) -> Result<String> {
    match file {
        Some(file) => secret(file, "the password"),
        None if std::io::stdin().is_terminal() => Ok(rpassword::prompt_password("Password of the account: ")?),
        None => bail!("no terminal to ask for the password; name a file with --password-file FILE"),
    }
}

/// The account's files; their key is of this install.
fn files(context: &Context, config: &Config) -> Result<Files> {
    let passport = if config.node.bunker_file.is_some() { Passport::Remote } else { Passport::File };
    let passphrase = super::passphrase(&context.home, config)?;
    Ok(Files::new(&context.home, &NodeKeys::open(&context.home, passport, passphrase.as_ref())?))
}

/// Logs in and keeps the session; true when a recovery key was made that the owner has not seen yet.
pub(super) async fn log_in(
    context: &Context,
    config: &Config,
    (homeserver, user): (&str, &str),
    password: &str,
    recovery_key: Option<&str>,
) -> Result<(Session, bool)> {
    context.home.create()?;
    let _lock = context.home.lock().context("the account is logged in while no node runs")?;
    let files = files(context, config)?;
    let session = files.login(homeserver, user, password, recovery_key).await?;
    Ok((session, files.recovery_key().is_some()))
}

async fn login(
    context: &Context,
    config: &Config,
    (homeserver, user): (&str, &str),
    password: &str,
    recovery_key: Option<&str>,
) -> Result<()> {
    let (session, made) = log_in(context, config, (homeserver, user), password, recovery_key).await?;
    let found = json!({ "user": session.user(), "device": session.device(), "homeserver": session.homeserver, "recovery_key_waits": made });
    context.print(&found, || {
        let key = if made {
            "\nA recovery key was made. Write it down, it is shown once:  timmy matrix recovery-key\n"
        } else {
            ""
        };
        let whom = match (&config.owner.mxid, config.matrix.allow.is_empty()) {
            (None, true) => {
                "\nNobody may talk to it yet: set owner.mxid = \"@you:example.org\" in the configuration.\n"
            }
            _ => "",
        };
        format!(
            "{} is logged in as device {}, signed by its account.\n{key}{whom}\nNext: timmy run\n",
            session.user(),
            session.device()
        )
    })
}

fn recovery_key(context: &Context, keep: bool) -> Result<()> {
    let files = files(context, &context.config()?)?;
    let Some(key) = files.recovery_key() else {
        bail!(
            "there is no recovery key here: it was handed over before, or the account had one before this node logged in"
        );
    };
    context.print(&json!({ "recovery_key": key }), || {
        format!("{key}\n\nWith it the account survives the loss of this machine. Keep it where you keep such things.\n")
    })?;
    if !keep {
        files.forget_recovery_key()?;
    }
    Ok(())
}

fn screen(status: &Value) -> String {
    let word = |value: &Value, yes: &'static str, no: &'static str| match value.as_bool() {
        Some(true) => yes,
        Some(false) => no,
        None => "not known yet",
    };
    let mut lines = vec![
        format!("  account   {}", status["user"].as_str().unwrap_or("not logged in")),
        format!("  link      {}", word(&status["connected"], "connected", "not connected")),
        format!(
            "  device    {}",
            word(&status["cross_signed"], "signed by its account", "NOT signed: people see a red shield")
        ),
        format!("  backup    {}", word(&status["backup"], "room keys are backed up, encrypted", "not switched on")),
        format!("  rooms     {}", status["rooms"]),
    ];
    if status["unreadable"].as_u64().is_some_and(|n| n > 0) {
        lines.push(format!("  waiting   {} messages wait for their keys", status["unreadable"]));
    }
    if status["recovery_key_waits"] == true {
        lines.push("\nThe recovery key was not handed over yet: timmy matrix recovery-key".to_owned());
    }
    if let Some(trouble) = status["trouble"].as_str() {
        lines.push(format!("\n{trouble}"));
    }
    lines.join("\n") + "\n"
}
