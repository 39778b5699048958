//! What the tests of the network share.
#![allow(dead_code)]

pub mod node;
