//! How fast this machine reads memory: the ceiling of decoding, which reads all weights for every token.

use std::{hint::black_box, thread, time::Instant};

use super::measurement::median;
use crate::Result;

/// Far larger than any cache.
const BYTES: usize = 1 << 30;
const REPEATS: u32 = 5;
/// Sums that run side by side, so that reading is not held up by adding.
const LANES: usize = 16;

/// Bytes a second that `threads` threads read together; the median of five passes.
pub fn measure(threads: u32) -> Result<f64> {
    let mut words: Vec<u64> = Vec::new();
    words.try_reserve_exact(BYTES / 8).map_err(|error| format!("no memory to measure the bandwidth: {error}"))?;
    words.extend((0..BYTES as u64 / 8).map(|word| word ^ 0x55));
    let per_thread = words.len().div_ceil(threads as usize);
    let passes = (0..REPEATS).map(|_| {
        let start = Instant::now();
        thread::scope(|scope| {
            for part in words.chunks(per_thread) {
                scope.spawn(move || black_box(read(part)));
            }
        });
        BYTES as f64 / start.elapsed().as_secs_f64()
    });
    let passes: Vec<f64> = passes.collect();
    median(&passes).ok_or_else(|| "no pass was measured".into())
}

/// Reads `words` with the widest loads that matter: where a core has 32-byte ones, 16-byte ones do not reach the bandwidth of memory.
fn read(words: &[u64]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { sum_avx2(words) };
    }
    sum(words)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sum_avx2(words: &[u64]) -> u64 {
    sum(words)
}

#[inline(always)]
fn sum(words: &[u64]) -> u64 {
    let (blocks, rest) = words.as_chunks::<LANES>();
    let mut lanes = [0_u64; LANES];
    for block in blocks {
        for (lane, word) in lanes.iter_mut().zip(block) {
            *lane = lane.wrapping_add(*word);
        }
    }
    lanes.iter().chain(rest).fold(0, |total, word| total.wrapping_add(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read() {
        let words: Vec<u64> = (1..=1003).collect();
        assert_eq!((sum(&words), read(&words)), (1003 * 1004 / 2, 1003 * 1004 / 2));
        assert_eq!((sum(&[u64::MAX, 2]), read(&[u64::MAX, 2])), (1, 1));
    }
}
