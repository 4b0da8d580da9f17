//! Aleph Alpha's Kolibri: norms around both branches and on heads, positions in windowed layers alone; experts chosen by corrected logits
//! and weighted by sigmoids.

use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "kolibri1",
    architectures: &["Kolibri1ForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(128_000)),
        ("hidden_size", Int(2560)),
        ("num_hidden_layers", Int(50)),
        ("num_attention_heads", Int(48)),
        ("num_key_value_heads", Int(4)),
        ("head_dim", Int(128)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(262_144)),
        ("rms_norm_eps", Float(1e-06)),
        ("tie_word_embeddings", Bool(false)),
        ("sliding_window", Int(513)),
        ("layer_types", Null),
        ("moe_intermediate_size", Int(512)),
        ("shared_expert_intermediate_size", Int(512)),
        ("num_experts_per_tok", Int(6)),
        ("num_experts", Int(384)),
        ("norm_topk_prob", Bool(false)),
    ],
    aliases: &[("num_local_experts", "num_experts")],
};

const LAYOUT: Layout = Layout {
    rules: &[
        Rule::Rename("mlp.shared_expert.", "mlp.shared_experts."),
        Rule::Rename("mlp.gate.e_score_correction_bias", "moe.router.expert_bias"),
        Rule::Rename("post_attention_layernorm", "post_attn_norm"),
        Rule::Rename("pre_feedforward_layernorm", "post_attention_layernorm"),
        Rule::Rename("post_feedforward_layernorm", "post_ffn_norm"),
    ],
    module_rules: &[
        Rule::Rename("mlp.shared_expert.", "mlp.shared_experts."),
        PACKED_EXPERTS,
        STACKED_EXPERTS,
        Rule::Rename("post_attention_layernorm", "post_self_attn_layernorm"),
        Rule::Rename("pre_feedforward_layernorm", "post_attention_layernorm"),
        Rule::Rename("post_feedforward_layernorm", "post_mlp_layernorm"),
    ],
    keep_float32: &["mlp.gate.e_score_correction_bias"],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let keys = Keys { intermediate_size: "moe_intermediate_size", ..Keys::LLAMA };
    let mut template = Template::read(config, &keys)?.with_qk_norm(QkNormExtent::Head).with_rope(
        config,
        RopeDefaults::default(),
        RopePairing::HalfSplit,
    )?;
    template.layer = LayerSpec::sandwich;
    let mut moe = softmax_moe(config, "num_experts", config.usize("moe_intermediate_size")?, false)?;
    moe.router = RouterSpec {
        normalize: Normalize::by_sum(config.bool("norm_topk_prob")?),
        correction_bias: true,
        logits_in_float32: true,
        ..RouterSpec::new(RouterScore::TopkSigmoid)
    };
    let intermediate_size = config.usize("shared_expert_intermediate_size")?;
    let mlp = MlpSpec { intermediate_size, ..moe.expert.clone() };
    moe.shared_expert = Some(SharedExpert { mlp, gate: false });
    template.mlp = FeedForward::Moe(moe);
    let window = config.usize_or_null("sliding_window")?;
    let every_fifth = |index: usize| if (index + 1).is_multiple_of(5) { "full_attention" } else { "sliding_attention" };
    let types = layer_types(config, template.num_hidden_layers, every_fifth)?;
    template.build(|index, layer| {
        let attention = &mut layer.attention;
        attention.mask = mask_of(config, &types[index], window)?;
        if window.is_some() && attention.mask == AttentionMask::Full {
            attention.rope = None;
        }
        Ok(())
    })
}
