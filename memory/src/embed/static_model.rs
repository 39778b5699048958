//! The default embedder: a static model (model2vec) whose 8 MB are inside the binary.
//!
//! A text's vector is the weighted mean of its tokens' rows, so it costs microseconds and needs no server. How the model was made is
//! told in `memory/model`.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use model2vec_rs::model::StaticModel;

use super::{EmbedError, Embedder};

const TOKENIZER: &[u8] = include_bytes!("../../model/static-256-int8/tokenizer.json");
const WEIGHTS: &[u8] = include_bytes!("../../model/static-256-int8/model.safetensors");
const CONFIG: &[u8] = include_bytes!("../../model/static-256-int8/config.json");

/// What its vectors are known by.
pub(crate) const STATIC_ID: &str = "static-256-int8/1";
const DIMENSIONS: usize = 256;
/// Bytes of a text that are looked at. The model itself takes in 512 tokens, some 3 kB of English; a mean over more of them says
/// less and less, and the tokenizer's work stays bounded whatever comes.
pub(super) const MAX_TEXT_BYTES: usize = 8 * 1024;
/// Texts of so many bytes together are embedded where the caller stands (about 0.2 ms); more of them on a thread of their own.
const INLINE_BYTES: usize = 16 * 1024;

/// The embedder inside the binary. Clones share one model, which is read when the first text comes.
#[derive(Clone, Default)]
pub struct StaticEmbedder {
    model: Arc<OnceLock<Result<StaticModel, String>>>,
}

impl std::fmt::Debug for StaticEmbedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StaticEmbedder").field("is_loaded", &self.model.get().is_some()).finish()
    }
}

impl StaticEmbedder {
    /// An embedder that has read nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the model on first use: 15 to 30 ms.
    fn model(&self) -> Result<&StaticModel, EmbedError> {
        let load = || StaticModel::from_bytes(TOKENIZER, WEIGHTS, CONFIG, Some(true)).map_err(|e| e.to_string());
        self.model.get_or_init(load).as_ref().map_err(|why| garbled(why.clone()))
    }

    /// The vectors of texts, made where the caller stands.
    pub(super) fn embed_now(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let model = self.model()?;
        Ok(texts.iter().map(|text| model.encode_single(beginning(text, MAX_TEXT_BYTES))).collect())
    }
}

#[async_trait]
impl Embedder for StaticEmbedder {
    fn id(&self) -> String {
        STATIC_ID.to_owned()
    }

    fn dimensions(&self) -> Option<usize> {
        Some(DIMENSIONS)
    }

    fn is_instant(&self) -> bool {
        true
    }

    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let bytes: usize = texts.iter().map(|text| text.len().min(MAX_TEXT_BYTES)).sum();
        if self.model.get().is_some() && bytes <= INLINE_BYTES {
            return self.embed_now(texts);
        }
        let this = self.clone();
        let texts: Vec<String> = texts.iter().map(|text| beginning(text, MAX_TEXT_BYTES).to_owned()).collect();
        let done = tokio::task::spawn_blocking(move || this.embed_now(&texts)).await;
        done.unwrap_or_else(|error| Err(garbled(error.to_string())))
    }
}

fn garbled(why: String) -> EmbedError {
    EmbedError::Garbled { embedder: STATIC_ID.to_owned(), why }
}

/// As much of the beginning of a text as fits into so many bytes.
pub(crate) fn beginning(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let end = (0..=bytes).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cosine(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    fn vector(text: &str) -> Vec<f32> {
        static SHARED: OnceLock<StaticEmbedder> = OnceLock::new();
        SHARED.get_or_init(StaticEmbedder::new).embed_now(&[text.to_owned()]).unwrap().remove(0)
    }

    #[tokio::test]
    async fn it_tells_meanings_apart_and_says_what_it_is() {
        let embedder = StaticEmbedder::new();
        let texts = ["the cat sleeps on the sofa", "a kitten naps on the couch", "quarterly tax report"];
        let texts = texts.map(str::to_owned);
        let cold = embedder.embed(&texts).await.unwrap();
        assert_eq!(embedder.embed(&texts).await.unwrap(), cold, "loaded or not, the vectors are the same");
        assert_eq!((embedder.id().as_str(), embedder.dimensions()), ("static-256-int8/1", Some(256)));
        for v in &cold {
            assert_eq!(v.len(), 256);
            assert!((cosine(v, v) - 1.0).abs() < 1e-4);
        }
        assert!(cosine(&cold[0], &cold[1]) > cosine(&cold[0], &cold[2]) + 0.2);
    }

    #[tokio::test]
    async fn many_texts_at_once_are_the_same_as_one_by_one() {
        let embedder = StaticEmbedder::new();
        let texts: Vec<String> = (0..2_000).map(|i| format!("note number {i} about gardens")).collect();
        let together = embedder.embed(&texts).await.unwrap();
        for i in [0, 999, 1_999] {
            assert_eq!(embedder.embed(&texts[i..=i]).await.unwrap()[0], together[i]);
        }
    }

    #[test]
    fn what_says_nothing_is_all_zeros_and_a_huge_text_is_its_beginning() {
        for nothing in ["", " \n\t", "\u{0}\u{1}\u{7f}"] {
            assert!(vector(nothing).iter().all(|x| *x == 0.0), "{nothing:?}");
        }
        let huge = "забыть ничего нельзя. ".repeat(5_000);
        assert!(huge.len() > 100_000);
        assert_eq!(vector(&huge), vector(beginning(&huge, MAX_TEXT_BYTES)));
        assert_eq!(vector(&"x".repeat(200_000)).len(), 256);
        assert_eq!(vector(&"漢字かな交じり文".repeat(10_000)).len(), 256);
        assert_eq!(beginning("añb", 2), "a");
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in any::<String>()) {
            let v = vector(&text);
            prop_assert!(v.iter().all(|x| x.is_finite()));
            let length = cosine(&v, &v);
            prop_assert!(length == 0.0 || (length - 1.0).abs() < 1e-3, "{}", length);
        }
    }
}
