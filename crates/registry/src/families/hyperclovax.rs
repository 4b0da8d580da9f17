//! HyperCLOVA X: Granite with optional norms after both branches, and a factor on logits where Granite has a divisor.

use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "hyperclovax",
    architectures: &["HyperCLOVAXForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: Layout::LLAMA,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(32_000)),
        ("hidden_size", Int(4096)),
        ("intermediate_size", Int(11_008)),
        ("num_hidden_layers", Int(32)),
        ("num_attention_heads", Int(32)),
        ("num_key_value_heads", Null),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(2048)),
        ("rms_norm_eps", Float(1e-06)),
        ("tie_word_embeddings", Bool(false)),
        ("head_dim", Null),
        ("attention_bias", Bool(false)),
        ("mlp_bias", Bool(false)),
        ("embedding_multiplier", Float(1.0)),
        ("logits_scaling", Float(1.0)),
        ("residual_multiplier", Float(1.0)),
        ("attention_multiplier", Null),
        ("use_post_norm", Bool(true)),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::llama(config)?.with_mlp_bias(config, "mlp_bias")?;
    template.attention.bias = attention_bias(config)?;
    if let Some(scale) = config.f64_or_null("attention_multiplier")? {
        template.attention.scale = scale;
    }
    template.embedding.scale = Some(config.f64("embedding_multiplier")?);
    template.residual_scale = Some(config.f64("residual_multiplier")?);
    template.head.logit_scale = Some(config.f64("logits_scaling")?);
    if config.bool("use_post_norm")? {
        template.layer = pre_and_post;
    }
    template.build_uniform()
}

/// Llama's norms, and one on the result of each branch.
fn pre_and_post(mixer: Mixer, mlp: FeedForward, norm: NormSpec) -> LayerSpec {
    let mut layer = LayerSpec::pre(mixer, mlp, norm);
    for (branch, name) in layer.branches.iter_mut().zip(["post_norm1", "post_norm2"]) {
        branch.post = Some(NamedNorm { name, norm });
    }
    layer
}
