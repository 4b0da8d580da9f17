//! Apertus: norms on heads, and a plain MLP whose activation is learned.

use super::prelude::*;
use crate::template::activation;

pub static FAMILY: Family = Family {
    model_type: "apertus",
    architectures: &["ApertusForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    // Of the training code; the class has no such keys and computes what the published values say.
    ignored_keys: &["mlp_bias", "post_norm", "qk_norm"],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(131_072)),
        ("hidden_size", Int(4096)),
        ("intermediate_size", Int(14_336)),
        ("num_hidden_layers", Int(32)),
        ("num_attention_heads", Int(32)),
        ("num_key_value_heads", Null),
        ("hidden_act", Str("xielu")),
        ("max_position_embeddings", Int(65_536)),
        ("rms_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("head_dim", Null),
        ("attention_bias", Bool(false)),
    ],
    aliases: &[],
};

const LAYOUT: Layout = Layout {
    rules: &[
        Rule::Rename("input_layernorm", "attention_layernorm"),
        Rule::Rename("post_attention_layernorm", "feedforward_layernorm"),
        Rule::Scalar("mlp.act_fn.beta"),
        Rule::Scalar("mlp.act_fn.eps"),
    ],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let keys = Keys { activation: None, ..Keys::LLAMA };
    let mut template = Template::read(config, &keys)?.with_qk_norm(QkNormExtent::Head).with_plain_mlp(false);
    let activation =
        if config.str("hidden_act")? == "xielu" { Activation::Xielu } else { activation(config, "hidden_act")? };
    if let Some(mlp) = template.dense_mlp() {
        mlp.activation = activation;
    }
    template.attention.bias = attention_bias(config)?;
    template.attention.rope = Some(rope(config, template.attention.head_dim)?);
    template.build_uniform()
}

/// The class has rope parameters of its own for configs without any.
fn rope(config: &FamilyConfig<'_>, head_dim: usize) -> Result<RopeSpec, RegistryError> {
    const THETA: f64 = 12_000_000.0;
    if !gives_rope_parameters(config) {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192,
        };
        return Ok(RopeSpec { theta: THETA, rotary_dim: head_dim, pairing: RopePairing::HalfSplit, scaling });
    }
    let defaults = RopeDefaults { theta: THETA, ..RopeDefaults::default() };
    RopeByLayerType::read(config, defaults, head_dim, RopePairing::HalfSplit)?.uniform().cloned()
}
