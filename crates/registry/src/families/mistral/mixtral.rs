//! Mixtral: Mistral with eight experts, two of them for each token.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "mixtral",
    architectures: &["MixtralForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(32_000)),
        ("hidden_size", Int(4096)),
        ("intermediate_size", Int(14_336)),
        ("num_hidden_layers", Int(32)),
        ("num_attention_heads", Int(32)),
        ("num_key_value_heads", Int(8)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(131_072)),
        ("rms_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("head_dim", Null),
        ("sliding_window", Null),
        ("num_experts_per_tok", Int(2)),
        ("num_local_experts", Int(8)),
    ],
    aliases: &[("num_experts", "num_local_experts")],
};

const LAYOUT: Layout = Layout {
    rules: &[
        Rule::Rename("mlp.gate.", "block_sparse_moe.gate."),
        Rule::Rename("mlp.experts.", "block_sparse_moe.experts."),
        Rule::Rename(".gate_proj.", ".w1."),
        Rule::Rename(".up_proj.", ".w3."),
        Rule::Rename(".down_proj.", ".w2."),
    ],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let defaults = RopeDefaults { theta: 1_000_000.0, ..RopeDefaults::default() };
    let mut template = Template::read(config, &Keys::LLAMA)?.with_rope(config, defaults, RopePairing::HalfSplit)?;
    template.attention.mask = uniform_window(config)?;
    let intermediate_size = config.usize("intermediate_size")?;
    template.mlp = FeedForward::Moe(softmax_moe(config, "num_local_experts", intermediate_size, true)?);
    template.build_uniform()
}
