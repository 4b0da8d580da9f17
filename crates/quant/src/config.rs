//! The `quantization_config` of a config.json.

use crate::QuantError;
use serde::Serialize;
use serde_json::{Map, Value};

/// How the weights of a checkpoint are stored, as its `quantization_config` declares it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub enum CheckpointQuantization {
    /// 4-bit weights of bitsandbytes.
    BitsAndBytes4bit(BitsAndBytes4bit),
    /// Any other method.
    Other {
        /// `quant_method`, with its variant.
        method: String,
        /// What the method is.
        description: String,
    },
}

/// 4-bit weights of bitsandbytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BitsAndBytes4bit {
    /// `bnb_4bit_quant_type`
    pub quant_type: QuantType,
    /// `bnb_4bit_use_double_quant`: whether the scales are quantised too.
    pub double_quant: bool,
    /// `llm_int8_skip_modules`: modules that stayed dense.
    pub skip_modules: Vec<String>,
}

/// The code table of 4-bit weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum QuantType {
    /// Quantiles of a normal distribution.
    Nf4,
    /// Sign, two bits of exponent, one of mantissa.
    Fp4,
}

/// What is known of methods by their name.
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

impl CheckpointQuantization {
    /// Reads the value of `quantization_config`; `None` if there is none or it is `null`.
    ///
    /// # Errors
    /// [`QuantError::InvalidConfig`] if it is no object, names no method, or contradicts itself.
    ///
    /// ```
    /// use automodel_quant::CheckpointQuantization;
    /// use serde_json::json;
    ///
    /// let declared = json!({"quant_method": "gptq", "bits": 4});
    /// let error = CheckpointQuantization::read(Some(&declared))?.unwrap().check_readable().unwrap_err();
    /// assert!(error.to_string().contains("gptq"));
    /// # Ok::<(), automodel_quant::QuantError>(())
    /// ```
    pub fn read(value: Option<&Value>) -> Result<Option<Self>, QuantError> {
        let object = match value {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Object(object)) => object,
            Some(other) => {
                let problem = format!("is {other}, but an object with `quant_method` is expected");
                return Err(QuantError::InvalidConfig { key: None, problem });
            }
        };
        let method = match object.get("quant_method") {
            Some(Value::String(method)) => method.to_lowercase(),
            // bitsandbytes' first files name no method.
            None if flag(object, "load_in_4bit")? || flag(object, "load_in_8bit")? => "bitsandbytes".to_owned(),
            None => nameless_method(object).ok_or_else(|| QuantError::InvalidConfig {
                key: Some("quant_method".to_owned()),
                problem: "is missing, and nothing else says how the weights are stored: name the method".to_owned(),
            })?,
            Some(other) => {
                let problem = format!("is {other}, but the name of a method is expected");
                return Err(QuantError::InvalidConfig { key: Some("quant_method".to_owned()), problem });
            }
        };
        if method == "bitsandbytes" || method == "bitsandbytes_4bit" || method == "bitsandbytes_8bit" {
            return Self::read_bitsandbytes(object, &method).map(Some);
        }
        let known = METHODS.iter().find(|(name, _)| *name == method);
        let description = known.map_or("not known here", |(_, description)| description).to_owned();
        Ok(Some(Self::Other { method, description }))
    }

    fn read_bitsandbytes(object: &Map<String, Value>, method: &str) -> Result<Self, QuantError> {
        let (four, eight) = (flag(object, "load_in_4bit")?, flag(object, "load_in_8bit")?);
        if four && eight {
            let problem = "load_in_4bit and load_in_8bit are both true: weights are stored in one of them".to_owned();
            return Err(QuantError::InvalidConfig { key: None, problem });
        }
        if eight || method == "bitsandbytes_8bit" || !(four || method == "bitsandbytes_4bit") {
            return Ok(Self::Other {
                method: "bitsandbytes (8 bit)".to_owned(),
                description: "8-bit integers with outliers in float16".to_owned(),
            });
        }
        let quant_type = match object.get("bnb_4bit_quant_type") {
            None | Some(Value::Null) => QuantType::Fp4,
            Some(Value::String(name)) if name == "nf4" => QuantType::Nf4,
            Some(Value::String(name)) if name == "fp4" => QuantType::Fp4,
            Some(other) => {
                let problem = format!("is {other}, but \"nf4\" or \"fp4\" is expected");
                return Err(QuantError::InvalidConfig { key: Some("bnb_4bit_quant_type".to_owned()), problem });
            }
        };
        Ok(Self::BitsAndBytes4bit(BitsAndBytes4bit {
            quant_type,
            double_quant: flag(object, "bnb_4bit_use_double_quant")?,
            skip_modules: names(object, "llm_int8_skip_modules")?,
        }))
    }

    /// Whether this release can read such weights.
    ///
    /// # Errors
    /// [`QuantError::UnsupportedMethod`] with the method's name and what to take instead.
    pub fn check_readable(&self) -> Result<(), QuantError> {
        match self {
            Self::BitsAndBytes4bit(_) => Ok(()),
            Self::Other { method, description } => {
                Err(QuantError::UnsupportedMethod { method: method.clone(), description: description.clone() })
            }
        }
    }
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

