//! Prints which implementation supports a config, why, and what it was lowered to.
//!
//! `cargo run -p automodel-registry --example resolve -- path/to/config.json`

use automodel_config::{Overrides, RawConfig};
use automodel_registry::{Registry, ResolveOptions, unwrap_text_model};
use std::path::Path;

const QWEN3: &str = r#"{
    "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "hidden_size": 1024, "intermediate_size": 3072,
    "num_hidden_layers": 2, "num_attention_heads": 16, "num_key_value_heads": 8, "tie_word_embeddings": true
}"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let raw = match std::env::args().nth(1) {
        Some(path) => RawConfig::from_file(Path::new(&path))?,
        None => RawConfig::from_str(QWEN3)?,
    };
    let registry = Registry::builtin();
    let raw = unwrap_text_model(raw);
    let config = raw.clone().resolve(registry.class_defaults(&raw)?, &Overrides::new())?;
    let resolution = registry.resolve(&config, &ResolveOptions::default())?;
    println!("{}", resolution.reason);

    let lowered = registry.lower(&config, &resolution)?;
    config.check_all_read(&[])?;
    println!("{}", serde_json::to_string_pretty(&lowered.spec)?);
    for parameter in &lowered.weights.parameters {
        let sources: Vec<_> = parameter.pieces.iter().map(|piece| piece.tensor.as_str()).collect();
        println!("{} {:?} <- {}", parameter.path, parameter.shape, sources.join(" + "));
    }
    Ok(())
}
