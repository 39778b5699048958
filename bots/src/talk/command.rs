//! Commands in a talk, the same at every door: `!help` and the others. Words for people stand here together.

/// A command that a person gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// What can be said.
    Help,
    /// How the node is.
    Status,
    /// Keep this.
    Remember(String),
    /// What is remembered of this.
    Recall(String),
    /// Forget the memory with this id, or its beginning.
    Forget(String),
    /// The newest jobs.
    Jobs,
    /// The sister nodes.
    Peers,
    /// The models, in their order.
    Models,
    /// The tools that I may use for this person.
    Tools,
    /// Link another account of mine: the account, or the code.
    Link(String),
    /// Take such a link away.
    Unlink(String),
    /// Yes to what was proposed under this code.
    Approve(String),
    /// No to it.
    Deny(String),
    /// Stop answering what I asked before.
    Stop,
    /// A command that is none, with the nearest one that is.
    Unknown(String),
    /// A command without what it needs: how it is used.
    Incomplete(&'static str),
}

/// Name, what follows it, what it does.
pub const COMMANDS: [(&str, &str, &str); 14] = [
    ("help", "", "what you can say"),
    ("status", "", "how I am"),
    ("remember", "TEXT", "I keep it"),
    ("recall", "TEXT", "what I remember of it"),
    ("forget", "ID", "I forget that memory, everywhere"),
    ("jobs", "", "the newest jobs (my owner only)"),
    ("peers", "", "my sister nodes (my owner only)"),
    ("model", "", "the models that answer you, in order"),
    ("tools", "", "what I can use for you"),
    ("approve", "CODE", "yes, do what you asked me for"),
    ("deny", "CODE", "no, leave it"),
    ("link", "ACCOUNT", "link your Matrix account and your Nostr key: one talk, one memory"),
    ("unlink", "@YOU:SERVER", "take such a link away"),
    ("stop", "", "I stop what I am answering you"),
];

/// What can be said.
pub fn help() -> String {
    let line = |(name, what, does): &(&str, &str, &str)| {
        let usage = if what.is_empty() { format!("!{name}") } else { format!("!{name} {what}") };
        format!("- `{usage}`: {does}")
    };
    let lines: Vec<String> = COMMANDS.iter().map(line).collect();
    format!("Just write to me. Or:\n\n{}", lines.join("\n"))
}

impl Command {
    /// Reads a message; none when it is no command. A single `!` before a word makes one; `!!` and `! ` do not.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.trim().strip_prefix('!')?;
        if !rest.starts_with(char::is_alphabetic) {
            return None;
        }
        let (name, what) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let (name, what) = (name.to_lowercase(), what.trim());
        let with = |make: fn(String) -> Self, usage| {
            if what.is_empty() { Self::Incomplete(usage) } else { make(what.to_owned()) }
        };
        Some(match &*name {
            "help" | "commands" => Self::Help,
            "status" => Self::Status,
            "remember" => with(Self::Remember, "!remember TEXT"),
            "recall" => with(Self::Recall, "!recall TEXT"),
            "forget" => with(Self::Forget, "!forget ID (`!recall` shows the ids)"),
            "jobs" => Self::Jobs,
            "peers" => Self::Peers,
            "model" | "models" => Self::Models,
            "tools" => Self::Tools,
            "approve" | "yes" => with(Self::Approve, "!approve CODE"),
            "deny" | "no" => with(Self::Deny, "!deny CODE"),
            "link" => with(Self::Link, "!link @you:example.org, or !link npub1…, or !link CODE"),
            "unlink" => with(Self::Unlink, "!unlink @you:example.org"),
            "stop" | "cancel" => Self::Stop,
            _ => Self::Unknown(name),
        })
    }

    /// True for commands of the owner alone.
    pub fn is_owners(&self) -> bool {
        match self {
            Self::Jobs | Self::Peers => true,
            Self::Help
            | Self::Status
            | Self::Remember(_)
            | Self::Recall(_)
            | Self::Forget(_)
            | Self::Models
            | Self::Tools
            | Self::Link(_)
            | Self::Unlink(_)
            | Self::Approve(_)
            | Self::Deny(_)
            | Self::Stop
            | Self::Unknown(_)
            | Self::Incomplete(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_and_ordinary_words_are_not() {
        assert_eq!(Command::parse(" !help "), Some(Command::Help));
        assert_eq!(Command::parse("!Remember the door\ncode"), Some(Command::Remember("the door\ncode".into())));
        assert_eq!(Command::parse("!recall"), Some(Command::Incomplete("!recall TEXT")));
        assert_eq!(Command::parse("!dance now"), Some(Command::Unknown("dance".into())));
        for text in ["hello", "!", "!!!", "! no", "wow!", "!1", ""] {
            assert_eq!(Command::parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_command_of_the_help_is_one() {
        for (name, what, _) in COMMANDS {
            let command = Command::parse(&format!("!{name} {what}")).unwrap();
            assert!(!matches!(command, Command::Unknown(_) | Command::Incomplete(_)), "{name}");
            assert!(help().contains(name));
        }
    }
}
