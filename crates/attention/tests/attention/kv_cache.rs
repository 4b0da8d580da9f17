//! KV caches: which positions they keep, that they write in place, and that every kind gives the same output.

use crate::reference::numbers;
use automodel_attention::{AttentionError, AttentionMask, AttentionParams, KvCache, Positions, SdpaBackend, attention};
use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_flex::Flex;

const BATCH: usize = 2;
const KV_HEADS: usize = 2;
const HEADS: usize = 4;
const WIDTH: usize = 6;

/// `[BATCH, heads, length, WIDTH]`
fn random(heads: usize, length: usize, seed: u64) -> Tensor<4> {
    let values = numbers(BATCH * heads * length * WIDTH, seed);
    Tensor::from_data(TensorData::new(values, [BATCH, heads, length, WIDTH]), (&Device::flex(), DType::F32))
}

fn values(tensor: Tensor<4>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("float32")
}

/// Runs 30 positions through a cache in calls of the given lengths.
fn decode(cache: &mut KvCache, calls: &[usize], mask: AttentionMask, padding: &[usize]) -> Vec<f32> {
    let (q, k, v) = (random(HEADS, 30, 1), random(KV_HEADS, 30, 2), random(KV_HEADS, 30, 3));
    let params = AttentionParams::new(0.5, mask);
    let mut outputs = Vec::new();
    let mut start = 0;
    for &length in calls {
        let part = |tensor: &Tensor<4>| tensor.clone().narrow(2, start, length);
        let keys = cache.append(part(&k), part(&v)).expect("room");
        let positions = Positions { query_start: start, key_start: keys.key_start, padding: padding.to_vec() };
        let backend = SdpaBackend::EfficientAttention;
        outputs.push(attention(backend, part(&q), keys.k, keys.v, None, &params, &positions).expect("valid shapes"));
        start += length;
        assert_eq!(cache.length(), start);
    }
    assert_eq!(start, 30);
    values(Tensor::cat(outputs, 2))
}

#[test]
fn every_cache_and_every_chunking_agree() {
    let singles = [1; 30];
    let chunkings: [&[usize]; 6] =
        [&[30], &singles, &[7, 1, 1, 1, 20], &[2, 28], &[25, 1, 1, 1, 1, 1], &[3, 9, 1, 1, 8, 8]];
    for mask in
        [AttentionMask::Sliding { window: 5 }, AttentionMask::Chunked { size: 5 }, AttentionMask::Sliding { window: 1 }]
    {
        let window = mask.window().expect("a windowed mask");
        for padding in [vec![], vec![0, 3]] {
            let expected = decode(&mut KvCache::growing(), &[30], mask, &padding);
            for calls in chunkings {
                for mut cache in [KvCache::growing(), KvCache::preallocated(30), KvCache::rolling(window)] {
                    // The second pass writes into the buffers of the first.
                    for pass in 0..2 {
                        let found = decode(&mut cache, calls, mask, &padding);
                        for (found, expected) in found.iter().zip(&expected) {
                            let close = (found - expected).abs() < 1e-5;
                            assert!(close, "{mask:?}, {calls:?}, pass {pass}, {cache:?}: {found}, expected {expected}");
                        }
                        cache.reset();
                        assert_eq!(cache.length(), 0);
                    }
                }
            }
        }
    }
}

#[test]
fn full_attention_in_steps_equals_one_call() {
    let expected = decode(&mut KvCache::growing(), &[30], AttentionMask::Full, &[]);
    for mut cache in [KvCache::growing(), KvCache::preallocated(64)] {
        let found = decode(&mut cache, &[11, 1, 1, 1, 16], AttentionMask::Full, &[]);
        assert!(found.iter().zip(&expected).all(|(found, expected)| (found - expected).abs() < 1e-5));
    }
}

#[test]
fn a_rolling_cache_returns_what_a_window_needs() {
    let mut cache = KvCache::rolling(4);
    let k = random(KV_HEADS, 60, 5);
    let mut total = 0;
    for length in [9, 1, 1, 2, 30, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1] {
        let part = k.clone().narrow(2, total, length);
        let keys = cache.append(part.clone(), part).expect("no bound");
        total += length;
        let kept = total.min(length + 3);
        assert_eq!((keys.k.dims()[2], keys.key_start), (kept, total - kept));
        assert_eq!(values(keys.k), values(k.clone().narrow(2, total - kept, kept)));
    }
}

