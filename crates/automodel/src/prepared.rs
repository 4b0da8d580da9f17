//! Everything that is decided before files of weights are opened.

use crate::{AutoModelError, options::Options};
use automodel_attention::{SdpaChoice, resolve_sdpa_method, select_backend};
use automodel_config::{Origin, Overrides, RawConfig, ResolvedConfig};
use automodel_loader::{DtypePolicy, LoadOptions};
use automodel_models::{BuildContext, CausalLm, Decoder, DecoderOptions};
use automodel_quant::CheckpointQuantization;
use automodel_registry::{Implementation, Lowered, Resolution, split_options, unwrap_text_model};
use burn::tensor::{Device, FloatDType};
use serde_json::{Map, Value};

/// A config resolved, an implementation chosen, its mathematics and weight map known.
#[derive(Debug)]
pub struct Prepared {
    /// The config, each value with its origin.
    pub config: ResolvedConfig,
    /// Which implementation serves it, and why.
    pub resolution: Resolution,
    /// Its mathematics and weight map.
    pub lowered: Lowered,
    /// How attention is computed, and why.
    pub attention: SdpaChoice,
    /// Options that stay with the implementation.
    pub implementation_options: Map<String, Value>,
}

impl Prepared {
    /// Config and registry's part of the way: `raw` with overrides and class defaults, the implementation, its spec.
    pub(crate) fn new(raw: RawConfig, options: &Options) -> Result<Self, AutoModelError> {
        let raw = unwrap_text_model(raw.with_class_overrides(&options.overrides));
        let defaults = options.registry.class_defaults(&raw)?;
        let mut config = raw.clone().resolve(defaults, &options.overrides)?;
        let mut resolution = options.registry.resolve(&config, &options.resolve)?;
        let accepted = options.registry.accepted_options(&resolution);
        let split = split_options(options.named.clone(), &config, accepted)?;
        if !split.overrides.is_empty() {
            config = raw.resolve(defaults, &options.overrides.clone().merged_with(&split.overrides))?;
            resolution = options.registry.resolve(&config, &options.resolve)?;
        }
        if let Some(quantization) = CheckpointQuantization::read(config.quantization_config())? {
            quantization.check_readable()?;
        }
        let lowered = options.registry.lower(&config, &resolution)?;
        // What a custom implementation reads, only its factory knows.
        if lowered.spec.is_some() {
            config.check_all_read(&options.allowed_unread_keys)?;
        }
        let preference = resolve_sdpa_method(options.attention.as_deref(), &options.constraints)?;
        let attention = select_backend(preference.as_deref(), &options.load.device)?;
        Ok(Self { config, resolution, lowered, attention, implementation_options: split.implementation })
    }

    /// A checkpoint's weights were made tied or untied; an override cannot change that.
    pub(crate) fn refuse_flipped_tie(&self, raw: RawConfig, options: &Options) -> Result<(), AutoModelError> {
        const KEY: &str = "tie_word_embeddings";
        if self.config.origin(KEY) != Some(&Origin::Override) {
            return Ok(());
        }
        let raw = unwrap_text_model(raw);
        let untouched = raw.clone().resolve(options.registry.class_defaults(&raw)?, &Overrides::new())?;
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
        let options = DecoderOptions { attention: self.attention.backend, activations, precision };
        Ok(Box::new(Decoder::new(spec, options, device)?))
    }

    /// How the weights are loaded: on the CPU the generic implementation computes in float32 with weights as they are stored.
    pub(crate) fn load_options(&self, options: &Options) -> LoadOptions {
        let mut load = options.load.clone();
        let generic = !matches!(self.resolution.implementation, Implementation::Custom { .. });
        load.half_products = generic && load.device == Device::flex();
        load
    }
}
