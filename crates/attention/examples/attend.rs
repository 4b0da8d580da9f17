//! Decodes random tokens through one attention layer with a sliding window: rotary positions, a rolling cache, grouped
//! heads, and a backend chosen for the device.
//!
//! `cargo run -p automodel-attention --example attend -- flash_attention math`

use automodel_attention::{
    AttentionError, AttentionMask, AttentionParams, KvCache, Positions, Rope, RopeConfig, RopePairing, RopeScaling,
    SdpaConstraints, attention, resolve_sdpa_method, select_backend,
};
use burn::tensor::{Device, Distribution, Tensor};

const HEADS: usize = 8;
const KV_HEADS: usize = 2;
const HEAD_DIM: usize = 32;
const WINDOW: usize = 16;

fn main() -> Result<(), AttentionError> {
    let device = Device::flex();
    let names: Vec<String> = std::env::args().skip(1).collect();
    let requested = (!names.is_empty()).then_some(names.as_slice());
    let preference = resolve_sdpa_method(requested, &SdpaConstraints::default())?;
    let choice = select_backend(preference.as_deref(), &device)?;
    println!("backend: {} ({})", choice.backend, choice.reason);
    for (backend, reason) in &choice.skipped {
        println!("skipped: {backend} ({reason})");
    }

    let rope = Rope::new(RopeConfig {
        head_dim: HEAD_DIM,
        rotary_dim: HEAD_DIM,
        theta: 10_000.0,
        pairing: RopePairing::HalfSplit,
        scaling: RopeScaling::Default,
    })?;
    let mask = AttentionMask::Sliding { window: WINDOW };
    let params = AttentionParams::new((HEAD_DIM as f64).powf(-0.5), mask);
    let mut cache = KvCache::rolling(WINDOW);

    // A prompt of 40 tokens, then one token at a time.
    for length in [40, 1, 1, 1] {
        let random = |heads| Tensor::<4>::random([1, heads, length, HEAD_DIM], Distribution::Default, &device);
        let mut positions = Positions { query_start: cache.length(), ..Positions::default() };
        let total = cache.length() + length;
        let tables = rope.tables(&positions.rotary(length), total, &device)?;
        let keys = cache.append(tables.apply(random(KV_HEADS)), random(KV_HEADS))?;
        positions.key_start = keys.key_start;
        println!("{length:>2} queries at {:>2} see keys from {:>2}", positions.query_start, keys.key_start);

        let q = tables.apply(random(HEADS));
        let output = attention(choice.backend, q, keys.k, keys.v, None, &params, &positions)?;
        assert_eq!(output.dims(), [1, HEADS, length, HEAD_DIM]);
    }
    println!("the cache holds {} bytes after {} tokens", cache.bytes(), cache.length());
    Ok(())
}
