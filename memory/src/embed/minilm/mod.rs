//! all-MiniLM-L6-v2 in this process: better vectors of what is remembered, in the space of the embedder inside the binary.
//!
//! ```text
//! entry ────► MiniLM, 6 layers (milliseconds, in the background) ─► 384 ─► projection ─► 256 ─┐
//!                                                                                             ├─► cosine
//! question ─► static model (microseconds) ─────────────────────────────────────────────► 256 ─┘
//! ```
//!
//! The static model was fitted to this one, so their vectors may be compared once a fixed projection has brought 384 numbers to 256.
//! A question is never asked of the network: recall stays as quick as with the static model alone. Where the files come from is told
//! in `memory/model`.

mod encoder;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod weights;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use candle_core::{Device, Tensor};
use tokenizers::{Tokenizer, TruncationParams};
use tokio_util::sync::CancellationToken;

use super::static_model::{MAX_TEXT_BYTES, StaticEmbedder, beginning};
use super::{EmbedError, Embedder};
use encoder::{Encoder, Packed, WIDTH, WORDS};
use weights::Bytes;

pub use weights::MiniLmError;

/// What its vectors are known by.
pub(crate) const MINILM_ID: &str = "minilm-256/1";
/// Of the vectors that are handed out: as many as the static model's.
const DIMENSIONS: usize = 256;

const WEIGHTS: &str = "minilm-int8.safetensors";
const TOKENIZER: &str = "minilm-tokenizer.json";
const PROJECTION: &str = "minilm_to_256.safetensors";
/// The most bytes read of each file: two to three times what they have.
const WEIGHTS_MAX: usize = 64 << 20;
const TOKENIZER_MAX: usize = 2 << 20;
const PROJECTION_MAX: usize = 1 << 20;

/// Tokens of a text that are read, some 200 words: what sentence-transformers sets for this model. It has places for 512, but was
/// trained on 128 and knows little of later ones; and the work grows faster than the length.
const MAX_TOKENS: usize = 256;
/// Tokens of one batch, filled up: bounds the memory of a batch to some tens of megabytes, and how long a stop is waited for.
const BATCH_TOKENS: usize = 1_024;
/// Of a text's tokens, so many must be words that the model knows. Texts in other scripts are a row of "unknown": their vectors
/// would all be the same one, and recall would take them for duplicates.
const KNOWN_SHARE: f32 = 0.5;
/// Sentences that both models must agree on when they are read: neither is damaged, and they lie in one space.
const AGREED: [&str; 3] =
    ["The cat sleeps on the sofa.", "Our invoice is due next Friday.", "How do I restart the web server?"];
/// The least mean cosine of the two models over [`AGREED`]. It is about 0.8; of models that do not belong together about 0.
const AGREEMENT: f32 = 0.5;

/// An embedder whose entries go through MiniLM and whose questions go through the static model. Clones share one model, which is
/// read when the first text comes; from then on it takes some 100 MB of memory. At any time it computes on one thread.
#[derive(Clone)]
pub struct MiniLmEmbedder {
    dir: PathBuf,
    questions: StaticEmbedder,
    model: Arc<Mutex<Option<Arc<Model>>>>,
}

impl std::fmt::Debug for MiniLmEmbedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MiniLmEmbedder").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl MiniLmEmbedder {
    /// The embedder whose files are in `dir`: `minilm-int8.safetensors`, `minilm-tokenizer.json` and `minilm_to_256.safetensors`. They
    /// are checked now (24 MB are read) and unpacked when the first text comes.
    ///
    /// # Errors
    /// When a file is missing, damaged, or of another model.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, MiniLmError> {
        let dir = dir.into();
        Files::read(&dir)?;
        Ok(Self { dir, questions: StaticEmbedder::new(), model: Arc::default() })
    }

    /// The model, and the one place where it computes: whoever comes second waits.
    fn embed_now(&self, texts: &[String], given_up: &CancellationToken) -> Result<Vec<Vec<f32>>, EmbedError> {
        let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        let model = match &*model {
            Some(model) => model.clone(),
            None => model.insert(Arc::new(self.load()?)).clone(),
        };
        model.embed(texts, given_up).map_err(garbled)
    }

    /// Reads the model again and compares it with the static one: some 0.2 s.
    fn load(&self) -> Result<Model, EmbedError> {
        let unfit = |why: String| MiniLmError::Unfit { dir: self.dir.clone(), why };
        let read = || Files::read(&self.dir)?.unpacked().map_err(|error| unfit(error.to_string()));
        let model = read().map_err(|error| unreachable(&error))?;
        let texts = AGREED.map(str::to_owned);
        let ours = model.embed(&texts, &CancellationToken::new()).map_err(garbled)?;
        let theirs = self.questions.embed_now(&texts)?;
        #[allow(clippy::cast_precision_loss)]
        let agreement = ours.iter().zip(&theirs).map(|(a, b)| dot(a, b)).sum::<f32>() / texts.len() as f32;
        if agreement >= AGREEMENT {
            return Ok(model);
        }
        let why = format!("its vectors do not fit the questions' (agreement {agreement:.2})");
        Err(unreachable(&unfit(why)))
    }
}

