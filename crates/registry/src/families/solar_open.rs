//! Solar Open: Llama's attention, DeepSeek-V3's mixture of experts in every layer.

use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "solar_open",
    architectures: &["SolarOpenForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    // GLM-4.5's, which the class does not have: no layer is dense, and queries and keys have no norms.
    ignored_keys: &["first_k_dense_replace", "intermediate_size", "use_qk_norm"],
    layout: DEEPSEEK_MOE_LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(196_608)),
        ("hidden_size", Int(4096)),
        ("num_hidden_layers", Int(48)),
        ("num_attention_heads", Int(64)),
        ("num_key_value_heads", Int(8)),
        ("head_dim", Int(128)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(131_072)),
        ("rms_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("attention_bias", Bool(false)),
        ("moe_intermediate_size", Int(1280)),
        ("num_experts_per_tok", Int(8)),
        ("n_shared_experts", Int(1)),
        ("n_routed_experts", Int(128)),
        ("routed_scaling_factor", Float(1.0)),
        ("n_group", Int(1)),
        ("topk_group", Int(1)),
        ("norm_topk_prob", Bool(true)),
    ],
    aliases: &[("num_local_experts", "n_routed_experts")],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let keys = Keys { intermediate_size: "moe_intermediate_size", ..Keys::LLAMA };
    let mut template = Template::read(config, &keys)?;
    let head_dim = template.attention.head_dim;
    let options = RopeOptions::from(RopeDefaults { theta: 1_000_000.0, ..RopeDefaults::default() });
    let rope = RopeByLayerType::read_with(config, &options, head_dim, RopePairing::HalfSplit)?.uniform()?.clone();
    if rope.rotary_dim != head_dim {
        return Err(
            config.unsupported("partial_rotary_factor", "the class has frequencies for it and rotates whole heads")
        );
    }
    template.attention.rope = Some(rope);
    template.attention.bias = AttentionBias::qkv_o(config.bool("attention_bias")?, false);
    template.mlp = FeedForward::Moe(deepseek_moe(config)?);
    template.build_uniform()
}
