//! RMS and layer norms.

use super::rows::{Elements, map_rows};
use automodel_attention::dispatched;
use burn::tensor::Tensor;

/// What a norm does to each row of float32 numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NormPass {
    /// Added to the mean square.
    pub(crate) eps: f64,
    /// Whether the mean is subtracted first.
    pub(crate) centred: bool,
    /// Whether the factors are `1 + weight`.
    pub(crate) one_offset: bool,
}

/// `x` with its last axis normalised. The axes of `weight` and `bias` are the last axes of `x`.
pub(crate) fn normalized<const D: usize, const W: usize>(
    pass: NormPass,
    x: Tensor<D>,
    weight: Option<&Tensor<W>>,
    bias: Option<&Tensor<W>>,
) -> Result<Tensor<D>, Tensor<D>> {
    let shape = x.dims();
    let width = shape[D - 1];
    let elements = |parameter: Option<&Tensor<W>>| match parameter {
        Some(parameter) if shape.ends_with(&parameter.dims()) => Elements::of(parameter).map(Some),
        Some(_) => None,
        None => Some(None),
    };
    let (Some(weight), Some(bias)) = (elements(weight), elements(bias)) else {
        return Err(x);
    };
    let row = Row {
        eps: pass.eps as f32,
        centred: pass.centred,
        offset: if pass.one_offset { 1.0 } else { 0.0 },
        weight: weight.as_ref().and_then(Elements::as_slice),
        bias: bias.as_ref().and_then(Elements::as_slice),
        width,
    };
    map_rows(x, width, |first, rows| normalize(&row, first, rows))
}

struct Row<'a> {
    eps: f32,
    centred: bool,
    /// Added to the weight.
    offset: f32,
    /// One row, or several for rows that take turns.
    weight: Option<&'a [f32]>,
    /// As `weight`.
    bias: Option<&'a [f32]>,
    width: usize,
}

/// Elements handled side by side.
const LANES: usize = 16;

dispatched! {
    /// Normalises rows, of which the first has index `first`.
    normalize => portable_normalize(norm: &Row<'_>, first: usize, rows: &mut [f32])
}

#[inline(always)]
fn portable_normalize(norm: &Row<'_>, first: usize, rows: &mut [f32]) {
    let count = norm.width as f32;
    for (index, row) in (first..).zip(rows.chunks_exact_mut(norm.width)) {
        if norm.centred {
            let mean = sum(row, |x| x) / count;
            row.iter_mut().for_each(|x| *x -= mean);
        }
        let factor = (sum(row, |x| x * x) / count + norm.eps).sqrt().recip();
        row.iter_mut().for_each(|x| *x *= factor);
        if let Some(weight) = norm.weight {
            let weight = turn(weight, index, norm.width);
            row.iter_mut().zip(weight).for_each(|(x, weight)| *x *= weight + norm.offset);
        }
        if let Some(bias) = norm.bias {
            row.iter_mut().zip(turn(bias, index, norm.width)).for_each(|(x, bias)| *x += bias);
        }
    }
}

/// The row of a parameter that belongs to row `index`.
#[inline(always)]
fn turn(parameter: &[f32], index: usize, width: usize) -> &[f32] {
    &parameter[index * width % parameter.len()..][..width]
}

#[inline(always)]
fn sum(row: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (sum, &x) in sums.iter_mut().zip(chunk) {
            *sum += term(x);
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|&x| term(x)).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_portable_twin_gives_the_same_bits() {
        let numbers = |count: usize, step: usize| -> Vec<f32> {
            (0..count).map(|i| (i * step % 113) as f32 * 0.11 - 6.0).collect()
        };
        for (rows, width) in [(1, 1), (6, 77), (3, 2048)] {
            let (weight, bias) = (numbers(3 * width, 3), numbers(width, 7));
            for centred in [false, true] {
                let (weight, bias) = (Some(&weight[..]), Some(&bias[..]));
                let norm = Row { eps: 1e-5, centred, offset: 1.0, weight, bias, width };
                let (mut wide, mut portable) = (numbers(rows * width, 5), numbers(rows * width, 5));
                normalize(&norm, 2, &mut wide);
                portable_normalize(&norm, 2, &mut portable);
                assert_eq!(wide, portable, "{rows} rows of {width}, centred: {centred}");
            }
        }
    }
}
