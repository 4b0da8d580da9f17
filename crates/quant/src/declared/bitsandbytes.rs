//! The declaration of bitsandbytes, read and written.

use super::{
    Declared,
    values::{flag, names},
};
use crate::{
    QuantError, Scheme, WeightDtype,
    table16::{QuantType, Table16},
};
use serde_json::{Map, Value, json};

/// The name of the method in config.json.
const METHOD: &str = "bitsandbytes";

/// Whether a method's name is one of bitsandbytes'.
pub(super) fn is_bitsandbytes(method: &str) -> bool {
    [METHOD, "bitsandbytes_4bit", "bitsandbytes_8bit"].contains(&method)
}

/// The declaration of a model that bitsandbytes quantised.
pub(super) fn read(object: &Map<String, Value>, method: &str) -> Result<Declared, QuantError> {
    let (four, eight) = (flag(object, "load_in_4bit")?, flag(object, "load_in_8bit")?);
    if four && eight {
        let problem = "load_in_4bit and load_in_8bit are both true: weights are stored in one of them".to_owned();
        return Err(QuantError::InvalidConfig { key: None, problem });
    }
    if eight || method == "bitsandbytes_8bit" || !(four || method == "bitsandbytes_4bit") {
        return Ok(Declared::unreadable("bitsandbytes (8 bit)", "8-bit integers with outliers in float16"));
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
    // The block size is not declared: each tensor's state has it.
    let scheme = Table16::new(quant_type).with_double_quant(flag(object, "bnb_4bit_use_double_quant")?);
    Ok(Declared {
        method: METHOD.to_owned(),
        scheme: Some(scheme.into()),
        dense_modules: names(object, "llm_int8_skip_modules")?,
        unreadable: None,
    })
}

/// The `quantization_config` that transformers 5.23 writes for a model that bitsandbytes quantised in `scheme`; `None` for schemes that
/// bitsandbytes does not have.
///
/// `compute_dtype` is the dtype in which transformers is to multiply. `dense_modules` is `None` if only the output head and what
/// is tied to it stayed dense; a list replaces this rule, so it must name the head too.
///
/// ```
/// use automodel_quant::{Scheme, WeightDtype, declared};
///
/// let json = declared::bitsandbytes_config(Scheme::nf4(), WeightDtype::BFloat16, None).unwrap();
/// assert_eq!(json["bnb_4bit_quant_type"], "nf4");
/// assert_eq!(json["bnb_4bit_compute_dtype"], "bfloat16");
/// ```
pub fn bitsandbytes_config(
    scheme: Scheme,
    compute_dtype: WeightDtype,
    dense_modules: Option<&[String]>,
) -> Option<Value> {
    let scheme = scheme.table16()?;
    Some(json!({
        "_load_in_4bit": true,
        "_load_in_8bit": false,
        "bnb_4bit_compute_dtype": compute_dtype.name(),
        "bnb_4bit_quant_storage": "uint8",
        "bnb_4bit_quant_type": scheme.quant_type,
        "bnb_4bit_use_double_quant": scheme.double_quant,
        "llm_int8_enable_fp32_cpu_offload": false,
        "llm_int8_has_fp16_weight": false,
        "llm_int8_skip_modules": dense_modules,
        "llm_int8_threshold": 6.0,
        "load_in_4bit": true,
        "load_in_8bit": false,
        "quant_method": METHOD,
    }))
}
