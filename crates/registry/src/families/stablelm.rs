//! StableLM: layer norms, partial rotation, optional parallel branches and norms on heads.

use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "stablelm",
    architectures: &["StableLmForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(50_304)),
        ("hidden_size", Int(2560)),
        ("intermediate_size", Int(6912)),
        ("num_hidden_layers", Int(32)),
        ("num_attention_heads", Int(32)),
        ("num_key_value_heads", Int(32)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(4096)),
        ("layer_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("use_qkv_bias", Bool(false)),
        ("qk_layernorm", Bool(false)),
        ("use_parallel_residual", Bool(false)),
    ],
    aliases: &[],
};

const LAYOUT: Layout = Layout {
    rules: &[
        Rule::SplitHeads { module: "self_attn.q_norm", into: "norms" },
        Rule::SplitHeads { module: "self_attn.k_norm", into: "norms" },
        Rule::Rename("self_attn.q_norm", "self_attn.q_layernorm"),
        Rule::Rename("self_attn.k_norm", "self_attn.k_layernorm"),
    ],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let keys = Keys { norm_eps: "layer_norm_eps", head_dim: None, ..Keys::LLAMA };
    let defaults = RopeDefaults { partial_rotary_factor: 0.25, ..RopeDefaults::default() };
    let mut template = Template::read(config, &keys)?.with_rope(config, defaults, RopePairing::HalfSplit)?;
    template.norm.kind = NormKind::LayerNorm { bias: true };
    if config.bool("use_parallel_residual")? {
        template.layer = LayerSpec::parallel_shared;
    }
    // Left from the training code, under names that the class does not read.
    config.must_agree("num_heads", template.attention.num_attention_heads, "num_attention_heads")?;
    config.must_agree("rotary_scaling_factor", 1, "rope_parameters without scaling")?;
    template.attention.bias = AttentionBias::qkv_o(config.bool("use_qkv_bias")?, false);
    if config.bool("qk_layernorm")? {
        let norm = NormSpec { kind: NormKind::LayerNorm { bias: false }, eps: template.norm.eps };
        let extent = QkNormExtent::HeadOwnWeight;
        template.attention.qk_norm = Some(QkNorm { norm, extent, after_rope: false });
    }
    template.build_uniform()
}
