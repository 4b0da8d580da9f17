//! Times the backends of the CPU, and Burn's fused operator, at the shapes of decode and prefill.
//!
//! `cargo run --release -p automodel-attention --example measure`

use automodel_attention::{AttentionError, AttentionMask, AttentionParams, KvCache, Positions, SdpaBackend, attention};
use burn::tensor::module::attention as fused_attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, Device, Distribution, Tensor, TensorData};
use std::time::Instant;

const HEAD_DIM: usize = 64;
const SCALE: f64 = 0.125;

struct Call {
    name: &'static str,
    heads: usize,
    kv_heads: usize,
    past: usize,
    queries: usize,
    mask: AttentionMask,
}

fn main() -> Result<(), AttentionError> {
    let call = |name, heads, kv_heads, past, queries| {
        let mask = AttentionMask::Full;
        Call { name, heads, kv_heads, past, queries, mask }
    };
    let calls = [
        call("decode at 1024, 32 heads over 4", 32, 4, 1023, 1),
        call("decode at 1024, 32 heads over 32", 32, 32, 1023, 1),
        call("decode at 8192, 32 heads over 4", 32, 4, 8191, 1),
        call("prefill of 512, 32 heads over 4", 32, 4, 0, 512),
        call("prefill of 512, 32 heads over 32", 32, 32, 0, 512),
        call("prefill of 2048, 32 heads over 4", 32, 4, 0, 2048),
        Call { mask: AttentionMask::Sliding { window: 256 }, ..call("the same in a window of 256", 32, 4, 0, 2048) },
    ];
    println!("{:<34}{:>20}{:>12}{:>14}", "milliseconds, head_dim 64", "efficient_attention", "math", "Burn, fused");
    for call in calls {
        let times = measure(&call)?;
        println!("{:<34}{:>20.2}{:>12.2}{:>14.2}", call.name, times[0], times[1], times[2]);
    }
    Ok(())
}

/// Median milliseconds of efficient attention, math, and Burn's operator.
fn measure(call: &Call) -> Result<[f64; 3], AttentionError> {
    let device = Device::flex();
    let random = |heads, length| Tensor::<4>::random([1, heads, length, HEAD_DIM], Distribution::Default, &device);
    let total = call.past + call.queries;
    let mut cache = KvCache::preallocated(total + 64);
    let keys = cache.append(random(call.kv_heads, total), random(call.kv_heads, total))?;
    let (q, k, v) = (random(call.heads, call.queries), keys.k, keys.v);
    let params = AttentionParams::new(SCALE, call.mask);
    let positions = Positions { query_start: call.past, ..Positions::default() };

    let ours =
        |backend| median(|| attention(backend, q.clone(), k.clone(), v.clone(), None, &params, &positions).map(drop));
    let mask = window_mask(call, &device);
    let fused = median(|| {
        let options = AttentionModuleOptions { scale: Some(SCALE), softcap: None, is_causal: true };
        drop(fused_attention(q.clone(), k.clone(), v.clone(), mask.clone(), None, options));
        Ok(())
    })?;
    Ok([ours(SdpaBackend::EfficientAttention)?, ours(SdpaBackend::Math)?, fused])
}

/// The part of a window mask beyond the causal mask; `true` is masked.
fn window_mask(call: &Call, device: &Device) -> Option<Tensor<4, Bool>> {
    call.mask.window()?;
    let total = call.past + call.queries;
    let visible = |query, key| call.mask.visible_keys(call.past + query, 0).contains(&key);
    let hidden: Vec<bool> =
        (0..call.queries).flat_map(|query| (0..total).map(move |key| !visible(query, key))).collect();
    Some(Tensor::from_data(TensorData::new(hidden, [1, 1, call.queries, total]), device))
}

fn median(mut run: impl FnMut() -> Result<(), AttentionError>) -> Result<f64, AttentionError> {
    let mut times = Vec::new();
    let begin = Instant::now();
    while times.len() < 5 || (begin.elapsed().as_secs_f64() < 0.5 && times.len() < 200) {
        let start = Instant::now();
        run()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
