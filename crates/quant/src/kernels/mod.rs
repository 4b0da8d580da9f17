//! The inner loops, once for each instruction set, chosen at run time.
//!
//! Everything here works on parts of one weight whose lengths the callers have checked; nothing here is public.

mod aligned;
mod portable;
mod tile;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod fixed;

use std::sync::OnceLock;

use half::{bf16, f16};

use crate::{Precision, QuantType};
pub(crate) use aligned::Aligned;
pub(crate) use portable::{LEAST_SCALE, magnitude};
pub(crate) use tile::{PANEL, TILE_DEPTH, TILE_ROWS, TILE_STRIDE};

/// An instruction set that kernels exist for and that this processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Isa(Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// Rows of activations that a product takes at once.
pub(crate) const MAX_ROWS: usize = 4;

/// Rows of activations for which integers are faster: with more, multiplications rather than look-ups take the time.
pub(crate) const FIXED_ROWS: usize = 2;

/// Elements that vector kernels take at once: no block is shorter.
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

    /// Codes whole blocks: `packed` gets half a byte and `absmax` a scale for each block of `values`.
    ///
    /// # Errors
    /// The place of a block with an element that is not finite; what was written is then meaningless.
    pub(crate) fn quantize_blocks<T: Kernel>(
        self,
        quant_type: QuantType,
        blocksize: usize,
        values: &[T],
        packed: &mut [u8],
        absmax: &mut [f32],
    ) -> Result<(), usize> {
        assert!(blocksize > 0 && blocksize.is_multiple_of(CHUNK));
        assert!(values.len() == absmax.len() * blocksize && packed.len() * 2 == values.len());
        match self.0 {
            Set::Portable => portable::quantize_blocks(quant_type.encoder(), blocksize, values, packed, absmax),
            // SAFETY: the set is only made after its features were detected; lengths are checked above.
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 | Set::Avx512 => unsafe {
                avx2::quantize_blocks(quant_type.encoder(), blocksize, values, packed, absmax)
            },
        }
    }

    /// Decodes elements that share a scale: `out.len()` values from half as many bytes.
    pub(crate) fn dequantize<T: Kernel>(self, quant_type: QuantType, scale: f32, packed: &[u8], out: &mut [T]) {
        assert_eq!(packed.len() * 2, out.len());
        match self.0 {
            Set::Portable => portable::dequantize(quant_type, scale, packed, out),
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 | Set::Avx512 => {
                let chunks = out.len() / CHUNK;
                // SAFETY: the set is only made after its features were detected; both slices hold so many chunks.
                unsafe {
                    T::decode_chunks(quant_type.decode_table(), scale, packed.as_ptr(), chunks, out.as_mut_ptr());
                }
                let (packed, out) = (&packed[chunks * CHUNK / 2..], &mut out[chunks * CHUNK..]);
                portable::dequantize(quant_type, scale, packed, out);
            }
        }
    }

    /// Brings rows of activations, `columns` long, into the order and the type that `dot` reads. Whole chunks only.
    pub(crate) fn prepare(self, precision: Precision, x: &[f32], columns: usize) -> Activations {
        assert!(columns > 0 && columns.is_multiple_of(CHUNK) && x.len().is_multiple_of(columns));
        let rows = x.len() / columns;
        let values = match (self.0, precision) {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the set is only made after its features were detected.
            (Set::Avx2, Precision::Fast) => Values::Fixed(unsafe { avx2::fixed_point(x) }),
            #[cfg(target_arch = "x86_64")]
            (Set::Avx2, Precision::Exact) => Values::Float(avx2::reorder(x)),
            #[cfg(target_arch = "x86_64")]
            (Set::Avx512, Precision::Fast) => Values::Fixed(avx512::fixed_point(x, columns)),
            #[cfg(target_arch = "x86_64")]
            (Set::Avx512, Precision::Exact) => Values::Float(avx512::reorder(x, columns)),
            (Set::Portable, _) => Values::Float(Aligned::copy(x)),
        };
        Activations { rows, columns, isa: self, values }
    }

    /// Products of one row of weights with up to [`MAX_ROWS`] rows of activations, which `prepare` brought into this order.
    pub(crate) fn dot(self, quant_type: QuantType, weights: &RowWeights<'_>, x: &Activations, out: &mut [f32]) {
        let columns = weights.packed.len() * 2;
        assert!(
            !out.is_empty() && out.len() <= MAX_ROWS && x.rows == out.len() && x.columns == columns && x.isa == self
        );
        assert!(weights.head > 0 && weights.head <= weights.blocksize && weights.head.is_multiple_of(CHUNK));
        assert!(columns.is_multiple_of(CHUNK) && weights.blocksize.is_multiple_of(CHUNK));
        assert_eq!(weights.absmax.len(), 1 + columns.saturating_sub(weights.head).div_ceil(weights.blocksize));
        match (self.0, &x.values) {
            // SAFETY: the set is only made after its features were detected; lengths are checked above.
            #[cfg(target_arch = "x86_64")]
            (Set::Avx2, Values::Float(x)) => unsafe { avx2::dot(quant_type, weights, x, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            (Set::Avx512, Values::Float(x)) => unsafe { avx512::dot(quant_type, weights, x, out) },
            (Set::Portable, Values::Float(x)) => portable::dot(quant_type, weights, x, out),
            #[cfg(target_arch = "x86_64")]
            (set, Values::Fixed(x)) => {
                assert!(out.len() <= FIXED_ROWS);
                match set {
                    // SAFETY: as above.
                    Set::Avx2 => unsafe { avx2::dot_fixed(quant_type, weights, x, out) },
                    // SAFETY: as above.
                    Set::Avx512 => unsafe { avx512::dot_fixed(quant_type, weights, x, out) },
                    Set::Portable => unreachable!("plain Rust prepares floats"),
                }
            }
        }
    }

    /// Rows of floats `[rows, columns]` times up to [`MAX_ROWS`] rows of activations in their own order: `[rows, x_rows]`.
    pub(crate) fn dot_dense<T: Kernel>(self, rows: &[T], columns: usize, x: &[f32], out: &mut [f32]) {
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
    pub(crate) fn widen<T: Kernel>(self, values: &[T], out: &mut [f32]) {
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

/// One row of a weight, whose blocks need not begin where the row does.
pub(crate) struct RowWeights<'a> {
    /// Half a byte for each element.
    pub(crate) packed: &'a [u8],
    /// The scales of the blocks that the row touches.
    pub(crate) absmax: &'a [f32],
    /// Elements that belong to the first of them.
    pub(crate) head: usize,
    /// Elements that belong to each later one, the last perhaps fewer.
    pub(crate) blocksize: usize,
}

impl<'a> RowWeights<'a> {
    /// Whether the row consists of whole blocks of that size.
    #[cfg(target_arch = "x86_64")]
    fn has_whole_blocks(&self, blocksize: usize) -> bool {
        self.blocksize == blocksize && self.head == blocksize && (self.packed.len() * 2).is_multiple_of(blocksize)
    }

    /// The end of a block that began in an earlier row, and the blocks after it, each with its scales.
    ///
    /// Two loops over blocks, one in the other, are much faster than one over a chained iterator.
    #[inline(always)]
    fn spans(&self) -> [(std::slice::Chunks<'a, u8>, &'a [f32]); 2] {
        let head = if self.head == self.blocksize { 0 } else { (self.head / 2).min(self.packed.len()) };
        let (head, body) = self.packed.split_at(head);
        let (head_absmax, absmax) = self.absmax.split_at(usize::from(!head.is_empty()));
        [(head.chunks(self.blocksize / 2), head_absmax), (body.chunks(self.blocksize / 2), absmax)]
    }
}

/// Rows of activations as the kernels of an instruction set read them.
pub(crate) struct Activations {
    rows: usize,
    columns: usize,
    isa: Isa,
    values: Values,
}

enum Values {
    /// Single precision.
    Float(Aligned<f32>),
    /// Integers with scales.
    #[cfg(target_arch = "x86_64")]
    Fixed(fixed::FixedPoint),
}

/// A floating-point type that kernels read and write.
pub trait Kernel: Copy + Default + Send + Sync + 'static {
    /// The same value in single precision.
    fn to_f32(self) -> f32;

    /// The nearest value, ties to even.
    fn from_f32(value: f32) -> Self;

    /// Eight values in single precision.
    ///
    /// # Safety
    /// Eight values are readable at `values` and the processor has AVX2 and F16C.
    #[cfg(target_arch = "x86_64")]
    #[doc(hidden)]
    unsafe fn load8(values: *const Self) -> std::arch::x86_64::__m256;

    /// Sixteen values in single precision.
    ///
    /// # Safety
    /// Sixteen values are readable at `values` and the processor has AVX-512 F.
    #[cfg(target_arch = "x86_64")]
    #[doc(hidden)]
    unsafe fn load16(values: *const Self) -> std::arch::x86_64::__m512;

    /// Decodes chunks of 16 bytes to 32 values each, in order.
    ///
    /// # Safety
    /// `chunks` times 16 bytes are readable, as many times 32 values are writable, and the processor has AVX2 and F16C.
    #[cfg(target_arch = "x86_64")]
    #[doc(hidden)]
    unsafe fn decode_chunks(table: &[f32; 16], scale: f32, packed: *const u8, chunks: usize, out: *mut Self);
}

macro_rules! kernel {
    ($type:ty, $load:ident, $decode:ident, |$value:ident| $to:expr, |$single:ident| $from:expr) => {
        impl Kernel for $type {
            #[inline(always)]
            fn to_f32(self) -> f32 {
                let $value = self;
                $to
            }

            #[inline(always)]
            fn from_f32($single: f32) -> Self {
                $from
            }

            #[cfg(target_arch = "x86_64")]
            #[inline(always)]
            unsafe fn load8(values: *const Self) -> std::arch::x86_64::__m256 {
                // SAFETY: the caller's promise is the callee's condition.
                unsafe { avx2::convert::$load(values.cast()) }
            }

            #[cfg(target_arch = "x86_64")]
            #[inline(always)]
            unsafe fn load16(values: *const Self) -> std::arch::x86_64::__m512 {
                // SAFETY: the caller's promise is the callee's condition.
                unsafe { avx512::$load(values.cast()) }
            }

            #[cfg(target_arch = "x86_64")]
            #[inline(always)]
            unsafe fn decode_chunks(table: &[f32; 16], scale: f32, packed: *const u8, chunks: usize, out: *mut Self) {
                // SAFETY: the caller's promise is the callee's condition.
                unsafe { avx2::decode::$decode(table, scale, packed, chunks, out.cast()) }
            }
        }
    };
}

kernel!(f32, load_f32, decode_f32, |value| value, |single| single);
kernel!(f16, load_f16, decode_f16, |value| value.to_f32(), |single| f16::from_f32(single));
kernel!(bf16, load_bf16, decode_bf16, |value| value.to_f32(), |single| bf16::from_f32(single));

#[cfg(test)]
mod tests;
