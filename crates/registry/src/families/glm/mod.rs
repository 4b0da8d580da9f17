//! GLM-4: interleaved partial rotation, fused gate and up projections.

#[expect(clippy::module_inception, reason = "a folder is a lineage, a file a model type")]
pub mod glm;
pub mod glm4;
pub mod glm4_moe_lite;
pub mod glm_moe_dsa;

use super::prelude::*;

/// The two classes have the same defaults.
static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(151_552)),
        ("hidden_size", Int(4096)),
        ("intermediate_size", Int(13_696)),
        ("num_hidden_layers", Int(40)),
        ("num_attention_heads", Int(32)),
        ("num_key_value_heads", Int(2)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(131_072)),
        ("rms_norm_eps", Float(1.5625e-07)),
        ("tie_word_embeddings", Bool(false)),
        ("head_dim", Int(128)),
        ("attention_bias", Bool(true)),
    ],
    aliases: &[],
};

impl Template {
    /// What GLM and GLM-4-0414 share.
    fn glm(config: &FamilyConfig<'_>) -> Result<Self, RegistryError> {
        let defaults = RopeDefaults { partial_rotary_factor: 0.5, ..RopeDefaults::default() };
        let mut template = Self::read(config, &Keys::LLAMA)?.with_rope(config, defaults, RopePairing::Interleaved)?;
        template.attention.bias = AttentionBias::qkv_o(config.bool("attention_bias")?, false);
        Ok(template)
    }
}
