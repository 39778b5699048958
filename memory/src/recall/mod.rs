//! Recall: what is asked, what is found, and why.
//!
//! | module | what it decides |
//! |---|---|
//! | `query` | the question, who may see what, the answer |
//! | `cover` | how much of a question a text says |
//! | `fuse` | full text and vectors as one score; who gets a place |
//! | `weigh` | age and importance |
//! | `fold` | near duplicates |

pub(crate) mod cover;
pub(crate) mod fold;
pub(crate) mod fuse;
mod query;
pub(crate) mod weigh;

pub use query::{DEFAULT_LIMIT, MAX_LIMIT, Place, Query, Reasons, Recall, Sight};
