//! Alibaba's Qwen models: windows on upper layers, mixtures of experts on some.

pub mod qwen2;
pub mod qwen2_moe;
pub mod qwen2_vl_text;
pub mod qwen3;
pub mod qwen3_moe;
pub mod qwen3_vl_moe_text;
pub mod qwen3_vl_text;

use super::prelude::*;

/// Qwen's windows: on layers from `max_window_layers` up, if `use_sliding_window` is set.
pub(super) fn build_with_upper_windows(
    config: &FamilyConfig<'_>,
    template: Template,
) -> Result<ModelSpec, RegistryError> {
    let windowed = config.bool("use_sliding_window")?;
    let window = config.usize_or_null("sliding_window")?.filter(|_| windowed);
    let from = config.count("max_window_layers")?;
    let default_type = |index: usize| {
        if window.is_some() && index >= from { "sliding_attention" } else { "full_attention" }
    };
    let types = layer_types(config, template.num_hidden_layers, default_type)?;
    template.build(|index, layer| {
        layer.attention.mask = mask_of(config, &types[index], window)?;
        Ok(())
    })
}

/// Qwen's experts.
pub(super) fn qwen_moe(config: &FamilyConfig<'_>, experts_key: &str) -> Result<MoeSpec, RegistryError> {
    let intermediate_size = config.usize("moe_intermediate_size")?;
    let normalize = config.bool("norm_topk_prob")?;
    softmax_moe(config, experts_key, intermediate_size, normalize)
}

/// Which of Qwen's layers have experts: every `decoder_sparse_step`-th, but for `mlp_only_layers`.
pub(super) struct SparseLayers {
    step: usize,
    dense: Vec<usize>,
    has_experts: bool,
}

impl SparseLayers {
    pub(super) fn read(config: &FamilyConfig<'_>) -> Result<Self, RegistryError> {
        Ok(Self {
            step: config.usize("decoder_sparse_step")?,
            dense: config.list_usize_or_null("mlp_only_layers")?.unwrap_or_default(),
            has_experts: config.count("num_experts")? > 0,
        })
    }

    pub(super) fn contains(&self, layer: usize) -> bool {
        self.has_experts && !self.dense.contains(&layer) && (layer + 1).is_multiple_of(self.step)
    }
}
