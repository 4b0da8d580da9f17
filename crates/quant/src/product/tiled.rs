//! Products with many rows of activations: tiles of the weight are widened to single precision in the cache.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use crate::cpu::{Isa, PANEL, TILE_DEPTH, TILE_ROWS, TILE_STRIDE};

/// Rows of activations that are multiplied at once: more would only take memory.
const MAX_X_ROWS: usize = 512;

/// Bytes of scratch memory that a thread keeps for its next product.
const KEPT_BYTES: usize = 16 << 20;

thread_local! {
    static TILE: RefCell<Scratch> = RefCell::default();
    static PANELS: RefCell<Vec<f32>> = RefCell::default();
}

#[derive(Default)]
struct Scratch {
    tile: Vec<f32>,
    sums: Vec<f32>,
}

/// `x @ W^T` for a weight `[rows, columns]` whose elements `decode` gives by their place: `[m, rows]`.
pub(crate) fn multiply<D>(isa: Isa, [rows, columns]: [usize; 2], x: &[f32], m: usize, decode: D) -> Vec<f32>
where
    D: Fn(Range<usize>, &mut [f32]) + Sync,
{
    let mut y = vec![0.0; m * rows];
    if m == 0 {
        return y;
    }
    for (x, y) in x.chunks(MAX_X_ROWS * columns).zip(y.chunks_mut(MAX_X_ROWS * rows)) {
        let panels = Panels::new(x, columns);
        let out = Transposed { start: y.as_mut_ptr(), rows, m: x.len() / columns };
        (0..rows.div_ceil(TILE_ROWS)).into_par_iter().for_each(|tile| {
            let first = tile * TILE_ROWS;
            TILE.with_borrow_mut(|scratch| {
                scratch.sums.clear();
                scratch.sums.resize(panels.count * TILE_ROWS * PANEL, 0.0);
                scratch.tile.resize(TILE_ROWS * TILE_STRIDE, 0.0);
                let rows = TILE_ROWS.min(rows - first);
                add_products(isa, first..first + rows, columns, &panels, scratch, &decode);
                // SAFETY: each task has rows of its own, and `y` outlives the tasks.
                unsafe { out.write(first, rows, &scratch.sums) };
            });
        });
        panels.keep();
    }
    y
}

/// Products of some rows of the weight with all panels.
fn add_products<D>(isa: Isa, rows: Range<usize>, columns: usize, panels: &Panels, scratch: &mut Scratch, decode: &D)
where
    D: Fn(Range<usize>, &mut [f32]) + Sync,
{
    for start in (0..columns).step_by(TILE_DEPTH) {
        let depth = TILE_DEPTH.min(columns - start);
        let tile = &mut scratch.tile[..rows.len() * TILE_STRIDE];
        for (row, values) in rows.clone().zip(tile.chunks_exact_mut(TILE_STRIDE)) {
            let at = row * columns + start;
            decode(at..at + depth, &mut values[..depth]);
        }
        for (panel, sums) in scratch.sums.chunks_exact_mut(TILE_ROWS * PANEL).enumerate() {
            let x = panels.part(panel, start, depth);
            let next = if panel + 1 < panels.count { panels.part(panel + 1, start, depth) } else { &[] };
            isa.multiply_tile(tile, x, next, depth, &mut sums[..rows.len() * PANEL]);
        }
    }
}

/// Where products `[panel, weight row, activation row]` go: `[m, rows]`.
struct Transposed {
    start: *mut f32,
    rows: usize,
    m: usize,
}

// SAFETY: `write` is called for disjoint rows only.
unsafe impl Sync for Transposed {}

impl Transposed {
    /// # Safety
    /// `start` is writable for `m * rows` elements, and nobody else writes columns `first..first + count` meanwhile.
    unsafe fn write(&self, first: usize, count: usize, sums: &[f32]) {
        assert!(first + count <= self.rows);
        for (panel, sums) in sums.chunks_exact(TILE_ROWS * PANEL).enumerate() {
            for lane in 0..PANEL.min(self.m.saturating_sub(panel * PANEL)) {
                let at = (panel * PANEL + lane) * self.rows + first;
                // SAFETY: the row is one of `m` and the columns are within it; the caller promises the rest.
                let out = unsafe { std::slice::from_raw_parts_mut(self.start.add(at), count) };
                for (out, sum) in out.iter_mut().zip(sums[lane..].iter().step_by(PANEL)) {
                    *out = *sum;
                }
            }
        }
    }
}

/// Activations in panels of 16 rows, transposed: `[panel, in, 16]`, missing rows zero.
struct Panels {
    values: Vec<f32>,
    columns: usize,
    count: usize,
}

impl Panels {
    fn new(x: &[f32], columns: usize) -> Self {
        let count = (x.len() / columns).div_ceil(PANEL);
        let mut values = PANELS.take();
        values.resize(count * columns * PANEL, 0.0);
        values.par_chunks_exact_mut(columns * PANEL).zip(x.par_chunks(columns * PANEL)).for_each(|(panel, x)| {
            if x.len() < panel.len() {
                panel.fill(0.0);
            }
            for (lane, row) in x.chunks_exact(columns).enumerate() {
                for (slot, &value) in panel[lane..].iter_mut().step_by(PANEL).zip(row) {
                    *slot = value;
                }
            }
        });
        Self { values, columns, count }
    }

    fn part(&self, panel: usize, start: usize, depth: usize) -> &[f32] {
        &self.values[(panel * self.columns + start) * PANEL..][..depth * PANEL]
    }

    /// Leaves the memory to the next product of this thread.
    fn keep(self) {
        if self.values.capacity() * size_of::<f32>() <= KEPT_BYTES {
            PANELS.set(self.values);
        }
    }
}
