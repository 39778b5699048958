//! all-MiniLM-L6-v2: BERT's encoder (Devlin et al. 2019, arXiv:1810.04805) with 6 layers of 12 heads, 384 wide.
//!
//! ```text
//! tokens ─► rows of words + places ─► norm ─► 6 × [ attention ─► + ─► norm ─► 1536 wide, GELU ─► + ─► norm ] ─► mean over the tokens
//! ```
//!
//! The table of words stays in whole numbers of 8 bits: of its 30,522 rows a text needs a few. The layers are unpacked.

use candle_core::{CpuStorage, CustomOp1, D, Device, Layout, Result, Shape, Tensor};
use candle_nn::{LayerNorm, Module, ops::softmax_last_dim};

use super::weights::{MiniLmError, Parts, Rows};

/// Tokens of the vocabulary.
pub(super) const WORDS: usize = 30_522;
/// The length of its own vectors.
pub(super) const WIDTH: usize = 384;
/// Places that a token can stand at.
const PLACES: usize = 512;
/// Kinds of sentences; all are of the first.
const KINDS: usize = 2;
const INNER: usize = 1_536;
const LAYERS: usize = 6;
const HEADS: usize = 12;
const EPSILON: f64 = 1e-12;
/// What is added to the score of a token that is not there: the softmax makes exactly zero of it.
const ABSENT: f32 = -1e9;

/// The network.
pub(super) struct Encoder {
    words: Rows,
    places: Rows,
    kinds: Rows,
    norm: LayerNorm,
    layers: Vec<Layer>,
}

struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    output_norm: LayerNorm,
    inner: Linear,
    outer: Linear,
    outer_norm: LayerNorm,
}

/// x · weight + bias.
struct Linear {
    /// `[inputs, outputs]`. Files have it the other way round, which would be turned at each use: of a short text that is two thirds of
    /// all time.
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    /// `[texts, longest, inputs]` → `[texts, longest, outputs]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (texts, longest, inputs) = x.dims3()?;
        let y = x.reshape((texts * longest, inputs))?.matmul(&self.weight)?.broadcast_add(&self.bias)?;
        y.reshape((texts, longest, ()))
    }
}

/// Every part of the network as it lies in its file, checked.
pub(super) struct Packed {
    words: Rows,
    places: Rows,
    kinds: Rows,
    norm: [Vec<f32>; 2],
    layers: Vec<PackedLayer>,
}

struct PackedLayer {
    attention: [PackedLinear; 4],
    attention_norm: [Vec<f32>; 2],
    inner: PackedLinear,
    outer: PackedLinear,
    outer_norm: [Vec<f32>; 2],
}

struct PackedLinear {
    rows: Rows,
    bias: Vec<f32>,
    shape: [usize; 2],
}

impl Packed {
    /// Finds the parts.
    ///
    /// # Errors
    /// When one is missing, of another shape, or not of finite numbers.
    pub(super) fn of(parts: &Parts<'_>) -> std::result::Result<Self, MiniLmError> {
        Ok(Self {
            words: parts.rows("embeddings.word_embeddings.weight", [WORDS, WIDTH])?,
            places: parts.rows("embeddings.position_embeddings.weight", [PLACES, WIDTH])?,
            kinds: parts.rows("embeddings.token_type_embeddings.weight", [KINDS, WIDTH])?,
            norm: norm(parts, "embeddings")?,
            layers: (0..LAYERS).map(|n| PackedLayer::of(parts, n)).collect::<std::result::Result<_, _>>()?,
        })
    }

    /// Unpacks the layers: some 43 MB.
    pub(super) fn unpacked(self) -> Result<Encoder> {
        let layers = self.layers.into_iter().map(PackedLayer::unpacked).collect::<Result<_>>()?;
        let norm = unpacked_norm(self.norm)?;
        Ok(Encoder { words: self.words, places: self.places, kinds: self.kinds, norm, layers })
    }
}

