//! Methods of quantisation by name.

use super::values::flag;
use crate::QuantError;
use serde_json::{Map, Value};

/// Known methods and their descriptions.
const METHODS: &[(&str, &str)] = &[
    ("aqlm", "additive codebooks"),
    ("auto-round", "integers with rounding found by sign gradients"),
    ("awq", "activation-aware 4-bit integers"),
    ("bitnet", "ternary weights"),
    ("compressed-tensors", "packed integers or floats of llm-compressor"),
    ("fbgemm_fp8", "8-bit floats with a scale per row"),
    ("fp8", "8-bit floats with a scale per block"),
    ("gguf", "block formats of llama.cpp"),
    ("gptq", "4- or 8-bit integers by second-order rounding"),
    ("hqq", "half-quadratic quantisation"),
    ("mlx", "integers of MLX, with a scale and a bias for each group"),
    ("modelopt", "formats of NVIDIA ModelOpt"),
    ("mxfp4", "4-bit floats with a shared exponent"),
    ("mxfp8", "8-bit floats with a shared exponent"),
    ("nvfp4", "4-bit floats with 8-bit scales"),
    ("quark", "formats of AMD Quark"),
    ("torchao", "formats of torchao"),
];

/// The method that a `quantization_config` names, in small letters.
pub(super) fn method_of(object: &Map<String, Value>) -> Result<String, QuantError> {
    match object.get("quant_method") {
        Some(Value::String(method)) => Ok(method.to_lowercase()),
        // bitsandbytes' first files name no method.
        None if flag(object, "load_in_4bit")? || flag(object, "load_in_8bit")? => Ok("bitsandbytes".to_owned()),
        None => nameless_method(object).ok_or_else(|| QuantError::InvalidConfig {
            key: Some("quant_method".to_owned()),
            problem: "is missing, and nothing else says how the weights are stored: name the method".to_owned(),
        }),
        Some(other) => {
            let problem = format!("is {other}, but the name of a method is expected");
            Err(QuantError::InvalidConfig { key: Some("quant_method".to_owned()), problem })
        }
    }
}

/// The description of a method.
pub(super) fn description(method: &str) -> &'static str {
    let known = METHODS.iter().find(|(name, _)| *name == method);
    known.map_or("not known here", |(_, description)| description)
}

/// The method of a declaration that names none, by what its tool writes.
fn nameless_method(object: &Map<String, Value>) -> Option<String> {
    let has = |key: &str| object.get(key).is_some_and(|value| !value.is_null());
    // `producer` and `quantization.quant_algo` of hf_quant_config.json, which newer releases copy into config.json.
    let algorithm = object.get("quantization").and_then(|inner| inner.get("quant_algo"));
    if has("quant_algo") || has("producer") || algorithm.is_some() {
        return Some("modelopt".to_owned());
    }
    // mlx-lm writes a group size, bits and perhaps a mode, and below the names of modules that differ.
    (has("group_size") && has("bits")).then(|| "mlx".to_owned())
}
