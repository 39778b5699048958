//! What a talk is beside its newest message: what was said before, and the commands that every door knows.

mod command;
mod history;

pub use command::{COMMANDS, Command, help};
pub use history::{HISTORY_TOKENS, Turn, recent};
