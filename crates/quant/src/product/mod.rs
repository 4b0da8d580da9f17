//! Products of activations with weights of any representation.

mod tiled;

use std::ops::Range;

use rayon::prelude::*;

use crate::{
    QuantError,
    cpu::{Isa, MAX_ROWS},
};

pub(crate) use tiled::multiply as multiply_tiles;

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

/// A quantised weight `[out, in]` as products read it: sealed, each representation has one.
pub trait Matrix: Sync {
    /// `[out, in]`
    fn shape(&self) -> [usize; 2];

    /// Bytes of the codes of a row.
    #[doc(hidden)]
    fn row_bytes(&self) -> usize;

    /// The instruction set to compute with.
    #[doc(hidden)]
    #[allow(private_interfaces, reason = "sealed")]
    fn isa(&self) -> Isa;

    /// Decodes a range of the flattened weight, on this thread: the only arithmetic that a representation must bring.
    #[doc(hidden)]
    fn decode(&self, range: Range<usize>, out: &mut [f32]);

    /// Up to four rows of activations as `dot` reads them.
    #[doc(hidden)]
    type Prepared: Sync;

    /// All rows of activations for `dot`; `None` if rows are to be decoded to a buffer first.
    #[doc(hidden)]
    fn prepare(&self, x: &[f32], precision: Precision) -> Option<Vec<Self::Prepared>>;

    /// Products of a row with prepared rows of activations, without a buffer of decoded values.
    #[doc(hidden)]
    fn dot(&self, row: usize, x: &Self::Prepared, out: &mut [f32]);
}

/// `x @ W^T`: activations `[rows, in]` times a weight `[out, in]` make `[rows, out]`, row-major; [`matvec`] or [`matmul`], whichever
/// is faster.
///
/// ```
/// use automodel_quant::{Elements, Precision, multiply, table16::{Blocksize, Matrix4bit, QuantType, Quantized4bit}};
///
/// let weight = Quantized4bit::quantize(QuantType::Nf4, Blocksize::default(), [2, 64], Elements::F32(&[0.5; 128]))?;
/// let scales = weight.scales();
/// let product = multiply(&Matrix4bit::new(&weight, &scales)?, &[1.0; 64], Precision::Exact)?;
/// assert_eq!(product, [32.0, 32.0]);
/// # Ok::<(), automodel_quant::QuantError>(())
/// ```
///
/// # Errors
/// [`QuantError::LengthMismatch`] if `x` is not a whole number of rows.
pub fn multiply<W: Matrix>(weight: &W, x: &[f32], precision: Precision) -> Result<Vec<f32>, QuantError> {
    if x.len() > MAX_MATVEC_ROWS * weight.shape()[1] { matmul(weight, x) } else { matvec(weight, x, precision) }
}

/// The product for few rows: every code is read from memory once.
///
/// # Errors
/// [`QuantError::LengthMismatch`] if `x` is not a whole number of rows.
pub fn matvec<W: Matrix>(weight: &W, x: &[f32], precision: Precision) -> Result<Vec<f32>, QuantError> {
    let [rows, columns] = weight.shape();
    let m = count_rows(columns, x)?;
    if m == 0 {
        return Ok(Vec::new());
    }
    let prepared = weight.prepare(x, precision);
    let mut transposed = vec![0.0; rows * m];
    let product = |first: usize, out: &mut [f32]| match &prepared {
        Some(prepared) => {
            for (place, out) in out.chunks_exact_mut(m).enumerate() {
                for (x, out) in prepared.iter().zip(out.chunks_mut(MAX_ROWS)) {
                    weight.dot(first + place, x, out);
                }
            }
        }
        None => {
            let mut decoded = vec![0.0f32; columns];
            for (place, out) in out.chunks_exact_mut(m).enumerate() {
                let row = first + place;
                weight.decode(row * columns..(row + 1) * columns, &mut decoded);
                for (x, out) in x.chunks_exact(columns).zip(out) {
                    *out = dot(&decoded, x);
                }
            }
        }
    };
    let rows_of_task = rows_per_task(rows, weight.row_bytes());
    if rows_of_task >= rows {
        product(0, &mut transposed);
    } else {
        let tasks = transposed.par_chunks_mut(rows_of_task * m).enumerate();
        tasks.for_each(|(task, out)| product(task * rows_of_task, out));
    }
    Ok(if m == 1 { transposed } else { transpose(&transposed, rows, m) })
}

/// The product for many rows: tiles of the weight are decoded into cache and used for all rows of activations.
///
/// # Errors
/// [`QuantError::LengthMismatch`] if `x` is not a whole number of rows.
pub fn matmul<W: Matrix>(weight: &W, x: &[f32]) -> Result<Vec<f32>, QuantError> {
    let m = count_rows(weight.shape()[1], x)?;
    Ok(multiply_tiles(weight.isa(), weight.shape(), x, m, |elements, out| weight.decode(elements, out)))
}

/// Packed bytes that one task of `matvec` reads at least: less is not worth a thread.
const MIN_TASK_BYTES: usize = 1 << 15;

/// Rows that one task takes, of a weight whose rows have `row_bytes`.
pub(crate) fn rows_per_task(rows: usize, row_bytes: usize) -> usize {
    let least = MIN_TASK_BYTES.div_ceil(row_bytes.max(1));
    let tasks = rayon::current_num_threads() * 8;
    rows.div_ceil(tasks).max(least)
}

/// Elements that one task decodes.
const DECODED_TASK: usize = 1 << 16;

/// Decodes whole rows of a weight, on several threads if they are many.
pub(crate) fn decode_rows<W: Matrix>(weight: &W, rows: Range<usize>, out: &mut [f32]) {
    let [_, columns] = weight.shape();
    assert_eq!(out.len(), rows.len() * columns);
    out.par_chunks_mut(DECODED_TASK).enumerate().for_each(|(task, out)| {
        let start = rows.start * columns + task * DECODED_TASK;
        weight.decode(start..start + out.len(), out);
    });
}

/// Rows of activations, all whole.
pub(crate) fn count_rows(columns: usize, x: &[f32]) -> Result<usize, QuantError> {
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
pub(crate) fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = vec![0.0; values.len()];
    out.par_chunks_exact_mut(rows).enumerate().for_each(|(column, out)| {
        for (out, row) in out.iter_mut().zip(values.chunks_exact(columns)) {
            *out = row[column];
        }
    });
    out
}
