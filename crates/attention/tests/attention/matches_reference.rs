//! Every backend against plain loops.

use crate::reference::Case;
use crate::reference::numbers;
use automodel_attention::{Alibi, AttentionMask, AttentionParams, Positions, SdpaBackend, attention};
use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_flex::Flex;
use proptest::prelude::*;

const BACKENDS: [SdpaBackend; 3] = [SdpaBackend::Math, SdpaBackend::EfficientAttention, SdpaBackend::FlashAttention];
const MASKS: [AttentionMask; 4] = [
    AttentionMask::Full,
    AttentionMask::Sliding { window: 3 },
    AttentionMask::Chunked { size: 3 },
    AttentionMask::Bidirectional,
];

/// All backends, and the tensor operations that stand in for the CPU's kernel under autodiff.
fn check_everywhere(case: &Case) {
    for backend in BACKENDS {
        case.check(backend, DType::F32, 1e-5, &Device::flex());
        case.check(backend, DType::F32, 1e-5, &Device::flex().autodiff());
    }
}

#[test]
fn every_mask_with_every_feature() {
    for mask in MASKS {
        for group in [1, 4] {
            for softcap in [None, Some(1.5)] {
                for sinks in [false, true] {
                    for padding in [vec![], vec![0, 4]] {
                        for (query_start, queries) in [(0, 7), (6, 1), (4, 3)] {
                            check_everywhere(&Case {
                                group,
                                queries,
                                sinks,
                                params: AttentionParams { scale: 0.4, softcap, mask, alibi: None },
                                positions: Positions { query_start, key_start: 0, padding: padding.clone() },
                                ..Case::default()
                            });
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn linear_biases_count_positions_from_the_padding() {
    for in_bfloat16 in [false, true] {
        for factor in [1.0, 0.4] {
            let alibi = Some(Alibi { factor, in_bfloat16 });
            for mask in [AttentionMask::Full, AttentionMask::Sliding { window: 9 }] {
                for (padding, sinks) in [(vec![], false), (vec![0, 4], true)] {
                    for (query_start, queries, keys) in [(0, 7, 7), (12, 1, 13), (30, 140, 170)] {
                        check_everywhere(&Case {
                            queries,
                            keys,
                            sinks,
                            params: AttentionParams { alibi, ..AttentionParams::new(0.4, mask) },
                            positions: Positions { query_start, key_start: 0, padding: padding.clone() },
                            ..Case::default()
                        });
                    }
                    check_everywhere(&Case {
                        queries: 3,
                        keys: 5,
                        params: AttentionParams { alibi, ..AttentionParams::new(0.4, mask) },
                        positions: Positions { query_start: 19, key_start: 17, padding: padding.clone() },
                        ..Case::default()
                    });
                }
            }
        }
    }
}

#[test]
fn keys_of_a_rolling_cache() {
    for mask in MASKS {
        for padding in [vec![], vec![18, 0]] {
            check_everywhere(&Case {
                queries: 3,
                keys: 5,
                params: AttentionParams::new(0.4, mask),
                positions: Positions { query_start: 19, key_start: 17, padding },
                ..Case::default()
            });
        }
    }
}

/// More rows and keys than one tile holds, with a window that skips tiles.
#[test]
fn several_tiles() {
    let masks = [
        AttentionMask::Full,
        AttentionMask::Sliding { window: 70 },
        AttentionMask::Chunked { size: 200 },
        AttentionMask::Bidirectional,
    ];
    for (mask, sinks) in masks.into_iter().zip([false, true, true, false]) {
        check_everywhere(&Case {
            batch: 2,
            group: 2,
            queries: 140,
            keys: 600,
            head_dim: 4,
            value_dim: 3,
            sinks,
            params: AttentionParams::new(0.5, mask),
            positions: Positions { query_start: 460, key_start: 0, padding: vec![0, 520] },
            ..Case::default()
        });
    }
}

/// A decode step over more keys than one tile holds.
#[test]
fn long_decode() {
    check_everywhere(&Case {
        batch: 1,
        group: 16,
        queries: 1,
        keys: 5000,
        head_dim: 4,
        value_dim: 4,
        positions: Positions { query_start: 4999, ..Positions::default() },
        ..Case::default()
    });
}

#[test]
fn half_precision_is_rounded_only_at_the_ends() {
    for backend in BACKENDS {
        for sinks in [false, true] {
            let case = Case { sinks, ..Case::default() };
            case.check(backend, DType::F16, 5e-3, &Device::flex());
            case.check(backend, DType::BF16, 4e-2, &Device::flex());
            case.check(backend, DType::F64, 1e-6, &Device::flex());
        }
    }
}

/// Scores in the thousands, which half precision or an unshifted softmax would not survive.
#[test]
fn large_scores() {
    let params = AttentionParams::new(100.0, AttentionMask::Full);
    let case = Case { params, ..Case::default() };
    for backend in BACKENDS {
        case.check(backend, DType::F32, 2e-3, &Device::flex());
    }
}

/// Tiles are differentiable where the tensors are tracked, and the cache's plain keys may meet tracked queries.
#[test]
fn gradients_of_all_backends_agree() {
    let (plain, tracked) = (Device::flex(), Device::flex().autodiff());
    let tensor = |heads: usize, device: &Device| {
        let values = numbers(20 * heads, heads as u64);
        Tensor::<4>::from_data(TensorData::new(values, [1, heads, 5, 4]), (device, DType::F32))
    };
    let gradient = |backend, keys: &Device| {
        let q = tensor(4, &tracked).require_grad();
        let params =
            AttentionParams { scale: 0.5, softcap: Some(2.0), mask: AttentionMask::Sliding { window: 3 }, alibi: None };
        let (k, v) = (tensor(2, keys), tensor(2, keys));
        let output = attention(backend, q.clone(), k, v, None, &params, &Positions::default());
        let gradients = output.expect("valid shapes").powi_scalar(2).sum().backward();
        let gradient = q.grad(&gradients).expect("queries are tracked");
        gradient.into_data().try_to_vec::<f32>().expect("float32")
    };
    let expected = gradient(SdpaBackend::Math, &tracked);
    assert!(expected.iter().any(|x| x.abs() > 0.1));
    for backend in BACKENDS {
        for keys in [&tracked, &plain] {
            let found = gradient(backend, keys);
            let close = found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5);
            assert!(close, "{backend}: {found:?}, expected {expected:?}");
        }
    }
}

/// A window beyond the sequence is full attention.
/// Queries, keys and values as projections leave them, and an output that the next projection reads as it is.
#[test]
fn projected_layouts_are_read_and_written_in_place() {
    let device = Device::flex();
    for (batch, heads, kv_heads, length) in [(1, 4, 2, 1), (2, 6, 3, 5), (2, 8, 2, 300)] {
        let projected = |heads: usize, seed| {
            let shape = [batch, length, heads, 8];
            let values = numbers(shape.iter().product(), seed);
            Tensor::<4>::from_data(TensorData::new(values, shape), (&device, DType::F32)).swap_dims(1, 2)
        };
        let (q, k, v) = (projected(heads, 1), projected(kv_heads, 2), projected(kv_heads, 3));
        let params = AttentionParams { scale: 0.4, softcap: Some(5.0), mask: AttentionMask::Full, alibi: None };
        let run =
            |backend, q, k, v| attention(backend, q, k, v, None, &params, &Positions::default()).expect("valid shapes");
        let output = run(SdpaBackend::EfficientAttention, q.clone(), k.clone(), v.clone());
        assert_eq!(output.dims(), [batch, heads, length, 8]);
        let whole = |x: &Tensor<4>| Tensor::<4>::from_data(x.clone().into_data(), (&device, DType::F32));
        let copied = run(SdpaBackend::EfficientAttention, whole(&q), whole(&k), whole(&v));
        assert_eq!(output.clone().into_data(), copied.into_data());
        let close = output.clone() - run(SdpaBackend::Math, q, k, v);
        assert!(close.abs().max().into_scalar::<f32>() < 1e-5);
        let rows = output.swap_dims(1, 2).try_into_primitive::<Flex>().expect("a Flex tensor");
        assert!(rows.is_contiguous());
    }
}

#[test]
fn a_window_beyond_the_sequence_is_full_attention() {
    let of = |mask| {
        let params = AttentionParams::new(0.4, mask);
        let case = Case { params, ..Case::default() };
        case.compute(SdpaBackend::EfficientAttention, DType::F32, &Device::flex()).expect("a valid case")
    };
    let full = of(AttentionMask::Full);
    assert_eq!(of(AttentionMask::Sliding { window: usize::MAX }), full);
    assert_eq!(of(AttentionMask::Chunked { size: usize::MAX }), full);
}

fn any_case() -> impl Strategy<Value = Case> {
    let mask = prop_oneof![
        Just(AttentionMask::Full),
        Just(AttentionMask::Bidirectional),
        (1_usize..12).prop_map(|window| AttentionMask::Sliding { window }),
        (1_usize..12).prop_map(|size| AttentionMask::Chunked { size }),
    ];
    let sizes = (1_usize..4, 1_usize..4, 1_usize..5, 1_usize..12, 0_usize..14, 1_usize..40, 1_usize..20);
    let rest = (any::<bool>(), proptest::option::of(0.5..30.0), mask, 0_usize..5, any::<bool>(), 0_u64..1000);
    (sizes, rest).prop_flat_map(|((batch, kv_heads, group, queries, past, head_dim, value_dim), rest)| {
        let (sinks, softcap, mask, key_start, padded, seed) = rest;
        let longest = if padded { key_start + past + queries } else { 0 };
        proptest::collection::vec(0..=longest, batch).prop_map(move |padding| Case {
            batch,
            kv_heads,
            group,
            queries,
            keys: past + queries,
            head_dim,
            value_dim,
            sinks,
            params: AttentionParams { scale: (head_dim as f64).powf(-0.5), softcap, mask, alibi: None },
            positions: Positions {
                query_start: key_start + past,
                key_start,
                padding: if padded { padding } else { Vec::new() },
            },
            seed,
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn random_calls(case in any_case()) {
        check_everywhere(&case);
    }
}
