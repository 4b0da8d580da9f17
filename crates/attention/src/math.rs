//! The reference: the whole score matrix and one softmax, in tensor operations.

use crate::attention::{AttentionParams, Sizes, add_bias, apply_softcap, compute_dtype, group_queries, sink_column};
use crate::mask::CallMask;
use burn::tensor::Tensor;
use burn::tensor::activation::softmax;

/// Attention on any device; differentiable.
pub(crate) fn attention(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    sinks: Option<Tensor<1>>,
    params: &AttentionParams,
    mask: &CallMask<'_>,
    sizes: &Sizes,
) -> Tensor<4> {
    let (dtype, device) = (q.dtype(), q.device());
    let compute = compute_dtype(dtype);

    let queries = group_queries(q, params, sizes, compute);
    let scores = queries.matmul(k.cast(compute).swap_dims(2, 3));
    let mut scores = apply_softcap(scores, params.softcap);
    if let Some(alibi) = &params.alibi {
        scores = alibi.add_to(scores, mask, &(0..sizes.keys), sizes);
    }
    if let Some(bias) = mask.bias(0..sizes.queries, 0..sizes.keys, &device) {
        scores = add_bias(scores, bias, sizes.group());
    }

    let weights = match sinks {
        None => softmax(scores, 3),
        Some(sinks) => {
            let column = sink_column(sinks, sizes.kv_heads, sizes.queries, compute);
            let [batch, kv_heads, rows, _] = scores.dims();
            let with_sink = Tensor::cat(vec![scores, column.expand([batch, kv_heads, rows, 1])], 3);
            softmax(with_sink, 3).narrow(3, 0, sizes.keys)
        }
    };
    let output = weights.matmul(v.cast(compute)).reshape([sizes.batch, sizes.heads, sizes.queries, sizes.value_dim]);
    let output = match mask.has_visible_key(0..sizes.queries, &device) {
        Some(seeing) => output * seeing.cast(compute),
        None => output,
    };
    output.cast(dtype)
}
