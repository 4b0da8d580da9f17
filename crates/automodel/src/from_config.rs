//! Models with random weights.

use crate::{AutoModel, AutoModelError, Dtype, Prepared, options::Options};
use automodel_attention::SdpaMethod;
use automodel_config::{GenerationConfig, Overrides, RawConfig};
use automodel_loader::{DtypePolicy, MappedFiles};
use automodel_models::initialize_random;
use automodel_registry::{Registry, spec::NormKind};
use burn::tensor::{Device, FloatDType};
use std::collections::HashMap;

/// Collects what is asked for; [`build`](Self::build) does it.
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

    /// Builds the model and draws its weights: normal, with the config's `initializer_range`.
    ///
    /// # Errors
    /// What is wrong with the config.
    pub fn build(self) -> Result<AutoModel, AutoModelError> {
        let prepared = Prepared::new(self.config, &self.options)?;
        let mut model = prepared.skeleton(&self.options)?;
        let ties = prepared.lowered.weights.ties.iter().filter(|tie| tie.requested);
        let tied: Vec<_> = ties.map(|tie| (tie.parameter.clone(), tie.to.clone())).collect();
        let spec = prepared.lowered.spec.as_ref();
        // A norm that adds one to its weight is neutral at zero.
        let neutral = if spec.is_some_and(|spec| spec.final_norm.kind == NormKind::RmsOneOffset) { 0.0 } else { 1.0 };
        let dtype = match self.options.load.dtype {
            DtypePolicy::Explicit(dtype) | DtypePolicy::Exact(dtype) => dtype,
            DtypePolicy::Auto => FloatDType::F32,
        };
        let std = prepared.config.peek("initializer_range").and_then(serde_json::Value::as_f64).unwrap_or(0.02);
        initialize_random(model.as_mut(), self.seed, std, dtype, neutral, &tied)?;
        model.arrange_parameters();
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
