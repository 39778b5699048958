//! Vectors as bytes: one row of `i8` each, scaled so that a row's length is 1.
//!
//! A row of 256 numbers takes 256 bytes, and 100,000 rows are read through in a few milliseconds, which is exact and needs no
//! index of its own. The question keeps 16 bits a number, so that only the rows are rounded.

use std::ops::Range;

/// Rows of one block. Growing adds a block: nothing is copied and at most 4,096 rows are allocated ahead.
const BLOCK_ROWS: usize = 4_096;
/// The longest vector that is taken, so that a sum of products always fits into 32 bits.
pub(crate) const MAX_DIMENSIONS: usize = 8_192;
/// The largest number of a question; 127 · 2,047 · 8,192 stays below 2³¹.
const QUESTION_MAX: f32 = 2_047.0;

/// A vector made small: `codes` times `scale` has length 1, or everything is zero.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Code {
    pub codes: Vec<i8>,
    pub scale: f32,
}

impl Code {
    /// Rounds a vector of any length; one that is not finite says nothing.
    pub(crate) fn of(vector: &[f32]) -> Self {
        let max = vector.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
        if !(max.is_finite() && max > 0.0) || vector.iter().any(|x| x.is_nan()) {
            return Self { codes: vec![0; vector.len()], scale: 0.0 };
        }
        let codes: Vec<i8> = vector.iter().map(|x| rounded(x / max * 127.0)).collect();
        let squares: f32 = codes.iter().map(|c| f32::from(*c) * f32::from(*c)).sum();
        Self { codes, scale: 1.0 / squares.sqrt() }
    }
}

#[allow(clippy::cast_possible_truncation)]
fn rounded(x: f32) -> i8 {
    x.round().clamp(-127.0, 127.0) as i8
}

/// A question's vector.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    numbers: Vec<i16>,
    scale: f32,
}

impl Question {
    /// None when the vector says nothing.
    #[allow(clippy::cast_possible_truncation)]
    pub(crate) fn of(vector: &[f32]) -> Option<Self> {
        let max = vector.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
        if !(max.is_finite() && max > 0.0) || vector.iter().any(|x| x.is_nan()) {
            return None;
        }
        let numbers: Vec<i16> = vector.iter().map(|x| (x / max * QUESTION_MAX).round() as i16).collect();
        let squares: f32 = numbers.iter().map(|n| f32::from(*n) * f32::from(*n)).sum();
        Some(Self { numbers, scale: 1.0 / squares.sqrt() })
    }
}

/// The rows.
#[derive(Debug, Default)]
pub(crate) struct Matrix {
    dimensions: usize,
    blocks: Vec<Vec<i8>>,
    scales: Vec<f32>,
}

impl Matrix {
    pub(crate) fn new(dimensions: usize) -> Self {
        Self { dimensions, ..Self::default() }
    }

    /// Adds a row of zeros.
    pub(crate) fn push(&mut self) {
        if self.scales.len().is_multiple_of(BLOCK_ROWS) {
            self.blocks.push(vec![0; BLOCK_ROWS * self.dimensions]);
        }
        self.scales.push(0.0);
    }

    /// Sets a row; a code of another length makes it zeros.
    pub(crate) fn set(&mut self, row: usize, code: Option<&Code>) {
        let code = code.filter(|code| code.codes.len() == self.dimensions);
        let start = row % BLOCK_ROWS * self.dimensions;
        let Some(slots) = self.blocks.get_mut(row / BLOCK_ROWS).and_then(|b| b.get_mut(start..start + self.dimensions))
        else {
            return;
        };
        match code {
            Some(code) => slots.copy_from_slice(&code.codes),
            None => slots.fill(0),
        }
        self.scales[row] = code.map_or(0.0, |code| code.scale);
    }

    fn row(&self, row: usize) -> &[i8] {
        let start = row % BLOCK_ROWS * self.dimensions;
        &self.blocks[row / BLOCK_ROWS][start..start + self.dimensions]
    }

    /// A copy of a row.
    pub(crate) fn code(&self, row: usize) -> Code {
        Code { codes: self.row(row).to_vec(), scale: self.scales[row] }
    }

    /// The cosine of a row and a question; none when either says nothing or they are of two lengths.
    pub(crate) fn cosine(&self, row: usize, question: &Question) -> Option<f32> {
        let scale = self.scales[row];
        if scale == 0.0 || question.numbers.len() != self.dimensions {
            return None;
        }
        #[allow(clippy::cast_precision_loss)]
        let sum = dot(self.row(row), &question.numbers) as f32;
        Some((sum * scale * question.scale).clamp(-1.0, 1.0))
    }

    /// The cosine of two rows; none when either says nothing.
    pub(crate) fn between(&self, a: usize, b: usize) -> Option<f32> {
        let scale = self.scales[a] * self.scales[b];
        if scale == 0.0 {
            return None;
        }
        let sum: i32 = self.row(a).iter().zip(self.row(b)).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum();
        #[allow(clippy::cast_precision_loss)]
        Some((sum as f32 * scale).clamp(-1.0, 1.0))
    }

