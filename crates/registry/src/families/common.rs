//! What several families share.

use crate::RegistryError;
use crate::spec::*;
use crate::template::{InConfig, Keys, Template, layer_types, mask_of};
use automodel_config::ResolvedConfig;
use serde_json::Value;

/// A problem of this config.
pub(super) fn inconsistent(config: &ResolvedConfig, problem: String) -> RegistryError {
    RegistryError::InconsistentConfig { model_type: config.model_type().to_owned(), problem }
}

/// A setting that is not supported, with the reason.
pub(super) fn unsupported(config: &ResolvedConfig, key: &str, reason: &str) -> RegistryError {
    RegistryError::UnsupportedSetting {
        model_type: config.model_type().to_owned(),
        key: key.to_owned(),
        value: config.value(key).map(shown).unwrap_or_default(),
        reason: reason.to_owned(),
    }
}

/// Reads a key that the family's class does not have, and that says again what another key says: it may be absent or null, or
/// must agree with what is in force.
pub(super) fn must_agree(
    config: &ResolvedConfig,
    key: &str,
    in_force: usize,
    other: &str,
) -> Result<(), RegistryError> {
    match config.value(key) {
        None | Some(Value::Null) => Ok(()),
        Some(value) if value.as_f64() == Some(in_force as f64) => Ok(()),
        Some(value) => {
            let value = shown(value);
            Err(inconsistent(config, format!("{key} is {value}, but {other} says {in_force}: remove the wrong one")))
        }
    }
}

/// A value for a message, however long it is.
fn shown(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
}

/// One window for all layers if `sliding_window` is given, none if it is null.
pub(super) fn uniform_window(config: &ResolvedConfig) -> Result<AttentionMask, RegistryError> {
    let window = config.usize_or_null("sliding_window").in_config(config)?;
    Ok(window.map_or(AttentionMask::Full, |window| AttentionMask::Sliding { window }))
}

/// `sliding_window_pattern`: every n-th layer has no window.
pub(super) fn sliding_window_pattern(config: &ResolvedConfig, default: usize) -> Result<usize, RegistryError> {
    Ok(config.usize_or_null("sliding_window_pattern").in_config(config)?.unwrap_or(default))
}

/// Gemma's text models attend in both directions when used as encoders.
pub(super) fn refuse_bidirectional(config: &ResolvedConfig) -> Result<(), RegistryError> {
    if config.bool("use_bidirectional_attention").in_config(config)? {
        let reason = "each position would see later ones (an embedding model): the logits of a causal language model would be \
                      others";
        return Err(unsupported(config, "use_bidirectional_attention", reason));
    }
    Ok(())
}

/// Qwen's windows: on layers from `max_window_layers` up, if `use_sliding_window` is set.
pub(super) fn build_with_upper_windows(
    config: &ResolvedConfig,
    template: Template,
) -> Result<ModelSpec, RegistryError> {
    let windowed = config.bool("use_sliding_window").in_config(config)?;
    let window = config.usize_or_null("sliding_window").in_config(config)?.filter(|_| windowed);
    let from = config.count("max_window_layers").in_config(config)?;
    let default_type = |index: usize| {
        if window.is_some() && index >= from { "sliding_attention" } else { "full_attention" }
    };
    let types = layer_types(config, template.num_hidden_layers, default_type)?;
    template.build(|index, layer| {
        layer.attention.mask = mask_of(config, &types[index], window)?;
        Ok(())
    })
}

/// Experts chosen by a softmax over all.
pub(super) fn softmax_moe(
    config: &ResolvedConfig,
    experts_key: &str,
    intermediate_size: usize,
    normalize: bool,
) -> Result<MoeSpec, RegistryError> {
    let activation = crate::template::activation(config, Keys::LLAMA.activation)?;
    Ok(MoeSpec {
        num_experts: config.count(experts_key).in_config(config)?,
        num_experts_per_tok: config.usize("num_experts_per_tok").in_config(config)?,
        expert: MlpSpec { intermediate_size, activation, bias: false },
        router: RouterSpec { score: RouterScore::Softmax, normalize, scale: None, bias: false },
        shared_expert: None,
    })
}

