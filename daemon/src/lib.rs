//! A Timmy node: the `timmy` binary with its command line, configuration, signer, journal, desk and HTTP face.
//!
//! The rooms `relay`, `memory`, `federation` and `bots` meet here and nowhere else; protocol rules live in `nips`.

// Whether a future that asks the memory is Send goes down to DataFusion's tree of expressions.
#![recursion_limit = "256"]

mod adapters;
mod backup;
mod cli;
mod commands;
mod condense;
pub mod config;
pub mod crash;
mod desk;
mod doctor;
mod document;
mod embedder;
pub mod home;
mod http;
mod installs;
pub mod journal;
mod keys;
mod matrix;
mod metrics;
mod node;
mod passport;
mod publish;
mod recollect;
mod sisters;
mod skills;
mod toolbox;
mod when;

pub use cli::{Cli, main};
