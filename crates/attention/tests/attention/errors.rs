//! Calls that must be refused, without a panic.

use automodel_attention::{Alibi, AttentionError, AttentionMask, AttentionParams, Positions, SdpaBackend, attention};
use burn::tensor::{DType, Device, Tensor};

const PARAMS: AttentionParams = AttentionParams::new(1.0, AttentionMask::Full);

fn ones(shape: [usize; 4]) -> Tensor<4> {
    Tensor::ones(shape, (&Device::flex(), DType::F32))
}

fn call(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    params: &AttentionParams,
    positions: &Positions,
) -> Result<Tensor<4>, AttentionError> {
    attention(SdpaBackend::EfficientAttention, q, k, v, None, params, positions)
}

/// The tensor that a shape error names.
fn misfit(q: [usize; 4], k: [usize; 4], v: [usize; 4]) -> &'static str {
    match call(ones(q), ones(k), ones(v), &PARAMS, &Positions::default()) {
        Err(AttentionError::Shape { tensor, .. }) => tensor,
        other => panic!("expected a shape error, got {other:?}"),
    }
}

#[test]
fn shapes() {
    let good = [2, 2, 5, 8];
    assert_eq!(misfit([2, 4, 0, 8], good, good), "queries");
    assert_eq!(misfit([2, 4, 3, 8], [1, 2, 5, 8], good), "keys");
    assert_eq!(misfit([2, 4, 3, 8], [2, 2, 5, 6], good), "keys");
    assert_eq!(misfit([2, 4, 3, 8], [2, 3, 5, 8], [2, 3, 5, 8]), "keys");
    assert_eq!(misfit([2, 4, 3, 8], [2, 0, 5, 8], good), "keys");
    assert_eq!(misfit([2, 4, 3, 8], [2, 2, 0, 8], good), "keys");
    assert_eq!(misfit([2, 4, 3, 8], good, [2, 2, 4, 8]), "values");
    assert_eq!(misfit([2, 4, 3, 8], good, [2, 2, 5, 0]), "values");
}

#[test]
fn sinks_of_another_number() {
    let sinks = Tensor::<1>::zeros([3], (&Device::flex(), DType::F32));
    let (q, k) = (ones([1, 4, 1, 8]), ones([1, 2, 1, 8]));
    let result =
        attention(SdpaBackend::Math, q, k.clone(), k, Some(sinks), &PARAMS, &Positions::default()).map(|x| x.dims());
    assert!(matches!(result, Err(AttentionError::Shape { tensor: "sinks", .. })), "{result:?}");
}

#[test]
fn mixed_dtypes() {
    let (q, k) = (ones([1, 4, 1, 8]), ones([1, 2, 1, 8]));
    let result = call(q.clone(), k.clone().cast(DType::F16), k.clone(), &PARAMS, &Positions::default());
    assert!(matches!(result, Err(AttentionError::Dtype { tensor: "keys", found: DType::F16, .. })));
    let result = call(q, k.clone(), k.cast(DType::BF16), &PARAMS, &Positions::default());
    let message = result.expect_err("bfloat16 values").to_string();
    assert_eq!(
        message,
        "attention: the dtype of the values is BF16, expected F32 like the queries: cast before the call"
    );
}

#[test]
fn parameters() {
    let (q, k) = (ones([1, 4, 1, 8]), ones([1, 2, 1, 8]));
    for params in [
        AttentionParams { scale: f64::NAN, ..PARAMS },
        AttentionParams { scale: f64::INFINITY, ..PARAMS },
        AttentionParams { softcap: Some(0.0), ..PARAMS },
        AttentionParams { softcap: Some(-1.0), ..PARAMS },
        AttentionParams { softcap: Some(f64::NAN), ..PARAMS },
        AttentionParams { alibi: Some(Alibi { factor: f64::NAN, in_bfloat16: false }), ..PARAMS },
        AttentionParams { alibi: Some(Alibi { factor: 1.0, in_bfloat16: false }), softcap: Some(1.0), ..PARAMS },
        AttentionParams { mask: AttentionMask::Sliding { window: 0 }, ..PARAMS },
        AttentionParams { mask: AttentionMask::Chunked { size: 0 }, ..PARAMS },
    ] {
        let result = call(q.clone(), k.clone(), k.clone(), &params, &Positions::default());
        assert!(matches!(result, Err(AttentionError::Parameter { .. })), "{params:?}");
    }
}

#[test]
fn positions() {
    let (q, k) = (ones([2, 4, 1, 8]), ones([2, 2, 1, 8]));
    let padding = Positions { padding: vec![0], ..Positions::default() };
    let result = call(q.clone(), k.clone(), k.clone(), &PARAMS, &padding);
    assert!(matches!(result, Err(AttentionError::PaddingRows { rows: 1, batch: 2 })));
    for positions in [
        Positions { query_start: usize::MAX, ..Positions::default() },
        Positions { key_start: usize::MAX, ..Positions::default() },
    ] {
        let result = call(q.clone(), k.clone(), k.clone(), &PARAMS, &positions);
        assert!(matches!(result, Err(AttentionError::PositionOverflow { .. })));
    }
    let far = Positions { query_start: usize::MAX - 1, padding: vec![usize::MAX, 0], ..Positions::default() };
    assert!(call(q, k.clone(), k, &PARAMS, &far).is_ok());
}

#[test]
fn a_backend_the_device_lacks() {
    let (q, k) = (ones([1, 4, 1, 8]), ones([1, 2, 1, 8]));
    let result = attention(SdpaBackend::CudnnAttention, q, k.clone(), k, None, &PARAMS, &Positions::default());
    assert!(matches!(result, Err(AttentionError::UnavailableBackend { .. })));
}

/// Broken weights must show, not vanish in a mask or a maximum.
#[test]
fn not_a_number_reaches_the_output() {
    for backend in [SdpaBackend::Math, SdpaBackend::EfficientAttention] {
        for lengths in [1, 40] {
            let q = ones([1, 2, lengths, 8]) * f32::NAN;
            let k = ones([1, 2, lengths, 8]);
            let output = attention(backend, q, k.clone(), k, None, &PARAMS, &Positions::default());
            let values: Vec<f32> = output.expect("valid shapes").into_data().try_to_vec().expect("float32");
            assert!(values.iter().all(|x| x.is_nan()), "{backend}, {lengths} queries: {values:?}");
        }
    }
}
