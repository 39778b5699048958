//! What each command does.

pub(crate) mod auctions;
pub(crate) mod files;
pub(crate) mod identity;
pub(crate) mod init;
pub(crate) mod jobs;
pub(crate) mod matrix;
pub(crate) mod memory;
pub(crate) mod peers;
pub(crate) mod run;

use std::io::IsTerminal;
use std::path::Path;

use anyhow::{Result, bail};
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

use crate::config::Config;
use crate::home::Home;
use crate::keys::{Passphrase, is_encrypted};

/// The passphrase of the key files: from the configuration, a systemd credential, or asked at the terminal where it is needed.
pub(crate) fn passphrase(home: &Home, config: &Config) -> Result<Option<Passphrase>> {
    let found = Passphrase::find(config.node.passphrase_file.as_deref())?;
    let needed = is_encrypted(&home.keys().join("install"));
    if found.is_some() || !needed || !std::io::stdin().is_terminal() {
        return Ok(found);
    }
    Ok(Some(Passphrase::new(&rpassword::prompt_password("Passphrase of the key files: ")?)))
}

/// A passphrase for a backup: from a file, or asked at the terminal (twice when it is new).
pub(crate) fn backup_passphrase(file: Option<&Path>, new: bool) -> Result<Passphrase> {
    if let Some(found) = file.map(|f| Passphrase::find(Some(f))).transpose()?.flatten() {
        return Ok(found);
    }
    if !std::io::stdin().is_terminal() {
        bail!("no terminal to ask for a passphrase; name a file with --passphrase-file FILE");
    }
    let words = rpassword::prompt_password("Passphrase of the backup: ")?;
    if words.is_empty() {
        bail!("a backup needs a passphrase: it holds the node's keys");
    }
    if new && rpassword::prompt_password("Again: ")? != words {
        bail!("the two passphrases differ; nothing was written");
    }
    Ok(Passphrase::new(&words))
}

/// A QR code for a terminal.
pub(crate) fn qr(text: &str) -> String {
    QrCode::new(text.as_bytes())
        .map_or_else(|_| String::new(), |code| code.render::<Dense1x2>().quiet_zone(true).build())
}
