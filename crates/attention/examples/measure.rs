//! Times every backend of the CPU at the shapes of decoding and of reading a prompt.
//!
//! `cargo run --release -p automodel-attention --example measure`

use automodel_attention::{AttentionError, AttentionParams, CausalMask, LayerCache, Positions, SdpaBackend, attention};
use burn::tensor::{Device, Distribution, Tensor};
use std::time::Instant;

const BACKENDS: [SdpaBackend; 3] = [SdpaBackend::Math, SdpaBackend::EfficientAttention, SdpaBackend::FlashAttention];

struct Shape {
    name: &'static str,
    heads: usize,
    kv_heads: usize,
    past: usize,
    queries: usize,
    mask: CausalMask,
}

fn main() -> Result<(), AttentionError> {
    let shape =
        |name, heads, kv_heads, past, queries| Shape { name, heads, kv_heads, past, queries, mask: CausalMask::Full };
    let shapes = [
        shape("decode, 32 heads over 4", 32, 4, 1023, 1),
        shape("decode, 32 heads over 32", 32, 32, 1023, 1),
        shape("decode, 32 heads over 4, long", 32, 4, 8191, 1),
        shape("prompt of 512, 32 heads over 4", 32, 4, 0, 512),
        shape("prompt of 512, 32 heads over 32", 32, 32, 0, 512),
        shape("prompt of 2048, 32 heads over 4", 32, 4, 0, 2048),
        Shape { mask: CausalMask::Sliding { window: 256 }, ..shape("the same, window of 256", 32, 4, 0, 2048) },
    ];
    println!("{:<34}{:>22}{:>22}{:>22}", "milliseconds, head_dim 64", "math", "efficient_attention", "flash_attention");
    for shape in shapes {
        let times: Result<Vec<f64>, AttentionError> = BACKENDS.iter().map(|&backend| time(backend, &shape)).collect();
        let columns: String = times?.iter().map(|time| format!("{time:>22.2}")).collect();
        println!("{:<34}{columns}", shape.name);
    }
    Ok(())
}

/// Median time of one call, in milliseconds.
fn time(backend: SdpaBackend, shape: &Shape) -> Result<f64, AttentionError> {
    let device = Device::flex();
    let random = |heads, length| Tensor::<4>::random([1, heads, length, 64], Distribution::Default, &device);
    let total = shape.past + shape.queries;
    let mut cache = LayerCache::preallocated(total);
    let keys = cache.append(random(shape.kv_heads, total), random(shape.kv_heads, total))?;
    let q = random(shape.heads, shape.queries);
    let params = AttentionParams { scale: 0.125, softcap: None, mask: shape.mask };
    let positions = Positions { query_start: shape.past, ..Positions::default() };

    let mut times = Vec::new();
    let begin = Instant::now();
    while times.len() < 5 || (begin.elapsed().as_secs_f64() < 0.5 && times.len() < 200) {
        let start = Instant::now();
        let output = attention(backend, q.clone(), keys.k.clone(), keys.v.clone(), None, &params, &positions)?;
        std::hint::black_box(output);
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
