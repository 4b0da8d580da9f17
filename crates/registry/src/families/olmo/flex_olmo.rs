//! FlexOlmo: OLMo 2's attention and norms, routed experts in every layer.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "flex_olmo",
    architectures: &["FlexOlmoForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: Layout::LLAMA,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(100_352)),
        ("hidden_size", Int(4096)),
        ("intermediate_size", Int(11_008)),
        ("num_hidden_layers", Int(32)),
        ("num_attention_heads", Int(32)),
        ("num_key_value_heads", Null),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(4096)),
        ("rms_norm_eps", Float(1e-06)),
        ("tie_word_embeddings", Bool(false)),
        ("attention_bias", Bool(false)),
        ("num_experts_per_tok", Int(5)),
        ("num_experts", Int(7)),
        ("norm_topk_prob", Bool(false)),
    ],
    aliases: &[("num_local_experts", "num_experts")],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let defaults = RopeDefaults { theta: 500_000.0, ..RopeDefaults::default() };
    let mut template = Template::olmo2(config)?.with_rope(config, defaults, RopePairing::HalfSplit)?;
    let intermediate_size = config.usize("intermediate_size")?;
    let normalize = config.bool("norm_topk_prob")?;
    template.mlp = FeedForward::Moe(softmax_moe(config, "num_experts", intermediate_size, normalize)?);
    template.build_uniform()
}
