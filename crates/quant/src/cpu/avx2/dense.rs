//! Rows of floats times a few rows of activations, in single precision.

use std::arch::x86_64::*;

use super::dot::add_lanes;
use crate::cpu::Float;

/// Elements of a vector.
const LANES: usize = 8;

/// Vectors that one turn of the loop takes.
const UNROLL: usize = 4;

/// Products of the rows `[rows, columns]` with up to four rows of activations: `[rows, x_rows]`.
///
/// # Safety
/// AVX2, FMA and F16C; the lengths are those that `Isa::dot_dense` checks.
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::cpu) unsafe fn dot_dense<T: Float>(rows: &[T], columns: usize, x: &[f32], out: &mut [f32]) {
    // SAFETY: the caller's promise; the number of rows of activations is that of `x`.
    unsafe {
        match x.len() / columns {
            1 => groups::<T, 1, 4>(rows, columns, x, out),
            2 => groups::<T, 2, 4>(rows, columns, x, out),
            3 => groups::<T, 3, 2>(rows, columns, x, out),
            _ => groups::<T, 4, 2>(rows, columns, x, out),
        }
    }
}

/// Several rows at once: each is a stream of its own to the memory, and activations are loaded once for all.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn groups<T: Float, const M: usize, const ROWS: usize>(w: &[T], columns: usize, x: &[f32], out: &mut [f32]) {
    let (w_groups, out_groups) = (w.chunks_exact(ROWS * columns), out.chunks_exact_mut(ROWS * M));
    let w_rest = w_groups.remainder();
    // SAFETY: each part has as many rows as the callee takes.
    unsafe {
        for (w, out) in w_groups.zip(out_groups) {
            group::<T, M, ROWS>(w, columns, x, out);
        }
        let done = out.len() - w_rest.len() / columns * M;
        for (w, out) in w_rest.chunks_exact(columns).zip(out[done..].chunks_exact_mut(M)) {
            group::<T, M, 1>(w, columns, x, out);
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn group<T: Float, const M: usize, const ROWS: usize>(w: &[T], columns: usize, x: &[f32], out: &mut [f32]) {
    let mut sums = [[_mm256_setzero_ps(); M]; ROWS];
    let vectors = columns / LANES;
    let mut turn = |vector: usize| {
        let at = vector * LANES;
        // SAFETY: `at + LANES` is within a row, and the group has that many rows.
        unsafe {
            let x: [__m256; M] = std::array::from_fn(|m| _mm256_loadu_ps(x.as_ptr().add(m * columns + at)));
            for (row, sums) in sums.iter_mut().enumerate() {
                let w = T::load8(w.as_ptr().add(row * columns + at));
                for (sum, x) in sums.iter_mut().zip(x) {
                    *sum = _mm256_fmadd_ps(w, x, *sum);
                }
            }
        }
    };
    for start in (0..vectors / UNROLL * UNROLL).step_by(UNROLL) {
        for vector in 0..UNROLL {
            turn(start + vector);
        }
    }
    for vector in vectors / UNROLL * UNROLL..vectors {
        turn(vector);
    }
    for (row, (out, sums)) in out.chunks_exact_mut(M).zip(sums).enumerate() {
        let w = &w[row * columns..][vectors * LANES..columns];
        for (m, (out, sum)) in out.iter_mut().zip(sums).enumerate() {
            let x = &x[m * columns..][vectors * LANES..columns];
            *out = add_lanes(sum) + w.iter().zip(x).map(|(w, x)| w.to_f32() * x).sum::<f32>();
        }
    }
}

/// The same values in single precision; as many as both slices have.
///
/// # Safety
/// AVX2 and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::cpu) unsafe fn widen<T: Float>(values: &[T], out: &mut [f32]) {
    let (vectors, rest) = values.as_chunks::<LANES>();
    let (out_vectors, out_rest) = out.as_chunks_mut::<LANES>();
    for (values, out) in vectors.iter().zip(out_vectors) {
        // SAFETY: both have eight elements.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), T::load8(values.as_ptr())) };
    }
    for (value, out) in rest.iter().zip(out_rest) {
        *out = value.to_f32();
    }
}
