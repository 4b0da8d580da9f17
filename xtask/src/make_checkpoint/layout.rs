//! Which tensors a checkpoint has, from its config.json.

use super::tokenizer;
use crate::Result;
use serde_json::Value;

/// Largest dimension: far above any model, and small enough that a product of two does not overflow.
const LARGEST: u64 = 1 << 24;
/// Most layers and experts.
const MOST: u64 = 1 << 12;

/// A tensor of the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    pub name: String,
    pub shape: Vec<u64>,
}

impl Tensor {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Whether this is the weight of a norm, which is 1 rather than random.
    pub fn is_norm(&self) -> bool {
        self.name.ends_with("norm.weight")
    }
}

/// The sizes that the tensors follow from.
struct Sizes {
    vocab: u64,
    hidden: u64,
    layers: u64,
    queries: u64,
    keys: u64,
    head: u64,
    /// Norms of the queries and keys of each head.
    has_head_norms: bool,
    mlp: Mlp,
}

enum Mlp {
    Dense { intermediate: u64 },
    Moe { experts: u64, intermediate: u64 },
}

/// The tensors of a checkpoint in the order of the modules.
pub fn tensors(config: &Value) -> Result<Vec<Tensor>> {
    let sizes = Sizes::read(config)?;
    let mut tensors = vec![matrix("model.embed_tokens", sizes.vocab, sizes.hidden)];
    for layer in 0..sizes.layers {
        push_layer(&mut tensors, &format!("model.layers.{layer}"), &sizes);
    }
    tensors.push(vector("model.norm", sizes.hidden));
    if config["tie_word_embeddings"] != true {
        tensors.push(matrix("lm_head", sizes.vocab, sizes.hidden));
    }
    Ok(tensors)
}

fn push_layer(tensors: &mut Vec<Tensor>, layer: &str, sizes: &Sizes) {
    tensors.push(vector(&format!("{layer}.input_layernorm"), sizes.hidden));
    push_attention(tensors, &format!("{layer}.self_attn"), sizes);
    tensors.push(vector(&format!("{layer}.post_attention_layernorm"), sizes.hidden));
    match sizes.mlp {
        Mlp::Dense { intermediate } => push_mlp(tensors, &format!("{layer}.mlp"), sizes.hidden, intermediate),
        Mlp::Moe { experts, intermediate } => {
            tensors.push(matrix(&format!("{layer}.mlp.gate"), experts, sizes.hidden));
            for expert in 0..experts {
                push_mlp(tensors, &format!("{layer}.mlp.experts.{expert}"), sizes.hidden, intermediate);
            }
        }
    }
}

fn push_attention(tensors: &mut Vec<Tensor>, attention: &str, sizes: &Sizes) {
    tensors.push(matrix(&format!("{attention}.q_proj"), sizes.queries, sizes.hidden));
    tensors.push(matrix(&format!("{attention}.k_proj"), sizes.keys, sizes.hidden));
    tensors.push(matrix(&format!("{attention}.v_proj"), sizes.keys, sizes.hidden));
    tensors.push(matrix(&format!("{attention}.o_proj"), sizes.hidden, sizes.queries));
    if sizes.has_head_norms {
        tensors.push(vector(&format!("{attention}.q_norm"), sizes.head));
        tensors.push(vector(&format!("{attention}.k_norm"), sizes.head));
    }
}

fn push_mlp(tensors: &mut Vec<Tensor>, mlp: &str, hidden: u64, intermediate: u64) {
    tensors.push(matrix(&format!("{mlp}.gate_proj"), intermediate, hidden));
    tensors.push(matrix(&format!("{mlp}.up_proj"), intermediate, hidden));
    tensors.push(matrix(&format!("{mlp}.down_proj"), hidden, intermediate));
}

fn matrix(module: &str, rows: u64, columns: u64) -> Tensor {
    Tensor { name: format!("{module}.weight"), shape: vec![rows, columns] }
}

fn vector(module: &str, length: u64) -> Tensor {
    Tensor { name: format!("{module}.weight"), shape: vec![length] }
}

impl Sizes {
    fn read(config: &Value) -> Result<Self> {
        let size = |key: &str, most: u64| match config[key].as_u64() {
            Some(size) if (1..=most).contains(&size) => Ok(size),
            _ => Err(format!("{key} is {}: expected a number from 1 to {most}", config[key])),
        };
        let (has_head_norms, mlp) = match config["model_type"].as_str() {
            Some("llama") => (false, Mlp::Dense { intermediate: size("intermediate_size", LARGEST)? }),
            Some("qwen3") => (true, Mlp::Dense { intermediate: size("intermediate_size", LARGEST)? }),
            Some("qwen3_moe") => {
                let intermediate = size("moe_intermediate_size", LARGEST)?;
                (true, Mlp::Moe { experts: size("num_experts", MOST)?, intermediate })
            }
            _ => return Err(format!("no layout is known for model_type {}", config["model_type"]).into()),
        };
        let (hidden, heads) = (size("hidden_size", LARGEST)?, size("num_attention_heads", MOST)?);
        let key_heads = size("num_key_value_heads", MOST)?;
        if !heads.is_multiple_of(key_heads) {
            return Err(
                format!("num_attention_heads {heads} is not a multiple of num_key_value_heads {key_heads}").into()
            );
        }
        let head = match config.get("head_dim") {
            Some(_) => size("head_dim", LARGEST)?,
            None if hidden.is_multiple_of(heads) => hidden / heads,
            None => return Err(format!("hidden_size {hidden} is not a multiple of num_attention_heads {heads}").into()),
        };
        let vocab = size("vocab_size", LARGEST)?;
        if vocab < tokenizer::VOCAB_SIZE {
            return Err(format!("vocab_size {vocab} is below the tokenizer's {}", tokenizer::VOCAB_SIZE).into());
        }
        let layers = size("num_hidden_layers", MOST)?;
        Ok(Self { vocab, hidden, layers, queries: heads * head, keys: key_heads * head, head, has_head_norms, mlp })
    }
}
