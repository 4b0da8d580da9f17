//! Decoders trained with fairseq and metaseq: layer norms of PyTorch's epsilon, biases, positions from the third row of a table on.

pub mod biogpt;
pub mod opt;
pub mod xglm;

use super::prelude::*;

/// Epsilon of PyTorch's `LayerNorm`, to which the classes give no other.
const EPSILON: f64 = 1e-5;

/// Rows of the position embedding before that of position 0, from fairseq's padding index.
const OFFSET: usize = 2;

/// Sizes, activation and head; layer norms, a plain MLP and projections with biases.
fn read(config: &FamilyConfig<'_>, activation: &'static str, width: &'static str) -> Result<Template, RegistryError> {
    let keys = Keys {
        num_hidden_layers: Keys::LLAMA.num_hidden_layers,
        activation: Some(activation),
        intermediate_size: width,
        num_key_value_heads: None,
        head_dim: None,
        ..Keys::LLAMA
    };
    let mut template = Template::read_with_eps(config, &keys, EPSILON)?.with_plain_mlp(true);
    template.norm.kind = NormKind::LayerNorm { bias: true };
    template.attention.bias = AttentionBias::qkv_o(true, true);
    Ok(template)
}
