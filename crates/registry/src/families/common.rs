//! What several families share.

use crate::rope::RopeByLayerType;
use crate::spec::*;
use crate::template::{MOST_LAYERS, Template};
use crate::weights::{Layout, PACKED_EXPERTS, Rule, STACKED_EXPERTS};
use crate::{FamilyConfig, RegistryError};
use automodel_config::{RopeDefaults, RopeOptions};

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

/// Whether the config gives rope parameters, to a class that has its own for configs without any: `rope_theta` then has no effect, and
/// stays unread, so that it is named. An empty `rope_scaling` counts as none, an empty `rope_parameters` as given.
pub(super) fn gives_rope_parameters(config: &FamilyConfig<'_>) -> bool {
    let given = |key| config.resolved().peek(key).filter(|value| !value.is_null());
    let is_scaled = given("rope_scaling").is_some_and(|scaling| *scaling != serde_json::json!({}));
    is_scaled || given("rope_parameters").is_some()
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
        expert: MlpSpec::new(intermediate_size, activation),
        router: RouterSpec { normalize: Normalize::by_sum(normalize), ..RouterSpec::new(RouterScore::Softmax) },
        shared_expert: None,
    })
}

/// The rotary embedding of models whose tokens have three positions, in time, height and width: those of text are alike, so that it is
/// the ordinary one, whichever frequencies belong to which.
pub(super) struct TextPositions {
    /// Base of the frequencies of files without one.
    pub theta: f64,
    /// Rotated part of a head in files without one.
    pub partial_rotary_factor: f64,
    /// Whether a file may say otherwise.
    pub whole: bool,
    /// Which elements form a pair.
    pub pairing: RopePairing,
}

impl TextPositions {
    /// Whole heads.
    pub const fn whole(theta: f64) -> Self {
        Self { theta, whole: true, ..Self::PARTIAL }
    }

    /// The part of a head that the file says.
    pub const PARTIAL: Self =
        Self { theta: 10_000.0, partial_rotary_factor: 1.0, whole: false, pairing: RopePairing::HalfSplit };
}

impl Template {
    /// Gives all layers the rotary embedding of text.
    pub(super) fn with_text_positions(
        mut self,
        config: &FamilyConfig<'_>,
        positions: &TextPositions,
    ) -> Result<Self, RegistryError> {
        let TextPositions { theta, partial_rotary_factor, whole, pairing } = *positions;
        let options = RopeOptions {
            defaults: RopeDefaults { theta, partial_rotary_factor },
            type_aliases: &[("mrope", "default")],
            // Which frequencies turn by which position.
            extra_keys: &["mrope_section", "mrope_interleaved"],
            ..RopeOptions::default()
        };
        let read = if whole { RopeByLayerType::read_whole } else { RopeByLayerType::read_with };
        self.attention.rope = Some(read(config, &options, self.attention.head_dim, pairing)?.uniform()?.clone());
        Ok(self)
    }
}

/// DeepSeek-V3's mixture: its [experts](deepseek_experts), and `n_shared_experts` shared ones, which are one of that many times the
/// width.
pub(super) fn deepseek_moe(config: &FamilyConfig<'_>) -> Result<MoeSpec, RegistryError> {
    deepseek_moe_with(config, "n_routed_experts", "n_shared_experts")
}

/// [`deepseek_moe`] with the keys `routed` and `shared` of the numbers of experts.
pub(super) fn deepseek_moe_with(
    config: &FamilyConfig<'_>,
    routed: &str,
    shared: &str,
) -> Result<MoeSpec, RegistryError> {
    let mut moe = deepseek_experts(config, routed)?;
    moe.shared_expert = Some(shared_experts(config, &moe.expert, config.usize(shared)?)?);
    Ok(moe)
}

