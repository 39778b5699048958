//! What a talk is beside its newest message: what was said before, the commands that every door knows, and
//! what waits for a yes.

mod approval;
mod command;
mod history;
mod parts;

pub use approval::{Approval, Means, Refusal, Reply, WAITS_S, code, letters};
pub use command::{COMMANDS, Command, help};
pub use history::{HISTORY_TOKENS, Turn, recent};
pub use parts::{finished, parts};
