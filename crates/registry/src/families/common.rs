//! What several families share.

use crate::spec::*;
use crate::template::Template;
use crate::{FamilyConfig, RegistryError};

/// One flag, `attention_bias`, for all four projections.
pub(super) fn attention_bias(config: &FamilyConfig<'_>) -> Result<AttentionBias, RegistryError> {
    let bias = config.bool("attention_bias")?;
    Ok(AttentionBias::qkv_o(bias, bias))
}

/// One window for all layers if `sliding_window` is given, none if it is null.
pub(super) fn uniform_window(config: &FamilyConfig<'_>) -> Result<AttentionMask, RegistryError> {
    let window = config.usize_or_null("sliding_window")?;
    Ok(window.map_or(AttentionMask::Full, |window| AttentionMask::Sliding { window }))
}

/// `sliding_window_pattern`: every n-th layer has no window.
pub(super) fn sliding_window_pattern(config: &FamilyConfig<'_>, default: usize) -> Result<usize, RegistryError> {
    Ok(config.usize_or_null("sliding_window_pattern")?.unwrap_or(default))
}

/// Experts chosen by a softmax over all.
pub(super) fn softmax_moe(
    config: &FamilyConfig<'_>,
    experts_key: &str,
    intermediate_size: usize,
    normalize: bool,
) -> Result<MoeSpec, RegistryError> {
    let activation = crate::template::activation(config, "hidden_act")?;
    Ok(MoeSpec {
        num_experts: config.count(experts_key)?,
        num_experts_per_tok: config.usize("num_experts_per_tok")?,
        expert: MlpSpec { intermediate_size, activation, bias: false },
        router: RouterSpec { normalize: Normalize::by_sum(normalize), ..RouterSpec::new(RouterScore::Softmax) },
        shared_expert: None,
    })
}

/// `count` shared experts without gate, which are one of `count` times the width of `expert`.
pub(super) fn shared_experts(
    config: &FamilyConfig<'_>,
    expert: &MlpSpec,
    count: usize,
) -> Result<SharedExpert, RegistryError> {
    let width = expert.intermediate_size.checked_mul(count);
    let intermediate_size = width.ok_or_else(|| config.inconsistent("the shared experts are too wide".to_owned()))?;
    Ok(SharedExpert { mlp: MlpSpec { intermediate_size, ..expert.clone() }, gate: false })
}

impl Template {
    /// Biases of a dense MLP, by the flag `key`.
    pub(super) fn with_mlp_bias(mut self, config: &FamilyConfig<'_>, key: &str) -> Result<Self, RegistryError> {
        let bias = config.bool(key)?;
        if let Some(mlp) = self.dense_mlp() {
            mlp.bias = bias;
        }
        Ok(self)
    }
}
