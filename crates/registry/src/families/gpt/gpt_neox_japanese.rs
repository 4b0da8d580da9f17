//! GPT-NeoX Japanese: GPT-NeoX with branches one after the other, and one bias: of the last layer's attention.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "gpt_neox_japanese",
    architectures: &["GPTNeoXJapaneseForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    // The rotary embedding is read from `rotary_emb_base` and `rotary_pct`.
    ignored_keys: &["rope_theta", "partial_rotary_factor"],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(32_000)),
        ("hidden_size", Int(2560)),
        ("num_hidden_layers", Int(32)),
        ("num_attention_heads", Int(32)),
        ("intermediate_multiple_size", Int(4)),
        ("hidden_act", Str("gelu")),
        ("max_position_embeddings", Int(2048)),
        ("layer_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(true)),
    ],
    aliases: &[],
};

const LAYOUT: Layout = Layout {
    rules: &[
        packed_qkv("attention.query_key_value", PackOrder::PerHead),
        Rule::Rename("model.embed_tokens", "gpt_neox_japanese.embed_in"),
        Rule::Rename("model.layers.", "gpt_neox_japanese.layers."),
        Rule::Rename("model.norm.", "gpt_neox_japanese.final_layer_norm."),
        Rule::Rename("lm_head.", "embed_out."),
        Rule::Rename("self_attn.o_proj.bias", "attention.dense_bias"),
        Rule::Rename("self_attn.o_proj", "attention.dense"),
        Rule::Rename("mlp.up_proj", "mlp.dense_h_to_4h"),
        Rule::Rename("mlp.down_proj", "mlp.dense_4h_to_h"),
    ],
    prefixes: &[("gpt_neox_japanese.", "")],
    ..Layout::LLAMA
};

const ROPE: RopeOptions = RopeOptions {
    defaults: RopeDefaults { theta: 10_000.0, partial_rotary_factor: 1.0 },
    type_aliases: &[],
    extra_keys: &[],
    theta_key: "rotary_emb_base",
    partial_rotary_factor_key: "rotary_pct",
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let keys = Keys {
        norm_eps: "layer_norm_eps",
        intermediate_size: "hidden_size",
        num_key_value_heads: None,
        head_dim: None,
        ..Keys::LLAMA
    };
    let mut template = Template::read(config, &keys)?.with_plain_mlp(false);
    let width = (template.hidden_size as f64 * config.f64("intermediate_multiple_size")?) as usize;
    if let Some(mlp) = template.dense_mlp() {
        mlp.intermediate_size = width;
    }
    let rope = RopeByLayerType::read_with(config, &ROPE, template.attention.head_dim, RopePairing::HalfSplit)?;
    template.attention.rope = Some(rope.uniform()?.clone());
    template.norm.kind = NormKind::LayerNorm { bias: true };
    let last = template.num_hidden_layers - 1;
    template.build(|index, layer| {
        layer.attention.bias.o = index == last;
        Ok(())
    })
}
