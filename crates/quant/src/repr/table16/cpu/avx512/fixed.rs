//! One row of weights times a few rows of activations, both as 16-bit integers: one instruction looks 32 codes up.

use std::arch::x86_64::*;

use super::{
    super::{
        super::QuantType,
        FIXED_ROWS, Table,
        fixed::{FixedPoint, SHARED, integers, table, unit},
    },
    load,
};
use crate::cpu::{
    Aligned, Row,
    avx512::{GROUP, Groups, padded},
};

/// Lanes of a vector of 16-bit integers.
const LANES: usize = 32;

/// Codes of a lane, each looked up in a vector of its own.
const NIBBLES: usize = GROUP / LANES;

/// Lanes of a vector of sums, each of the products of eight neighbours, which share a scale.
const SUMS: usize = 16;

/// Activations in the order in which `dot_fixed` looks weights up, and a scale for each lane of sums.
pub(in super::super) fn fixed_point(x: &[f32], columns: usize) -> FixedPoint {
    let x = padded(x, columns);
    let mut values = Aligned::<i16>::zeros(x.len());
    let mut scales = Aligned::<f32>::zeros(x.len() / GROUP * SUMS);
    let groups = x.as_chunks::<GROUP>().0.iter().zip(values.as_chunks_mut::<GROUP>().0);
    for ((x, values), scales) in groups.zip(scales.as_chunks_mut::<SUMS>().0) {
        let mut in_order = [0; GROUP];
        let chunks = x.as_chunks::<SHARED>().0.iter().zip(in_order.as_chunks_mut::<SHARED>().0);
        for ((x, in_order), scales) in chunks.zip(scales.chunks_exact_mut(SUMS * SHARED / GROUP)) {
            let (integers, scale) = integers(x);
            *in_order = integers;
            scales.fill(scale);
        }
        // The first element of a byte is its higher nibble.
        *values = std::array::from_fn(|place| in_order[place % LANES * NIBBLES + ((place / LANES) ^ 1)]);
    }
    FixedPoint { values, scales }
}

/// # Safety
/// AVX-512 F and BW; the lengths are those that `Isa::dot` checks, with at most two rows.
#[target_feature(enable = "avx512f,avx512bw")]
pub(in super::super) unsafe fn dot_fixed(quant_type: QuantType, row: &Row<'_>, x: &FixedPoint, out: &mut [f32]) {
    // SAFETY: the caller's promise; the number of rows is that of `out`.
    unsafe {
        match out.len() {
            1 => rows::<1>(quant_type, row, x, out),
            _ => rows::<FIXED_ROWS>(quant_type, row, x, out),
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn rows<const ROWS: usize>(quant_type: QuantType, row: &Row<'_>, x: &FixedPoint, out: &mut [f32]) {
    let table = words(quant_type);
    let width = x.values.len() / ROWS;
    let mut totals = [_mm512_setzero_ps(); ROWS];
    let mut groups = Groups::<Table>::new(row);
    let (mut values, mut scales) = (x.values.as_ptr(), x.scales.as_ptr());
    // SAFETY: each row of activations has 128 integers and 16 scales for each group.
    unsafe {
        while let Some((codes, absmax)) = groups.next() {
            let codes = load(codes);
            let weights =
                [codes, _mm512_srli_epi16::<4>(codes), _mm512_srli_epi16::<8>(codes), _mm512_srli_epi16::<12>(codes)]
                    .map(|codes| _mm512_permutexvar_epi16(codes, table));
            for (x_row, total) in totals.iter_mut().enumerate() {
                let x = values.add(x_row * width);
                let products: [__m512i; NIBBLES] = std::array::from_fn(|nibble| {
                    _mm512_madd_epi16(weights[nibble], _mm512_loadu_si512(x.add(nibble * LANES).cast()))
                });
                let first = _mm512_cvtepi32_ps(_mm512_add_epi32(products[0], products[1]));
                let second = _mm512_cvtepi32_ps(_mm512_add_epi32(products[2], products[3]));
                let scale = _mm512_mul_ps(absmax, _mm512_loadu_ps(scales.add(x_row * width / GROUP * SUMS)));
                *total = _mm512_fmadd_ps(_mm512_add_ps(first, second), scale, *total);
            }
            values = values.add(GROUP);
            scales = scales.add(SUMS);
        }
    }
    for (out, total) in out.iter_mut().zip(totals) {
        *out = _mm512_reduce_add_ps(total) / unit(quant_type);
    }
}

/// The table as integers, twice: a look-up reads five bits, of which the highest is another code's.
#[inline]
#[target_feature(enable = "avx512f")]
fn words(quant_type: QuantType) -> __m512i {
    let table = match quant_type {
        QuantType::Nf4 => const { &table(QuantType::Nf4) },
        QuantType::Fp4 => const { &table(QuantType::Fp4) },
    };
    // SAFETY: 16 integers of two bytes are readable.
    _mm512_broadcast_i64x4(unsafe { _mm256_loadu_si256(table.as_ptr().cast()) })
}
