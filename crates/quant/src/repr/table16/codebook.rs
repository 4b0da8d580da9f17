//! The code tables of 4-bit weights and the bounds between their entries.

use serde::Serialize;

/// The code table of 4-bit weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum QuantType {
    /// Quantiles of a normal distribution.
    Nf4,
    /// Sign, two bits of exponent, one of mantissa.
    Fp4,
}

/// NF4: quantiles of a normal distribution, in ascending order (`get_4bit_type("nf4")` of bitsandbytes).
const NF4: [f32; 16] = [
    -1.0,
    f32::from_bits(0xbf32_39b1),
    f32::from_bits(0xbf06_6b30),
    f32::from_bits(0xbeca_32a0),
    f32::from_bits(0xbe91_a24d),
    f32::from_bits(0xbe3d_353f),
    f32::from_bits(0xbdba_7871),
    0.0,
    f32::from_bits(0x3da2_faff),
    f32::from_bits(0x3e24_cae3),
    f32::from_bits(0x3e7c_04dd),
    f32::from_bits(0x3ead_033a),
    f32::from_bits(0x3ee1_a4b8),
    f32::from_bits(0x3f10_07ab),
    f32::from_bits(0x3f39_13b3),
    1.0,
];

/// FP4: sign, two bits of exponent, one of mantissa, divided by 12 (`get_4bit_type("fp4")` of bitsandbytes).
const FP4: [f32; 16] = [
    0.0,
    f32::from_bits(0x3baa_aaab),
    f32::from_bits(0x3f2a_aaab),
    1.0,
    f32::from_bits(0x3eaa_aaab),
    0.5,
    f32::from_bits(0x3e2a_aaab),
    0.25,
    0.0,
    f32::from_bits(0xbbaa_aaab),
    f32::from_bits(0xbf2a_aaab),
    -1.0,
    f32::from_bits(0xbeaa_aaab),
    -0.5,
    f32::from_bits(0xbe2a_aaab),
    -0.25,
];

/// Codes by ascending value, as `torch.argsort` puts them: of FP4's two zeros 0 comes before 8.
const NF4_ORDER: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
const FP4_ORDER: [u8; 16] = [11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3];

impl QuantType {
    /// The table that bitsandbytes writes as `quant_map`: the value of each code, before scaling.
    ///
    /// ```
    /// use automodel_quant::table16::QuantType;
    /// assert_eq!(QuantType::Nf4.code()[7], 0.0);
    /// assert_eq!(QuantType::Fp4.code()[5], 0.5);
    /// ```
    pub const fn code(self) -> &'static [f32; 16] {
        match self {
            Self::Nf4 => &NF4,
            Self::Fp4 => &FP4,
        }
    }

    /// Name in files and in config.json.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nf4 => "nf4",
            Self::Fp4 => "fp4",
        }
    }

    /// The values to which the kernels of bitsandbytes decode: `code()` except that FP4's code 8 is minus zero.
    pub(crate) fn decode_table(self) -> &'static [f32; 16] {
        const FP4_SIGNED: [f32; 16] = {
            let mut table = FP4;
            table[8] = -0.0;
            table
        };
        match self {
            Self::Nf4 => &NF4,
            Self::Fp4 => &FP4_SIGNED,
        }
    }

    /// How a scaled value becomes a code.
    pub(crate) fn encoder(self) -> &'static Encoder {
        const NF4_ENCODER: Encoder = Encoder::new(&NF4, NF4_ORDER);
        const FP4_ENCODER: Encoder = Encoder::new(&FP4, FP4_ORDER);
        match self {
            Self::Nf4 => &NF4_ENCODER,
            Self::Fp4 => &FP4_ENCODER,
        }
    }
}

/// Finds the code of a scaled value: the number of bounds below it, mapped through the order of the codes.
pub(crate) struct Encoder {
    /// Midpoints between neighbouring values, ascending; a value on a bound belongs to the lower code.
    pub(crate) bounds: [f32; 15],
    /// The code at each place in ascending order of values.
    pub(crate) order: [u8; 16],
}

impl Encoder {
    const fn new(code: &[f32; 16], order: [u8; 16]) -> Self {
        let mut bounds = [0.0; 15];
        let mut place = 0;
        while place < 15 {
            bounds[place] = (code[order[place] as usize] + code[order[place + 1] as usize]) / 2.0;
            place += 1;
        }
        Self { bounds, order }
    }

    /// The code of a scaled value.
    #[inline]
    pub(crate) fn encode(&self, scaled: f32) -> u8 {
        let mut place = if scaled > self.bounds[7] { 8 } else { 0 };
        place += if scaled > self.bounds[place + 3] { 4 } else { 0 };
        place += if scaled > self.bounds[place + 1] { 2 } else { 0 };
        place += usize::from(scaled > self.bounds[place]);
        self.order[place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encode_counts_the_bounds_below() {
        for quant_type in [QuantType::Nf4, QuantType::Fp4] {
            let encoder = quant_type.encoder();
            assert!(encoder.bounds.is_sorted());
            for bound in encoder.bounds {
                for value in [bound.next_down(), bound, bound.next_up(), bound - 0.01, bound + 0.01] {
                    let below = encoder.bounds.iter().filter(|&&bound| bound < value).count();
                    assert_eq!(encoder.encode(value), encoder.order[below], "{value}");
                }
            }
        }
    }

    #[test]
    fn every_code_encodes_to_itself_up_to_the_sign_of_zero() {
        for quant_type in [QuantType::Nf4, QuantType::Fp4] {
            for (code, &value) in quant_type.code().iter().enumerate() {
                let encoded = quant_type.encoder().encode(value);
                assert_eq!(quant_type.code()[usize::from(encoded)], value, "code {code}");
            }
        }
    }
}
