//! Tests of the whole index, with a real table on disk.

mod heal;
mod minilm;
mod search;
mod upkeep;
