//! The network of sister nodes: one libp2p swarm, owned by one task, spoken to through a cheap handle.
//!
//! ```text
//!   Net (handle) ──commands──►┌────────┐──NetEvent──► the federation
//!                             │ driver │──Link──────► liveness
//!   PeerStream  ◄──streams────└───┬────┘
//!                                 │ swarm
//!            limits · memory · door · front (hello, join) · members { gossip, identify, streams }
//! ```
//!
//! Who may do what is asked of a [`Gate`], once a connection:
//!
//! | standing | may |
//! |---|---|
//! | blocked | nothing: the connection is closed when its key is known |
//! | stranger | open [`Protocol::HELLO`], and [`Protocol::JOIN`] while an invitation is open, for some seconds |
//! | member | gossip, identify and every member protocol, once *both* sides have admitted each other |
//!
//! A stranger's connection has no gossip handler at all: it neither subscribes nor sends nor receives
//! (`members`). The wire is described in `spec/federation-network.md`.

mod behaviour;
mod book;
mod command;
mod door;
mod driver;
mod events;
mod frame;
mod gossip;
mod handle;
mod links;
mod members;
mod options;
mod outbox;
mod redial;
mod stats;
mod stream;
mod streams;
mod transport;

pub use events::{Link, NetEvent, Ticket, Verdict};
pub use frame::{FrameError, FrameReader, FrameWriter, Frames};
pub use handle::{Net, NetError, OpenError, PeerInfo};
pub use options::{Gate, Limits, NetOptions, Protocol, Standing};
pub use stats::NetStats;
pub use stream::PeerStream;

pub use libp2p::identity::Keypair;
pub use libp2p::swarm::ConnectionId;
pub use libp2p::{Multiaddr, PeerId};
