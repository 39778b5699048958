//! The files of the model, read and checked before anything computes with them.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

/// Why the model in a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MiniLmError {
    /// A file is not there, or cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is cut off, too large, of another form, or holds numbers that are none.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A part of the model is not there, or has another shape: the file is of another model.
    #[error("{} is not of this model: {part} {why}", path.display())]
    OtherModel {
        /// Which file.
        path: PathBuf,
        /// Which part of it.
        part: String,
        /// How it differs.
        why: String,
    },
    /// Its vectors do not lie where the questions' lie, or cannot be computed.
    #[error("the model in {} does not work: {why}", dir.display())]
    Unfit {
        /// Its folder.
        dir: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// A table of whole numbers of 8 bits; each row times its scale is what is meant.
pub(super) struct Rows {
    codes: Vec<i8>,
    scales: Vec<f32>,
    width: usize,
}

impl Rows {
    /// Adds a row to `sum`; a row that there is not adds nothing.
    pub(super) fn add(&self, row: usize, sum: &mut [f32]) {
        let codes = self.codes.get(row * self.width..(row + 1) * self.width).unwrap_or_default();
        let scale = self.scales.get(row).copied().unwrap_or_default();
        sum.iter_mut().zip(codes).for_each(|(sum, code)| *sum += f32::from(*code) * scale);
    }

    /// Everything, row after row.
    pub(super) fn floats(&self) -> Vec<f32> {
        let row = |(codes, scale): (&[i8], f32)| codes.iter().map(move |code| f32::from(*code) * scale).collect();
        self.codes.chunks(self.width).zip(self.scales.iter().copied()).flat_map::<Vec<f32>, _>(row).collect()
    }
}

/// A file in memory.
pub(super) struct Bytes {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Bytes {
    /// Reads a file of at most `most` bytes.
    pub(super) fn read(dir: &Path, name: &str, most: usize) -> Result<Self, MiniLmError> {
        let path = dir.join(name);
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(most as u64 + 1).read_to_end(&mut bytes));
        if let Err(source) = read {
            return Err(MiniLmError::Read { path, source });
        }
        let file = Self { path, bytes };
        if file.bytes.len() > most { Err(file.damaged("it is too large")) } else { Ok(file) }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn damaged(&self, why: impl Into<String>) -> MiniLmError {
        MiniLmError::Damaged { path: self.path.clone(), why: why.into() }
    }

    pub(super) fn other_model(&self, part: &str, why: impl Into<String>) -> MiniLmError {
        MiniLmError::OtherModel { path: self.path.clone(), part: part.to_owned(), why: why.into() }
    }

    /// The parts of a safetensors file. Their places and sizes are checked against the file's length.
    pub(super) fn parts(&self) -> Result<Parts<'_>, MiniLmError> {
        let parts = SafeTensors::deserialize(&self.bytes).map_err(|error| self.damaged(error.to_string()))?;
        Ok(Parts { file: self, parts })
    }
}

/// The parts of a safetensors file, by name.
pub(super) struct Parts<'a> {
    file: &'a Bytes,
    parts: SafeTensors<'a>,
}

impl<'a> Parts<'a> {
    /// The bytes of a part that has this type and this shape.
    fn part(&self, name: &str, kind: Dtype, shape: &[usize]) -> Result<&'a [u8], MiniLmError> {
        let part = self.parts.tensor(name).map_err(|_| self.file.other_model(name, "is missing"))?;
        if (part.dtype(), part.shape()) != (kind, shape) {
            let why = format!("is {:?} {:?} instead of {kind:?} {shape:?}", part.dtype(), part.shape());
            return Err(self.file.other_model(name, why));
        }
        Ok(part.data())
    }

    /// Floats of 32 bits.
    pub(super) fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, MiniLmError> {
        let (numbers, _) = self.part(name, Dtype::F32, shape)?.as_chunks::<4>();
        let floats: Vec<f32> = numbers.iter().map(|number| f32::from_le_bytes(*number)).collect();
        if floats.iter().all(|float| float.is_finite()) {
            return Ok(floats);
        }
        Err(self.file.damaged(format!("{name} holds numbers that are not finite")))
    }

    /// Whole numbers of 8 bits, and beside them `<name>.scale`, one a row.
    pub(super) fn rows(&self, name: &str, [rows, width]: [usize; 2]) -> Result<Rows, MiniLmError> {
        let codes = self.part(name, Dtype::I8, &[rows, width])?;
        let scales = self.floats(&format!("{name}.scale"), &[rows])?;
        Ok(Rows { codes: codes.iter().map(|byte| byte.cast_signed()).collect(), scales, width })
    }
}
