//! `timmy matrix …`

use std::path::PathBuf;

use clap::Subcommand;
use url::Url;

/// The agent's Matrix account.
#[derive(Debug, Subcommand)]
pub enum MatrixCommand {
    /// Log the account in and see that its device is signed; tried before anything is saved. The node must not run
    Login {
        /// The homeserver, https://matrix.example.org [default: matrix.homeserver]
        #[arg(long, value_name = "URL")]
        homeserver: Option<Url>,
        /// The account, @timmy:example.org [default: matrix.user]
        #[arg(long, value_name = "ID")]
        user: Option<String>,
        /// Read the password from this file [default: matrix.password_file, else it is asked for]
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        /// Read the account's recovery key from this file: needed when it was used in another client before
        #[arg(long, value_name = "FILE")]
        recovery_key_file: Option<PathBuf>,
    },
    /// Hand over the recovery key that the login made, once: it is printed and forgotten here
    RecoveryKey {
        /// Print it and keep it here too
        #[arg(long)]
        keep: bool,
    },
    /// How the account stands
    Status,
}
