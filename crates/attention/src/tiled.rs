//! Tiles of queries and keys with an online softmax, in tensor operations: bounded memory on any device.
//!
//! For each tile of keys the running maximum `m`, the sum of exponentials `l` and the unnormalised output `o` are
//! brought to the new maximum: `o = o * exp(m - m') + exp(scores - m') @ v` (Milakov and Gimelshein 2018, Dao 2022).

use crate::attention::{AttentionParams, Sizes, add_bias, apply_softcap, compute_dtype, group_queries, sink_column};
use crate::mask::CallMask;
use burn::tensor::{DType, Tensor};
use std::ops::Range;

/// Queries of one tile.
const QUERY_TILE: usize = 128;
/// Keys of one tile of [`QUERY_TILE`] queries.
const KEY_TILE: usize = 512;
/// Maximum of keys of one tile, however few queries it has.
const MAX_KEYS: usize = 8192;

/// Keys of one tile: the fewer queries there are, the more keys have scores of the same size. A decode step has one tile, and the
/// same number of launches for every length of context.
fn key_tile(queries: usize) -> usize {
    (QUERY_TILE * KEY_TILE / queries.max(1)).clamp(KEY_TILE, MAX_KEYS)
}

/// The state of an online softmax over rows `[batch, kv_heads, rows]`.
struct OnlineSoftmax {
    /// Maximum so far, `[.., 1]`.
    max: Tensor<4>,
    /// Sum of exponentials so far, `[.., 1]`.
    sum: Tensor<4>,
    /// Unnormalised output so far, `[.., value_dim]`.
    output: Tensor<4>,
}

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
    let call = Call { k, v, sinks, params, mask, sizes, compute: compute_dtype(q.dtype()) };
    let dtype = q.dtype();
    let blocks = (0..sizes.queries)
        .step_by(QUERY_TILE)
        .map(|start| {
            let queries = start..(start + QUERY_TILE).min(sizes.queries);
            call.tile(q.clone().narrow(2, start, queries.len()), queries)
        })
        .collect();
    Tensor::cat(blocks, 2).cast(dtype)
}

struct Call<'a> {
    k: Tensor<4>,
    v: Tensor<4>,
    sinks: Option<Tensor<1>>,
    params: &'a AttentionParams,
    mask: &'a CallMask<'a>,
    sizes: &'a Sizes,
    compute: DType,
}

impl Call<'_> {
    /// Output `[batch, heads, queries, value_dim]` of one tile of queries.
    fn tile(&self, q: Tensor<4>, queries: Range<usize>) -> Tensor<4> {
        let device = q.device();
        let sizes = Sizes { queries: queries.len(), ..*self.sizes };
        let rows = group_queries(q, self.params, &sizes, self.compute);
        let mut state = self.sinks.clone().map(|sinks| self.sinks_alone(sinks, &sizes, &rows));

        let seen = self.mask.union(0..self.mask.rows(), queries.clone());
        let tile = key_tile(queries.len());
        for start in seen.clone().step_by(tile) {
            let keys = start..(start + tile).min(seen.end);
            let k = self.k.clone().narrow(2, start, keys.len()).cast(self.compute);
            let v = self.v.clone().narrow(2, start, keys.len()).cast(self.compute);
            let mut scores = apply_softcap(rows.clone().matmul(k.swap_dims(2, 3)), self.params.softcap);
            if let Some(alibi) = &self.params.alibi {
                scores = alibi.add_to(scores, self.mask, &keys, &sizes);
            }
            if let Some(bias) = self.mask.bias(queries.clone(), keys, &device) {
                scores = add_bias(scores, bias, sizes.group());
            }
            state = Some(step(state, scores, v));
        }

        let shape = [sizes.batch, sizes.heads, sizes.queries, sizes.value_dim];
        let Some(state) = state else {
            return Tensor::zeros(shape, (&device, self.compute));
        };
        let output = (state.output / state.sum).reshape(shape);
        match self.mask.has_visible_key(queries, &device) {
            Some(seeing) => output * seeing.cast(self.compute),
            None => output,
        }
    }

    /// An online softmax that holds only the sinks.
    fn sinks_alone(&self, sinks: Tensor<1>, sizes: &Sizes, rows: &Tensor<4>) -> OnlineSoftmax {
        let [batch, kv_heads, height, _] = rows.dims();
        let options = (&rows.device(), self.compute);
        let max = sink_column(sinks, kv_heads, sizes.queries, self.compute).expand([batch, kv_heads, height, 1]);
        OnlineSoftmax {
            max,
            sum: Tensor::ones([batch, kv_heads, height, 1], options),
            output: Tensor::zeros([batch, kv_heads, height, sizes.value_dim], options),
        }
    }
}

/// Takes one tile of scores into the softmax.
fn step(state: Option<OnlineSoftmax>, scores: Tensor<4>, v: Tensor<4>) -> OnlineSoftmax {
    let tile_max = scores.clone().max_dim(3);
    let Some(state) = state else {
        let weights = (scores - tile_max.clone()).exp();
        return OnlineSoftmax { max: tile_max, sum: weights.clone().sum_dim(3), output: weights.matmul(v) };
    };
    let max = state.max.clone().max_pair(tile_max);
    let correction = (state.max - max.clone()).exp();
    let weights = (scores - max.clone()).exp();
    OnlineSoftmax {
        max,
        sum: state.sum * correction.clone() + weights.clone().sum_dim(3),
        output: state.output * correction + weights.matmul(v),
    }
}
