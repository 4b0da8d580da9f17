//! Products of activations with weights that stay in the dtype of their file.

use rayon::prelude::*;

use crate::{
    Element, Elements, QuantError,
    cpu::{Aligned, Isa, MAX_ROWS},
    product::{MAX_MATVEC_ROWS, count_rows, multiply_tiles, rows_per_task, transpose},
    table16::{check_length, elements_of},
};

/// A weight `[out, in]` of float32, float16 or bfloat16, borrowed: of a mapped file, for instance.
///
/// Products are computed in single precision from the values as they are, which every element type widens to without loss:
/// they are those of a float32 copy, without the copy.
///
/// ```
/// use automodel_quant::{DenseMatrix, Elements};
/// use half::bf16;
///
/// let weight = [bf16::from_f32(0.5); 2 * 64];
/// let matrix = DenseMatrix::new(Elements::BF16(&weight), [2, 64])?;
/// assert_eq!(matrix.multiply(&[1.0; 64])?, [32.0, 32.0]);
/// # Ok::<(), automodel_quant::QuantError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct DenseMatrix<'a> {
    values: Elements<'a>,
    rows: usize,
    columns: usize,
    isa: Isa,
}

impl<'a> DenseMatrix<'a> {
    /// A weight of `shape` from its elements, row-major.
    ///
    /// # Errors
    /// [`QuantError::InvalidShape`] or [`QuantError::LengthMismatch`].
    pub fn new(values: Elements<'a>, shape: [usize; 2]) -> Result<Self, QuantError> {
        check_length("weight", elements_of(shape)?, values.len())?;
        Ok(Self { values, rows: shape[0], columns: shape[1], isa: Isa::detect() })
    }

    /// `x @ W^T`: activations `[rows, in]` make `[rows, out]`, row-major. A few rows read the weight once and are limited by
    /// memory; for many rows, tiles of it are widened in the cache.
    ///
    /// # Errors
    /// [`QuantError::LengthMismatch`] if `x` is not a whole number of rows.
    pub fn multiply(&self, x: &[f32]) -> Result<Vec<f32>, QuantError> {
        let m = count_rows(self.columns, x)?;
        Ok(match self.values {
            Elements::F32(values) => self.product(values, x, m),
            Elements::F16(values) => self.product(values, x, m),
            Elements::BF16(values) => self.product(values, x, m),
        })
    }

    fn product<T: Element>(&self, values: &[T], x: &[f32], m: usize) -> Vec<f32> {
        if m <= MAX_MATVEC_ROWS {
            return self.few_rows(values, x, m);
        }
        let shape = [self.rows, self.columns];
        multiply_tiles(self.isa, shape, x, m, |elements, out| self.isa.widen(&values[elements], out))
    }

    fn few_rows<T: Element>(&self, values: &[T], x: &[f32], m: usize) -> Vec<f32> {
        if m == 0 {
            return Vec::new();
        }
        let x = &*Aligned::copy(x);
        let mut transposed = vec![0.0; self.rows * m];
        let rows = rows_per_task(self.rows, self.columns * size_of::<T>()).next_multiple_of(ROWS_AT_ONCE);
        let tasks = transposed.par_chunks_mut(rows * m).zip(values.par_chunks(rows * self.columns));
        tasks.for_each(|(out, weights)| self.task(weights, x, m, out));
        if m == 1 { transposed } else { transpose(&transposed, self.rows, m) }
    }

    /// Products `[rows, m]` of some rows of the weight.
    fn task<T: Element>(&self, weights: &[T], x: &[f32], m: usize, out: &mut [f32]) {
        if m <= MAX_ROWS {
            return self.isa.dot_dense(weights, self.columns, x, out);
        }
        let mut part = [0.0; ROWS_AT_ONCE * MAX_ROWS];
        let groups = weights.chunks(ROWS_AT_ONCE * self.columns).zip(out.chunks_mut(ROWS_AT_ONCE * m));
        for (weights, out) in groups {
            // The weights come from memory for the first activations and from the cache for the others.
            for (place, x) in x.chunks(MAX_ROWS * self.columns).enumerate() {
                let width = x.len() / self.columns;
                let part = &mut part[..weights.len() / self.columns * width];
                self.isa.dot_dense(weights, self.columns, x, part);
                for (out, part) in out.chunks_exact_mut(m).zip(part.chunks_exact(width)) {
                    out[place * MAX_ROWS..][..width].copy_from_slice(part);
                }
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn on(mut self, isa: Isa) -> Self {
        self.isa = isa;
        self
    }
}

/// Rows of the weight that are multiplied together.
const ROWS_AT_ONCE: usize = 4;
