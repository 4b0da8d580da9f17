//! Instruction sets, chosen at run time, and the loops that every representation shares: products of decoded values.
//!
//! Everything here works on parts of one weight whose lengths the callers have checked.

mod aligned;
mod float;
mod portable;
mod row;
mod tile;

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;

use std::sync::OnceLock;

pub(crate) use aligned::Aligned;
pub use float::Float;
pub(crate) use portable::magnitude;
pub(crate) use row::{Decode, Row};
pub(crate) use tile::{PANEL, TILE_DEPTH, TILE_ROWS, TILE_STRIDE};

/// An instruction set that this processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Isa(Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Set {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// Rows of activations that a product takes at once.
pub(crate) const MAX_ROWS: usize = 4;

/// Elements that vector kernels take at once: no block that shares a scale is shorter.
pub(crate) const CHUNK: usize = 32;

impl Isa {
    /// Plain Rust, which every processor has.
    pub(crate) const PORTABLE: Self = Self(Set::Portable);

    /// The widest instruction set of this processor.
    pub(crate) fn detect() -> Self {
        static DETECTED: OnceLock<Isa> = OnceLock::new();
        *DETECTED.get_or_init(|| Self::available().last().copied().unwrap_or(Self::PORTABLE))
    }

    /// All that this processor has, the narrowest first.
    pub(crate) fn available() -> Vec<Self> {
        #[allow(unused_mut, reason = "processors without vector kernels have this one only")]
        let mut sets = vec![Self::PORTABLE];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c") {
            sets.push(Self(Set::Avx2));
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
                sets.push(Self(Set::Avx512));
            }
        }
        sets
    }

    /// The set, which was detected: AVX2 comes with FMA and F16C, AVX-512 with F and BW and all of AVX2's.
    pub(crate) fn set(self) -> Set {
        self.0
    }

    /// Brings rows of activations, `columns` long, into the order in which `dot` decodes weights. Whole chunks only.
    pub(crate) fn prepare<D: Decode>(self, x: &[f32], columns: usize) -> Activations {
        assert!(columns > 0 && columns.is_multiple_of(CHUNK) && x.len().is_multiple_of(columns));
        let values = match self.0 {
            Set::Portable => Aligned::copy(x),
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => avx2::reorder::<D::Avx2>(x),
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => avx512::reorder::<D::Avx512>(x, columns),
        };
        Activations { rows: x.len() / columns, columns, isa: self, values }
    }

    /// Products of one row of weights with up to [`MAX_ROWS`] rows of activations, which `prepare` brought into the decoder's order.
    pub(crate) fn dot<D: Decode>(self, decoder: D, row: &Row<'_>, x: &Activations, out: &mut [f32]) {
        row.check::<D>();
        let columns = row.columns::<D>();
        assert!(
            !out.is_empty() && out.len() <= MAX_ROWS && x.rows == out.len() && x.columns == columns && x.isa == self
        );
        match self.0 {
            Set::Portable => portable::dot(decoder, row, &x.values, out),
            // SAFETY: the set is only made after its features were detected; lengths are checked above.
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => unsafe { avx2::dot::<D>(decoder.avx2(), row, &x.values, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => unsafe { avx512::dot::<D>(decoder.avx512(), row, &x.values, out) },
        }
    }

    /// Rows of floats `[rows, columns]` times up to [`MAX_ROWS`] rows of activations in their own order: `[rows, x_rows]`.
    pub(crate) fn dot_dense<T: Float>(self, rows: &[T], columns: usize, x: &[f32], out: &mut [f32]) {
        assert!(columns > 0 && rows.len().is_multiple_of(columns) && x.len().is_multiple_of(columns));
        let m = x.len() / columns;
        assert!((1..=MAX_ROWS).contains(&m) && out.len() == rows.len() / columns * m);
        match self.0 {
            Set::Portable => portable::dot_dense(rows, columns, x, out),
            // SAFETY: the set is only made after its features were detected; lengths are checked above.
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => unsafe { avx2::dot_dense(rows, columns, x, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => unsafe { avx512::dot_dense(rows, columns, x, out) },
        }
    }

    /// The same values in single precision.
    pub(crate) fn widen<T: Float>(self, values: &[T], out: &mut [f32]) {
        assert_eq!(values.len(), out.len());
        match self.0 {
            Set::Portable => values.iter().zip(out).for_each(|(value, out)| *out = value.to_f32()),
            // SAFETY: the set is only made after its features were detected.
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 | Set::Avx512 => unsafe { avx2::widen(values, out) },
        }
    }

    /// `c[r][p] += sum over k of w[r][k] * x[k][p]` for a tile of up to [`TILE_ROWS`] rows and a panel of [`PANEL`] columns.
    ///
    /// `w` is row-major, [`TILE_STRIDE`] from row to row, with up to [`TILE_DEPTH`] columns, `x` is `[depth, PANEL]`, `c` is `[rows, PANEL]`. `next` is the
    /// panel that will be multiplied after this one, or empty.
    pub(crate) fn multiply_tile(self, w: &[f32], x: &[f32], next: &[f32], depth: usize, c: &mut [f32]) {
        assert!(w.len() * PANEL == c.len() * TILE_STRIDE && x.len() == depth * PANEL && depth <= TILE_DEPTH);
        match self.0 {
            // SAFETY: the set is only made after its features were detected.
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => unsafe { tile::multiply_avx2(w, x, next, depth, c) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => unsafe { tile::multiply_avx512(w, x, next, depth, c) },
            Set::Portable => tile::multiply_portable(w, x, next, depth, c),
        }
    }
}

/// Rows of activations in the order in which an instruction set decodes weights.
pub(crate) struct Activations {
    rows: usize,
    columns: usize,
    isa: Isa,
    values: Aligned<f32>,
}
