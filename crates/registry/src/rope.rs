//! Rotary embeddings: from what the config says to specifications.

use crate::spec::{LongRope, RopePairing, RopeScaling, RopeSpec, YarnRope};
use crate::{FamilyConfig, RegistryError};
use automodel_config::{ModelRope, RopeDefaults, RopeLayer, RopeOptions, RopeParameters, RopeType};
use std::collections::BTreeMap;

/// Key of rope parameters that stretches the base once and for all where the type is `dynamic` (HunYuan).
pub const FIXED_NTK_ALPHA: &str = "alpha";

/// The rotary embeddings of a model, by layer type or one for all.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeByLayerType {
    model_type: String,
    ropes: Ropes,
}

#[derive(Clone, Debug, PartialEq)]
enum Ropes {
    Uniform(RopeSpec),
    PerLayerType(BTreeMap<String, Option<RopeSpec>>),
}

/// Bases of families that have one rotary embedding for full layers and one for windowed layers.
#[derive(Clone, Copy, Debug)]
pub struct LayerTypeThetas {
    /// Default base of full layers.
    pub full: f64,
    /// Default base of windowed layers.
    pub sliding: f64,
    /// Top-level key of the windowed layers' base in configs of transformers v4.
    pub sliding_key: Option<&'static str>,
}

impl RopeByLayerType {
    /// Reads the config's rope parameters. A family that by default rotates whole heads always does so: a
    /// `partial_rotary_factor` in its config has no effect, as in transformers, where only the families with partial
    /// rotation look at the key. [`read_with`](Self::read_with) honours it in any case.
    ///
    /// # Errors
    /// Parameters that are missing or make no sense.
    pub fn read(
        config: &FamilyConfig<'_>,
        defaults: RopeDefaults,
        head_dim: usize,
        pairing: RopePairing,
    ) -> Result<Self, RegistryError> {
        let rotation = if defaults.partial_rotary_factor == 1.0 { Rotation::Whole } else { Rotation::Partial };
        Self::read_rotation(config, &RopeOptions::from(defaults), head_dim, pairing, rotation)
    }

    /// [`read`](Self::read) for families that rename rope types; the config's `partial_rotary_factor` counts.
    ///
    /// # Errors
    /// Parameters that are missing or make no sense.
    pub fn read_with(
        config: &FamilyConfig<'_>,
        options: &RopeOptions,
        head_dim: usize,
        pairing: RopePairing,
    ) -> Result<Self, RegistryError> {
        Self::read_rotation(config, options, head_dim, pairing, Rotation::Partial)
    }

