//! Flint: sinks, norms on heads, windows with rotation but for every fourth layer, sigmoid routing.

use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "flint",
    architectures: &["FlintForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(150_144)),
        ("hidden_size", Int(2048)),
        ("intermediate_size", Int(6144)),
        ("num_hidden_layers", Int(49)),
        ("num_attention_heads", Int(32)),
        ("num_key_value_heads", Int(4)),
        ("head_dim", Int(128)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(262_144)),
        ("rms_norm_eps", Float(1e-06)),
        ("tie_word_embeddings", Bool(false)),
        ("attention_bias", Bool(false)),
        ("sliding_window", Int(513)),
        ("layer_types", Null),
        ("decoder_sparse_step", Int(1)),
        ("mlp_only_layers", Null),
        ("moe_intermediate_size", Int(512)),
        ("shared_expert_intermediate_size", Int(1024)),
        ("num_experts_per_tok", Int(6)),
        ("num_experts", Int(256)),
        ("norm_topk_prob", Bool(true)),
    ],
    aliases: &[],
};

const LAYOUT: Layout = Layout {
    rules: &[Rule::Rename("self_attn.sinks", "self_attn.softmax_offset")],
    keep_float32: &["mlp.gate.weight", "self_attn.sinks"],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::llama(config)?;
    template.norm.kind = NormKind::RmsProductInFloat32;
    template = template.with_qk_norm(QkNormExtent::Head);
    template.attention.bias = attention_bias(config)?;
    template.attention.sinks = true;
    let moe = moe(config)?;
    let dense = config.list_usize_or_null("mlp_only_layers")?.unwrap_or_else(|| vec![0, 1]);
    let step = config.usize("decoder_sparse_step")?;
    let window = Some(config.usize("sliding_window")?);
    let layers = template.num_hidden_layers;
    let is_full = |index: usize| index < 2 || index % 4 == 1 || index + 1 == layers;
    let default_type = |index: usize| if is_full(index) { "full_attention" } else { "sliding_attention" };
    let types = layer_types(config, layers, default_type)?;
    template.build(|index, layer| {
        layer.attention.mask = mask_of(config, &types[index], window)?;
        if layer.attention.mask == AttentionMask::Full {
            layer.attention.rope = None;
        }
        if moe.num_experts > 0 && !dense.contains(&index) && (index + 1).is_multiple_of(step) {
            layer.mlp = FeedForward::Moe(moe.clone());
        }
        Ok(())
    })
}

fn moe(config: &FamilyConfig<'_>) -> Result<MoeSpec, RegistryError> {
    let intermediate_size = config.usize("moe_intermediate_size")?;
    let mut moe = softmax_moe(config, "num_experts", intermediate_size, config.bool("norm_topk_prob")?)?;
    moe.router.score = RouterScore::Sigmoid;
    moe.router.logits_in_float32 = true;
    let width = config.usize("shared_expert_intermediate_size")?;
    let mlp = MlpSpec { intermediate_size: width, ..moe.expert.clone() };
    moe.shared_expert = Some(SharedExpert { mlp, gate: false });
    Ok(moe)
}
