//! Sister nodes: how they are found, trusted, spoken with and put to work.
//!
//! | module | what it does |
//! |---|---|
//! | [`driver`] | ties everything together; [`Federation`] is its handle |
//! | [`net`], [`discovery`], [`liveness`] | libp2p, mDNS, who is alive |
//! | [`membership`], [`keyring`] | who belongs, and the keys of each epoch; free of I/O |
//! | [`handshake`], [`invitation`] | how nodes prove themselves, and how one comes to belong; free of I/O |
//! | [`letters`] | envelopes over two carriers, each once; free of I/O |
//! | [`auction`], [`lease`], [`tasks`], [`reputation`] | who does what for whom; free of I/O |

pub mod auction;
pub mod discovery;
pub mod driver;
pub mod handshake;
pub mod invitation;
pub mod keyring;
pub mod lease;
pub mod letters;
pub mod liveness;
pub mod membership;
pub mod net;
pub mod reputation;
pub mod tasks;

pub use driver::{
    Abilities, BootClock, Duplex, Federation, FederationError, FederationOptions, Host, HostError, Invitation, Known,
    Linked, Peer, PeerState, Post, Shelf, TaskEnd, Via, View, Write,
};
