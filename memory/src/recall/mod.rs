//! Recall: what is asked, what is found, and why.

mod query;

pub use query::{DEFAULT_LIMIT, MAX_LIMIT, Place, Query, Reasons, Recall, Sight};