fn flag(object: &Map<String, Value>, key: &str) -> Result<bool, QuantError> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(other) => {
            let problem = format!("is {other}, but true or false is expected");
            Err(QuantError::InvalidConfig { key: Some(key.to_owned()), problem })
        }
    }
}

fn names(object: &Map<String, Value>, key: &str) -> Result<Vec<String>, QuantError> {
    let invalid = |value: &Value| QuantError::InvalidConfig {
        key: Some(key.to_owned()),
        problem: format!("is {value}, but a list of module names is expected"),
    };
    match object.get(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) => {
            list.iter().map(|name| name.as_str().map(str::to_owned).ok_or_else(|| invalid(name))).collect()
        }
        Some(other) => Err(invalid(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> Result<Option<CheckpointQuantization>, QuantError> {
        CheckpointQuantization::read(Some(&value))
    }

    #[test]
    fn null_and_absent_are_dense() {
        assert!(matches!(read(Value::Null), Ok(None)));
        assert!(matches!(CheckpointQuantization::read(None), Ok(None)));
    }

    #[test]
    fn bitsandbytes_4bit_as_transformers_writes_it() {
        let declared = read(json!({
            "quant_method": "bitsandbytes", "load_in_4bit": true, "load_in_8bit": false, "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": true, "llm_int8_skip_modules": ["lm_head"], "_load_in_4bit": true
        }));
        let expected = BitsAndBytes4bit {
            quant_type: QuantType::Nf4,
            double_quant: true,
            skip_modules: vec!["lm_head".to_owned()],
        };
        let declared = declared.unwrap().unwrap();
        assert_eq!(declared, CheckpointQuantization::BitsAndBytes4bit(expected));
        assert!(declared.check_readable().is_ok());
    }

    #[test]
    fn other_methods_are_named() {
        for (value, name) in [
            (json!({"quant_method": "AWQ"}), "awq"),
            (json!({"load_in_8bit": true}), "8 bit"),
            (json!({"quant_method": "from-the-future"}), "from-the-future"),
            (json!({"group_size": 64, "bits": 4}), "mlx"),
            (json!({"group_size": 32, "bits": 8, "mode": "affine", "lm_head": false}), "mlx"),
            (json!({"quant_method": "modelopt", "quant_algo": "FP8"}), "modelopt"),
            (json!({"quant_algo": "NVFP4", "kv_cache_scheme": {"num_bits": 8}}), "modelopt"),
            (json!({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}}), "modelopt"),
        ] {
            let error = read(value).unwrap().unwrap().check_readable().unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn contradictions_and_wrong_kinds_are_errors() {
        for value in [
            json!([]),
            json!({}),
            json!({"quant_method": 4}),
            json!({"quant_method": "bitsandbytes", "load_in_4bit": true, "load_in_8bit": true}),
            json!({"quant_method": "bitsandbytes", "load_in_4bit": "yes"}),
            json!({"quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": "int4"}),
            json!({"quant_method": "bitsandbytes", "load_in_4bit": true, "llm_int8_skip_modules": [1]}),
        ] {
            assert!(matches!(read(value.clone()), Err(QuantError::InvalidConfig { .. })), "{value}");
        }
    }
}
