//! MiniCPM: Llama with factors on embeddings, branches and logits.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "minicpm",
    architectures: &["MiniCPMForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: Layout::LLAMA,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("num_key_value_heads", Null),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(2048)),
        ("rms_norm_eps", Float(1e-06)),
        ("tie_word_embeddings", Bool(true)),
        ("attention_bias", Bool(false)),
        ("scale_emb", Int(1)),
        ("dim_model_base", Int(1)),
        ("scale_depth", Int(1)),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::read(config, &Keys { head_dim: None, ..Keys::LLAMA })?.with_older_rope(config)?;
    template.attention.bias = attention_bias(config)?;
    template.embedding.scale = Some(config.f64("scale_emb")?);
    let layers = template.num_hidden_layers;
    template.residual_scale = Some(config.f64("scale_depth")? / (layers as f64).sqrt());
    // The code divides what the head projects by `hidden_size / dim_model_base`.
    template.head.logit_scale = Some(config.f64("dim_model_base")? / template.hidden_size as f64);
    // Of MiniCPM 4, whose depth counts otherwise if it is another number.
    config.must_agree("mup_denominator", layers, "num_hidden_layers")?;
    template.build_uniform()
}