    /// [`read_with`](Self::read_with) for families that rotate whole heads.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_whole(
        config: &FamilyConfig<'_>,
        options: &RopeOptions,
        head_dim: usize,
        pairing: RopePairing,
    ) -> Result<Self, RegistryError> {
        Self::read_rotation(config, options, head_dim, pairing, Rotation::Whole)
    }

    /// [`read_whole`](Self::read_whole) of the one rotary embedding of all layers, with the values of `options.extra_keys`.
    ///
    /// # Errors
    /// As [`read`](Self::read), and parameters that differ by layer type.
    pub fn read_whole_with_extra(
        config: &FamilyConfig<'_>,
        options: &RopeOptions,
        head_dim: usize,
        pairing: RopePairing,
    ) -> Result<(RopeSpec, BTreeMap<String, serde_json::Value>), RegistryError> {
        let rope = Self::read_whole(config, options, head_dim, pairing)?.uniform()?.clone();
        let extra = match config.rope_parameters_with(options)? {
            ModelRope::Uniform(parameters) => parameters.extra,
            ModelRope::PerLayerType(_) => BTreeMap::new(),
        };
        Ok((rope, extra))
    }

    fn read_rotation(
        config: &FamilyConfig<'_>,
        options: &RopeOptions,
        head_dim: usize,
        pairing: RopePairing,
        rotation: Rotation,
    ) -> Result<Self, RegistryError> {
        let spec = |parameters: RopeParameters| rope_spec(config, &parameters, head_dim, pairing, rotation);
        let ropes = match config.rope_parameters_with(options)? {
            ModelRope::Uniform(parameters) => Ropes::Uniform(spec(parameters)?),
            ModelRope::PerLayerType(by_type) => Ropes::PerLayerType(
                by_type
                    .into_iter()
                    .map(|(layer_type, parameters)| Ok((layer_type, parameters.map(spec).transpose()?)))
                    .collect::<Result<_, RegistryError>>()?,
            ),
        };
        Ok(Self { model_type: config.model_type().to_owned(), ropes })
    }

    /// Reads the rope parameters of families whose full and windowed layers always differ (Gemma 3, OLMo 3): a v4
    /// `rope_theta` and `rope_scaling` belong to the full layers.
    ///
    /// # Errors
    /// Parameters that are missing or make no sense.
    pub fn full_and_sliding(
        config: &FamilyConfig<'_>,
        thetas: &LayerTypeThetas,
        head_dim: usize,
    ) -> Result<Self, RegistryError> {
        let layer = |layer_type, theta, theta_key, takes_rope_scaling| {
            let defaults = RopeDefaults { theta, ..RopeDefaults::default() };
            RopeLayer { layer_type, defaults, theta_key, takes_rope_scaling }
        };
        let layers = [
            layer("full_attention", thetas.full, Some("rope_theta"), true),
            layer("sliding_attention", thetas.sliding, thetas.sliding_key, false),
        ];
        Self::of_layers(config, &layers, &RopeOptions::default(), head_dim, Rotation::Whole)
    }

    /// Reads the rope parameters of families with separate ones for each of `layers`.
    ///
    /// # Errors
    /// Parameters that are missing or make no sense.
    pub fn by_layers(config: &FamilyConfig<'_>, layers: &[RopeLayer], head_dim: usize) -> Result<Self, RegistryError> {
        Self::of_layers(config, layers, &RopeOptions::default(), head_dim, Rotation::Whole)
    }

    /// Reads the rope parameters of families that have a set with defaults of its own for each layer type, nested in `rope_parameters` and
    /// nowhere else, and rotate the part of a head that it says (Laguna, MiMo-V2).
    ///
    /// # Errors
    /// Parameters that are missing or make no sense.
    pub fn by_layer_type(
        config: &FamilyConfig<'_>,
        layers: &[RopeLayer],
        head_dim: usize,
    ) -> Result<Self, RegistryError> {
        Self::of_layers(config, layers, &RopeOptions::default(), head_dim, Rotation::Partial)
    }

    fn of_layers(
        config: &FamilyConfig<'_>,
        layers: &[RopeLayer],
        options: &RopeOptions,
        head_dim: usize,
        rotation: Rotation,
    ) -> Result<Self, RegistryError> {
        let spec = |(layer_type, parameters)| {
            let rope = rope_spec(config, &parameters, head_dim, RopePairing::HalfSplit, rotation)?;
            Ok((layer_type, Some(rope)))
        };
        let by_type = config.rope_parameters_by_layer_type(layers, options)?;
        let ropes = by_type.into_iter().map(spec).collect::<Result<_, RegistryError>>()?;
        Ok(Self { model_type: config.model_type().to_owned(), ropes: Ropes::PerLayerType(ropes) })
    }

    /// The one rotary embedding of all layers.
    ///
    /// # Errors
    /// If they differ by layer type.
    pub fn uniform(&self) -> Result<&RopeSpec, RegistryError> {
        match &self.ropes {
            Ropes::Uniform(rope) => Ok(rope),
            Ropes::PerLayerType(_) => Err(RegistryError::InconsistentConfig {
                model_type: self.model_type.clone(),
                problem: "rope_parameters are nested by layer type, but this family has one rotary embedding for all layers: \
                          give one set of parameters"
                    .to_owned(),
            }),
        }
    }

    /// The rotary embedding of a layer type; `None` for layers without.
    ///
    /// # Errors
    /// If rope parameters are given by layer type and none for this one.
    pub fn of(&self, layer_type: &str) -> Result<Option<RopeSpec>, RegistryError> {
        match &self.ropes {
            Ropes::Uniform(rope) => Ok(Some(rope.clone())),
            Ropes::PerLayerType(by_type) => {
                by_type.get(layer_type).cloned().ok_or_else(|| RegistryError::InconsistentConfig {
                    model_type: self.model_type.clone(),
                    problem: format!(
                        "rope_parameters has no entry for layer type `{layer_type}`, only for {}: add one",
                        by_type.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
                    ),
                })
            }
        }
    }
}

/// What a family does with `partial_rotary_factor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rotation {
    /// Rotates whole heads.
    Whole,
    /// Rotates the part of a head that it says.
    Partial,
}

