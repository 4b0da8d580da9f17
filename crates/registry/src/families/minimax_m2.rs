//! MiniMax-M2: norms over whole queries and keys, partial rotation, experts scored by sigmoids with a correction.

use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "minimax_m2",
    architectures: &["MiniMaxM2ForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: IGNORED,
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(200_064)),
        ("hidden_size", Int(3072)),
        ("intermediate_size", Int(1536)),
        ("num_hidden_layers", Int(62)),
        ("num_attention_heads", Int(48)),
        ("num_key_value_heads", Int(8)),
        ("head_dim", Int(128)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(196_608)),
        ("rms_norm_eps", Float(1e-06)),
        ("tie_word_embeddings", Bool(false)),
        ("num_experts_per_tok", Int(8)),
        ("num_local_experts", Int(256)),
    ],
    aliases: &[("num_experts", "num_local_experts")],
};

// Of the code that came with the checkpoint; the class has no such keys and computes what the published values say: full attention, no
// shared expert, no layers that predict more tokens.
const IGNORED: &[&str] = &[
    "attn_type_list",
    "layernorm_full_attention_beta",
    "layernorm_linear_attention_beta",
    "layernorm_mlp_beta",
    "mlp_intermediate_size",
    "mtp_transformer_layers",
    "num_mtp_modules",
    "qk_norm_type",
    "scoring_func",
    "shared_intermediate_size",
    "shared_moe_mode",
    "use_mtp",
    "use_qk_norm",
    "use_routing_bias",
];

const LAYOUT: Layout = Layout {
    rules: &[
        Rule::Rename("mlp.gate.e_score_correction_bias", "block_sparse_moe.e_score_correction_bias"),
        Rule::Rename("mlp.gate.", "block_sparse_moe.gate."),
        Rule::Rename("mlp.experts.", "block_sparse_moe.experts."),
        Rule::Rename(".gate_proj.", ".w1."),
        Rule::Rename(".up_proj.", ".w3."),
        Rule::Rename(".down_proj.", ".w2."),
    ],
    module_rules: &[
        Rule::Rename("mlp.gate.e_score_correction_bias", "mlp.e_score_correction_bias"),
        PACKED_EXPERTS,
        STACKED_EXPERTS,
    ],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::read(config, &Keys::LLAMA)?.with_qk_norm(QkNormExtent::Projection);
    let head_dim = template.attention.head_dim;
    let rotated = config.usize_or_null("rotary_dim")?.unwrap_or(head_dim);
    let defaults = RopeDefaults { theta: 5_000_000.0, partial_rotary_factor: rotated as f64 / head_dim as f64 };
    let rope = RopeByLayerType::read_with(config, &RopeOptions::from(defaults), head_dim, RopePairing::HalfSplit)?;
    template.attention.rope = Some(rope.uniform()?.clone());
    let mut moe = softmax_moe(config, "num_local_experts", config.usize("intermediate_size")?, true)?;
    moe.router =
        RouterSpec { normalize: Normalize::Sum, correction_bias: true, ..RouterSpec::new(RouterScore::Sigmoid) };
    template.mlp = FeedForward::Moe(moe);
    template.build_uniform()
}
