//! Codes to values and back on the CPU, once for each instruction set.

mod fixed;
mod portable;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use super::QuantType;
use crate::{
    Element, Precision,
    cpu::{Activations, CHUNK, Decode, Float, Isa, Row, Set},
};

pub(crate) use portable::LEAST_SCALE;

/// Rows of activations for which integers are faster: with more, multiplications rather than look-ups take the time.
pub(super) const FIXED_ROWS: usize = 2;

/// The table of a code as a decoder.
#[derive(Clone, Copy)]
pub(super) struct Table(pub QuantType);

impl Decode for Table {
    const CHUNK_BYTES: usize = CHUNK / 2;

    #[inline(always)]
    fn eight(self, codes: &[u8]) -> [f32; 8] {
        let table = self.0.decode_table();
        let mut values = [0.0; 8];
        for (pair, byte) in values.chunks_exact_mut(2).zip(codes) {
            pair[0] = table[usize::from(byte >> 4)];
            pair[1] = table[usize::from(byte & 15)];
        }
        values
    }

    #[cfg(target_arch = "x86_64")]
    type Avx2 = avx2::Decoder;

    #[cfg(target_arch = "x86_64")]
    type Avx512 = avx512::Decoder;

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn avx2(self) -> avx2::Decoder {
        avx2::Decoder::new(self.0)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn avx512(self) -> avx512::Decoder {
        avx512::Decoder::new(self.0)
    }
}

/// Codes whole blocks: `packed` gets half a byte and `absmax` a scale for each block of `values`.
///
/// # Errors
/// The place of a block with an element that is not finite; what was written is then meaningless.
pub(super) fn quantize_blocks<T: Float>(
    isa: Isa,
    quant_type: QuantType,
    blocksize: usize,
    values: &[T],
    packed: &mut [u8],
    absmax: &mut [f32],
) -> Result<(), usize> {
    assert!(blocksize > 0 && blocksize.is_multiple_of(CHUNK));
    assert!(values.len() == absmax.len() * blocksize && packed.len() * 2 == values.len());
    match isa.set() {
        Set::Portable => portable::quantize_blocks(quant_type.encoder(), blocksize, values, packed, absmax),
        // SAFETY: the set is only made after its features were detected; lengths are checked above.
        #[cfg(target_arch = "x86_64")]
        Set::Avx2 | Set::Avx512 => unsafe {
            avx2::quantize_blocks(quant_type.encoder(), blocksize, values, packed, absmax)
        },
    }
}

/// Decodes elements that share a scale: `out.len()` values from half as many bytes.
pub(super) fn dequantize<T: Element>(isa: Isa, quant_type: QuantType, scale: f32, packed: &[u8], out: &mut [T]) {
    assert_eq!(packed.len() * 2, out.len());
    match isa.set() {
        Set::Portable => portable::dequantize(quant_type, scale, packed, out),
        #[cfg(target_arch = "x86_64")]
        Set::Avx2 | Set::Avx512 => {
            let chunks = out.len() / CHUNK;
            // SAFETY: the set is only made after its features were detected; both slices hold that many chunks.
            unsafe { decode_chunks::<T>(quant_type, scale, packed.as_ptr(), chunks, out.as_mut_ptr()) };
            let (packed, out) = (&packed[chunks * CHUNK / 2..], &mut out[chunks * CHUNK..]);
            portable::dequantize(quant_type, scale, packed, out);
        }
    }
}

/// Decodes chunks of 16 bytes to 32 values each, in order.
///
/// # Safety
/// `chunks` times 16 bytes are readable, as many times 32 values are writable, and the processor has AVX2 and F16C.
#[cfg(target_arch = "x86_64")]
#[inline]
unsafe fn decode_chunks<T: Element>(quant_type: QuantType, scale: f32, packed: *const u8, chunks: usize, out: *mut T) {
    use crate::WeightDtype;
    let table = quant_type.decode_table();
    // SAFETY: the caller's promise; the dtype says which type `T` is.
    unsafe {
        match T::DTYPE {
            WeightDtype::Float32 => avx2::decode_f32(table, scale, packed, chunks, out.cast()),
            WeightDtype::Float16 => avx2::decode_f16(table, scale, packed, chunks, out.cast()),
            WeightDtype::BFloat16 => avx2::decode_bf16(table, scale, packed, chunks, out.cast()),
        }
    }
}

/// Rows of activations as `dot` reads them.
pub struct Prepared(Values);

enum Values {
    /// Single precision.
    Float(Activations),
    /// Integers with scales.
    #[cfg(target_arch = "x86_64")]
    Fixed { x: fixed::FixedPoint, rows: usize, columns: usize, isa: Isa },
}

/// Brings up to four rows of activations, `columns` long, into the order and the type that `dot` reads. Whole chunks only.
pub(super) fn prepare(isa: Isa, precision: Precision, x: &[f32], columns: usize) -> Prepared {
    assert!(columns > 0 && columns.is_multiple_of(CHUNK) && x.len().is_multiple_of(columns));
    #[cfg(target_arch = "x86_64")]
    if precision == Precision::Fast && x.len() / columns <= FIXED_ROWS {
        let x_fixed = match isa.set() {
            Set::Portable => None,
            // SAFETY: the set is only made after its features were detected.
            Set::Avx2 => Some(unsafe { avx2::fixed_point(x) }),
            Set::Avx512 => Some(avx512::fixed_point(x, columns)),
        };
        if let Some(fixed) = x_fixed {
            return Prepared(Values::Fixed { x: fixed, rows: x.len() / columns, columns, isa });
        }
    }
    let _ = precision;
    Prepared(Values::Float(isa.prepare::<Table>(x, columns)))
}

/// Products of one row of weights with the rows of activations that `prepare` brought into this order.
pub(super) fn dot(isa: Isa, quant_type: QuantType, row: &Row<'_>, x: &Prepared, out: &mut [f32]) {
    match &x.0 {
        Values::Float(x) => isa.dot(Table(quant_type), row, x, out),
        #[cfg(target_arch = "x86_64")]
        Values::Fixed { x, rows, columns, isa: prepared_for } => {
            row.check::<Table>();
            assert!(!out.is_empty() && out.len() <= FIXED_ROWS && *rows == out.len());
            assert!(*columns == row.columns::<Table>() && *prepared_for == isa);
            match isa.set() {
                // SAFETY: the set is only made after its features were detected; lengths are checked above.
                Set::Avx2 => unsafe { avx2::dot_fixed(quant_type, row, x, out) },
                // SAFETY: as above.
                Set::Avx512 => unsafe { avx512::dot_fixed(quant_type, row, x, out) },
                Set::Portable => unreachable!("plain Rust prepares floats"),
            }
        }
    }
}

#[cfg(test)]
mod tests;
