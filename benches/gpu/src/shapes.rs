//! Linear layers of Llamas, and experts of a mixture.

use serde::Serialize;

/// A model whose layers are measured.
#[derive(Clone, Copy, Debug, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Model {
    /// For a look at the program.
    Tiny,
    /// Llama 3.2 1B
    #[value(name = "1b")]
    B1,
    /// Llama 3.1 8B
    #[value(name = "8b")]
    B8,
    /// Llama 3.1 70B
    #[value(name = "70b")]
    B70,
    /// Experts of Qwen3 30B A3B
    #[value(name = "moe-30b")]
    Moe30B,
}

/// Experts of a layer.
#[cfg(feature = "cube")]
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Experts {
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_experts: usize,
    /// Experts of a token.
    pub num_experts_per_tok: usize,
}

/// One linear layer.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Layer {
    pub name: &'static str,
    pub out_features: usize,
    pub in_features: usize,
}

impl Model {
    /// The different layers of a block.
    pub fn layers(self) -> Vec<Layer> {
        let (hidden, kv, inner) = match self {
            Self::Tiny => (256, 64, 512),
            Self::B1 => (2048, 512, 8192),
            Self::B8 => (4096, 1024, 14336),
            Self::B70 => (8192, 1024, 28672),
            Self::Moe30B => return Vec::new(),
        };
        let layer = |name, out_features, in_features| Layer { name, out_features, in_features };
        vec![
            layer("q, o", hidden, hidden),
            layer("k, v", kv, hidden),
            layer("gate, up", inner, hidden),
            layer("down", hidden, inner),
        ]
    }

    /// The experts of a block, of a mixture.
    #[cfg(feature = "cube")]
    pub fn experts(self) -> Option<Experts> {
        match self {
            Self::Moe30B => {
                Some(Experts { hidden_size: 2048, intermediate_size: 768, num_experts: 128, num_experts_per_tok: 8 })
            }
            Self::Tiny => {
                Some(Experts { hidden_size: 256, intermediate_size: 128, num_experts: 8, num_experts_per_tok: 2 })
            }
            Self::B1 | Self::B8 | Self::B70 => None,
        }
    }
}