impl PackedLayer {
    fn of(parts: &Parts<'_>, n: usize) -> std::result::Result<Self, MiniLmError> {
        let at = |name: &str| format!("encoder.layer.{n}.{name}");
        let square = |name: &str| linear(parts, &at(name), [WIDTH, WIDTH]);
        Ok(Self {
            attention: [
                square("attention.self.query")?,
                square("attention.self.key")?,
                square("attention.self.value")?,
                square("attention.output.dense")?,
            ],
            attention_norm: norm(parts, &at("attention.output"))?,
            inner: linear(parts, &at("intermediate.dense"), [INNER, WIDTH])?,
            outer: linear(parts, &at("output.dense"), [WIDTH, INNER])?,
            outer_norm: norm(parts, &at("output"))?,
        })
    }

    fn unpacked(self) -> Result<Layer> {
        let [query, key, value, output] = self.attention;
        Ok(Layer {
            query: query.unpacked()?,
            key: key.unpacked()?,
            value: value.unpacked()?,
            output: output.unpacked()?,
            output_norm: unpacked_norm(self.attention_norm)?,
            inner: self.inner.unpacked()?,
            outer: self.outer.unpacked()?,
            outer_norm: unpacked_norm(self.outer_norm)?,
        })
    }
}

impl PackedLinear {
    fn unpacked(self) -> Result<Linear> {
        let [outputs, _] = self.shape;
        let weight = Tensor::from_vec(self.rows.floats(), &self.shape, &Device::Cpu)?.t()?.contiguous()?;
        Ok(Linear { weight, bias: Tensor::from_vec(self.bias, outputs, &Device::Cpu)? })
    }
}

fn linear(parts: &Parts<'_>, name: &str, shape: [usize; 2]) -> std::result::Result<PackedLinear, MiniLmError> {
    let rows = parts.rows(&format!("{name}.weight"), shape)?;
    Ok(PackedLinear { rows, bias: parts.floats(&format!("{name}.bias"), &shape[..1])?, shape })
}

fn norm(parts: &Parts<'_>, name: &str) -> std::result::Result<[Vec<f32>; 2], MiniLmError> {
    let part = |part: &str| parts.floats(&format!("{name}.LayerNorm.{part}"), &[WIDTH]);
    Ok([part("weight")?, part("bias")?])
}

fn unpacked_norm([weight, bias]: [Vec<f32>; 2]) -> Result<LayerNorm> {
    let tensor = |numbers| Tensor::from_vec(numbers, WIDTH, &Device::Cpu);
    Ok(LayerNorm::new(tensor(weight)?, tensor(bias)?, EPSILON))
}

impl Encoder {
    /// The means over the tokens of some texts, `[texts, 384]`. Each text has 1 to 512 tokens; shorter ones are filled up here, which
    /// changes nothing but the last bits.
    pub(super) fn means(&self, texts: &[&[u32]]) -> Result<Tensor> {
        let longest = texts.iter().map(|tokens| tokens.len()).max().unwrap_or_default();
        let absent = absent(texts, longest)?;
        let mut x = self.norm.forward(&self.rows_of(texts, longest)?)?;
        for layer in &self.layers {
            x = layer.forward(&x, absent.as_ref())?;
        }
        let weights = texts.iter().flat_map(|tokens| {
            #[allow(clippy::cast_precision_loss)]
            let share = 1.0 / tokens.len().max(1) as f32;
            (0..longest).map(move |at| if at < tokens.len() { share } else { 0.0 })
        });
        let weights = Tensor::from_vec(weights.collect(), (texts.len(), 1, longest), &Device::Cpu)?;
        weights.matmul(&x)?.squeeze(1)
    }

    /// What each token is and where it stands, `[texts, longest, 384]`.
    fn rows_of(&self, texts: &[&[u32]], longest: usize) -> Result<Tensor> {
        let mut numbers = vec![0.0; texts.len() * longest * WIDTH];
        for (tokens, rows) in texts.iter().zip(numbers.chunks_mut(longest.max(1) * WIDTH)) {
            for (place, (token, row)) in tokens.iter().zip(rows.chunks_mut(WIDTH)).enumerate() {
                self.words.add(*token as usize, row);
                self.places.add(place, row);
                self.kinds.add(0, row);
            }
        }
        Tensor::from_vec(numbers, (texts.len(), longest, WIDTH), &Device::Cpu)
    }
}

