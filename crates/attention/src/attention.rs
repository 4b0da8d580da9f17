//! Softmax attention over grouped heads.
//!
//! Milliseconds per call on two shared, busy cores of an AMD EPYC (`examples/measure.rs`; float32, `head_dim` 64, keys
//! and values as views of a cache):
//!
//! | | `efficient_attention` | `math` | Burn's fused operator |
//! |---|---|---|---|
//! | decode at 1024, 32 heads over 4 | 0.50 | 1.45 | 9.6 |
//! | decode at 1024, 32 heads over 32 | 1.2 | 8.0 | 15 |
//! | prefill of 512, 32 heads over 4 | 87 | 330 | 243 |
//! | prefill of 2048, window of 256 | 285 | 3390 | 3150 |

use crate::mask::CallMask;
use crate::{Alibi, AttentionError, AttentionMask, Positions, SdpaBackend, flex, math, tiled};
use burn::tensor::{DType, Tensor};

/// Parameters that are constant for a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionParams {
    /// Factor on the scores, usually `head_dim^-0.5`.
    pub scale: f64,
    /// `cap * tanh(scores / cap)` before the mask (Gemma 2).
    pub softcap: Option<f64>,
    /// Which keys a query attends to.
    pub mask: AttentionMask,
    /// Biases that grow with the position of the key; not together with a soft-cap.
    pub alibi: Option<Alibi>,
}

impl AttentionParams {
    /// Scaled scores and a mask alone.
    pub const fn new(scale: f64, mask: AttentionMask) -> Self {
        Self { scale, softcap: None, mask, alibi: None }
    }
}

/// Sizes of one call, checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) batch: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    pub(crate) head_dim: usize,
    pub(crate) value_dim: usize,
}

impl Sizes {
    /// Query heads that share a key-value head.
    pub(crate) fn group(&self) -> usize {
        self.heads / self.kv_heads
    }
}

/// `softmax(scale * q @ k^T + mask) @ v` for grouped heads, without repeating keys or values.
///
/// - `q`: `[batch, heads, queries, head_dim]`
/// - `k`: `[batch, kv_heads, keys, head_dim]`; query heads `h * heads / kv_heads ..` share key-value head `h`
/// - `v`: `[batch, kv_heads, keys, value_dim]`
/// - `sinks`: `[heads]`, one learned logit per head that joins the softmax and attends to nothing (gpt-oss)
///
/// Returns `[batch, heads, queries, value_dim]` in the dtype of `q`; from the CPU's kernel a view of
/// `[batch, queries, heads, value_dim]`, so that swapping these axes for the next projection copies nothing. Scores and softmax are computed in float32 (in
/// float64 for float64 inputs). A query without a visible key gives zeros. `backend` comes
/// from [`select_backend`](crate::select_backend); the table in [`crate::sdpa`] says how each one computes.
///
/// # Errors
/// Shapes, dtypes or devices that do not fit each other; paddings that are not one per row; a window or chunk of 0; a
/// scale that is not finite; a soft-cap that is not positive; a backend that the device does not support.
pub fn attention(
    backend: SdpaBackend,
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    sinks: Option<Tensor<1>>,
    params: &AttentionParams,
    positions: &Positions,
) -> Result<Tensor<4>, AttentionError> {
    let sizes = check_shapes(&q, &k, &v, sinks.as_ref())?;
    check_dtypes_and_devices(&q, &k, &v, sinks.as_ref())?;
    check_params(params)?;
    positions.validate(sizes.batch, sizes.queries, sizes.keys)?;
    let choice = crate::select_backend(Some(&[backend]), &q.device())?;

    let mask = CallMask { mask: params.mask, positions, keys: sizes.keys };
    if choice.backend == SdpaBackend::Math {
        return Ok(math::attention(q, k, v, sinks, params, &mask, &sizes));
    }
    if let Some(output) = flex::attention(&q, &k, &v, sinks.as_ref(), params, &mask, &sizes) {
        return Ok(output);
    }
    Ok(tiled::attention(q, k, v, sinks, params, &mask, &sizes))
}

fn check_shapes(
    q: &Tensor<4>,
    k: &Tensor<4>,
    v: &Tensor<4>,
    sinks: Option<&Tensor<1>>,
) -> Result<Sizes, AttentionError> {
    let [batch, heads, queries, head_dim] = q.dims();
    let [_, kv_heads, keys, _] = k.dims();
    let [_, _, _, value_dim] = v.dims();
    let shape = |tensor, expected, found: &[usize]| AttentionError::Shape { tensor, expected, found: found.to_vec() };

    if q.dims().contains(&0) {
        return Err(shape("queries", "[batch, heads, queries, head_dim], all at least 1".to_owned(), &q.dims()));
    }
    if k.dims() != [batch, kv_heads, keys, head_dim] || keys == 0 || kv_heads == 0 {
        return Err(shape("keys", format!("[{batch}, kv_heads, keys, {head_dim}], none of them 0"), &k.dims()));
    }
    if heads % kv_heads != 0 {
        return Err(shape("keys", format!("a number of heads that divides the {heads} query heads"), &k.dims()));
    }
    if v.dims() != [batch, kv_heads, keys, value_dim] || value_dim == 0 {
        return Err(shape("values", format!("[{batch}, {kv_heads}, {keys}, value_dim]"), &v.dims()));
    }
    if let Some(sinks) = sinks
        && sinks.dims() != [heads]
    {
        return Err(shape("sinks", format!("[{heads}]"), &sinks.dims()));
    }
    Ok(Sizes { batch, heads, kv_heads, queries, keys, head_dim, value_dim })
}