/// Qwen's experts.
pub(super) fn qwen_moe(config: &ResolvedConfig, experts_key: &str) -> Result<MoeSpec, RegistryError> {
    let intermediate_size = config.usize("moe_intermediate_size").in_config(config)?;
    let normalize = config.bool("norm_topk_prob").in_config(config)?;
    softmax_moe(config, experts_key, intermediate_size, normalize)
}

/// Which of Qwen's layers have experts: every `decoder_sparse_step`-th, but for `mlp_only_layers`.
pub(super) struct SparseLayers {
    step: usize,
    dense: Vec<usize>,
    has_experts: bool,
}

impl SparseLayers {
    pub(super) fn read(config: &ResolvedConfig) -> Result<Self, RegistryError> {
        Ok(Self {
            step: config.usize("decoder_sparse_step").in_config(config)?,
            dense: config.list_usize_or_null("mlp_only_layers").in_config(config)?.unwrap_or_default(),
            has_experts: config.count("num_experts").in_config(config)? > 0,
        })
    }

    pub(super) fn contains(&self, layer: usize) -> bool {
        self.has_experts && !self.dense.contains(&layer) && (layer + 1).is_multiple_of(self.step)
    }
}

impl Template {
    /// Biases of a dense MLP, by the flag `key`.
    pub(super) fn with_mlp_bias(mut self, config: &ResolvedConfig, key: &str) -> Result<Self, RegistryError> {
        let bias = config.bool(key).in_config(config)?;
        if let Some(mlp) = self.dense_mlp() {
            mlp.bias = bias;
        }
        Ok(self)
    }

    /// Embeddings scaled by the square root of the width; norms with an offset of one.
    pub(super) fn with_gemma_embedding_and_norms(mut self) -> Self {
        self.embedding.scale = Some((self.hidden_size as f64).sqrt());
        self.norm.kind = NormKind::RmsOneOffset;
        self
    }

    /// What Gemma 2 and 3 share; without positions.
    pub(super) fn gemma2(config: &ResolvedConfig) -> Result<Self, RegistryError> {
        let keys = Keys { activation: "hidden_activation", ..Keys::LLAMA };
        let mut template = Self::read(config, &keys)?.with_gemma_embedding_and_norms();
        template.layer = LayerSpec::sandwich;
        let bias = config.bool("attention_bias").in_config(config)?;
        template.attention.bias = AttentionBias::qkv_o(bias, bias);
        template.attention.scale = config.f64("query_pre_attn_scalar").in_config(config)?.powf(-0.5);
        template.attention.softcap = config.f64_or_null("attn_logit_softcapping").in_config(config)?;
        template.head.logit_softcap = config.f64_or_null("final_logit_softcapping").in_config(config)?;
        Ok(template)
    }

    /// What OLMo 2 and 3 share; without positions.
    pub(super) fn olmo2(config: &ResolvedConfig) -> Result<Self, RegistryError> {
        let mut template = Self::read(config, &Keys::LLAMA)?;
        template.norm.kind = NormKind::RmsProductInFloat32;
        template.layer = LayerSpec::post;
        let bias = config.bool("attention_bias").in_config(config)?;
        template.attention.bias = AttentionBias::qkv_o(bias, bias);
        Ok(template.with_qk_norm(QkNormExtent::Projection))
    }

    /// What Cohere's models share.
    pub(super) fn with_cohere_head_and_norms(mut self, config: &ResolvedConfig) -> Result<Self, RegistryError> {
        self.norm.kind = NormKind::LayerNormInFloat32;
        self.layer = LayerSpec::parallel_shared;
        let bias = config.bool("attention_bias").in_config(config)?;
        self.attention.bias = AttentionBias::qkv_o(bias, bias);
        self.head.logit_scale = config.f64_or_null("logit_scale").in_config(config)?;
        Ok(self)
    }
}
