//! Texts as vectors. One trait, many embedders; the default one is inside the binary ([`StaticEmbedder`]), a better and slower one
//! reads its model from a folder ([`MiniLmEmbedder`]).

mod minilm;
mod static_model;

use async_trait::async_trait;

pub(crate) use minilm::{MINILM_ID, MiniLmQuestions};
pub use minilm::{MiniLmEmbedder, MiniLmError};
pub use static_model::StaticEmbedder;
pub(crate) use static_model::{STATIC_ID, beginning};

/// Why a text has no vector.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EmbedError {
    /// The embedder's server cannot be reached, or refuses.
    #[error("the embedder {embedder} does not answer: {why}")]
    Unreachable {
        /// Its id.
        embedder: String,
        /// In its words.
        why: String,
    },
    /// It answered with something else than vectors of its length.
    #[error("the embedder {embedder} answers wrongly: {why}")]
    Garbled {
        /// Its id.
        embedder: String,
        /// What is wrong.
        why: String,
    },
}

/// Makes vectors of texts. The caller owns the trait; a server's client lives with the driver.
#[async_trait]
pub trait Embedder: Send + Sync {
    /// What made a vector, e.g. `static-256-int8/1` or `openai:http://127.0.0.1:11434/v1:nomic-embed-text`. Vectors of two ids are
    /// never compared.
    fn id(&self) -> String;

    /// The length of its vectors, when it is known before the first is made.
    fn dimensions(&self) -> Option<usize>;

    /// True when it is in this process and takes microseconds: entries are then embedded as they come, otherwise in the background.
    fn is_instant(&self) -> bool {
        false
    }

    /// One vector for each text, in their order, each of length 1 (or all zeros for a text that says nothing).
    ///
    /// # Errors
    /// When the embedder cannot be reached or answers garbage.
    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError>;

    /// The vector of a question, to be compared with those of [`Embedder::embed`]; empty when there is none. An embedder may answer by
    /// a quicker model than the one that texts go through, as long as its vectors lie in the same space.
    ///
    /// # Errors
    /// As [`Embedder::embed`].
    async fn embed_question(&self, question: &str) -> Result<Vec<f32>, EmbedError> {
        let vectors = self.embed(&[question.to_owned()]).await?;
        Ok(vectors.into_iter().next().unwrap_or_default())
    }
}
