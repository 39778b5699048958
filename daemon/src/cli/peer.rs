//! `timmy peer …`

use clap::Subcommand;

/// The federation.
#[derive(Debug, Subcommand)]
pub enum PeerCommand {
    /// Sister nodes, and strangers seen on this network
    List,
    /// Make a code that lets one node in: good once, for ten minutes. A sibling shares the space `fleet` of the memory
    Invite {
        /// A guest: it works for the federation and gets no memory, but for spaces shared by `memory share`
        #[arg(long)]
        guest: bool,
        /// Let this node back in, which was removed before
        #[arg(long, value_name = "NPUB")]
        readmit: Option<String>,
    },
    /// Join by a code that was made on another node
    Join {
        /// What `timmy peer invite` printed there
        code: String,
    },
    /// Let a sibling invite and remove too
    Admin {
        /// Its npub
        npub: String,
    },
    /// Take a node out; the federation gets new keys
    Remove {
        /// Its npub
        npub: String,
    },
    /// Who lacks what, and why
    Doctor,
}
