//! `quantization_config`, as transformers writes it.

use super::QuantizationConfig;
use automodel_quant::WeightDtype;
use serde_json::{Value, json};

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
