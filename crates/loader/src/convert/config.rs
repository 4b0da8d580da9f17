//! `quantization_config`, as transformers writes it.

use crate::{CheckpointFiles, LoadError, QuantizationConfig, SaveFiles};
use automodel_quant::WeightDtype;
use serde_json::{Map, Value, json};
use std::path::Path;

/// A config.json above this size is none.
const MAX_CONFIG_BYTES: u64 = 10_000_000;

/// The `quantization_config` that transformers 5.23 writes for a model that bitsandbytes quantised to 4 bits.
///
/// `compute_dtype` is the dtype in which transformers is to multiply. `skip_modules` is `None` if only the output head and what
/// is tied to it stayed dense; a list replaces this rule, so it must name the head too.
///
/// ```
/// use automodel_loader::{QuantizationConfig, quantization_config_json};
/// use automodel_quant::{QuantType, WeightDtype};
///
/// let json = quantization_config_json(&QuantizationConfig::new(QuantType::Nf4), WeightDtype::BFloat16, None);
/// assert_eq!(json["bnb_4bit_quant_type"], "nf4");
/// assert_eq!(json["bnb_4bit_compute_dtype"], "bfloat16");
/// ```
pub fn quantization_config_json(
    config: &QuantizationConfig,
    compute_dtype: WeightDtype,
    skip_modules: Option<&[String]>,
) -> Value {
    json!({
        "_load_in_4bit": true,
        "_load_in_8bit": false,
        "bnb_4bit_compute_dtype": compute_dtype.name(),
        "bnb_4bit_quant_storage": "uint8",
        "bnb_4bit_quant_type": config.quant_type,
        "bnb_4bit_use_double_quant": config.double_quant,
        "llm_int8_enable_fp32_cpu_offload": false,
        "llm_int8_has_fp16_weight": false,
        "llm_int8_skip_modules": skip_modules,
        "llm_int8_threshold": 6.0,
        "load_in_4bit": true,
        "load_in_8bit": false,
        "quant_method": "bitsandbytes",
    })
}

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
    config: &QuantizationConfig,
    skip_modules: Option<&[String]>,
) -> Value {
    let nested = model_config.get("text_config");
    let keys = ["dtype", "torch_dtype"];
    let dtype = keys.iter().find_map(|key| model_config.get(*key)?.as_str());
    let dtype = dtype.or_else(|| keys.iter().find_map(|key| nested?.get(*key)?.as_str()));
    // transformers' own default; bitsandbytes then computes in the dtype of its input.
    let compute_dtype = dtype.and_then(WeightDtype::from_name).unwrap_or(WeightDtype::Float32);
    let value = quantization_config_json(config, compute_dtype, skip_modules);
    model_config.insert("quantization_config".to_owned(), value);
    Value::Object(model_config)
}