/// Requires equal dtypes and devices: backends panic on mixed ones, or give wrong results.
fn check_dtypes_and_devices(
    q: &Tensor<4>,
    k: &Tensor<4>,
    v: &Tensor<4>,
    sinks: Option<&Tensor<1>>,
) -> Result<(), AttentionError> {
    let (dtype, device) = (q.dtype(), q.device());
    let known = "float32, float16, bfloat16 or float64";
    if !is_supported(dtype) {
        return Err(AttentionError::Dtype { tensor: "queries", expected: known.to_owned(), found: dtype });
    }
    for (tensor, found) in [("keys", k.dtype()), ("values", v.dtype())] {
        if found != dtype {
            let expected = format!("{dtype:?} like the queries");
            return Err(AttentionError::Dtype { tensor, expected, found });
        }
    }
    if let Some(sinks) = sinks
        && !is_supported(sinks.dtype())
    {
        return Err(AttentionError::Dtype { tensor: "sinks", expected: known.to_owned(), found: sinks.dtype() });
    }
    let devices = [("keys", Some(k.device())), ("values", Some(v.device())), ("sinks", sinks.map(Tensor::device))];
    for (tensor, found) in devices {
        if let Some(found) = found
            && found != device
        {
            let (expected, found) = (format!("{device:?}"), format!("{found:?}"));
            return Err(AttentionError::DeviceMismatch { tensor, expected, found });
        }
    }
    Ok(())
}

fn is_supported(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16 | DType::F64)
}

fn check_params(params: &AttentionParams) -> Result<(), AttentionError> {
    params.mask.validate()?;
    if !params.scale.is_finite() {
        let value = params.scale.to_string();
        return Err(AttentionError::Parameter { name: "scale", value, expected: "a finite number" });
    }
    if let Some(alibi) = params.alibi {
        if !alibi.factor.is_finite() {
            let value = alibi.factor.to_string();
            return Err(AttentionError::Parameter { name: "factor of ALiBi", value, expected: "a finite number" });
        }
        if let Some(cap) = params.softcap {
            let expected = "no soft-cap beside ALiBi";
            return Err(AttentionError::Parameter { name: "softcap", value: cap.to_string(), expected });
        }
    }
    match params.softcap {
        Some(cap) if !(cap.is_finite() && cap > 0.0) => {
            Err(AttentionError::Parameter { name: "softcap", value: cap.to_string(), expected: "a positive number" })
        }
        _ => Ok(()),
    }
}

/// The dtype of scores and softmax.
pub(crate) fn compute_dtype(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

/// Scaled queries with the heads of a group as further rows: `[batch, kv_heads, group * queries, head_dim]`.
/// With a soft-cap the division by it is folded into the scale.
pub(crate) fn group_queries(q: Tensor<4>, params: &AttentionParams, sizes: &Sizes, dtype: DType) -> Tensor<4> {
    let scale = params.scale / params.softcap.unwrap_or(1.0);
    q.cast(dtype).mul_scalar(scale).reshape([
        sizes.batch,
        sizes.kv_heads,
        sizes.group() * sizes.queries,
        sizes.head_dim,
    ])
}

/// `cap * tanh(scores)` for scores already divided by the cap.
pub(crate) fn apply_softcap(scores: Tensor<4>, softcap: Option<f64>) -> Tensor<4> {
    match softcap {
        Some(cap) => scores.tanh().mul_scalar(cap),
        None => scores,
    }
}

/// Adds `[rows, 1, queries, keys]` to scores `[batch, kv_heads, group * queries, keys]`.
pub(crate) fn add_bias(scores: Tensor<4>, bias: Tensor<4>, group: usize) -> Tensor<4> {
    let [batch, kv_heads, rows, keys] = scores.dims();
    let bias = bias.cast(scores.dtype()).unsqueeze_dim::<5>(1);
    let scores = scores.reshape([batch, kv_heads, group, rows / group, keys]);
    (scores + bias).reshape([batch, kv_heads, rows, keys])
}

/// Sinks as a column beside scores: `[1, kv_heads, group * queries, 1]`.
pub(crate) fn sink_column(sinks: Tensor<1>, kv_heads: usize, queries: usize, dtype: DType) -> Tensor<4> {
    let [heads] = sinks.dims();
    let group = heads / kv_heads;
    sinks.cast(dtype).reshape([1, kv_heads, group, 1]).expand([1, kv_heads, group, queries]).reshape([
        1,
        kv_heads,
        group * queries,
        1,
    ])
}
