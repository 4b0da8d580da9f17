//! ModernBERT as a decoder (Ettin): a norm on the embedding in place of the first layer's, rope by layer type, and a layer before the
//! output head.

use super::prelude::*;
use crate::template::activation;

pub static FAMILY: Family = Family {
    model_type: "modernbert-decoder",
    architectures: &["ModernBertDecoderForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: IGNORED,
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(50_368)),
        ("hidden_size", Int(768)),
        ("intermediate_size", Int(1152)),
        ("num_hidden_layers", Int(22)),
        ("num_attention_heads", Int(12)),
        ("hidden_activation", Str("gelu")),
        ("max_position_embeddings", Int(8192)),
        ("norm_eps", Float(1e-05)),
        ("norm_bias", Bool(false)),
        ("attention_bias", Bool(false)),
        ("mlp_bias", Bool(false)),
        ("decoder_bias", Bool(true)),
        ("classifier_bias", Bool(false)),
        ("classifier_activation", Str("gelu")),
        ("local_attention", Int(128)),
        ("layer_types", Null),
        ("tie_word_embeddings", Bool(true)),
    ],
    aliases: &[],
};

/// Of initial values and dropout; the others of the encoder's code, which the class does not read.
const IGNORED: &[&str] = &[
    "deterministic_flash_attn",
    "initializer_cutoff_factor",
    "layer_norm_eps",
    "mlp_dropout",
    "position_embedding_type",
    "reference_compile",
    "repad_logits_with_grad",
    "sparse_pred_ignore_index",
    "sparse_prediction",
];

const LAYOUT: Layout = Layout {
    rules: &[
        Rule::Pack { parts: &["mlp.gate_proj", "mlp.up_proj"], into: "mlp.Wi", order: PackOrder::Rows },
        Rule::Rename("mlp.down_proj", "mlp.Wo"),
        Rule::Rename("self_attn.o_proj", "attn.Wo"),
        Rule::Rename("self_attn.", "attn."),
        Rule::Rename("input_layernorm", "attn_norm"),
        Rule::Rename("post_attention_layernorm", "mlp_norm"),
        Rule::Rename("model.embed_tokens", "model.embeddings.tok_embeddings"),
        Rule::Rename("model.embed_norm", "model.embeddings.norm"),
        Rule::Rename("model.norm.", "model.final_norm."),
        Rule::Rename("lm_head.", "decoder."),
        Rule::Rename("head_transform.", "lm_head."),
    ],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let keys = Keys {
        norm_eps: "norm_eps",
        activation: Some("hidden_activation"),
        num_key_value_heads: None,
        head_dim: None,
        ..Keys::LLAMA
    };
    let mut template = Template::read(config, &keys)?.with_mlp_bias(config, "mlp_bias")?;
    template.norm.kind = NormKind::LayerNorm { bias: config.bool("norm_bias")? };
    template.embedding.norm = Some(template.norm);
    template.attention.bias = attention_bias(config)?;
    template.head.bias = config.bool("decoder_bias")?;
    template.head.transform = Some(HeadTransform {
        width: template.hidden_size,
        bias: config.bool("classifier_bias")?,
        activation: Some(activation(config, "classifier_activation")?),
        norm: Some(template.norm),
    });
    // The class makes the window half of `local_attention`, and then takes the file's `sliding_window` if it has one.
    let half = config.count_or_null("local_attention")?.map(|around| around / 2);
    let window = config.count_or_null("sliding_window")?.or(half).filter(|&window| window > 0);
    // Read by the class, though it has no such field.
    let every = config.usize_or_null("global_attn_every_n_layers")?.unwrap_or(3);
    let first_of_some = |index: usize| if index.is_multiple_of(every) { "full_attention" } else { "sliding_attention" };
    let types = layer_types(config, template.num_hidden_layers, first_of_some)?;
    let rope = rope(config, template.attention.head_dim)?;
    template.build_layers(|index, template| {
        let mask = mask_of(config, &types[index], window)?;
        let attention = AttentionSpec { mask, rope: rope.of(&types[index])?, ..template.attention.clone() };
        let mut layer = template.layer(Mixer::Attention(attention), template.mlp.clone());
        if let (0, Some(first)) = (index, layer.branches.first_mut()) {
            first.pre = None;
        }
        Ok(layer)
    })
}

fn rope(config: &FamilyConfig<'_>, head_dim: usize) -> Result<RopeByLayerType, RegistryError> {
    let layer = |layer_type, theta, theta_key| RopeLayer {
        layer_type,
        defaults: RopeDefaults { theta, ..RopeDefaults::default() },
        theta_key: Some(theta_key),
        takes_rope_scaling: true,
    };
    let layers = [
        layer("full_attention", 160_000.0, "global_rope_theta"),
        layer("sliding_attention", 10_000.0, "local_rope_theta"),
    ];
    RopeByLayerType::by_layers(config, &layers, head_dim)
}
