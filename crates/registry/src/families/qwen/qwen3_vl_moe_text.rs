//! The text model of Qwen3-VL's mixtures of experts: Qwen3-MoE, whose experts are stored together, in published files as `[experts, in, out]`.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "qwen3_vl_moe_text",
    architectures: &[],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &["norm_topk_prob"],
    // Published files have both axes of each expert swapped, which shapes tell from what transformers 5 writes.
    layout: Layout {
        rules: &[PACKED_EXPERTS, STACKED_EXPERTS],
        module_rules: &[PACKED_EXPERTS, Rule::Transpose(".experts."), STACKED_EXPERTS],
        ..Layout::LLAMA
    },
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(151_936)),
        ("hidden_size", Int(2048)),
        ("intermediate_size", Int(5632)),
        ("num_hidden_layers", Int(24)),
        ("num_attention_heads", Int(16)),
        ("num_key_value_heads", Int(16)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(128_000)),
        ("rms_norm_eps", Float(1e-06)),
        ("tie_word_embeddings", Bool(true)),
        ("head_dim", Null),
        ("attention_bias", Bool(false)),
        ("decoder_sparse_step", Int(1)),
        ("moe_intermediate_size", Int(1408)),
        ("num_experts_per_tok", Int(4)),
        ("num_experts", Int(60)),
        ("mlp_only_layers", Null),
    ],
    aliases: &[("num_local_experts", "num_experts")],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template =
        Template::read(config, &Keys::LLAMA)?.with_text_positions(config, &TextPositions::whole(500_000.0))?;
    template = template.with_qk_norm(QkNormExtent::Head);
    template.attention.bias = attention_bias(config)?;
    // The class always divides by the sum, and has no key for it.
    let moe = softmax_moe(config, "num_experts", config.usize("moe_intermediate_size")?, true)?;
    let sparse = super::SparseLayers::read(config)?;
    template.build(|index, layer| {
        if sparse.contains(index) {
            layer.mlp = FeedForward::Moe(moe.clone());
        }
        Ok(())
    })
}
