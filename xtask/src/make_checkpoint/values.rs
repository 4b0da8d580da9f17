//! Random weights from a hash of their place, so that they depend on neither threads nor shards.

use super::Dtype;
use half::bf16;
use rayon::prelude::*;

/// Standard deviation of the weights, as `initializer_range` has it.
const STD: f32 = 0.02;
/// Bytes that one thread fills at a time.
const CHUNK: usize = 1 << 16;

/// Where the values of a tensor come from.
#[derive(Clone, Copy, Debug)]
pub enum Values {
    /// 1 everywhere.
    Ones,
    /// Normal with mean 0 and standard deviation 0.02, very nearly.
    Normal {
        /// Different for each tensor.
        seed: u64,
    },
}

impl Values {
    /// Random values for the tensor `name`.
    pub fn normal(seed: u64, name: &str) -> Self {
        // FNV-1a: http://www.isthe.com/chongo/tech/comp/fnv/
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        Self::Normal { seed: mix(hash ^ mix(seed)) }
    }

    /// Fills `bytes` with the elements from number `first` on, in parallel.
    pub fn fill(self, bytes: &mut [u8], first: u64, dtype: Dtype) {
        let per_chunk = CHUNK as u64 / dtype.bytes();
        bytes.par_chunks_mut(CHUNK).enumerate().for_each(|(number, chunk)| {
            let first = first + number as u64 * per_chunk;
            match dtype {
                Dtype::Bfloat16 => fill(chunk, first, |index| bf16::from_f32(self.at(index)).to_le_bytes()),
                Dtype::Float32 => fill(chunk, first, |index| self.at(index).to_le_bytes()),
            }
        });
    }

    fn at(self, index: u64) -> f32 {
        match self {
            Self::Ones => 1.0,
            Self::Normal { seed } => normal(seed.wrapping_add(index)),
        }
    }
}

fn fill<const SIZE: usize>(bytes: &mut [u8], first: u64, element: impl Fn(u64) -> [u8; SIZE]) {
    let (elements, _) = bytes.as_chunks_mut::<SIZE>();
    for (place, index) in elements.iter_mut().zip(first..) {
        *place = element(index);
    }
}

/// The sum of four uniform numbers, centred and scaled: bounded at 3.46 standard deviations, and cheap.
fn normal(place: u64) -> f32 {
    // Four numbers below 65536 have a mean of 131070 together, and a standard deviation of 65536 / sqrt(3).
    const MEAN: f32 = 131_070.0;
    const SCALE: f32 = STD * 1.732_050_8 / 65_536.0;
    let hash = mix(place);
    let sum = (hash & 0xffff) + (hash >> 16 & 0xffff) + (hash >> 32 & 0xffff) + (hash >> 48);
    (sum as f32 - MEAN) * SCALE
}

/// The output function of SplitMix64: <https://prng.di.unimi.it/splitmix64.c>
fn mix(place: u64) -> u64 {
    let mut hash = place.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(seed: u64, name: &str, first: u64, count: usize) -> Vec<f32> {
        let mut bytes = vec![0; count * 4];
        Values::normal(seed, name).fill(&mut bytes, first, Dtype::Float32);
        bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }

    #[test]
    fn values_are_nearly_normal() {
        let values = values(0, "a", 0, 1 << 20);
        let count = values.len() as f64;
        let moment = |power: i32| values.iter().map(|value| f64::from(*value).powi(power)).sum::<f64>() / count;
        assert!(moment(1).abs() < 1e-4, "{}", moment(1));
        assert!((moment(2).sqrt() - 0.02).abs() < 1e-4, "{}", moment(2).sqrt());
        let kurtosis = moment(4) / moment(2).powi(2);
        assert!((2.5..3.1).contains(&kurtosis), "{kurtosis}");
        let neighbours = values.windows(2).map(|pair| f64::from(pair[0] * pair[1])).sum::<f64>() / count;
        assert!((neighbours / moment(2)).abs() < 0.01, "neighbours are correlated");
    }

    #[test]
    fn values_depend_on_their_place_and_nothing_else() {
        let whole = values(7, "a", 0, 100_000);
        assert_eq!(values(7, "a", 40_000, 1000), whole[40_000..41_000]);
        assert_ne!(values(8, "a", 0, 1000), whole[..1000]);
        assert_ne!(values(7, "b", 0, 1000), whole[..1000]);
    }

    #[test]
    fn ones_are_ones() {
        let mut bytes = [0; 6];
        Values::Ones.fill(&mut bytes, 0, Dtype::Bfloat16);
        assert_eq!(bytes, [0x80, 0x3f, 0x80, 0x3f, 0x80, 0x3f]);
    }
}
