//! The product of a decoded tile with a panel of activations, one source for every instruction set.

/// Rows of weights that a tile has at most; their partial sums stay in registers six at a time.
pub(crate) const TILE_ROWS: usize = 48;

/// Rows of activations in a panel: two registers of eight.
pub(crate) const PANEL: usize = 16;

/// Rows whose sums stay in registers.
const STEP: usize = 6;

#[inline(always)]
fn multiply(w: &[f32], x: &[f32], depth: usize, c: &mut [f32], fused: bool) {
    if depth == 0 {
        return;
    }
    for (w, c) in w.chunks(STEP * depth).zip(c.chunks_mut(STEP * PANEL)) {
        match c.len() / PANEL {
            1 => step::<1>(w, x, depth, c, fused),
            2 => step::<2>(w, x, depth, c, fused),
            3 => step::<3>(w, x, depth, c, fused),
            4 => step::<4>(w, x, depth, c, fused),
            5 => step::<5>(w, x, depth, c, fused),
            _ => step::<STEP>(w, x, depth, c, fused),
        }
    }
}

#[inline(always)]
fn step<const ROWS: usize>(w: &[f32], x: &[f32], depth: usize, c: &mut [f32], fused: bool) {
    let rows: [&[f32]; ROWS] = std::array::from_fn(|row| &w[row * depth..][..depth]);
    let mut sums = [[0.0f32; PANEL]; ROWS];
    for (k, x) in x.chunks_exact(PANEL).take(depth).enumerate() {
        let x: &[f32; PANEL] = x.try_into().expect("chunks have this length");
        for row in 0..ROWS {
            // SAFETY: every row has `depth` elements and `k` is less than that.
            let w = unsafe { *rows[row].get_unchecked(k) };
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

pub(super) fn multiply_portable(w: &[f32], x: &[f32], depth: usize, c: &mut [f32]) {
    multiply(w, x, depth, c, false);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
pub(super) fn multiply_avx2(w: &[f32], x: &[f32], depth: usize, c: &mut [f32]) {
    multiply(w, x, depth, c, true);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
pub(super) fn multiply_avx512(w: &[f32], x: &[f32], depth: usize, c: &mut [f32]) {
    multiply(w, x, depth, c, true);
}