#[async_trait]
impl Embedder for MiniLmEmbedder {
    fn id(&self) -> String {
        MINILM_ID.to_owned()
    }

    fn dimensions(&self) -> Option<usize> {
        Some(DIMENSIONS)
    }

    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let this = self.clone();
        let texts: Vec<String> = texts.iter().map(|text| beginning(text, MAX_TEXT_BYTES).to_owned()).collect();
        // Whoever stops waiting stops the thread at its next batch.
        let given_up = CancellationToken::new();
        let _guard = given_up.clone().drop_guard();
        let done = tokio::task::spawn_blocking(move || this.embed_now(&texts, &given_up)).await;
        done.unwrap_or_else(|error| Err(garbled(error.to_string())))
    }

    async fn embed_question(&self, question: &str) -> Result<Vec<f32>, EmbedError> {
        self.questions.embed_question(question).await
    }
}

/// Answers questions to vectors that MiniLM has made, where MiniLM itself is not at hand any more.
pub(crate) struct MiniLmQuestions(StaticEmbedder);

impl MiniLmQuestions {
    pub(crate) fn new() -> Self {
        Self(StaticEmbedder::new())
    }
}

#[async_trait]
impl Embedder for MiniLmQuestions {
    fn id(&self) -> String {
        MINILM_ID.to_owned()
    }

    fn dimensions(&self) -> Option<usize> {
        Some(DIMENSIONS)
    }

    /// # Errors
    /// Always: the files of the model are not named.
    async fn embed(&self, _: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
        Err(EmbedError::Unreachable { embedder: MINILM_ID.to_owned(), why: "it is not configured any more".to_owned() })
    }

    async fn embed_question(&self, question: &str) -> Result<Vec<f32>, EmbedError> {
        self.0.embed_question(question).await
    }
}

/// The files, checked.
struct Files {
    network: Packed,
    projection: Vec<f32>,
    tokenizer: Tokenizer,
    unknown: u32,
}

impl Files {
    fn read(dir: &Path) -> Result<Self, MiniLmError> {
        let weights = Bytes::read(dir, WEIGHTS, WEIGHTS_MAX)?;
        let network = Packed::of(&weights.parts()?)?;
        let projection = Bytes::read(dir, PROJECTION, PROJECTION_MAX)?;
        let projection = projection.parts()?.floats("projection", &[WIDTH, DIMENSIONS])?;
        let file = Bytes::read(dir, TOKENIZER, TOKENIZER_MAX)?;
        let mut tokenizer = Tokenizer::from_bytes(file.bytes()).map_err(|error| file.damaged(error.to_string()))?;
        if tokenizer.get_vocab_size(true) != WORDS {
            let why = format!("has {} tokens instead of {WORDS}", tokenizer.get_vocab_size(true));
            return Err(file.other_model("the vocabulary", why));
        }
        let unknown = tokenizer.token_to_id("[UNK]").ok_or_else(|| file.other_model("[UNK]", "is missing"))?;
        // The file asks for 128 tokens, always.
        tokenizer.with_padding(None);
        let truncation = TruncationParams { max_length: MAX_TOKENS, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(|error| file.damaged(error.to_string()))?;
        // A text that speaks of "[SEP]" is a text.
        tokenizer.set_encode_special_tokens(true);
        Ok(Self { network, projection, tokenizer, unknown })
    }

    fn unpacked(self) -> candle_core::Result<Model> {
        let thread = rayon::ThreadPoolBuilder::new().num_threads(1).thread_name(|_| "minilm".to_owned()).build();
        Ok(Model {
            thread: thread.map_err(candle_core::Error::wrap)?,
            network: self.network.unpacked()?,
            projection: Tensor::from_vec(self.projection, (WIDTH, DIMENSIONS), &Device::Cpu)?,
            tokenizer: self.tokenizer,
            unknown: self.unknown,
        })
    }
}

/// The model, ready to compute.
struct Model {
    /// What computes: candle takes all cores of the pool that it is called in.
    thread: rayon::ThreadPool,
    network: Encoder,
    projection: Tensor,
    tokenizer: Tokenizer,
    unknown: u32,
}

impl Model {
    fn embed(&self, texts: &[String], given_up: &CancellationToken) -> Result<Vec<Vec<f32>>, String> {
        self.thread.install(|| self.embed_here(texts, given_up))
    }

