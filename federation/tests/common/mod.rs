//! What the tests of the network share.
#![allow(dead_code)]

pub mod netns;
pub mod node;
pub mod proxy;