/// Experts scored by sigmoids, chosen with a correction bias and perhaps out of some groups alone; `routed` is the key of their number.
pub(super) fn deepseek_experts(config: &FamilyConfig<'_>, routed: &str) -> Result<MoeSpec, RegistryError> {
    let activation = crate::template::activation(config, "hidden_act")?;
    let expert = MlpSpec::new(config.usize("moe_intermediate_size")?, activation);
    let (count, chosen) = (config.usize("n_group")?, config.usize("topk_group")?);
    let groups = ExpertGroups { count, chosen, score: GroupScore::BestTwo };
    let normalize = config.bool_or_null("norm_topk_prob")?.unwrap_or(false);
    let router = RouterSpec {
        normalize: if normalize { Normalize::SumPlus(1e-20) } else { Normalize::No },
        scale: config.f64_or_null("routed_scaling_factor")?,
        correction_bias: true,
        groups: Some(groups).filter(|groups| (groups.count, groups.chosen) != (1, 1)),
        logits_in_float32: true,
        ..RouterSpec::new(RouterScore::Sigmoid)
    };
    Ok(MoeSpec {
        num_experts: config.usize(routed)?,
        num_experts_per_tok: config.usize("num_experts_per_tok")?,
        shared_expert: None,
        expert,
        router,
    })
}

/// The names of DeepSeek-V3's mixture.
pub(super) const DEEPSEEK_MOE_LAYOUT: Layout = Layout {
    rules: &[Rule::Rename("mlp.shared_expert.", "mlp.shared_experts.")],
    module_rules: &[Rule::Rename("mlp.shared_expert.", "mlp.shared_experts."), PACKED_EXPERTS, STACKED_EXPERTS],
    keep_float32: &["mlp.gate.e_score_correction_bias"],
    ..Layout::LLAMA
};

/// Which of the layers are mixtures of experts: those that `mlp_layer_types` calls `sparse`, or that `otherwise` says.
pub(super) fn sparse_layers(
    config: &FamilyConfig<'_>,
    layers: usize,
    otherwise: impl FnMut(usize) -> bool,
) -> Result<Vec<bool>, RegistryError> {
    let Some(types) = config.list_str_or_null("mlp_layer_types")? else {
        return Ok((0..layers.min(MOST_LAYERS)).map(otherwise).collect());
    };
    if types.len() < layers {
        let problem = format!("mlp_layer_types has {} entries for {layers} layers: give one for each", types.len());
        return Err(config.inconsistent(problem));
    }
    let is_sparse = |kind: &String| match kind.as_str() {
        "sparse" => Ok(true),
        "dense" => Ok(false),
        _ => Err(config.unsupported("mlp_layer_types", "layers are dense or sparse")),
    };
    types.iter().map(is_sparse).collect()
}

/// `count` shared experts without gate, which are one of `count` times the width of `expert`.
pub(super) fn shared_experts(
    config: &FamilyConfig<'_>,
    expert: &MlpSpec,
    count: usize,
) -> Result<SharedExpert, RegistryError> {
    let width = expert.intermediate_size.checked_mul(count);
    let intermediate_size = width.ok_or_else(|| config.inconsistent("the shared experts are too wide".to_owned()))?;
    Ok(SharedExpert { mlp: MlpSpec { intermediate_size, ..expert.clone() }, gate: false, norms: None })
}

impl Template {
    /// A learned embedding of each of `max_position_embeddings` positions, after `offset` rows that no position has.
    pub(super) fn with_learned_positions(
        mut self,
        config: &FamilyConfig<'_>,
        offset: usize,
    ) -> Result<Self, RegistryError> {
        let rows = config.usize("max_position_embeddings")?.saturating_add(offset);
        self.embedding.learned_positions = Some(LearnedPositions { rows, offset });
        Ok(self)
    }

    /// Biases of a dense MLP, by the flag `key`.
    pub(super) fn with_mlp_bias(mut self, config: &FamilyConfig<'_>, key: &str) -> Result<Self, RegistryError> {
        let bias = config.bool(key)?;
        if let Some(mlp) = self.dense_mlp() {
            mlp.bias = bias;
        }
        Ok(self)
    }
}
