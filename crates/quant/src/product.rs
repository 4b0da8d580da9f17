//! Products of activations with 4-bit weights.

mod dense;
mod tiled;

use std::ops::Range;

use rayon::prelude::*;

pub use dense::DenseMatrix;

use crate::{
    Element, Layout4bit, QuantError, Quantized4bit,
    kernels::{Activations, FIXED_ROWS, Isa, MAX_ROWS, RowWeights},
    table16::{Blocks, check_length, elements_of},
};

/// How a product of a few rows is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// In single precision.
    #[default]
    Exact,
    /// Where that is faster (one or two rows on AVX2 and AVX-512), activations as 15-bit integers with a scale for each 32 and codes as
    /// 16-bit integers: tests bound the error by 2e-4 of the norm of the row of weights times the norm of the activations. On tensor cores
    /// codes are rounded to the dtype of the activations. Elsewhere as `Exact`.
    Fast,
}

/// Most rows of activations for which [`matvec`] is chosen over [`matmul`].
pub const MAX_MATVEC_ROWS: usize = 16;

/// The 4-bit weight of a product, borrowed: `[out, in]` with scales in single precision.
#[derive(Clone, Copy)]
pub struct Matrix4bit<'a> {
    blocks: Blocks<'a>,
    rows: usize,
    columns: usize,
}

impl<'a> Matrix4bit<'a> {
    /// A weight with its scales, which [`Quantized4bit::scales`] gives.
    ///
    /// # Errors
    /// [`QuantError::LengthMismatch`] if there is not one scale for each block.
    pub fn new(weight: &'a Quantized4bit, scales: &'a [f32]) -> Result<Self, QuantError> {
        Self::from_parts(weight.layout(), weight.packed(), scales)
    }

    /// A weight from borrowed parts: `packed` has a byte for each two elements, `scales` a number for each block.
    ///
    /// # Errors
    /// [`QuantError::InvalidShape`] or [`QuantError::LengthMismatch`].
    pub fn from_parts(layout: Layout4bit, packed: &'a [u8], scales: &'a [f32]) -> Result<Self, QuantError> {
        let Layout4bit { quant_type, blocksize, shape } = layout;
        let elements = elements_of(shape)?;
        check_length("packed weight", elements.div_ceil(2), packed.len())?;
        check_length("absmax", blocksize.blocks(elements), scales.len())?;
        let blocks = Blocks { quant_type, blocksize: blocksize.get(), packed, scales, isa: Isa::detect() };
        Ok(Self { blocks, rows: shape[0], columns: shape[1] })
    }

    /// Decodes whole rows, row-major, rounded to `T`.
    ///
    /// # Errors
    /// [`QuantError::LengthMismatch`] if `rows` are not within the weight or `out` is not their size.
    pub fn dequantize_rows<T: Element>(&self, rows: Range<usize>, out: &mut [T]) -> Result<(), QuantError> {
        check_length("rows of the weight", rows.end.clamp(rows.start, self.rows.max(rows.start)), rows.end)?;
        check_length("dequantised rows", rows.len() * self.columns, out.len())?;
        self.blocks.dequantize(rows.start * self.columns..rows.end * self.columns, out);
        Ok(())
    }

    #[cfg(test)]
    fn on(mut self, isa: Isa) -> Self {
        self.blocks.isa = isa;
        self
    }

    fn row(&self, row: usize) -> RowWeights<'a> {
        let (start, end) = (row * self.columns, (row + 1) * self.columns);
        let blocksize = self.blocks.blocksize;
        let first = start / blocksize;
        RowWeights {
            packed: &self.blocks.packed[start / 2..end / 2],
            absmax: &self.blocks.scales[first..end.div_ceil(blocksize)],
            head: (first + 1) * blocksize - start,
            blocksize,
        }
    }
}

/// `x @ W^T`: activations `[rows, in]` times a weight `[out, in]` make `[rows, out]`, row-major; [`matvec`] or [`matmul`], whichever
/// is faster.
///
/// ```
/// use automodel_quant::{Blocksize, Elements, Matrix4bit, Precision, QuantType, Quantized4bit, multiply};
///
/// let weight = Quantized4bit::quantize(QuantType::Nf4, Blocksize::default(), [2, 64], Elements::F32(&[0.5; 128]))?;
/// let scales = weight.scales();
/// let product = multiply(&Matrix4bit::new(&weight, &scales)?, &[1.0; 64], Precision::Exact)?;
/// assert_eq!(product, [32.0, 32.0]);
/// # Ok::<(), automodel_quant::QuantError>(())
/// ```
///
/// # Errors
/// [`QuantError::LengthMismatch`] if `x` is no whole number of rows.
pub fn multiply(weight: &Matrix4bit<'_>, x: &[f32], precision: Precision) -> Result<Vec<f32>, QuantError> {
    if x.len() > MAX_MATVEC_ROWS * weight.columns { matmul(weight, x) } else { matvec(weight, x, precision) }
}

