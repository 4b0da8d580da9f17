//! IBM's Granite models: Llama with factors on embeddings, scores, branches and logits; mixtures of experts.

#[expect(clippy::module_inception, reason = "a folder is a lineage, a file a model type")]
pub mod granite;
pub mod granite_swa;
pub mod granitemoe;
pub mod granitemoe_swa;
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
    module_rules: MODULE_RULES,
    ..Layout::LLAMA
};

/// The names of the modules of transformers 5.
const MODULE_RULES: &[Rule] = &[
    Rule::Pack {
        parts: &["mlp.shared_expert.gate_proj", "mlp.shared_expert.up_proj"],
        into: "shared_mlp.input_linear",
        order: PackOrder::Rows,
    },
    Rule::Rename("mlp.shared_expert.down_proj", "shared_mlp.output_linear"),
    PACKED_EXPERTS,
    Rule::Stack { over: "mlp.experts", into: "block_sparse_moe.experts" },
    Rule::Rename("mlp.gate.", "block_sparse_moe.router."),
];

/// The best logits are kept and weighted by a softmax over them.
fn granite_moe(config: &FamilyConfig<'_>) -> Result<MoeSpec, RegistryError> {
    let mut moe = softmax_moe(config, "num_local_experts", config.usize("intermediate_size")?, false)?;
    moe.router.score = RouterScore::TopkSoftmax;
    Ok(moe)
}

/// [`granite_moe`] with a shared expert, unless its width is 0.
fn granite_moe_shared(config: &FamilyConfig<'_>) -> Result<MoeSpec, RegistryError> {
    let mut moe = granite_moe(config)?;
    let intermediate_size = config.count("shared_intermediate_size")?;
    if intermediate_size > 0 {
        let mlp = MlpSpec { intermediate_size, ..moe.expert.clone() };
        moe.shared_expert = Some(SharedExpert { mlp, gate: false, norms: None });
    }
    Ok(moe)
}

/// Sinks on all layers, windows on three of four, and the base of each layer's rotation from `layer_rope_theta`, 0 for none.
fn build_with_sinks(config: &FamilyConfig<'_>, mut template: Template) -> Result<ModelSpec, RegistryError> {
    template.attention.sinks = true;
    let window = config.usize_or_null("sliding_window")?;
    let every_fourth = |index: usize| if index.is_multiple_of(4) { "full_attention" } else { "sliding_attention" };
    let types = layer_types(config, template.num_hidden_layers, every_fourth)?;
    let thetas = layer_thetas(config, template.num_hidden_layers)?;
    template.build(|index, layer| {
        let attention = &mut layer.attention;
        attention.mask = mask_of(config, &types[index], window)?;
        if let Some(thetas) = &thetas {
            attention.rope = attention.rope.take().filter(|_| thetas[index] != 0.0);
            if let Some(rope) = &mut attention.rope {
                rope.theta = thetas[index];
            }
        }
        Ok(())
    })
}

/// `layer_rope_theta`, if it is given: a base for each layer, or 0.
fn layer_thetas(config: &FamilyConfig<'_>, layers: usize) -> Result<Option<Vec<f64>>, RegistryError> {
    let thetas = config.list_f64_or_null("layer_rope_theta")?;
    let is_base = |theta: &f64| *theta == 0.0 || (1e-6..=1e15).contains(theta);
    match thetas {
        Some(thetas) if thetas.len() < layers || !thetas.iter().all(is_base) => {
            Err(config
                .inconsistent(format!("layer_rope_theta is not a list of {layers} bases of frequencies, or zeros")))
        }
        thetas => Ok(thetas),
    }
}
