//! `timmy memory …`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use memory::EntryKind;
use nips::memory::{PageName, Space};
use nostr::PublicKey;

use crate::when::{begin_of, end_of};

/// What the agent remembers.
#[derive(Debug, Subcommand)]
pub enum MemoryCommand {
    /// Remember something
    Add(AddArgs),
    /// Recall by meaning and by words; best first
    Search(SearchArgs),
    /// One entry with everything that is known of it
    Show {
        /// Its id, or enough of its beginning
        id: String,
    },
    /// Take in JSON Lines, plain lines (one entry each), or a folder of Markdown; again does no harm
    Import {
        /// A file, a folder of Markdown, or - for standard input
        #[arg(value_name = "FILE")]
        from: PathBuf,
        /// Where entries go that name no space themselves
        #[arg(long, value_name = "SPACE", default_value = "fleet")]
        space: Space,
    },
    /// Write everything, signed, as JSON Lines that `memory import` takes
    Export {
        /// The file to write; it must not exist [default: standard output]
        #[arg(value_name = "FILE")]
        to: Option<PathBuf>,
        /// Only this space
        #[arg(long, value_name = "SPACE")]
        space: Option<Space>,
    },
    /// Forget for good: here, in the journal, and wherever it is synced to
    #[command(
        after_help = "What was published on relays stays there: other people's copies are out of reach, and so are this node's own\n\
public events. A backup made before still holds it."
    )]
    Forget(ForgetArgs),
    /// Make the index anew; recall works meanwhile
    Reindex,
    /// How much there is
    Stats,
    /// Condense this node's old notes of what happened, a week into one; the originals stay until they are pruned
    Consolidate {
        /// How old they must be
        #[arg(long, value_name = "DAYS", default_value_t = 30)]
        older_than: u64,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Forget this node's entries that were superseded long ago, or are old, unimportant and were never recalled here
    Prune {
        /// How long ago a superseded entry was written
        #[arg(long, value_name = "DAYS", default_value_t = 90)]
        superseded_after: u64,
        /// How long ago an unimportant one was written that was never recalled
        #[arg(long, value_name = "DAYS", default_value_t = 180)]
        unused_after: u64,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Let a person recall a space
    Share {
        /// Which space; `private` is never shared
        space: Space,
        /// Who
        #[arg(value_name = "NPUB", value_parser = key)]
        person: PublicKey,
        /// Take it back
        #[arg(long)]
        revoke: bool,
    },
    /// Pages: texts, lists and fields that several nodes edit at once
    #[command(subcommand)]
    Page(PageCommand),
}

/// What to remember.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// What to remember
    #[arg(required = true, value_name = "TEXT")]
    pub text: Vec<String>,
    /// Who shares it: private, fleet, or a name of your own
    #[arg(long, value_name = "SPACE", default_value = "fleet")]
    pub space: Space,
    /// episodic (happened), semantic (is so), procedural (how to)
    #[arg(long, value_name = "KIND", default_value = "semantic")]
    pub kind: EntryKind,
    /// A word to filter by
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// Whom it is about and belongs to: they may recall it
    #[arg(long, value_name = "NPUB", value_parser = key)]
    pub person: Option<PublicKey>,
    /// 0 (trifle) to 1 (never forget)
    #[arg(long, value_name = "NUMBER", default_value_t = memory::DEFAULT_IMPORTANCE)]
    pub importance: f32,
    /// Until when it is so: 2027-01-31, or 2027-01-31T12:00:00Z
    #[arg(long, value_name = "DATE", value_parser = end_of)]
    pub valid_until: Option<u64>,
    /// An entry that it stands in the place of
    #[arg(long, value_name = "ID")]
    pub supersedes: Vec<String>,
}

/// What to recall.
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// What is sought, in any language
    #[arg(required = true, value_name = "QUERY")]
    pub query: Vec<String>,
    /// How many
    #[arg(long, value_name = "N", default_value_t = memory::DEFAULT_LIMIT)]
    pub limit: usize,
    /// Only of this space
    #[arg(long = "space", value_name = "SPACE")]
    pub spaces: Vec<Space>,
    /// Only of this kind
    #[arg(long = "kind", value_name = "KIND")]
    pub kinds: Vec<EntryKind>,
    /// Only with this tag; several: all of them
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// Only what this node wrote
    #[arg(long, value_name = "NPUB", value_parser = key)]
    pub author: Option<PublicKey>,
    /// Only what belongs to this person
    #[arg(long, value_name = "NPUB", value_parser = key)]
    pub person: Option<PublicKey>,
    /// Only from this day on
    #[arg(long, value_name = "DATE", value_parser = begin_of)]
    pub since: Option<u64>,
    /// Only up to this day
    #[arg(long, value_name = "DATE", value_parser = end_of)]
    pub until: Option<u64>,
    /// Show each part of the score
    #[arg(long)]
    pub explain: bool,
}

/// What to forget: one of them.
#[derive(Debug, Args)]
pub struct ForgetArgs {
    /// What is meant.
    #[command(flatten)]
    pub what: ForgetWhat,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// What is meant.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct ForgetWhat {
    /// This entry: its id, or enough of its beginning
    pub id: Option<String>,
    /// All that this node wrote
    #[arg(long, value_name = "NPUB", value_parser = key)]
    pub author: Option<PublicKey>,
    /// All that belongs to this person
    #[arg(long, value_name = "NPUB", value_parser = key)]
    pub person: Option<PublicKey>,
    /// A whole space, its pages too
    #[arg(long, value_name = "SPACE")]
    pub space: Option<Space>,
}

/// Pages.
#[derive(Debug, Subcommand)]
pub enum PageCommand {
    /// All pages
    List {
        /// Only of this space
        #[arg(long, value_name = "SPACE")]
        space: Option<Space>,
    },
    /// What a page says
    Show {
        /// Its name
        #[arg(value_parser = page)]
        name: PageName,
        /// Its space
        #[arg(long, value_name = "SPACE", default_value = "fleet")]
        space: Space,
    },
    /// Change a page, which begins with its first edit; without options $EDITOR opens its text
    Edit(PageEditArgs),
    /// Forget a page; its name begins anew
    Forget {
        /// Its name
        #[arg(value_parser = page)]
        name: PageName,
        /// Its space
        #[arg(long, value_name = "SPACE", default_value = "fleet")]
        space: Space,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// How a page is changed.
#[derive(Debug, Args)]
pub struct PageEditArgs {
    /// Its name
    #[arg(value_parser = page)]
    pub name: PageName,
    /// Its space
    #[arg(long, value_name = "SPACE", default_value = "fleet")]
    pub space: Space,
    /// The whole text as it shall be
    #[arg(long, value_name = "TEXT")]
    pub text: Option<String>,
    /// A line after the last one
    #[arg(long, value_name = "LINE")]
    pub append: Vec<String>,
    /// An item for the list
    #[arg(long, value_name = "ITEM")]
    pub add: Vec<String>,
    /// An item of the list that goes
    #[arg(long, value_name = "ITEM")]
    pub remove: Vec<String>,
    /// A field as it shall be
    #[arg(long, value_name = "NAME=VALUE", value_parser = super::parse_param)]
    pub set: Vec<(String, String)>,
    /// A field that goes
    #[arg(long, value_name = "NAME")]
    pub unset: Vec<String>,
}

fn key(text: &str) -> Result<PublicKey, String> {
    PublicKey::parse(text.trim()).map_err(|_| "neither an npub nor 64 hex digits".to_owned())
}

fn page(text: &str) -> Result<PageName, String> {
    PageName::from_title(text).map_err(|e| e.to_string())
}
