//! Everything that is decided before files of weights are opened.

use crate::{AutoModelError, options::Options};
use automodel_attention::{SdpaChoice, resolve_sdpa_method, select_backend};
use automodel_config::{Origin, Overrides, RawConfig, ResolvedConfig};
use automodel_loader::{DtypePolicy, LoadOptions};
use automodel_models::{BuildContext, CausalLm, Decoder, ModelOptions};
use automodel_quant::Declared;
use automodel_registry::{Implementation, Lowered, RegistryError, Resolution, split_options};
use burn::tensor::{Device, FloatDType};
use serde_json::{Map, Value};

/// A config resolved, an implementation chosen, its mathematics and weight map known.
#[derive(Debug)]
pub struct Prepared {
    /// The config, each value with its origin.
    pub config: ResolvedConfig,
    /// Which implementation supports it, and why.
    pub resolution: Resolution,
    /// Its mathematics and weight map.
    pub lowered: Lowered,
    /// How the config declares that the weights are quantised.
    pub declared: Option<Declared>,
    /// How attention is computed, and why.
    pub attention: SdpaChoice,
    /// Options that stay with the implementation.
    pub implementation_options: Map<String, Value>,
}

impl Prepared {
    /// Config and registry's part of the way: the implementation, `raw` with overrides and its class defaults, its spec; for a
    /// checkpoint of `tensors` tensors.
    pub(crate) fn new(raw: RawConfig, options: &Options, tensors: usize) -> Result<Self, AutoModelError> {
        let (mut config, mut resolution) = resolve(&raw, &options.overrides, options)?;
        let accepted = options.registry.accepted_options(&resolution);
        let split = split_options(options.named.clone(), &config, accepted)?;
        if !split.overrides.is_empty() {
            let overrides = options.overrides.clone().merged_with(&split.overrides);
            (config, resolution) = resolve(&raw, &overrides, options)?;
        }
        let declared = Declared::read(config.quantization_config())?;
        declared.iter().try_for_each(Declared::check_readable)?;
        let lowered = options.registry.lower_for(&config, &resolution, tensors)?;
        // What a custom implementation reads, only its factory knows.
        if lowered.spec.is_some() {
            config.check_all_read(&options.allowed_unread_keys)?;
        }
        let preference = resolve_sdpa_method(options.attention.as_deref(), &options.constraints)?;
        let attention = select_backend(preference.as_deref(), &options.load.device)?;
        Ok(Self { config, resolution, lowered, declared, attention, implementation_options: split.implementation })
    }

    /// A checkpoint's weights were made tied or untied; an override cannot change that.
    pub(crate) fn refuse_flipped_tie(&self, raw: RawConfig, options: &Options) -> Result<(), AutoModelError> {
        const KEY: &str = "tie_word_embeddings";
        if self.config.origin(KEY) != Some(&Origin::Override) {
            return Ok(());
        }
        let (untouched, _) = resolve(&raw, &Overrides::new(), options)?;
        let (in_checkpoint, requested) = (untouched.bool(KEY)?, self.config.bool(KEY)?);
        if in_checkpoint == requested { Ok(()) } else { Err(AutoModelError::FlippedTie { in_checkpoint }) }
    }

    /// The module without values: allocates no weights.
    pub(crate) fn skeleton(&self, options: &Options) -> Result<Box<dyn CausalLm>, AutoModelError> {
        let device = &options.load.device;
        if let Implementation::Custom { name } = &self.resolution.implementation {
            let context = BuildContext {
                config: &self.config,
                options: &self.implementation_options,
                attention: self.attention.backend,
                device,
            };
            return Ok(options.factories.build(name, &context)?);
        }
        let spec = self.lowered.spec.as_ref().ok_or(AutoModelError::NoSpec)?;
        let load = self.load_options(options);
        let activations = (load.half_products && load.dtype == DtypePolicy::Auto).then_some(FloatDType::F32);
        let precision = options.precision;
        let options = ModelOptions { attention: self.attention.backend, activations, precision };
        Ok(Box::new(Decoder::new(spec, options, device)?))
    }

    /// What builds the model, by name.
    pub(crate) fn implementation(&self) -> &str {
        match &self.resolution.implementation {
            Implementation::Custom { name } => name,
            _ => "generic decoder",
        }
    }

    /// How the weights are loaded: on the CPU the generic implementation computes in float32 with weights as they are stored.
    pub(crate) fn load_options(&self, options: &Options) -> LoadOptions {
        let mut load = options.load.clone();
        let generic = !matches!(self.resolution.implementation, Implementation::Custom { .. });
        load.half_products = generic && load.device == Device::flex();
        load.declared.clone_from(&self.declared);
        load
    }
}

/// The config of the implementation that supports `raw`, and which one that is.
fn resolve(
    raw: &RawConfig,
    overrides: &Overrides,
    options: &Options,
) -> Result<(ResolvedConfig, Resolution), AutoModelError> {
    options.registry.resolve_config(raw, overrides, &options.resolve).map_err(|error| match error {
        RegistryError::Config { source, .. } => (*source).into(),
        other => other.into(),
    })
}
