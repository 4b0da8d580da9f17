//! What a caller may ask of a model, besides its name.

use crate::memory::DeviceMemory;
use automodel_attention::{SdpaConstraints, SdpaMethod};
use automodel_config::Overrides;
use automodel_hub::HubOptions;
use automodel_loader::{DtypePolicy, LoadOptions};
use automodel_models::ModelFactories;
use automodel_quant::Precision;
use automodel_registry::{Registry, ResolveOptions};
use burn::tensor::{Device, FloatDType};
use serde_json::{Map, Value};
use std::str::FromStr;

/// The dtype that weights get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dtype {
    /// That of the file. On the CPU computations are in float32; weights in half precision stay as they are for models that
    /// multiply them so, as the generic implementation does, and become float32 for others.
    #[default]
    Auto,
    /// float32
    Float32,
    /// float16; what is stored wider stays so.
    Float16,
    /// bfloat16; what is stored wider stays so.
    BFloat16,
}

impl Dtype {
    pub(crate) fn policy(self) -> DtypePolicy {
        self.float().map_or(DtypePolicy::Auto, DtypePolicy::AtLeast)
    }

    /// The dtype as Burn and [`SaveOptions`](automodel_loader::SaveOptions) name it; `None` for [`Auto`](Self::Auto).
    pub fn float(self) -> Option<FloatDType> {
        match self {
            Self::Auto => None,
            Self::Float32 => Some(FloatDType::F32),
            Self::Float16 => Some(FloatDType::F16),
            Self::BFloat16 => Some(FloatDType::BF16),
        }
    }
}

impl FromStr for Dtype {
    type Err = crate::AutoModelError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Ok(match name.trim_start_matches("torch.").to_ascii_lowercase().as_str() {
            "auto" => Self::Auto,
            "float32" | "f32" | "fp32" => Self::Float32,
            "float16" | "f16" | "fp16" | "half" => Self::Float16,
            "bfloat16" | "bf16" => Self::BFloat16,
            _ => return Err(crate::AutoModelError::UnknownDtype { name: name.to_owned() }),
        })
    }
}

/// Everything that [`FromPretrained`](crate::FromPretrained) collects.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub hub: HubOptions,
    pub overrides: Overrides,
    pub named: Map<String, Value>,
    pub allowed_unread_keys: Vec<String>,
    pub registry: Registry,
    pub factories: ModelFactories,
    pub resolve: ResolveOptions,
    pub attention: Option<Vec<SdpaMethod>>,
    pub constraints: SdpaConstraints,
    pub load: LoadOptions,
    pub precision: Precision,
    /// Refuse to load what cannot fit into memory.
    pub check_memory: bool,
    /// The memory to assume, instead of the device's own.
    pub assumed_memory: Option<DeviceMemory>,
}

impl Options {
    /// Takes what `given` says of how a repo is found. What it leaves open stays as it was said before, and offline mode stays on:
    /// the order of the calls makes no difference.
    pub fn set_hub(&mut self, given: HubOptions) {
        let before = std::mem::take(&mut self.hub);
        self.hub = HubOptions {
            cache_dir: given.cache_dir.or(before.cache_dir),
            revision: given.revision.or(before.revision),
            subfolder: given.subfolder.or(before.subfolder),
            offline: given.offline || before.offline,
            ..given
        };
    }

    /// The memory to assume, if it is known.
    pub fn device_memory(&self) -> Option<DeviceMemory> {
        self.assumed_memory.or_else(|| DeviceMemory::of(&self.load.device))
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            hub: HubOptions::default(),
            overrides: Overrides::new(),
            named: Map::new(),
            allowed_unread_keys: Vec::new(),
            registry: Registry::builtin(),
            factories: ModelFactories::default(),
            resolve: ResolveOptions::default(),
            attention: None,
            constraints: SdpaConstraints::default(),
            load: LoadOptions::new(&Device::flex()),
            precision: Precision::Exact,
            check_memory: true,
            assumed_memory: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_the_hub_undo_nothing_that_was_said_before() {
        let said = HubOptions {
            cache_dir: Some("cache".into()),
            revision: Some("v1".to_owned()),
            subfolder: Some("folder".to_owned()),
            offline: true,
            ..HubOptions::default()
        };
        let mut options = Options { hub: said.clone(), ..Options::default() };
        options.set_hub(HubOptions { parallel: 3, ..HubOptions::default() });
        assert_eq!(options.hub, HubOptions { parallel: 3, ..said });
        let other = HubOptions { revision: Some("v2".to_owned()), ..HubOptions::default() };
        options.set_hub(other);
        assert_eq!((options.hub.revision.as_deref(), options.hub.offline), (Some("v2"), true));
    }
}
