//! IBM's Granite models: Llama with factors on embeddings, scores, branches and logits; mixtures of experts.

#[expect(clippy::module_inception, reason = "a folder is a lineage, a file a model type")]
pub mod granite;
pub mod granitemoe;
pub mod granitemoeshared;

use super::prelude::*;

impl Template {
    /// Granite's factors, and one flag for the biases of attention.
    pub(super) fn with_granite_factors(mut self, config: &FamilyConfig<'_>) -> Result<Self, RegistryError> {
        self.attention.bias = attention_bias(config)?;
        self.attention.scale = config.f64("attention_multiplier")?;
        self.embedding.scale = Some(config.f64("embedding_multiplier")?);
        self.residual_scale = Some(config.f64("residual_multiplier")?);
        self.head.logit_scale = Some(1.0 / config.f64("logits_scaling")?);
        Ok(self)
    }
}

/// Experts in two tensors, `[experts, 2 * intermediate_size, hidden_size]` and `[experts, hidden_size, intermediate_size]`; the shared
/// expert in two of its own.
const MOE_LAYOUT: Layout = Layout {
    rules: &[
        Rule::Pack { parts: &["gate_proj", "up_proj"], into: "input_linear", order: PackOrder::Rows },
        Rule::Rename(".down_proj.", ".output_linear."),
        Rule::Rename("mlp.shared_expert.", "shared_mlp."),
        Rule::Rename("mlp.gate.", "block_sparse_moe.router.layer."),
        Rule::Stack { over: "mlp.experts", into: "block_sparse_moe" },
        Rule::Rename("block_sparse_moe.input_linear", "block_sparse_moe.input_linear.weight"),
        Rule::Rename("block_sparse_moe.output_linear", "block_sparse_moe.output_linear.weight"),
    ],
    module_rules: &[
        Rule::Pack {
            parts: &["mlp.shared_expert.gate_proj", "mlp.shared_expert.up_proj"],
            into: "shared_mlp.input_linear",
            order: PackOrder::Rows,
        },
        Rule::Rename("mlp.shared_expert.down_proj", "shared_mlp.output_linear"),
        PACKED_EXPERTS,
        Rule::Stack { over: "mlp.experts", into: "block_sparse_moe.experts" },
        Rule::Rename("mlp.gate.", "block_sparse_moe.router."),
    ],
    ..Layout::LLAMA
};

/// The best logits are kept and weighted by a softmax over them.
fn granite_moe(config: &FamilyConfig<'_>) -> Result<MoeSpec, RegistryError> {
    let mut moe = softmax_moe(config, "num_local_experts", config.usize("intermediate_size")?, false)?;
    moe.router.score = RouterScore::TopkSoftmax;
    Ok(moe)
}
