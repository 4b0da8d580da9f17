//! config.json: a preset with overrides.

use super::{Dtype, presets};
use crate::Result;
use serde_json::{Value, json};

/// The preset `name` with `overrides` (`KEY=VALUE`) in place and the dtype that is stored.
pub fn build(name: &str, overrides: &[String], dtype: Dtype) -> Result<Value> {
    let mut config = presets::config(name)?;
    for text in overrides {
        apply(&mut config, text)?;
    }
    config["dtype"] = json!(dtype.config_name());
    Ok(config)
}

/// A value is JSON, or else a string. A key is one of the preset's, because the tensors are derived from those alone.
fn apply(config: &mut Value, text: &str) -> Result<()> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("--set {text}: expected KEY=VALUE"))?;
    let Some(place) = config.pointer_mut(&format!("/{}", key.replace('.', "/"))) else {
        let keys = config.as_object().map(|keys| keys.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
        return Err(format!("--set {text}: the preset has no key {key}; it has {}", keys.join(", ")).into());
    };
    *place = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
    Ok(())
}

/// generation_config.json of a model with `config`.
pub fn generation(config: &Value) -> Value {
    json!({
        "_from_model_config": true,
        "bos_token_id": config["bos_token_id"],
        "eos_token_id": config["eos_token_id"],
        "transformers_version": config["transformers_version"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overridden(text: &str) -> Result<Value> {
        build("llama-tiny", &[text.to_owned()], Dtype::Float32)
    }

    #[test]
    fn overrides_replace_known_keys() {
        assert_eq!(overridden("hidden_size=256").unwrap()["hidden_size"], 256);
        assert_eq!(overridden("rope_parameters.rope_theta=5e5").unwrap()["rope_parameters"]["rope_theta"], 5e5);
        assert_eq!(overridden("hidden_act=gelu").unwrap()["hidden_act"], "gelu");
        assert_eq!(overridden("hidden_act=gelu").unwrap()["dtype"], "float32");
    }

    #[test]
    fn other_overrides_are_refused() {
        assert!(overridden("hidden=256").unwrap_err().to_string().contains("hidden_size"));
        assert!(overridden("hidden_size").is_err());
    }
}
