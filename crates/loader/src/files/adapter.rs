//! Adapters (PEFT: LoRA and others), which change a model and are none themselves.

use serde::Deserialize;
use std::{fs, path::Path};

/// PEFT's names for the config and the weights of an adapter.
const CONFIG: &str = "adapter_config.json";
const WEIGHTS: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];

/// More bytes than the config of an adapter has.
const MOST_CONFIG_BYTES: u64 = 1 << 20;

/// An adapter in a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Adapter {
    /// The model that it was trained on, a repo or a path, if its config says so.
    #[serde(default, rename = "base_model_name_or_path")]
    pub base: Option<String>,
}

impl Adapter {
    /// The adapter whose files are in `directory`, if there are any.
    pub fn beside(directory: &Path) -> Option<Self> {
        let is_file = |name: &str| fs::metadata(directory.join(name)).is_ok_and(|metadata| metadata.is_file());
        if is_file(CONFIG) {
            return Some(Self::read(&directory.join(CONFIG)).unwrap_or_default());
        }
        WEIGHTS.iter().any(|name| is_file(name)).then(Self::default)
    }

    fn read(path: &Path) -> Option<Self> {
        let text = automodel_config::files::read(path, MOST_CONFIG_BYTES).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// The warning about an adapter beside a model: transformers with PEFT would apply it.
    pub(super) fn unapplied(&self) -> String {
        let of = self.base.as_ref().map(|base| format!(", made for `{base}`")).unwrap_or_default();
        format!(
            "an adapter is beside the model ({CONFIG}{of}): it is not applied; merge it with PEFT to have its changes"
        )
    }
}
