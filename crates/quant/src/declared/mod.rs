//! The declaration of quantised weights in config.json: `quantization_config`.

mod bitsandbytes;
mod methods;
mod values;

use crate::{QuantError, Scheme};
use serde::Serialize;
use serde_json::Value;

pub use bitsandbytes::bitsandbytes_config;

/// How the weights of a checkpoint are stored, as its `quantization_config` declares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Declared {
    /// `quant_method`, with its variant.
    method: String,
    /// The scheme of linear modules; `None` for a method that cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    scheme: Option<Scheme>,
    /// Modules that stayed dense.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dense_modules: Vec<String>,
    /// Of a method that cannot be read: what it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<String>,
}

impl Declared {
    /// Reads the value of `quantization_config`; `None` if it is absent or `null`.
    ///
    /// # Errors
    /// [`QuantError::InvalidConfig`] if it is not an object, names no method, or contradicts itself.
    ///
    /// ```
    /// use automodel_quant::Declared;
    /// use serde_json::json;
    ///
    /// let declared = json!({"quant_method": "gptq", "bits": 4});
    /// let error = Declared::read(Some(&declared))?.unwrap().check_readable().unwrap_err();
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
        let method = methods::method_of(object)?;
        if bitsandbytes::is_bitsandbytes(&method) {
            return bitsandbytes::read(object, &method).map(Some);
        }
        let description = methods::description(&method);
        Ok(Some(Self::unreadable(&method, description)))
    }

    fn unreadable(method: &str, description: &str) -> Self {
        Self {
            method: method.to_owned(),
            scheme: None,
            dense_modules: Vec::new(),
            unreadable: Some(description.to_owned()),
        }
    }

    /// Whether this release can read such weights.
    ///
    /// # Errors
    /// [`QuantError::UnsupportedMethod`] with the method's name and an alternative.
    pub fn check_readable(&self) -> Result<(), QuantError> {
        match &self.unreadable {
            None => Ok(()),
            Some(description) => {
                Err(QuantError::UnsupportedMethod { method: self.method.clone(), description: description.clone() })
            }
        }
    }

    /// `quant_method`, with its variant.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The scheme in which the linear module at `path` is declared to be stored; `None` if it is declared dense, or the method cannot be
    /// read. Skip lists are unreliable and some entries are regular expressions, which are not looked at here: the tensors in the files
    /// decide, and details that methods declare per tensor (the block size of bitsandbytes) are those of the default.
    pub fn scheme_of(&self, path: &str) -> Option<Scheme> {
        let is_dense = self.dense_modules.iter().any(|entry| covers(entry, path));
        self.scheme.filter(|_| !is_dense)
    }

    /// The modules that stayed dense, as the config writes them.
    pub fn dense_modules(&self) -> &[String] {
        &self.dense_modules
    }
}

/// Whether an entry of a list of modules, taken literally, names the module at `path`: by the beginning of its path up to a whole part, or
/// by its end.
fn covers(entry: &str, path: &str) -> bool {
    let rest = path.strip_prefix(entry);
    let starts = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || entry.ends_with('.'));
    !entry.is_empty() && (starts || path.ends_with(entry))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table16::{QuantType, Table16};
    use serde_json::json;

    fn read(value: Value) -> Result<Option<Declared>, QuantError> {
        Declared::read(Some(&value))
    }

    #[test]
    fn null_and_absent_are_dense() {
        assert!(matches!(read(Value::Null), Ok(None)));
        assert!(matches!(Declared::read(None), Ok(None)));
    }

    #[test]
    fn bitsandbytes_4bit_as_transformers_writes_it() {
        let declared = read(json!({
            "quant_method": "bitsandbytes", "load_in_4bit": true, "load_in_8bit": false, "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": true, "llm_int8_skip_modules": ["lm_head"], "_load_in_4bit": true
        }));
        let declared = declared.unwrap().unwrap();
        let scheme = Table16::new(QuantType::Nf4).with_double_quant(true);
        assert_eq!(declared.method(), "bitsandbytes");
        assert_eq!(declared.scheme_of("model.layers.0.mlp.up_proj"), Some(Scheme::from(scheme)));
        assert_eq!((declared.scheme_of("lm_head"), declared.dense_modules()), (None, &["lm_head".to_owned()][..]));
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