/// What hides the places that a text does not fill, `[texts, 1, 1, longest]`; none when all are equally long.
fn absent(texts: &[&[u32]], longest: usize) -> Result<Option<Tensor>> {
    if texts.iter().all(|tokens| tokens.len() == longest) {
        return Ok(None);
    }
    let hidden = |tokens: &&[u32]| {
        let filled = tokens.len();
        (0..longest).map(move |at| if at < filled { 0.0 } else { ABSENT })
    };
    let numbers: Vec<f32> = texts.iter().flat_map(hidden).collect();
    Tensor::from_vec(numbers, (texts.len(), 1, 1, longest), &Device::Cpu).map(Some)
}

impl Layer {
    fn forward(&self, x: &Tensor, absent: Option<&Tensor>) -> Result<Tensor> {
        let x = self.output_norm.forward(&(x + self.attention(x, absent)?)?)?;
        let inner = self.inner.forward(&x)?.apply_op1_no_bwd(&Gelu)?;
        self.outer_norm.forward(&(&x + self.outer.forward(&inner)?)?)
    }

    fn attention(&self, x: &Tensor, absent: Option<&Tensor>) -> Result<Tensor> {
        let (texts, longest, _) = x.dims3()?;
        let heads = |part: &Linear| {
            part.forward(x)?.reshape((texts, longest, HEADS, WIDTH / HEADS))?.transpose(1, 2)?.contiguous()
        };
        #[allow(clippy::cast_precision_loss)]
        let scale = 1.0 / ((WIDTH / HEADS) as f64).sqrt();
        let mut scores = (heads(&self.query)?.matmul(&heads(&self.key)?.t()?)? * scale)?;
        if let Some(absent) = absent {
            scores = scores.broadcast_add(absent)?;
        }
        let seen = softmax_last_dim(&scores)?.matmul(&heads(&self.value)?)?;
        self.output.forward(&seen.transpose(1, 2)?.contiguous()?.flatten_from(D::Minus2)?)
    }
}

/// x · Φ(x), the activation that BERT was trained with. candle computes the error function one number at a time: a tenth of all time.
struct Gelu;

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("the numbers do not lie in a row")
        };
        let numbers = &storage.as_slice::<f32>()?[start..end];
        Ok((CpuStorage::F32(numbers.iter().map(|x| gelu(*x)).collect()), layout.shape().clone()))
    }
}

/// The error function is Abramowitz and Stegun 7.1.28, wrong by at most 3 · 10⁻⁷: neither branches nor an exponential, so that the
/// compiler turns it into vector instructions.
fn gelu(x: f32) -> f32 {
    const OF_POWERS: [f32; 6] =
        [0.070_523_08, 0.042_282_01, 0.009_270_527, 0.000_152_014_3, 0.000_276_567_2, 0.000_043_063_8];
    let z = (x * std::f32::consts::FRAC_1_SQRT_2).abs();
    let sum = OF_POWERS.iter().rev().fold(0.0, |sum, factor| (sum + factor) * z) + 1.0;
    let power = sum * sum;
    let power = power * power;
    let power = power * power;
    let erf = 1.0 - 1.0 / (power * power);
    0.5 * x * (1.0 + erf.copysign(x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::unwrap_used)]
    fn gelu_is_candles_to_a_millionth() {
        #[allow(clippy::cast_precision_loss)]
        let numbers: Vec<f32> = (-100_000..=100_000).map(|n| n as f32 / 1e4).collect();
        let tensor = Tensor::new(numbers, &Device::Cpu).unwrap();
        let (ours, theirs) = (tensor.apply_op1_no_bwd(&Gelu).unwrap(), tensor.gelu_erf().unwrap());
        let apart = (ours - theirs).unwrap().abs().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
        assert!(apart < 2e-6, "{apart}");
        assert_eq!((gelu(0.0), gelu(f32::MAX), gelu(-1e30)), (0.0, f32::MAX, 0.0));
    }
}