    /// Texts of like length share a batch. It ends between two batches when nobody waits for it any more.
    fn embed_here(&self, texts: &[String], given_up: &CancellationToken) -> Result<Vec<Vec<f32>>, String> {
        let tokens: Vec<Vec<u32>> = texts.iter().map(|text| self.tokens(text)).collect::<Result<_, _>>()?;
        let mut vectors = vec![vec![0.0; DIMENSIONS]; texts.len()];
        for batch in batches(&tokens) {
            if given_up.is_cancelled() {
                return Err("nobody waits for it any more".to_owned());
            }
            let chosen: Vec<&[u32]> = batch.iter().map(|at| tokens[*at].as_slice()).collect();
            let made = self.vectors(&chosen).map_err(|error| error.to_string())?;
            for (at, vector) in batch.into_iter().zip(made) {
                vectors[at] = unit(vector)?;
            }
        }
        Ok(vectors)
    }

    /// The tokens of a text, with those that begin and end it; none when it says nothing that the model knows.
    fn tokens(&self, text: &str) -> Result<Vec<u32>, String> {
        let encoding = self.tokenizer.encode_fast(text, true).map_err(|error| error.to_string())?;
        let said = encoding.get_ids().iter().zip(encoding.get_special_tokens_mask()).filter(|(_, mark)| **mark == 0);
        let (all, known) = said.fold((0, 0), |(all, known), (id, _)| (all + 1, known + u32::from(*id != self.unknown)));
        #[allow(clippy::cast_precision_loss)]
        let is_known = known > 0 && known as f32 >= KNOWN_SHARE * all as f32;
        Ok(if is_known { encoding.get_ids().to_vec() } else { Vec::new() })
    }

    fn vectors(&self, texts: &[&[u32]]) -> candle_core::Result<Vec<Vec<f32>>> {
        self.network.means(texts)?.matmul(&self.projection)?.to_vec2()
    }
}

/// Which texts are computed together, the shortest first; those without tokens are in none.
fn batches(tokens: &[Vec<u32>]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..tokens.len()).filter(|at| !tokens[*at].is_empty()).collect();
    order.sort_by_key(|at| tokens[*at].len());
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for at in order {
        match batches.last_mut() {
            // The last one is the longest: all are filled up to it.
            Some(batch) if (batch.len() + 1) * tokens[at].len() <= BATCH_TOKENS => batch.push(at),
            Some(_) | None => batches.push(vec![at]),
        }
    }
    batches
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The vector at length 1.
fn unit(mut vector: Vec<f32>) -> Result<Vec<f32>, String> {
    let length = dot(&vector, &vector).sqrt();
    if !(length.is_finite() && length > 0.0) {
        return Err(format!("a vector of length {length}"));
    }
    vector.iter_mut().for_each(|x| *x /= length);
    Ok(vector)
}

fn garbled(why: String) -> EmbedError {
    EmbedError::Garbled { embedder: MINILM_ID.to_owned(), why }
}

fn unreachable(error: &MiniLmError) -> EmbedError {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    EmbedError::Unreachable { embedder: MINILM_ID.to_owned(), why: format!("{error}{cause}") }
}
