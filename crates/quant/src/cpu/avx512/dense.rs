//! Rows of floats times a few rows of activations, in single precision.

use std::arch::x86_64::*;

use crate::cpu::Float;

/// Elements of a vector.
const LANES: usize = 16;

/// Rows of weights that are read at once.
const STREAMS: usize = 4;

/// Vectors that one turn of the loop takes.
const UNROLL: usize = 4;

/// How far ahead weights are prefetched, in bytes: the processor's own prediction ends with a page.
const AHEAD: usize = 4096;

/// Products of the rows `[rows, columns]` with up to four rows of activations: `[rows, x_rows]`.
///
/// The rows are read in quarters, one row of each at a time: four long streams from memory.
///
/// # Safety
/// AVX-512 F; the lengths are those that `Isa::dot_dense` checks.
#[target_feature(enable = "avx512f")]
pub(in crate::cpu) unsafe fn dot_dense<T: Float>(rows: &[T], columns: usize, x: &[f32], out: &mut [f32]) {
    // SAFETY: the caller's promise; the number of rows of activations is that of `x`.
    unsafe {
        match x.len() / columns {
            1 => quarters::<T, 1>(rows, columns, x, out),
            2 => quarters::<T, 2>(rows, columns, x, out),
            3 => quarters::<T, 3>(rows, columns, x, out),
            _ => quarters::<T, 4>(rows, columns, x, out),
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn quarters<T: Float, const M: usize>(w: &[T], columns: usize, x: &[f32], out: &mut [f32]) {
    let rows = w.len() / columns;
    let share = rows / STREAMS;
    for row in 0..share {
        let places: [usize; STREAMS] = std::array::from_fn(|stream| stream * share + row);
        let w = places.map(|place| &w[place * columns..][..columns]);
        // SAFETY: `x` has `M` rows of as many columns.
        let products: [[f32; M]; STREAMS] = unsafe { together(w, x) };
        for (place, products) in places.into_iter().zip(products) {
            out[place * M..][..M].copy_from_slice(&products);
        }
    }
    for row in share * STREAMS..rows {
        // SAFETY: as above.
        let [products] = unsafe { together::<T, M, 1>([&w[row * columns..][..columns]], x) };
        out[row * M..][..M].copy_from_slice(&products);
    }
}

/// Products of some rows of weights with `M` rows of activations.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn together<T: Float, const M: usize, const ROWS: usize>(w: [&[T]; ROWS], x: &[f32]) -> [[f32; M]; ROWS] {
    let columns = x.len() / M;
    let mut sums = [[_mm512_setzero_ps(); M]; ROWS];
    let vectors = columns / LANES;
    let mut turn = |vector: usize| {
        let at = vector * LANES;
        // SAFETY: `at + LANES` is within each row.
        unsafe {
            let x: [__m512; M] = std::array::from_fn(|m| _mm512_loadu_ps(x.as_ptr().add(m * columns + at)));
            for (w, sums) in w.iter().zip(&mut sums) {
                let w = T::load16(w.as_ptr().add(at));
                for (sum, x) in sums.iter_mut().zip(x) {
                    *sum = _mm512_fmadd_ps(w, x, *sum);
                }
            }
        }
    };
    for start in (0..vectors / UNROLL * UNROLL).step_by(UNROLL) {
        for w in w {
            let ahead = w.as_ptr().wrapping_add(start * LANES).cast::<i8>().wrapping_add(AHEAD);
            for line in 0..UNROLL * LANES * size_of::<T>() / 64 {
                _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(line * 64));
            }
        }
        for vector in 0..UNROLL {
            turn(start + vector);
        }
    }
    for vector in vectors / UNROLL * UNROLL..vectors {
        turn(vector);
    }
    let mut out = [[0.0; M]; ROWS];
    for ((w, out), sums) in w.iter().zip(&mut out).zip(sums) {
        let w = &w[vectors * LANES..];
        for (m, (out, sum)) in out.iter_mut().zip(sums).enumerate() {
            let x = &x[m * columns..][vectors * LANES..columns];
            *out = _mm512_reduce_add_ps(sum) + w.iter().zip(x).map(|(w, x)| w.to_f32() * x).sum::<f32>();
        }
    }
    out
}

/// # Safety
/// Sixteen values are readable; AVX-512 F.
#[inline(always)]
pub(in crate::cpu) unsafe fn load_f32(values: *const f32) -> __m512 {
    // SAFETY: the caller's promise.
    unsafe { _mm512_loadu_ps(values) }
}

/// # Safety
/// Sixteen values are readable; AVX-512 F.
#[inline(always)]
pub(in crate::cpu) unsafe fn load_f16(values: *const u16) -> __m512 {
    // SAFETY: the caller's promise.
    unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(values.cast())) }
}

/// # Safety
/// Sixteen values are readable; AVX-512 F.
#[inline(always)]
pub(in crate::cpu) unsafe fn load_bf16(values: *const u16) -> __m512 {
    // SAFETY: the caller's promise.
    unsafe {
        let halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(values.cast()));
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves))
    }
}