    /// How many blocks of rows there are.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Shows every cosine to `visit`, of the rows of these blocks that `wants` lets through, block after block.
    pub(crate) fn each(
        &self,
        blocks: Range<usize>,
        question: &Question,
        wants: impl Fn(usize) -> bool,
        mut visit: impl FnMut(usize, f32),
    ) {
        if question.numbers.len() != self.dimensions || self.dimensions == 0 {
            return;
        }
        let mut sums = vec![0_i32; BLOCK_ROWS];
        for (number, block) in self.blocks.iter().enumerate().take(blocks.end).skip(blocks.start) {
            let first = number * BLOCK_ROWS;
            let scales = &self.scales[first..self.scales.len().min(first + BLOCK_ROWS)];
            let skips = |at: usize| scales[at] == 0.0 || !wants(first + at);
            let wanted: Vec<usize> = (0..scales.len()).filter(|at| !skips(*at)).collect();
            if wanted.len() * 2 > scales.len() {
                dots(&block[..scales.len() * self.dimensions], &question.numbers, &mut sums);
            } else {
                for at in &wanted {
                    sums[*at] = dot(&block[at * self.dimensions..][..self.dimensions], &question.numbers);
                }
            }
            for at in wanted {
                #[allow(clippy::cast_precision_loss)]
                let cosine = sums[at] as f32 * scales[at] * question.scale;
                visit(first + at, cosine.clamp(-1.0, 1.0));
            }
        }
    }
}

/// The sum of products of each row and a question.
fn dots(rows: &[i8], question: &[i16], sums: &mut [i32]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor was just asked whether it can.
        #[allow(unsafe_code)]
        unsafe {
            return dots_wide(rows, question, sums);
        }
    }
    dots_plain(rows, question, sums);
}

/// The same code, compiled for registers of 256 bits: twice as fast.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn dots_wide(rows: &[i8], question: &[i16], sums: &mut [i32]) {
    dots_plain(rows, question, sums);
}

#[inline(always)]
fn dots_plain(rows: &[i8], question: &[i16], sums: &mut [i32]) {
    for (row, sum) in rows.chunks_exact(question.len()).zip(sums) {
        *sum = dot(row, question);
    }
}

/// The sum of products. Fixed chunks of plain integers, which the compiler turns into vector instructions; it never overflows, so it
/// wraps to spare a check of each product.
#[inline(always)]
fn dot(codes: &[i8], question: &[i16]) -> i32 {
    const LANES: usize = 32;
    let (codes, rest_of_codes) = codes.as_chunks::<LANES>();
    let (question, rest_of_question) = question.as_chunks::<LANES>();
    let mut sum = 0_i32;
    for (a, b) in codes.iter().zip(question) {
        let mut part = 0_i32;
        for lane in 0..LANES {
            part = part.wrapping_add(i32::from(a[lane]) * i32::from(b[lane]));
        }
        sum = sum.wrapping_add(part);
    }
    for (a, b) in rest_of_codes.iter().zip(rest_of_question) {
        sum = sum.wrapping_add(i32::from(*a) * i32::from(*b));
    }
    sum
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exact(a: &[f32], b: &[f32]) -> f32 {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        #[allow(clippy::cast_possible_truncation)]
        let cosine = (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()) as f32;
        cosine
    }

    fn vectors(length: usize) -> impl Strategy<Value = Vec<f32>> {
        proptest::collection::vec(-1.0_f32..1.0, length)
    }

    fn pairs() -> impl Strategy<Value = (Vec<f32>, Vec<f32>)> {
        (1_usize..300).prop_flat_map(|length| (vectors(length), vectors(length)))
    }

    proptest! {
        #[test]
        fn cosines_are_right_to_a_percent_at_any_length((a, b) in pairs()) {
            let mut matrix = Matrix::new(a.len());
            matrix.push();
            matrix.push();
            matrix.set(0, Some(&Code::of(&a)));
            matrix.set(1, Some(&Code::of(&b)));
            prop_assume!(a.iter().any(|x| x.abs() > 1e-3) && b.iter().any(|x| x.abs() > 1e-3));
            let question = Question::of(&b).unwrap();
            let right = exact(&a, &b);
            prop_assert!((matrix.cosine(0, &question).unwrap() - right).abs() < 0.02);
            prop_assert!((matrix.between(0, 1).unwrap() - right).abs() < 0.03);
            prop_assert!((matrix.cosine(1, &question).unwrap() - 1.0).abs() < 0.01);
        }

        #[test]
        fn numbers_that_are_none_say_nothing(mut a in vectors(16), at in 0_usize..16, bad in prop_oneof![Just(f32::NAN), Just(f32::INFINITY)]) {
            a[at] = bad;
            prop_assert_eq!(Code::of(&a).scale, 0.0);
            prop_assert!(Question::of(&a).is_none());
        }
    }

    #[test]
    fn sums_fit_at_the_greatest_length() {
        let ones = vec![1.0; MAX_DIMENSIONS];
        let mut matrix = Matrix::new(MAX_DIMENSIONS);
        matrix.push();
        matrix.set(0, Some(&Code::of(&ones)));
        assert!((matrix.cosine(0, &Question::of(&ones).unwrap()).unwrap() - 1.0).abs() < 1e-3);
    }

    #[test]
    fn each_visits_what_is_wanted_across_blocks_and_another_length_nothing() {
        let mut matrix = Matrix::new(4);
        for row in 0..BLOCK_ROWS * 2 + 3 {
            matrix.push();
            matrix.set(row, Some(&Code::of(&[1.0, 0.0, 0.0, 0.5])));
        }
        matrix.set(7, None);
        let mut seen = Vec::new();
        matrix.each(
            0..matrix.blocks(),
            &Question::of(&[1.0, 0.0, 0.0, 0.5]).unwrap(),
            |row| row % 7 == 0,
            |row, c| seen.push((row, c)),
        );
        assert_eq!(seen.first().unwrap().0, 0);
        assert!(!seen.iter().any(|(row, _)| *row == 7));
        assert_eq!(seen.last().unwrap().0, (BLOCK_ROWS * 2 + 2) / 7 * 7);
        assert!(seen.iter().all(|(_, cosine)| *cosine > 0.99));
        matrix.each(0..matrix.blocks(), &Question::of(&[1.0]).unwrap(), |_| true, |_, _| panic!("another length"));
    }
}
