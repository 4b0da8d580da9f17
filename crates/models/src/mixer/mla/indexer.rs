//! Keys chosen for each query, for all heads alike (DeepSeek-V3.2).

use super::rotated;
use crate::linears::{Linears, linears};
use crate::mixer::Ropes;
use crate::skeleton::Skeleton;
use crate::{Linear, ModelError, Norm};
use automodel_attention::{Positions, RopeTables};
use automodel_registry::spec::IndexerSpec;
use burn::module::Module;
use burn::tensor::{DType, Tensor, TensorData, activation};

/// Added to the scores of keys that are not attended to: finite, so that a query without keys does not give NaN.
const MASKED: f32 = -1e30;

/// Scores keys, of which a query attends to the best.
#[derive(Module, Debug)]
pub struct Indexer {
    /// `[num_heads * head_dim, q_lora_rank]`
    pub wq_b: Linear,
    /// `[head_dim, hidden_size]`
    pub wk: Linear,
    /// Norm on the key.
    pub k_norm: Norm,
    /// `[num_heads, hidden_size]`
    pub weights_proj: Linear,
    /// The rotary embedding among those of the model.
    #[module(skip)]
    pub(super) rope: Option<usize>,
    #[module(skip)]
    pub(super) spec: IndexerSpec,
}

linears!(Indexer { wq_b, wk, weights_proj; k_norm, rope, spec });

/// What queries are scored with: `[batch, num_heads, length, head_dim]`, and weights of heads `[batch, num_heads, length, 1]`.
pub(super) struct IndexQueries {
    q: Tensor<4>,
    weights: Tensor<4>,
}

impl Indexer {
    pub(super) fn new(spec: &IndexerSpec, parameters: &Skeleton<'_>, ropes: &mut Ropes) -> Result<Self, ModelError> {
        Ok(Self {
            wq_b: parameters.linear("wq_b")?,
            wk: parameters.linear("wk")?,
            k_norm: parameters.norm("k_norm", spec.norm)?,
            weights_proj: parameters.linear("weights_proj")?,
            rope: spec.rope.as_ref().map(|rope| ropes.index_of(spec.head_dim, rope)),
            spec: spec.clone(),
        })
    }

    /// The key `[batch, 1, length, head_dim]` of each row of hidden states.
    pub(super) fn keys(&self, x: Tensor<2>, batch: usize, ropes: &[RopeTables]) -> Tensor<4> {
        let length = x.dims()[0] / batch;
        let keys = self.k_norm.forward(self.wk.forward(x)).reshape([batch, 1, length, self.spec.head_dim]);
        rotated(keys, self.rope.and_then(|index| ropes.get(index)))
    }

    /// The queries of rows of hidden states and of the narrow vectors of queries.
    pub(super) fn queries(&self, x: Tensor<2>, narrow: Tensor<2>, batch: usize, ropes: &[RopeTables]) -> IndexQueries {
        let IndexerSpec { num_heads, head_dim, .. } = self.spec;
        let length = x.dims()[0] / batch;
        let q = self.wq_b.forward(narrow).reshape([batch, length, num_heads, head_dim]).swap_dims(1, 2);
        let q = rotated(q, self.rope.and_then(|index| ropes.get(index)));
        let weights = self.weights_proj.forward(x).cast(DType::F32) * (num_heads as f64).powf(-0.5);
        IndexQueries { q, weights: weights.reshape([batch, length, num_heads, 1]).swap_dims(1, 2) }
    }

    /// What is added to the scores of these queries of the call, `[batch, 1, queries, keys]`: nothing for the best keys of those that each
    /// one sees. The scores are read back to the host, where the choice is made.
    pub(super) fn bias(
        &self,
        of: &IndexQueries,
        queries: std::ops::Range<usize>,
        keys: &Tensor<4>,
        positions: &Positions,
    ) -> Tensor<4> {
        let (start, height) = (queries.start, queries.len());
        let [batch, _, width, _] = keys.dims();
        let q = of.q.clone().narrow(2, start, height).cast(DType::F32);
        let scores = q.matmul(keys.clone().cast(DType::F32).swap_dims(2, 3));
        let scores = activation::relu(scores * (self.spec.head_dim as f64).powf(-0.5));
        let scores = (scores * of.weights.clone().narrow(2, start, height)).sum_dim(1);
        let scores = scores.into_data().try_into_vec::<f32>().expect("scores are float32");
        let mut bias = vec![MASKED; batch * height * width];
        for (line, (scores, bias)) in scores.chunks_exact(width).zip(bias.chunks_exact_mut(width)).enumerate() {
            let (row, query) = (line / height, positions.query_start + start + line % height);
            let first = positions.row_padding(row).saturating_sub(positions.key_start).min(width);
            let seen = first..(query + 1).saturating_sub(positions.key_start).min(width).max(first);
            for key in best(scores, seen, self.spec.top_k) {
                if let Some(place) = bias.get_mut(key) {
                    *place = 0.0;
                }
            }
        }
        Tensor::from_data(TensorData::new(bias, [batch, 1, height, width]), (&keys.device(), DType::F32))
    }
}

/// The `count` places of the highest scores in a range, or all of it.
fn best(scores: &[f32], range: std::ops::Range<usize>, count: usize) -> Vec<usize> {
    let mut places: Vec<usize> = range.collect();
    if count > 0 && count < places.len() {
        places.select_nth_unstable_by(count - 1, |&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
        places.truncate(count);
    }
    places
}

#[cfg(test)]
mod tests {
    use super::best;

    #[test]
    fn the_best_are_chosen_out_of_what_is_seen() {
        let scores = [9.0, 0.5, 2.0, -1.0, 2.0, 0.0, 7.0];
        let of = |range, count| {
            let mut places = best(&scores, range, count);
            places.sort_unstable();
            places
        };
        assert_eq!(of(1..6, 2), [2, 4]);
        assert_eq!(of(1..6, 1), [2]);
        assert_eq!(of(1..6, 4), [1, 2, 4, 5]);
        assert_eq!(of(1..4, 3), [1, 2, 3]);
        assert_eq!(of(1..4, 9), [1, 2, 3]);
        assert_eq!(of(3..3, 2), [0; 0]);
    }
}