fn rope_spec(
    config: &FamilyConfig<'_>,
    parameters: &RopeParameters,
    head_dim: usize,
    pairing: RopePairing,
    rotation: Rotation,
) -> Result<RopeSpec, RegistryError> {
    let part = (head_dim as f64 * parameters.partial_rotary_factor) as usize;
    let rotary_dim = match (&parameters.rope_type, rotation) {
        // The frequencies span the whole head in every family; beyond the part they are zero.
        (RopeType::Proportional { .. }, _) => part - part % 2,
        (_, Rotation::Partial) => part,
        (RopeType::Default, Rotation::Whole) => head_dim,
        (_, Rotation::Whole) => {
            check_whole_rotation(config, parameters, part == head_dim)?;
            head_dim
        }
    };
    if let RopeType::Dynamic { .. } = parameters.rope_type
        && let Some(theta) = stretched_theta(config, parameters, head_dim)?
    {
        return Ok(RopeSpec { theta, rotary_dim, pairing, scaling: RopeScaling::Default });
    }
    let attention_factor = parameters.rope_type.attention_factor();
    let scaling = match parameters.rope_type.clone() {
        RopeType::Default => RopeScaling::Default,
        RopeType::Linear { factor } => RopeScaling::Linear { factor },
        RopeType::Dynamic { factor, original_max_position_embeddings } => {
            RopeScaling::Dynamic { factor, original_max_position_embeddings }
        }
        RopeType::Yarn { factor, beta_fast, beta_slow, truncate, original_max_position_embeddings, .. } => {
            RopeScaling::Yarn(YarnRope {
                factor,
                beta_fast,
                beta_slow,
                original_max_position_embeddings,
                attention_factor,
                truncate,
            })
        }
        RopeType::LongRope { short_factor, long_factor, original_max_position_embeddings, .. } => {
            for (name, factors) in [("short_factor", &short_factor), ("long_factor", &long_factor)] {
                if factors.len() != rotary_dim / 2 {
                    let problem = format!(
                        "{name} has {} entries, but {} pairs of a head rotate: the numbers must be equal",
                        factors.len(),
                        rotary_dim / 2
                    );
                    let model_type = config.model_type().to_owned();
                    return Err(RegistryError::InconsistentConfig { model_type, problem });
                }
            }
            RopeScaling::LongRope(LongRope {
                short_factor,
                long_factor,
                original_max_position_embeddings,
                attention_factor,
                long_attention_factor: None,
                cache_valid_to: None,
            })
        }
        RopeType::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings }
        }
        RopeType::Proportional { factor } => RopeScaling::Proportional { factor, head_dim },
        other => {
            return Err(RegistryError::UnsupportedSetting {
                model_type: config.model_type().to_owned(),
                key: "rope_type".to_owned(),
                value: format!("\"{}\"", other.name()),
                reason: "this registry does not know it".to_owned(),
            });
        }
    };
    Ok(RopeSpec { theta: parameters.theta, rotary_dim, pairing, scaling })
}

/// The base of `dynamic` parameters with a fixed `alpha`, where a family reads that: it does not follow the length
/// (`compute_ntk_alpha_rope_parameters` of transformers).
fn stretched_theta(
    config: &FamilyConfig<'_>,
    parameters: &RopeParameters,
    head_dim: usize,
) -> Result<Option<f64>, RegistryError> {
    let Some(alpha) = parameters.extra.get(FIXED_NTK_ALPHA) else { return Ok(None) };
    // Falsy in Python: zero counts as not given.
    if alpha.as_f64() == Some(0.0) {
        return Ok(None);
    }
    let width = head_dim as f64;
    let stretched = |alpha: f64| parameters.theta * alpha.powf(width / (width - 2.0));
    match alpha.as_f64().filter(|_| width > 2.0).map(stretched).filter(|theta| (1e-6..=1e15).contains(theta)) {
        Some(theta) => Ok(Some(theta)),
        None => Err(config.inconsistent(format!(
            "alpha of the rope parameters makes no base of frequencies from rope_theta {} and heads of {head_dim}: correct it",
            parameters.theta
        ))),
    }
}

/// Scaled frequencies follow `partial_rotary_factor` in every family, so that transformers cannot run one that then rotates
/// whole heads.
fn check_whole_rotation(
    config: &FamilyConfig<'_>,
    parameters: &RopeParameters,
    is_whole: bool,
) -> Result<(), RegistryError> {
    if is_whole {
        return Ok(());
    }
    let problem = format!(
        "partial_rotary_factor is {} with rope_type {}, but this family rotates whole heads: remove the key",
        parameters.partial_rotary_factor,
        parameters.rope_type.name()
    );
    Err(RegistryError::InconsistentConfig { model_type: config.model_type().to_owned(), problem })
}
