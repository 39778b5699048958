//! Tools: what a model may do in the talk of a person, and what it must ask for first.
//!
//! ```text
//! person ─► model ─► call ─► Toolbox (for whom?) ─► risk? ─► none: called, result ─► model ─► …
//!                                                        └─► else: a proposal ─► the person says yes ─► called, once
//! ```
//!
//! Strangers and jobs have no tools at all: [`Toolbox::for_person`] is the one door, and it opens for named people alone.
//! What a tool brings from outside is data. After it was read in a turn ([`Caller::is_tainted`]) nothing is kept, and no address
//! is fetched that the person did not write, without being asked for: a page that gives orders finds no hands.

mod builtin;
mod mcp;
mod skill;
mod turn;
mod wasm;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use nips::Audience;
use nostr::PublicKey;
use serde_json::{Map, Value};

pub use builtin::{Fetch, Recall, Remember, Time};
pub use mcp::{McpConfig, McpPlace, McpServer, McpState};
pub use skill::{Skill, SkillError, read_skills};
pub use turn::{Asked, Proposal, TurnOutput, carry_out, fenced, take_turn};
pub use wasm::{WasmConfig, WasmError, WasmTool};

use crate::model::ToolOffer;

/// The longest result that is given to a model, bytes; the rest is cut.
pub const RESULT_BYTES_MAX: usize = 16 * 1024;

/// Arguments of a call.
pub type Arguments = Map<String, Value>;

/// What may come of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Risk {
    /// Nothing that the person would want to be asked about.
    None,
    /// Little: a yes by any means will do.
    Small,
    /// Something that cannot be taken back, or that nobody can judge beforehand: only the person's own encrypted word will do.
    Dangerous,
}

/// Why a call gave nothing. The text goes to the model, and may go to the person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ToolError {
    /// The arguments do not fit.
    #[error("the arguments do not fit: {0}")]
    Arguments(String),
    /// It did not work.
    #[error("{0}")]
    Failed(String),
    /// It took too long.
    #[error("it took longer than {0} s")]
    TimedOut(u64),
    /// The turn was cancelled.
    #[error("cancelled")]
    Cancelled,
}

/// For whom a call is made, and in what turn.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The person.
    pub audience: Audience,
    /// What the person wrote in this talk.
    pub said: &'a [&'a str],
    /// Names the call: done twice under one key it is done once, where the tool can.
    pub key: &'a str,
    /// Something from outside was read in this turn.
    pub is_tainted: bool,
}

/// What a tool is.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCard {
    /// What a model is told of it.
    pub offer: ToolOffer,
    /// Its results are for models that may see memory.
    pub is_private: bool,
    /// Its results were written by others.
    pub is_from_outside: bool,
}

/// One tool.
#[async_trait]
pub trait Tool: Send + Sync {
    /// What it is.
    fn card(&self) -> ToolCard;
    /// What may come of calling it with these arguments.
    fn risk(&self, arguments: &Arguments, caller: &Caller<'_>) -> Risk;
    /// Calls it. Dropping the future ends the call.
    async fn call(&self, arguments: &Arguments, caller: &Caller<'_>) -> Result<String, ToolError>;
}

/// Who may have a tool.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grant {
    /// Everybody whom the owner named.
    pub people: bool,
    /// These people. The owner may always.
    pub keys: BTreeSet<PublicKey>,
}

impl Grant {
    /// The owner alone.
    pub fn owner() -> Self {
        Self::default()
    }

    /// The owner, and everybody whom the owner named.
    pub fn people() -> Self {
        Self { people: true, keys: BTreeSet::new() }
    }

    /// True when `audience` may.
    pub fn covers(&self, audience: Audience) -> bool {
        match audience {
            Audience::Owner => true,
            Audience::Person(key) => self.people || self.keys.contains(&key),
            Audience::Member | Audience::Stranger => false,
        }
    }
}

/// Where tools come from that come and go.
pub trait ToolSource: Send + Sync {
    /// Those that can be called now.
    fn tools(&self) -> Vec<Arc<dyn Tool>>;
}

/// All tools of a node, and who may have them.
#[derive(Default)]
pub struct Toolbox {
    tools: Vec<(Arc<dyn Tool>, Grant)>,
    sources: Vec<(Arc<dyn ToolSource>, Grant)>,
}

impl fmt::Debug for Toolbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Toolbox").field("tools", &self.tools.len()).field("sources", &self.sources.len()).finish()
    }
}

impl Toolbox {
    /// Puts a tool in.
    pub fn add(&mut self, tool: Arc<dyn Tool>, grant: Grant) {
        self.tools.push((tool, grant));
    }

    /// Puts a source of tools in.
    pub fn add_source(&mut self, source: Arc<dyn ToolSource>, grant: Grant) {
        self.sources.push((source, grant));
    }

    /// The tools of one person now; none for strangers and members. Of two with one name the first is there.
    pub fn for_person(&self, audience: Audience) -> Vec<Arc<dyn Tool>> {
        let own = self.tools.iter().filter(|(_, grant)| grant.covers(audience)).map(|(tool, _)| Arc::clone(tool));
        let brought = self.sources.iter().filter(|(_, grant)| grant.covers(audience)).flat_map(|(s, _)| s.tools());
        let mut names = BTreeSet::new();
        own.chain(brought).filter(|tool| names.insert(tool.card().offer.name)).collect()
    }
}

/// A name that every model server takes.
fn wire_name(parts: &[&str]) -> String {
    let name = parts.join("__");
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' };
    name.chars().map(plain).take(64).collect()
}

/// As much of a result as a model is given.
fn cut(mut text: String) -> String {
    if text.len() > RESULT_BYTES_MAX {
        let mut end = RESULT_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str("\n[cut here]");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_but_named_people_has_a_tool() {
        let mut all = Toolbox::default();
        all.add(Arc::new(Time), Grant::people());
        let key = nostr::Keys::generate().public_key();
        assert_eq!(all.for_person(Audience::Owner).len(), 1);
        assert_eq!(all.for_person(Audience::Person(key)).len(), 1);
        assert!(all.for_person(Audience::Stranger).is_empty() && all.for_person(Audience::Member).is_empty());
        let mut one = Toolbox::default();
        one.add(Arc::new(Time), Grant { people: false, keys: [key].into() });
        assert_eq!(one.for_person(Audience::Person(key)).len(), 1);
        assert!(one.for_person(Audience::Person(nostr::Keys::generate().public_key())).is_empty());
    }

    #[test]
    fn names_are_what_servers_take() {
        assert_eq!(wire_name(&["files", "read file/ü"]), "files__read_file__");
        assert_eq!(wire_name(&[&"x".repeat(80)]).len(), 64);
    }
}
