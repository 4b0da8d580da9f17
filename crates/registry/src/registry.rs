//! All that is known of implementations, and the decision between them.

use crate::custom::{AcceptedOptions, BUILTIN_RULES, CompatibilityRule, CustomImplementation};
use crate::resolution::{Considered, Implementation, Resolution, ResolveOptions};
use crate::{
    Composite, Family, FamilyConfig, RegistryError, families, spec::ModelSpec, unsupported, weights::WeightMap, wrapper,
};
use automodel_config::{ClassDefaults, Overrides, RawConfig, ResolvedConfig};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Families, custom implementations and compatibility rules.
///
/// ```
/// use automodel_config::{Overrides, RawConfig};
/// use automodel_registry::{Registry, ResolveOptions};
///
/// let registry = Registry::builtin();
/// let raw = RawConfig::from_str(r#"{"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}"#)?;
/// let (config, resolution) = registry.resolve_config(&raw, &Overrides::new(), &ResolveOptions::default())?;
/// let lowered = registry.lower(&config, &resolution)?;
/// assert_eq!(lowered.spec.expect("families have a spec").backbone.layers.len(), 32);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Registry {
    families: BTreeMap<String, Family>,
    /// Those of the families that no class in transformers is the truth for.
    remote: BTreeSet<String>,
    custom: Vec<(CustomImplementation, Origin)>,
    rules: Vec<CompatibilityRule>,
}

/// Parameters that a config may describe without a checkpoint that has them: more than the experts of the largest supported
/// models, whose weight map takes some 30 MB.
pub const MOST_PARAMETERS: usize = 65_536;

/// Parameters that one tensor of a checkpoint may stand for on average: the experts of a layer may be one tensor.
const PARAMETERS_OF_A_TENSOR: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Builtin,
    Registered,
}

/// Whether a registration may take another's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// A name that is taken is an error. Built-in entries give way all the same.
    New,
    /// Takes the place of an entry of the same name.
    Replace,
}

/// A config lowered for the implementation that supports it.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// The mathematics; `None` where a custom implementation keeps it to itself.
    pub spec: Option<ModelSpec>,
    /// Where the checkpoint keeps the parameters.
    pub weights: WeightMap,
    /// The larger model that the text model is a part of.
    pub composite: Option<Composite>,
}

impl Registry {
    /// A registry that knows nothing.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Every built-in family and rule.
    pub fn builtin() -> Self {
        let remote = families::remote::FAMILIES;
        let all = families::BUILTIN.iter().chain(remote);
        Self {
            families: all.map(|family| (family.model_type.to_owned(), **family)).collect(),
            remote: remote.iter().map(|family| family.model_type.to_owned()).collect(),
            custom: Vec::new(),
            rules: BUILTIN_RULES.to_vec(),
        }
    }

    /// Adds a family.
    ///
    /// # Errors
    /// [`RegistryError::DuplicateRegistration`] if the model type is taken by an earlier registration or a built-in family
    /// and replacing was not asked for.
    pub fn register_family(&mut self, family: Family, registration: Registration) -> Result<(), RegistryError> {
        if registration == Registration::New && self.families.contains_key(family.model_type) {
            return Err(RegistryError::DuplicateRegistration { what: "family", name: family.model_type.to_owned() });
        }
        self.families.insert(family.model_type.to_owned(), family);
        self.remote.remove(family.model_type);
        Ok(())
    }

    /// Adds a custom implementation. It counts before every built-in one of its architecture.
    ///
    /// # Errors
    /// [`RegistryError::DuplicateRegistration`] if the architecture has one that was registered before and replacing was
    /// not asked for.
    pub fn register_custom(
        &mut self,
        implementation: CustomImplementation,
        registration: Registration,
    ) -> Result<(), RegistryError> {
        let taken = self.custom.iter().position(|(known, origin)| {
            known.architecture == implementation.architecture && *origin == Origin::Registered
        });
        match (taken, registration) {
            (Some(_), Registration::New) => Err(RegistryError::DuplicateRegistration {
                what: "custom implementation of architecture",
                name: implementation.architecture.to_owned(),
            }),
            (Some(index), Registration::Replace) => {
                self.custom[index] = (implementation, Origin::Registered);
                Ok(())
            }
            (None, _) => {
                self.custom.insert(0, (implementation, Origin::Registered));
                Ok(())
            }
        }
    }

    /// Adds an implementation that ships with a library on top of this one; a run-time registration overrides it.
    pub fn with_builtin_custom(mut self, implementation: CustomImplementation) -> Self {
        self.custom.push((implementation, Origin::Builtin));
        self
    }

