//! `config.json` to the mathematics; with the files `generation_config.json` and `overrides` (a line each) if the input has them.

use automodel::{
    config::{GenerationConfig, Overrides, RawConfig},
    quant::Declared,
    registry::{Registry, ResolveOptions},
};
use std::{error::Error, sync::OnceLock};

use super::{MIB, Target, say};
use crate::Files;

pub const TARGET: Target = Target {
    name: "config",
    run,
    // A config of some bytes can ask for thousands of layers, each of which has some 20 parameters with names.
    fixed_bytes: 96 * MIB,
    bytes_per_byte: 1024,
    words: &[
        "null",
        "true",
        "false",
        "NaN",
        "Infinity",
        "\"architectures\"",
        "\"text_config\"",
        "\"rope_scaling\"",
        "\u{feff}",
    ],
};

fn run(input: &[u8]) {
    let files = Files::split(input);
    let config = files.text("config.json").or_else(|| files.text("")).unwrap_or_default();
    if let Err(error) = lower(&config, &files.text("overrides").unwrap_or_default()) {
        say(error.as_ref());
    }
    let generation = files.text("generation_config.json").unwrap_or(config);
    match GenerationConfig::from_str(&generation) {
        Ok(config) => drop(config.clone().merge(config)),
        Err(error) => say(&error),
    }
}

/// Everything that is concluded before a file of weights is opened.
fn lower(config: &str, overrides: &str) -> Result<(), Box<dyn Error>> {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    let registry = REGISTRY.get_or_init(Registry::builtin);
    let overrides = Overrides::parse(overrides.lines())?;
    let raw = RawConfig::from_str(config)?.unwrap_text_config();
    let config = raw.clone().resolve(registry.class_defaults(&raw)?, &overrides)?;
    let resolution = registry.resolve(&config, &ResolveOptions::default())?;
    if let Some(quantization) = Declared::read(config.quantization_config())? {
        quantization.check_readable()?;
    }
    let lowered = registry.lower(&config, &resolution)?;
    if let Some(spec) = &lowered.spec {
        serde_json::to_string(spec)?;
    }
    let _ = (config.describe(), config.to_json(), config.warnings());
    config.check_all_read(&[])?;
    Ok(())
}