#[test]
fn a_rolling_cache_stays_small() {
    let mut cache = KvCache::rolling(64);
    let one = random(KV_HEADS, 1, 1);
    for _ in 0..500 {
        cache.append(one.clone(), one.clone()).expect("no bound");
    }
    let position = 2 * BATCH * KV_HEADS * WIDTH * size_of::<f32>();
    assert!(cache.bytes() <= (63 + 16) * position, "{} bytes", cache.bytes());
    cache.append(random(KV_HEADS, 300, 1), random(KV_HEADS, 300, 1)).expect("no bound");
    assert!(cache.bytes() <= (63 + 16) * position, "{} bytes after a long call", cache.bytes());
}

/// Address of the memory behind a tensor.
fn address(tensor: &Tensor<4>) -> *const u8 {
    tensor.clone().try_into_primitive::<Flex>().expect("a Flex tensor").bytes().as_ptr()
}

#[test]
fn decoding_copies_nothing() {
    for mut cache in [KvCache::preallocated(40), KvCache::growing(), KvCache::rolling(200)] {
        let prompt = random(KV_HEADS, 20, 1);
        let first = address(&cache.append(prompt.clone(), prompt).expect("room").k);
        for step in 0..10 {
            let one = random(KV_HEADS, 1, step);
            let keys = cache.append(one.clone(), one).expect("room");
            assert_eq!(address(&keys.k), first, "step {step} of {cache:?}");
        }
    }
}

#[test]
fn views_that_are_kept_stay_valid() {
    let mut cache = KvCache::preallocated(10);
    let (first, second) = (random(KV_HEADS, 3, 1), random(KV_HEADS, 1, 2));
    let kept = cache.append(first.clone(), first.clone()).expect("room");
    cache.reset();
    cache.append(second.clone(), second).expect("room");
    assert_eq!(values(kept.k), values(first));
}

#[test]
fn a_full_cache_is_refused_and_left_as_it_was() {
    let mut cache = KvCache::preallocated(4);
    let three = random(KV_HEADS, 3, 1);
    cache.append(three.clone(), three.clone()).expect("room");
    let error = cache.append(three.clone(), three).expect_err("no room");
    assert_eq!(error, AttentionError::CacheCapacity { capacity: 4, length: 3, added: 3 });
    assert_eq!(cache.length(), 3);
    let one = random(KV_HEADS, 1, 1);
    assert!(cache.append(one.clone(), one).is_ok());
}

#[test]
fn mismatched_shapes_are_refused() {
    let device = Device::flex();
    let of = |shape: [usize; 4]| Tensor::<4>::ones(shape, (&device, DType::F32));
    for mut cache in [KvCache::growing(), KvCache::preallocated(9), KvCache::rolling(3)] {
        assert!(matches!(
            cache.append(of([1, 2, 3, 4]), of([1, 2, 2, 4])),
            Err(AttentionError::CacheShape { tensor: "values", .. })
        ));
        assert!(matches!(
            cache.append(of([1, 2, 0, 4]), of([1, 2, 0, 4])),
            Err(AttentionError::CacheShape { tensor: "keys", .. })
        ));
        cache.append(of([1, 2, 3, 4]), of([1, 2, 3, 4])).expect("room");
        for shape in [[2, 2, 1, 4], [1, 3, 1, 4], [1, 2, 1, 5]] {
            let result = cache.append(of(shape), of(shape));
            assert!(matches!(result, Err(AttentionError::CacheShape { tensor: "keys", .. })), "{shape:?}");
        }
        let half = of([1, 2, 1, 4]).cast(DType::F16);
        let error = cache.append(half.clone(), half).expect_err("another dtype");
        assert!(matches!(error, AttentionError::CacheKind { .. }));
        // After a reset, another batch is accepted.
        cache.reset();
        assert!(cache.append(of([2, 1, 1, 3]), of([2, 1, 1, 3])).is_ok());
    }
}

#[test]
fn absurd_capacities_are_refused() {
    let one = random(KV_HEADS, 1, 1);
    for capacity in [usize::MAX, usize::MAX / 8, 1 << 55] {
        let result = KvCache::preallocated(capacity).append(one.clone(), one.clone());
        assert!(matches!(result, Err(AttentionError::CacheAllocation { .. })), "{capacity}");
    }
    // A window costs what is in it.
    let mut cache = KvCache::rolling(usize::MAX);
    cache.append(one.clone(), one).expect("one position");
    assert!(cache.bytes() < 100_000);
}
