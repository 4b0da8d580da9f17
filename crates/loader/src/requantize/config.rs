//! The config.json of a checkpoint that is quantised.

use crate::{CheckpointFiles, LoadError, SaveFiles, quantization::declaration};
use automodel_quant::{Scheme, WeightDtype};
use serde_json::{Map, Value};
use std::path::Path;

/// A config.json above this size is none.
const MAX_CONFIG_BYTES: u64 = 10_000_000;

/// The config to go beside the weights, before quantisation.
pub(super) fn model_config(files: &CheckpointFiles, save_files: &SaveFiles) -> Result<Map<String, Value>, LoadError> {
    let path = files.directory().join("config.json");
    let syntax = |source: serde_json::Error| LoadError::ConfigSyntax { file: path.clone(), source: source.into() };
    let config: Map<String, Value> = match &save_files.config {
        Some(value) => serde_json::from_value(value.clone()).map_err(syntax)?,
        None => serde_json::from_slice(&read(&path)?).map_err(syntax)?,
    };
    if config.get("quantization_config").is_some_and(|value| !value.is_null()) {
        let evidence = "its config has a `quantization_config`".to_owned();
        return Err(LoadError::AlreadyQuantized { directory: files.directory().to_owned(), evidence });
    }
    Ok(config)
}

fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    automodel_config::files::read(path, MAX_CONFIG_BYTES).map_err(|source| LoadError::io("read", path, source))
}

/// `model_config` with its `quantization_config`.
pub(super) fn with_quantization(
    mut model_config: Map<String, Value>,
    scheme: Scheme,
    skip_modules: Option<&[String]>,
) -> Result<Value, LoadError> {
    let nested = model_config.get("text_config");
    let keys = ["dtype", "torch_dtype"];
    let dtype = keys.iter().find_map(|key| model_config.get(*key)?.as_str());
    let dtype = dtype.or_else(|| keys.iter().find_map(|key| nested?.get(*key)?.as_str()));
    // transformers' own default; bitsandbytes then computes in the dtype of its input.
    let compute_dtype = dtype.and_then(WeightDtype::from_name).unwrap_or(WeightDtype::Float32);
    let value = declaration(scheme, compute_dtype, skip_modules)?;
    model_config.insert("quantization_config".to_owned(), value);
    Ok(Value::Object(model_config))
}
