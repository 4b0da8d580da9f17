//! The product of a decoded tile with a panel of activations, one source for every instruction set.

/// Rows of weights that a tile has at most; their partial sums stay in registers six at a time.
pub(crate) const TILE_ROWS: usize = 48;

/// Rows of activations in a panel: two registers of eight.
pub(crate) const PANEL: usize = 16;

/// Elements from one row of a tile to the next, a constant so that all rows are addressed from one pointer: the depth that a tile
/// has at most, and a cache line so that rows do not compete for the same places of the cache.
pub(crate) const TILE_STRIDE: usize = TILE_DEPTH + 16;

/// Elements of a row that a tile has at most: a step of its rows and a panel of activations stay in the nearest cache.
pub(crate) const TILE_DEPTH: usize = 256;

/// Rows whose sums stay in registers: two registers each, of sixteen.
const STEP: usize = 6;

/// The same for registers that hold a whole panel, of which there are thirty-two.
#[cfg(target_arch = "x86_64")]
const WIDE_STEP: usize = 12;

#[inline(always)]
fn multiply<const STEP: usize>(w: &[f32], x: &[f32], next: &[f32], depth: usize, c: &mut [f32], fused: bool) {
    let steps = c.len() / (STEP * PANEL);
    let (w, w_rest) = w.split_at(steps * STEP * TILE_STRIDE);
    let (c, c_rest) = c.split_at_mut(steps * STEP * PANEL);
    let share = depth.div_ceil(steps.max(1));
    for (number, (w, c)) in w.chunks_exact(STEP * TILE_STRIDE).zip(c.chunks_exact_mut(STEP * PANEL)).enumerate() {
        ask_for(next, number * share, share);
        step::<STEP>(w, x, depth, c, fused);
    }
    for (w, c) in w_rest.chunks_exact(TILE_STRIDE).zip(c_rest.chunks_exact_mut(PANEL)) {
        step::<1>(w, x, depth, c, fused);
    }
}

/// Prefetches some places of a panel, which lie a cache line apart, long before they are read.
#[inline(always)]
fn ask_for(panel: &[f32], first: usize, count: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in panel.chunks(PANEL).skip(first).take(count) {
        // SAFETY: no more than a hint, and an instruction that every x86-64 processor has.
        unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (panel, first, count);
}

#[inline(always)]
fn step<const ROWS: usize>(w: &[f32], x: &[f32], depth: usize, c: &mut [f32], fused: bool) {
    assert!(depth <= TILE_DEPTH && w.len() == ROWS * TILE_STRIDE);
    let mut sums = [[0.0f32; PANEL]; ROWS];
    for (k, x) in x.as_chunks::<PANEL>().0.iter().take(depth).enumerate() {
        // Indices: iterators were measured to be slower here.
        #[allow(clippy::needless_range_loop)]
        for row in 0..ROWS {
            // SAFETY: the tile has `ROWS` rows of `TILE_STRIDE` elements, and `k` is less than that.
            let w = unsafe { *w.get_unchecked(row * TILE_STRIDE + k) };
            for lane in 0..PANEL {
                sums[row][lane] =
                    if fused { w.mul_add(x[lane], sums[row][lane]) } else { w * x[lane] + sums[row][lane] };
            }
        }
    }
    for (c, sums) in c.chunks_exact_mut(PANEL).zip(sums) {
        for (c, sum) in c.iter_mut().zip(sums) {
            *c += sum;
        }
    }
}

pub(super) fn multiply_portable(w: &[f32], x: &[f32], next: &[f32], depth: usize, c: &mut [f32]) {
    multiply::<STEP>(w, x, next, depth, c, false);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
pub(super) fn multiply_avx2(w: &[f32], x: &[f32], next: &[f32], depth: usize, c: &mut [f32]) {
    multiply::<STEP>(w, x, next, depth, c, true);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
pub(super) fn multiply_avx512(w: &[f32], x: &[f32], next: &[f32], depth: usize, c: &mut [f32]) {
    multiply::<WIDE_STEP>(w, x, next, depth, c, true);
}
