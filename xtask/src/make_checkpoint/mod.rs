//! `cargo xtask make-checkpoint`: a random checkpoint of any size in Hugging Face layout.
//!
//! Tensors are written one after the other in blocks, so that the memory needed does not depend on the size.

mod config;
mod layout;
mod presets;
mod shards;
mod tokenizer;
mod values;
mod writer;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use crate::Result;
use shards::{Shard, parse_size};

/// The checkpoint to write.
#[derive(Args)]
pub struct Arguments {
    /// The preset that gives config.json.
    #[arg(long, value_parser = presets::names())]
    like: String,
    /// The directory to write; it must not hold anything yet.
    #[arg(long)]
    out: PathBuf,
    /// dtype of the stored weights.
    #[arg(long, value_enum, default_value_t = Dtype::Bfloat16)]
    dtype: Dtype,
    /// Most bytes in a shard (a larger tensor has a shard of its own), with KB, MB or GB.
    #[arg(long, default_value = "500MB", value_parser = parse_size)]
    pub max_shard_size: u64,
    /// The same seed gives the same weights, whatever the shards.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Replace a value of config.json, for example hidden_size=256 or rope_parameters.rope_theta=1e6.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Do not name every shard.
    #[arg(long)]
    pub quiet: bool,
}

impl Arguments {
    /// The preset `like` as it is, in bfloat16 and shards of 500 MB.
    pub fn preset(like: &str, out: PathBuf) -> Self {
        Self {
            like: like.to_owned(),
            out,
            dtype: Dtype::Bfloat16,
            max_shard_size: 500_000_000,
            seed: 0,
            overrides: Vec::new(),
            quiet: false,
        }
    }
}

/// dtype of the stored weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    /// 2 bytes an element.
    Bfloat16,
    /// 4 bytes an element.
    Float32,
}

impl Dtype {
    fn bytes(self) -> u64 {
        match self {
            Self::Bfloat16 => 2,
            Self::Float32 => 4,
        }
    }

    /// Name in config.json.
    fn config_name(self) -> &'static str {
        match self {
            Self::Bfloat16 => "bfloat16",
            Self::Float32 => "float32",
        }
    }

    /// Name in a safetensors header.
    fn header_name(self) -> &'static str {
        match self {
            Self::Bfloat16 => "BF16",
            Self::Float32 => "F32",
        }
    }
}

/// Writes the checkpoint. Errors if a value of the config is of no use, or if the directory is not empty or not writable.
pub fn run(arguments: &Arguments) -> Result<()> {
    let start = Instant::now();
    let config = config::build(&arguments.like, &arguments.overrides, arguments.dtype)?;
    let tensors = layout::tensors(&config)?;
    let shards = shards::cut(&tensors, arguments.dtype, arguments.max_shard_size)?;
    create_empty(&arguments.out)?;

    write_json(&arguments.out, "config.json", &config)?;
    write_json(&arguments.out, "generation_config.json", &config::generation(&config))?;
    write_json(&arguments.out, "tokenizer.json", &tokenizer::tokenizer())?;
    write_json(&arguments.out, "tokenizer_config.json", &tokenizer::tokenizer_config())?;
    if shards.len() > 1 {
        write_json(&arguments.out, "model.safetensors.index.json", &index(&shards, arguments.dtype))?;
    }
    for shard in &shards {
        writer::write(&arguments.out, shard, arguments.dtype, arguments.seed)?;
        if arguments.quiet {
            continue;
        }
        eprintln!("{}  {:>6} tensors  {:>9.1} MB", shard.file, shard.tensors.len(), shard.bytes as f64 / 1e6);
    }

    let (parameters, bytes) = totals(&shards, arguments.dtype);
    let (out, seconds) = (arguments.out.display(), start.elapsed().as_secs_f64());
    println!("{out}: {parameters} parameters, {bytes} bytes, {} shards, {seconds:.1} s", shards.len());
    Ok(())
}

/// Bytes of all tensors of the checkpoint that `arguments` describe. Errors if a value of the config is of no use.
pub fn bytes(arguments: &Arguments) -> Result<u64> {
    let config = config::build(&arguments.like, &arguments.overrides, arguments.dtype)?;
    let tensors = layout::tensors(&config)?;
    let elements: u64 = tensors.iter().map(layout::Tensor::elements).sum();
    Ok(elements.saturating_mul(arguments.dtype.bytes()))
}

/// Creates the directory; refuses one that has files already.
fn create_empty(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).map_err(|error| format!("{} cannot be created: {error}", directory.display()))?;
    if fs::read_dir(directory)?.next().is_some() {
        return Err(format!("{} is not empty: give another --out, or empty it", directory.display()).into());
    }
    Ok(())
}

fn index(shards: &[Shard<'_>], dtype: Dtype) -> Value {
    let (parameters, bytes) = totals(shards, dtype);
    let entries = shards.iter().flat_map(|shard| shard.tensors.iter().map(|tensor| (&tensor.name, &shard.file)));
    let weight_map: serde_json::Map<String, Value> = entries.map(|(name, file)| (name.clone(), json!(file))).collect();
    json!({"metadata": {"total_parameters": parameters, "total_size": bytes}, "weight_map": weight_map})
}

/// Number of parameters, and their bytes.
fn totals(shards: &[Shard<'_>], dtype: Dtype) -> (u64, u64) {
    let bytes = shards.iter().map(|shard| shard.bytes).sum();
    (bytes / dtype.bytes(), bytes)
}

fn write_json(directory: &Path, name: &str, value: &Value) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    Ok(fs::write(directory.join(name), text)?)
}

#[cfg(test)]
mod tests;
