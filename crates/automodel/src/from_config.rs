//! Models with random weights.

use crate::{AutoModel, AutoModelError, DeviceMemory, Dtype, Prepared, options::Options};
use automodel_attention::SdpaMethod;
use automodel_config::{GenerationConfig, Overrides, RawConfig};
use automodel_loader::{DtypePolicy, MappedFiles};
use automodel_models::{ModelFactory, initialize_random};
use automodel_registry::{Registry, weights::WeightMap};
use burn::tensor::{DType, Device, FloatDType};
use serde_json::Value;
use std::collections::HashMap;

/// A builder; [`build`](Self::build) does the work.
#[derive(Debug)]
pub struct FromConfig {
    config: RawConfig,
    options: Options,
    seed: u64,
}

impl FromConfig {
    pub(crate) fn new(config: RawConfig) -> Self {
        Self { config, options: Options::default(), seed: 0 }
    }

    /// Where the model runs; the CPU if not said.
    pub fn device(mut self, device: Device) -> Self {
        self.options.load.device = device;
        self
    }

    /// The dtype of the weights; float32 if not said.
    pub fn dtype(mut self, dtype: Dtype) -> Self {
        self.options.load.dtype = dtype.policy();
        self
    }

    /// Seed of the weights: the same seed gives the same model.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Changes a value of the config: a key or dotted path; objects merge into what is there.
    pub fn config_override(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.options.overrides = self.options.overrides.set(key, value);
        self
    }

    /// Changes values of the config.
    pub fn config_overrides(mut self, overrides: &Overrides) -> Self {
        self.options.overrides = self.options.overrides.merged_with(overrides);
        self
    }

    /// Attention backends in order of preference, by name or value.
    pub fn attention<M: Into<SdpaMethod>>(mut self, methods: impl IntoIterator<Item = M>) -> Self {
        self.options.attention = Some(methods.into_iter().map(Into::into).collect());
        self
    }

    /// Families and implementations to choose from, instead of the built-in ones.
    pub fn registry(mut self, registry: Registry) -> Self {
        self.options.registry = registry;
        self
    }

    /// An option by name: those that the implementation declares go to it, those that the config knows to the config, and
    /// any other is an error.
    pub fn option(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.options.named.insert(name.to_owned(), value.into());
        self
    }

    /// Builds the custom implementation `name`.
    pub fn factory(mut self, name: &str, factory: ModelFactory) -> Self {
        self.options.factories.insert(name, factory);
        self
    }

    /// Uses the generic implementation even where a custom one is compatible.
    pub fn force_generic(mut self, force: bool) -> Self {
        self.options.resolve.force_generic = force;
        self
    }

    /// Whether to refuse, before anything is allocated, what surely does not fit into the memory that is available (the default).
    pub fn check_memory(mut self, check: bool) -> Self {
        self.options.check_memory = check;
        self
    }

    /// Assumes this many bytes of memory instead of asking the device.
    pub fn assume_memory(mut self, bytes: u64) -> Self {
        self.options.assumed_memory = Some(DeviceMemory::given(bytes));
        self
    }

    /// Builds the model and draws its weights: normal, with the config's `initializer_range`.
    ///
    /// # Errors
    /// What is wrong with the config, an implementation that nothing builds, parameters that it leaves without a value, weights that do
    /// not fit into memory.
    pub fn build(self) -> Result<AutoModel, AutoModelError> {
        let prepared = Prepared::new(self.config, &self.options, 0)?;
        let dtype = match self.options.load.dtype {
            DtypePolicy::AtLeast(dtype) | DtypePolicy::Cast(dtype) => dtype,
            DtypePolicy::Auto => FloatDType::F32,
        };
        refuse_what_cannot_fit(&prepared.lowered.weights, dtype, &self.options)?;
        let mut model = prepared.skeleton(&self.options)?;
        let ties = prepared.lowered.weights.ties.iter().filter(|tie| tie.requested);
        let tied: Vec<_> = ties.map(|tie| (tie.parameter.clone(), tie.to.clone())).collect();
        let spec = prepared.lowered.spec.as_ref();
        // A norm that adds one to its weight is neutral at zero.
        let norm = spec.and_then(|spec| spec.backbone.norms().next());
        let neutral = if norm.is_some_and(|norm| norm.kind.adds_one()) { 0.0 } else { 1.0 };
        let std = prepared.config.peek("initializer_range").and_then(serde_json::Value::as_f64).unwrap_or(0.02);
        initialize_random(model.as_mut(), self.seed, std, dtype, neutral, &tied)?;
        model.pack_experts();
        let generation_config = GenerationConfig::from_model_config(&prepared.config);
        Ok(AutoModel {
            model,
            tokenizer: None,
            generation_config,
            tied,
            checkpoint: None,
            prepared,
            report: None,
            widened: HashMap::new(),
            mapped: MappedFiles::default(),
        })
    }
}

/// Refuses weights that need more memory than there is.
fn refuse_what_cannot_fit(map: &WeightMap, dtype: FloatDType, options: &Options) -> Result<(), AutoModelError> {
    let elements = |shape: &[usize]| shape.iter().fold(1_u64, |product, &size| product.saturating_mul(size as u64));
    let tied = |path: &str| map.ties.iter().any(|tie| tie.requested && tie.parameter == path);
    let own = map.parameters.iter().filter(|slot| !tied(&slot.path)).map(|slot| elements(&slot.shape));
    let needed_bytes = own.fold(0, u64::saturating_add).saturating_mul(DType::from(dtype).size() as u64);
    match options.device_memory().filter(|_| options.check_memory) {
        Some(memory) if needed_bytes > memory.available_bytes => {
            Err(AutoModelError::InsufficientMemory { needed_bytes, memory, smaller: Vec::new() })
        }
        _ => Ok(()),
    }
}