/// The product for few rows: every packed byte is read from memory once.
///
/// # Errors
/// [`QuantError::LengthMismatch`] if `x` is no whole number of rows.
pub fn matvec(weight: &Matrix4bit<'_>, x: &[f32], precision: Precision) -> Result<Vec<f32>, QuantError> {
    let m = count_rows(weight.columns, x)?;
    let isa = weight.blocks.isa;
    if m == 0 {
        return Ok(Vec::new());
    }
    let direct = weight.blocks.rows_are_chunks(weight.columns);
    let precision = if m <= FIXED_ROWS { precision } else { Precision::Exact };
    // A row that does not begin and end with a chunk is decoded to a buffer first.
    let groups: Vec<Activations> = x
        .chunks(MAX_ROWS * weight.columns)
        .filter(|_| direct)
        .map(|rows| isa.prepare(precision, rows, weight.columns))
        .collect();
    let mut transposed = vec![0.0; weight.rows * m];
    let product = |first: usize, out: &mut [f32]| {
        let mut decoded = if direct { Vec::new() } else { vec![0.0f32; weight.columns] };
        for (place, out) in out.chunks_exact_mut(m).enumerate() {
            let row = first + place;
            if direct {
                let row = weight.row(row);
                for (x, out) in groups.iter().zip(out.chunks_mut(MAX_ROWS)) {
                    isa.dot(weight.blocks.quant_type, &row, x, out);
                }
            } else {
                weight.blocks.dequantize_here(row * weight.columns..(row + 1) * weight.columns, &mut decoded);
                for (x, out) in x.chunks_exact(weight.columns).zip(out) {
                    *out = dot(&decoded, x);
                }
            }
        }
    };
    let rows = rows_per_task(weight.rows, weight.columns.div_ceil(2));
    if rows >= weight.rows {
        product(0, &mut transposed);
    } else {
        let tasks = transposed.par_chunks_mut(rows * m).enumerate();
        tasks.for_each(|(task, out)| product(task * rows, out));
    }
    Ok(if m == 1 { transposed } else { transpose(&transposed, weight.rows, m) })
}

/// Packed bytes that one task of `matvec` reads at least: less is not worth a thread.
const MIN_TASK_BYTES: usize = 1 << 15;

/// Rows that one task takes, of a weight whose rows have `row_bytes`.
fn rows_per_task(rows: usize, row_bytes: usize) -> usize {
    let least = MIN_TASK_BYTES.div_ceil(row_bytes.max(1));
    let tasks = rayon::current_num_threads() * 8;
    rows.div_ceil(tasks).max(least)
}

/// The product for many rows: tiles of the weight are decoded into cache and used for all rows of activations.
///
/// # Errors
/// [`QuantError::LengthMismatch`] if `x` is no whole number of rows.
pub fn matmul(weight: &Matrix4bit<'_>, x: &[f32]) -> Result<Vec<f32>, QuantError> {
    let m = count_rows(weight.columns, x)?;
    Ok(tiled::multiply(weight.blocks.isa, [weight.rows, weight.columns], x, m, |elements, out| {
        weight.blocks.dequantize_here(elements, out);
    }))
}

/// Rows of activations, all whole.
fn count_rows(columns: usize, x: &[f32]) -> Result<usize, QuantError> {
    let rows = x.len() / columns;
    let expected = rows * columns;
    if expected == x.len() {
        return Ok(rows);
    }
    Err(QuantError::LengthMismatch { part: "activations", expected: expected + columns, found: x.len() })
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 8;
    let mut sums = [0.0; LANES];
    let (a_lanes, a_rest) = a.as_chunks::<LANES>();
    let (b_lanes, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_lanes.iter().zip(b_lanes) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

/// `[rows, columns]` to `[columns, rows]`.
fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = vec![0.0; values.len()];
    out.par_chunks_exact_mut(rows).enumerate().for_each(|(column, out)| {
        for (out, row) in out.iter_mut().zip(values.chunks_exact(columns)) {
            *out = row[column];
        }
    });
    out
}

#[cfg(test)]
mod tests;
