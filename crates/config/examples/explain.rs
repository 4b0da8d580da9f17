//! Prints every value of a config with its origin, the rope parameters, warnings, and unread keys.
//!
//! `cargo run --example explain -- CONFIG.json [KEY=VALUE ...]`; without arguments it explains a small built-in config.

use std::{error::Error, path::Path};

use automodel_config::{ClassDefaults, DefaultValue, Overrides, RawConfig, RopeDefaults};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[("num_key_value_heads", DefaultValue::Null), ("tie_word_embeddings", DefaultValue::Bool(false))],
    aliases: &[("n_embd", "hidden_size"), ("n_layer", "num_hidden_layers"), ("n_head", "num_attention_heads")],
};

const BUILT_IN: &str = r#"{
    "model_type": "example", "n_embd": 64, "n_layer": 2, "n_head": 4, "max_position_embeddings": 4096,
    "layer_types": ["attention", "attention", "attention"], "unheard_of": true, "use_cache": true,
    "rope_theta": 1e6, "rope_scaling": {"type": "linear", "factor": 2.0}
}"#;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let raw = match arguments.next() {
        Some(path) => RawConfig::from_file(Path::new(&path))?,
        None => RawConfig::from_str(BUILT_IN)?,
    };
    let config = raw.resolve(&DEFAULTS, &Overrides::parse(arguments)?)?;

    println!("{} {:?}", config.model_type(), config.architectures());
    for (key, value, origin) in config.describe() {
        println!("  {key} = {value}  ({origin})");
    }
    println!("rope: {:?}", config.rope_parameters(RopeDefaults::default())?);
    if let Some(layers) = config.usize_or_null("num_hidden_layers")? {
        println!("layer types: {:?}", config.layer_types(layers)?);
    }
    for warning in config.warnings() {
        println!("warning: {warning}");
    }
    println!("unread: {:?}", config.unread_keys());
    Ok(())
}
