//! The rotation on Burn's CPU backend: one pass from any layout with contiguous heads to `[batch, heads, length, dim]`.

use super::RopePairing;
use crate::dispatched;
use crate::host::{self, Rows4};
use crate::parallel::for_rows;
use burn::tensor::Tensor;
use burn_flex::Flex;

/// Cosines and sines `[rows, length, half]`, with one row for each sequence of the batch or one for all.
pub(crate) struct Angles<'a> {
    cos: &'a [f32],
    sin: &'a [f32],
    rows: usize,
    half: usize,
    pairing: RopePairing,
}

/// `x` `[batch, heads, length, head_dim]` rotated; an error with `x` itself if it is not a float32 tensor of the CPU backend.
///
/// The tables are `[rows, 1, length, half]`, with `rows` 1 or the batch size.
#[allow(clippy::result_large_err, reason = "the argument handed back")]
pub(super) fn rotate(
    x: Tensor<4>,
    cos: &Tensor<4>,
    sin: &Tensor<4>,
    pairing: RopePairing,
) -> Result<Tensor<4>, Tensor<4>> {
    let [batch, heads, length, head_dim] = x.dims();
    let [rows, _, positions, half] = cos.dims();
    let fits = positions == length && 2 * half <= head_dim && (rows == 1 || rows == batch);
    let (Ok(cos), Ok(sin), true) = (host::try_into_flex(cos.clone()), host::try_into_flex(sin.clone()), fits) else {
        return Err(x);
    };
    let (Some(cos), Some(sin)) = (cos.as_slice::<f32>(), sin.as_slice::<f32>()) else {
        return Err(x);
    };
    let x = host::with_whole_rows(host::try_into_flex(x)?);
    let Some(from) = Rows4::of(&x) else {
        return Err(Tensor::from_primitive::<Flex>(x));
    };
    let angles = Angles { cos, sin, rows, half, pairing };
    let mut rotated = vec![0.0; batch * heads * length * head_dim];
    for_rows(&mut rotated, head_dim, |first, to| rotate_rows(&angles, &from, [heads, length, head_dim], first, to));
    Ok(host::flex_tensor(rotated, [batch, heads, length, head_dim]))
}

dispatched! {
    /// Fills `to`, the rows of `[batch, heads, length, head_dim]` from `first` on. `sizes` is `[heads, length, head_dim]`.
    rotate_rows => portable_rotate_rows(angles: &Angles<'_>, from: &Rows4<'_>, sizes: [usize; 3], first: usize, to: &mut [f32])
}

#[inline(always)]
fn portable_rotate_rows(
    angles: &Angles<'_>,
    from: &Rows4<'_>,
    [heads, length, head_dim]: [usize; 3],
    first: usize,
    to: &mut [f32],
) {
    let half = angles.half;
    for (row, to) in (first..).zip(to.chunks_exact_mut(head_dim)) {
        let (batch, head, position) = (row / length / heads, row / length % heads, row % length);
        let x = from.row([batch, head, position]);
        let table = (batch % angles.rows * length + position) * half;
        let (cos, sin) = (&angles.cos[table..][..half], &angles.sin[table..][..half]);
        match angles.pairing {
            RopePairing::HalfSplit | RopePairing::HalfSplitSwapped => {
                let (x_first, x_second) = (&x[..half], &x[half..2 * half]);
                let (to_first, to_second) = to[..2 * half].split_at_mut(half);
                for i in 0..half {
                    to_first[i] = x_first[i] * cos[i] - x_second[i] * sin[i];
                    to_second[i] = x_second[i] * cos[i] + x_first[i] * sin[i];
                }
            }
            RopePairing::Interleaved => {
                let (pairs, _) = x[..2 * half].as_chunks::<2>();
                let (to_pairs, _) = to[..2 * half].as_chunks_mut::<2>();
                for i in 0..half {
                    let [first, second] = pairs[i];
                    to_pairs[i] = [first * cos[i] - second * sin[i], second * cos[i] + first * sin[i]];
                }
            }
        }
        to[2 * half..].copy_from_slice(&x[2 * half..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;
    use burn_flex::FlexTensor;

    #[test]
    fn the_portable_twin_gives_the_same_bits() {
        let numbers = |count: usize, step: usize| -> Vec<f32> {
            (0..count).map(|i| ((i * step % 101) as f32 - 50.0) * 0.37).collect()
        };
        let (batch, sizes) = (2, [3, 5, 23]);
        let [heads, length, head_dim] = sizes;
        let shape = [batch, heads, length, head_dim];
        let x = FlexTensor::from_data(TensorData::new(numbers(shape.iter().product(), 7), shape));
        let from = Rows4::of(&x).expect("contiguous rows");
        for (pairing, half) in [(RopePairing::HalfSplit, 11), (RopePairing::Interleaved, 9)] {
            let (cos, sin) = (numbers(batch * length * half, 3), numbers(batch * length * half, 5));
            let angles = Angles { cos: &cos, sin: &sin, rows: batch, half, pairing };
            let mut found = [vec![0.0; 12 * head_dim], vec![0.0; 12 * head_dim]];
            rotate_rows(&angles, &from, sizes, 4, &mut found[0]);
            portable_rotate_rows(&angles, &from, sizes, 4, &mut found[1]);
            assert_eq!(found[0], found[1], "{pairing:?}");
        }
    }
}