    /// Adds a compatibility rule; the last one of an architecture counts.
    pub fn add_rule(&mut self, rule: CompatibilityRule) {
        self.rules.push(rule);
    }

    /// Every family, by model type.
    pub fn families(&self) -> impl Iterator<Item = &Family> {
        self.families.values()
    }

    /// What a user should know of the family of a model type: that transformers has no class for it, and that the code which its
    /// checkpoints come with was not consulted.
    pub fn remark(&self, model_type: &str) -> Option<&'static str> {
        self.remote.contains(model_type).then_some(families::remote::REMARK)
    }

    /// Every custom implementation, those that count first in front.
    pub fn custom_implementations(&self) -> impl Iterator<Item = &CustomImplementation> {
        self.custom.iter().map(|(implementation, _)| implementation)
    }

    /// Custom implementations with a tag.
    pub fn tagged<'a>(&'a self, tag: &'a str) -> impl Iterator<Item = &'a CustomImplementation> {
        self.custom_implementations().filter(move |implementation| implementation.tags.contains(&tag))
    }

    /// Resolves `raw` for the implementation that supports it, and says which one that is: custom before generic, each judged
    /// by the config as its own class defaults complete it, so that one that is not chosen changes nothing. Of a model around a
    /// text model, the text model's config is resolved ([`unwrap_text_model`](crate::unwrap_text_model)).
    ///
    /// A model type that `options` assume is taken in place of the config's own, and no custom implementation is then considered.
    ///
    /// A custom implementation must be registered for `architectures[0]`, pass its compatibility rule and not decline. Its
    /// class defaults count where its `model_type` is the config's; elsewhere those of the family do.
    ///
    /// # Errors
    /// [`RegistryError::UnsupportedArchitecture`] if nothing supports it, [`RegistryError::Config`] if it cannot be resolved.
    pub fn resolve_config(
        &self,
        raw: &RawConfig,
        overrides: &Overrides,
        options: &ResolveOptions,
    ) -> Result<(ResolvedConfig, Resolution), RegistryError> {
        let raw = &wrapper::unwrap_text_model(raw.clone().with_class_overrides(overrides));
        let model_type = model_type_of(raw)?.to_owned();
        let assumed = options.assume_model_type.as_deref().filter(|assumed| *assumed != model_type);
        let resolve = |defaults: &ClassDefaults| {
            raw.clone()
                .resolve(defaults, overrides)
                .map_err(|source| RegistryError::Config { model_type: model_type.clone(), source: Box::new(source) })
        };
        if let Some(assumed) = assumed {
            let family = self.assumed_family(assumed, raw.get("layer_types"))?;
            let config = resolve(family.defaults)?;
            let resolution = Resolution::assumed(family.model_type, &model_type, &config);
            return Ok((config, resolution));
        }
        let family = self.families.get(&model_type);
        let of_family = family.map(|family| resolve(family.defaults));
        let own_defaults = |known: &CustomImplementation| known.model_type == model_type;

        let mut considered = Vec::new();
        let mut refused = None;
        for candidate in self.custom_implementations().filter(|known| own_defaults(known) || family.is_some()) {
            let config = match (&of_family, own_defaults(candidate)) {
                (Some(config), false) => config.as_ref().ok().cloned(),
                _ => match resolve(candidate.defaults) {
                    Ok(config) => Some(config),
                    Err(error) => {
                        refused.get_or_insert(error);
                        None
                    }
                },
            };
            let Some(config) = config.filter(|config| is_registered_for(candidate, config)) else { continue };
            match self.judge(candidate, &config, options) {
                Ok(()) => {
                    considered.push(Considered::new(candidate, "chosen".to_owned()));
                    let resolution = Resolution::custom(candidate, &config, &model_type, considered);
                    return Ok((config, resolution));
                }
                Err(verdict) => considered.push(Considered::new(candidate, verdict)),
            }
        }
        match of_family {
            Some(config) => {
                let config = config?;
                let resolution = self.generic(&config, &model_type, considered)?;
                Ok((config, resolution))
            }
            None => Err(refused.unwrap_or_else(|| self.unsupported(&model_type, raw.architectures()))),
        }
    }

    /// What the config class of the implementation that supports `raw` assumes for absent keys, see
    /// [`resolve_config`](Self::resolve_config); where none does, what an implementation of its `model_type` assumes.
    ///
    /// # Errors
    /// [`RegistryError::UnsupportedArchitecture`] for a model type that nobody knows.
    pub fn class_defaults(&self, raw: &RawConfig) -> Result<&'static ClassDefaults, RegistryError> {
        let model_type = model_type_of(raw)?;
        let own = || self.custom_implementations().find(|known| known.model_type == model_type);
        let chosen = self.resolve_config(raw, &Overrides::new(), &ResolveOptions::default()).ok();
        let chosen = chosen.and_then(|(_, resolution)| match resolution.implementation {
            Implementation::Custom { name } => self.custom_named(&name).filter(|known| known.model_type == model_type),
            Implementation::Generic { .. } => None,
        });
        match (chosen, self.families.get(model_type)) {
            (Some(custom), _) => Ok(custom.defaults),
            (None, Some(family)) => Ok(family.defaults),
            (None, None) => match own() {
                Some(custom) => Ok(custom.defaults),
                None => Err(self.unsupported(model_type, raw.architectures())),
            },
        }
    }

    /// Chooses the implementation for `config`, which is resolved already, and keeps the reason.
    ///
    /// As [`resolve_config`](Self::resolve_config), but that all are judged by the same config.
    ///
    /// # Errors
    /// [`RegistryError::UnsupportedArchitecture`] if neither supports it.
    pub fn resolve(&self, config: &ResolvedConfig, options: &ResolveOptions) -> Result<Resolution, RegistryError> {
        let model_type = families::effective_model_type(config.model_type(), config.peek("layer_types"));
        if let Some(assumed) = options.assume_model_type.as_deref().filter(|assumed| *assumed != model_type) {
            let family = self.assumed_family(assumed, config.peek("layer_types"))?;
            return Ok(Resolution::assumed(family.model_type, model_type, config));
        }
        let mut considered = Vec::new();
        for candidate in self.custom_implementations().filter(|known| is_registered_for(known, config)) {
            match self.judge(candidate, config, options) {
                Ok(()) => {
                    considered.push(Considered::new(candidate, "chosen".to_owned()));
                    return Ok(Resolution::custom(candidate, config, model_type, considered));
                }
                Err(verdict) => considered.push(Considered::new(candidate, verdict)),
            }
        }
        self.generic(config, model_type, considered)
    }

    /// Whether a custom implementation supports a config of its architecture; the error is why not.
    fn judge(
        &self,
        candidate: &CustomImplementation,
        config: &ResolvedConfig,
        options: &ResolveOptions,
    ) -> Result<(), String> {
        if options.force_generic {
            return Err("the generic implementation was forced".to_owned());
        }
        if let Some(rule) = self.rule_of(candidate.architecture).filter(|rule| !rule.fits(config)) {
            return Err(format!("not compatible: {}", rule.reason));
        }
        candidate.supports.map_or(Ok(()), |supports| supports(config)).map_err(|reason| format!("declined: {reason}"))
    }

    fn rule_of(&self, architecture: &str) -> Option<&CompatibilityRule> {
        self.rules.iter().rev().find(|rule| rule.architecture == architecture)
    }

    /// The generic decoder, after custom implementations were considered.
    fn generic(
        &self,
        config: &ResolvedConfig,
        model_type: &str,
        mut considered: Vec<Considered>,
    ) -> Result<Resolution, RegistryError> {
        let architecture = config.architectures().first().cloned();
        if considered.is_empty()
            && let Some(architecture) = &architecture
            && let Some(rule) = self.rule_of(architecture)
        {
            let verdict = if rule.fits(config) { "compatible" } else { "not compatible" };
            let verdict = format!("config {verdict} by rule, but no custom implementation is registered for it");
            considered.push(Considered { name: architecture.clone(), verdict });
        }
        let Some(family) = self.families.get(model_type) else {
            return Err(self.unsupported(model_type, config.architectures().to_vec()));
        };
        let why = considered.last().map_or_else(
            || "no custom implementation is registered for it".to_owned(),
            |last: &Considered| format!("`{}`: {}", last.name, last.verdict),
        );
        Ok(Resolution {
            reason: format!("the generic decoder supports model type `{model_type}` ({why})"),
            implementation: Implementation::Generic { family: family.model_type.to_owned() },
            architecture,
            model_type: model_type.to_owned(),
            remark: self.remark(family.model_type).map(str::to_owned),
            considered,
            assumed: None,
        })
    }

    /// The family that a caller assumes.
    fn assumed_family(&self, assumed: &str, layer_types: Option<&Value>) -> Result<&Family, RegistryError> {
        let name = families::effective_model_type(assumed, layer_types);
        self.families.get(name).ok_or_else(|| RegistryError::UnknownAssumption {
            model_type: assumed.to_owned(),
            nearest: unsupported::misspelt(assumed, self.families.keys().map(String::as_str)),
        })
    }

    /// Lowers `config` for the implementation that was chosen.
    ///
    /// # Errors
    /// What the family or the custom implementation finds wrong with the config, and
    /// [`RegistryError::TooManyParameters`] for more of them than [`MOST_PARAMETERS`](crate::MOST_PARAMETERS).
    pub fn lower(&self, config: &ResolvedConfig, resolution: &Resolution) -> Result<Lowered, RegistryError> {
        self.lower_for(config, resolution, 0)
    }

    /// [`lower`](Self::lower) for a checkpoint of `tensors` tensors, which raise the limit on parameters: a config
    /// cannot make the weight map larger than the files that fill it.
    ///
    /// # Errors
    /// As [`lower`](Self::lower).
    pub fn lower_for(
        &self,
        config: &ResolvedConfig,
        resolution: &Resolution,
        tensors: usize,
    ) -> Result<Lowered, RegistryError> {
        match &resolution.implementation {
            Implementation::Custom { name } => {
                let implementation = self.custom_named(name).ok_or_else(|| RegistryError::CustomLowering {
                    implementation: name.clone(),
                    reason: "it is not in this registry".to_owned(),
                })?;
                let weights = (implementation.weight_map)(config)?;
                Ok(Lowered { spec: None, weights, composite: Composite::of(config) })
            }
            Implementation::Generic { family } => {
                let family = self
                    .families
                    .get(family)
                    .ok_or_else(|| self.unsupported(config.model_type(), config.architectures().to_vec()))?;
                let spec = (family.lower)(&FamilyConfig::new(config))?;
                family.ignored_keys.iter().for_each(|key| config.mark_read(key));
                check_count(config, family.layout.piece_count(&spec), tensors)?;
                wrapper::check(config, &spec)?;
                let mut weights = family.layout.weight_map(&spec);
                let composite = Composite::of(config);
                let renamings = composite.iter().flat_map(Composite::renamings);
                let own: Vec<_> = renamings.filter(|renaming| !weights.prefixes.contains(renaming)).collect();
                weights.prefixes.splice(0..0, own);
                Ok(Lowered { spec: Some(spec), weights, composite })
            }
        }
    }

    /// Options of the implementation that `resolution` chose; the generic decoder has none of its own.
    pub fn accepted_options(&self, resolution: &Resolution) -> AcceptedOptions {
        match &resolution.implementation {
            Implementation::Custom { name } => {
                self.custom_named(name).map_or(AcceptedOptions::Named(&[]), |implementation| implementation.options)
            }
            Implementation::Generic { .. } => AcceptedOptions::Named(&[]),
        }
    }

    fn custom_named(&self, name: &str) -> Option<&CustomImplementation> {
        self.custom_implementations().find(|implementation| implementation.name == name)
    }

    fn unsupported(&self, model_type: &str, architectures: Vec<String>) -> RegistryError {
        let known = self.families.keys().map(String::as_str).chain(self.custom_implementations().map(|c| c.model_type));
        RegistryError::UnsupportedArchitecture {
            missing: unsupported::missing(model_type),
            nearest: unsupported::misspelt(model_type, known).into(),
            model_type: model_type.to_owned(),
            architectures,
            checkpoint: None,
            similar: Box::default(),
        }
    }
}

/// Whether a custom implementation is for the config's architecture.
fn is_registered_for(candidate: &CustomImplementation, config: &ResolvedConfig) -> bool {
    config.architectures().first().is_some_and(|architecture| architecture == candidate.architecture)
}

/// Refuses a weight map that would be out of proportion to the files it is for.
fn check_count(config: &ResolvedConfig, parameters: usize, tensors: usize) -> Result<(), RegistryError> {
    let most = MOST_PARAMETERS.saturating_add(tensors.saturating_mul(PARAMETERS_OF_A_TENSOR));
    if parameters <= most {
        return Ok(());
    }
    Err(RegistryError::TooManyParameters { model_type: config.model_type().to_owned(), parameters, tensors })
}

fn model_type_of(raw: &RawConfig) -> Result<&str, RegistryError> {
    let model_type = raw.model_type();
    let model_type = model_type
        .map_err(|source| RegistryError::Config { model_type: "(missing)".to_owned(), source: Box::new(source) })?;
    Ok(families::effective_model_type(model_type, raw.get("layer_types")))
}
