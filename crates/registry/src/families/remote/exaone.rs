//! EXAONE 3: Llama by names of its own.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "exaone",
    architectures: &["ExaoneForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("num_key_value_heads", Null),
        ("intermediate_size", Null),
        ("activation_function", Str("silu")),
        ("max_position_embeddings", Int(2048)),
        ("layer_norm_epsilon", Float(1e-05)),
        ("tie_word_embeddings", Bool(true)),
    ],
    aliases: &[("num_layers", "num_hidden_layers")],
};

const LAYOUT: Layout = Layout {
    rules: &[
        Rule::Rename("self_attn.o_proj", "attn.attention.out_proj"),
        Rule::Rename("self_attn.", "attn.attention."),
        Rule::Rename("mlp.gate_proj", "mlp.c_fc_0"),
        Rule::Rename("mlp.up_proj", "mlp.c_fc_1"),
        Rule::Rename("mlp.down_proj", "mlp.c_proj"),
        Rule::Rename("input_layernorm", "ln_1"),
        Rule::Rename("post_attention_layernorm", "ln_2"),
        Rule::Rename("model.embed_tokens", "transformer.wte"),
        Rule::Rename("model.layers.", "transformer.h."),
        Rule::Rename("model.norm.", "transformer.ln_f."),
    ],
    prefixes: &[("transformer.", "")],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let keys = Keys {
        norm_eps: "layer_norm_epsilon",
        activation: Some("activation_function"),
        intermediate_size: "hidden_size",
        head_dim: None,
        ..Keys::LLAMA
    };
    let mut template =
        Template::read(config, &keys)?.with_rope(config, RopeDefaults::default(), RopePairing::HalfSplit)?;
    config.must_agree("head_dim", template.attention.head_dim, "hidden_size / num_attention_heads")?;
    match template.attention.rope.as_ref().map(|rope| &rope.scaling) {
        None | Some(RopeScaling::Default | RopeScaling::Linear { .. } | RopeScaling::Llama3 { .. }) => {}
        Some(_) => {
            return Err(config.unsupported("rope_scaling", "the published checkpoints have none, linear or llama3"));
        }
    }
    let width = config.usize_or_null("intermediate_size")?.unwrap_or(template.hidden_size.saturating_mul(4));
    if let Some(mlp) = template.dense_mlp() {
        mlp.intermediate_size = width;
    }
    template.build_uniform()
}
