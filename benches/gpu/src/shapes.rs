//! Linear layers of Llamas.

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
        };
        let layer = |name, out_features, in_features| Layer { name, out_features, in_features };
        vec![
            layer("q, o", hidden, hidden),
            layer("k, v", kv, hidden),
            layer("gate, up", inner, hidden),
            layer("down", hidden, inner),
        ]
    }
}
