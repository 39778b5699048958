//! Memory as text that leaves and comes back: JSON Lines, plain lines, Markdown. Parsing alone; nothing here reads a file.
//!
//! | a line of an import | is |
//! |---|---|
//! | `{…,"event":{…}}` | a line of an export: the signed event counts, what stands beside it is for people |
//! | `{"text":…}` | an entry; `id`, `kind`, `space`, `tags`, `person`, `importance`, `created_at`, `valid_from`, `valid_until`, `supersedes` may be there |
//! | anything else that is not empty | the text of an entry |
//!
//! An export is complete: all changes in the order they came, then the tombstones. A line of a change of a shard shows the entry, one
//! of a page's change says `page`, one of a tombstone `forgotten`.

mod line;
mod markdown;

pub use line::{BadLine, Item, MAX_LINE, PlainEntry, exported, read_line};
pub use markdown::{MAX_PIECE, pieces};
