//! GPT-2, and the decoders that its code was changed into: layer norms, plain MLPs, biases where the class says.

pub mod codegen;
pub mod gpt2;
pub mod gpt_bigcode;
pub mod gpt_neo;
pub mod gpt_neox;
pub mod gpt_neox_japanese;
pub mod gpt_sw3;
pub mod gptj;
pub mod openai_gpt;

use super::prelude::*;

/// GPT-2's names of sizes.
const ALIASES: &[(&str, &str)] = &[
    ("n_embd", "hidden_size"),
    ("n_head", "num_attention_heads"),
    ("n_layer", "num_hidden_layers"),
    ("n_positions", "max_position_embeddings"),
];

/// Buffers that old checkpoints have beside the projections of attention.
const BUFFERS: &[(&str, &str)] = &[
    ("*h.*.attn.bias", "the causal mask, which is computed"),
    ("*h.*.attn.masked_bias", "the mask's value, which is a constant"),
];

/// Sizes, activation, epsilon and head under GPT-2's names; layer norms and a plain MLP, all with biases. The MLP is four times
/// as wide as the residual stream unless `width_key` says another width.
fn read(config: &FamilyConfig<'_>, width_key: &str) -> Result<Template, RegistryError> {
    let keys = Keys {
        norm_eps: "layer_norm_epsilon",
        activation: Some("activation_function"),
        intermediate_size: "hidden_size",
        num_key_value_heads: None,
        head_dim: None,
        ..Keys::LLAMA
    };
    let mut template = Template::read(config, &keys)?.with_plain_mlp(true);
    let width = config.usize_or_null(width_key)?.unwrap_or(template.hidden_size.saturating_mul(4));
    if let Some(mlp) = template.dense_mlp() {
        mlp.intermediate_size = width;
    }
    template.norm.kind = NormKind::LayerNorm { bias: true };
    Ok(template)
}

/// GPT-J's mathematics: both branches off one norm, interleaved rotation of the first `rotary_dim` elements with a fixed base, no
/// biases in attention, one in the head.
fn gptj(config: &FamilyConfig<'_>) -> Result<Template, RegistryError> {
    let mut template = read(config, "n_inner")?;
    template.layer = LayerSpec::parallel_shared;
    template.head.bias = true;
    template.attention.rope = Some(RopeSpec {
        theta: 10_000.0,
        rotary_dim: config.usize("rotary_dim")?,
        pairing: RopePairing::Interleaved,
        scaling: RopeScaling::Default,
    });
    Ok(template)
}

/// Scores are multiplied by `head_dim^-0.5` unless `scale_attn_weights` is false.
fn scale_of_scores(config: &FamilyConfig<'_>, template: &mut Template) -> Result<(), RegistryError> {
    if !config.bool("scale_attn_weights")? {
        template.attention.scale = 1.0;
    }
    Ok(())
}

/// Refuses layers that attend to an encoder.
fn no_cross_attention(config: &FamilyConfig<'_>) -> Result<(), RegistryError> {
    if config.bool("add_cross_attention")? {
        return Err(config.unsupported("add_cross_attention", "a decoder alone has nothing to attend across to"));
    }
    Ok(())
}
