//! Activations and codes as 16-bit integers, for products in fixed point.

use super::super::QuantType;
use crate::cpu::{Aligned, CHUNK};

/// Activations that share a scale.
pub(crate) const SHARED: usize = CHUNK;

/// The greatest integer for an activation: four products, which one lane adds, stay within 32 bits.
const GREATEST: f32 = 16383.0;

/// Activations below this count as zero if all that share a scale are: the reciprocals of much less overflow.
const LEAST_MAGNITUDE: f32 = 1e-30;

/// 16-bit integers with scales, in the order that the kernel of the instruction set reads.
pub(crate) struct FixedPoint {
    pub(crate) values: Aligned<i16>,
    pub(crate) scales: Aligned<f32>,
}

/// The integer for a weight of 1, chosen such that all codes are near integers: within 5e-5 of their value for NF4 (the least over
/// all units of 16 bits is 2e-5, but with greater absolute errors), and exactly for FP4, whose codes are multiples of 1/192.
pub(super) const fn unit(quant_type: QuantType) -> f32 {
    match quant_type {
        QuantType::Nf4 => 30523.1,
        QuantType::Fp4 => 170.0 * 192.0,
    }
}

/// The nearest integers to the values of the codes.
pub(super) const fn table(quant_type: QuantType) -> [i16; 16] {
    let code = quant_type.code();
    let mut table = [0; 16];
    let mut place = 0;
    while place < 16 {
        let value = code[place] * unit(quant_type);
        table[place] = (if value < 0.0 { value - 0.5 } else { value + 0.5 }) as i16;
        place += 1;
    }
    table
}

/// Activations that share a scale as integers, in their own order, and the scale.
#[inline(always)]
pub(super) fn integers(x: &[f32; SHARED]) -> ([i16; SHARED], f32) {
    let bits = x.iter().fold(0, |bits, value| bits.max(value.to_bits() & 0x7fff_ffff));
    let magnitude = f32::from_bits(bits);
    if !magnitude.is_finite() {
        // NaN and infinity must not become finite: the scale is NaN.
        return ([0; SHARED], f32::NAN);
    }
    if magnitude <= LEAST_MAGNITUDE {
        return ([0; SHARED], magnitude / GREATEST);
    }
    let to_integer = GREATEST / magnitude;
    (std::array::from_fn(|place| nearest(x[place] * to_integer)), magnitude / GREATEST)
}

/// The nearest integer; without a call into the mathematics library, which a build for any x86-64 would make.
#[inline(always)]
fn nearest(value: f32) -> i16 {
    // SAFETY: a number of at most 16383.5.
    unsafe { (value + 0.5f32.copysign(value)).to_int_unchecked::<i32>() as i16 }
}
