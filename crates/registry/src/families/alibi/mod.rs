//! Decoders whose positions are linear biases on the attention scores, or may be (ALiBi): BLOOM, MPT and Falcon.

pub mod bloom;
pub mod falcon;
pub mod mpt;

use super::prelude::*;

/// Sizes, epsilon and head, and the longest sequence under its key, if any; layer norms, a plain MLP `width` or four times as wide as the residual stream.
fn read(
    config: &FamilyConfig<'_>,
    activation: Option<&'static str>,
    width: Option<usize>,
    max_position_embeddings: Option<&'static str>,
) -> Result<Template, RegistryError> {
    let keys = Keys {
        norm_eps: "layer_norm_epsilon",
        activation,
        intermediate_size: "hidden_size",
        num_key_value_heads: None,
        head_dim: None,
        max_position_embeddings,
        ..Keys::LLAMA
    };
    let mut template = Template::read(config, &keys)?.with_plain_mlp(false);
    let width = width.unwrap_or(template.hidden_size.saturating_mul(4));
    if let Some(mlp) = template.dense_mlp() {
        mlp.intermediate_size = width;
        if activation.is_none() {
            mlp.activation = Activation::Gelu;
        }
    }
    template.norm.kind = NormKind::LayerNorm { bias: true };
    Ok(template)
}
