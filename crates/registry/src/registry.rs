//! All that is known of implementations, and the decision between them.

use crate::custom::{AcceptedOptions, BUILTIN_RULES, CompatibilityRule, CustomImplementation};
use crate::resolution::{Considered, Implementation, Resolution, ResolveOptions};
use crate::{Family, RegistryError, families, lineage, spec::ModelSpec, weights::WeightMap, wrapper};
use automodel_config::{ClassDefaults, RawConfig, ResolvedConfig};
use std::collections::BTreeMap;

/// Families, custom implementations and compatibility rules.
///
/// ```
/// use automodel_config::{Overrides, RawConfig};
/// use automodel_registry::{Registry, ResolveOptions};
///
/// let registry = Registry::builtin();
/// let raw = RawConfig::from_str(r#"{"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}"#)?;
/// let config = raw.clone().resolve(registry.class_defaults(&raw)?, &Overrides::new())?;
/// let resolution = registry.resolve(&config, &ResolveOptions::default())?;
/// let lowered = registry.lower(&config, &resolution)?;
/// assert_eq!(lowered.spec.expect("families have a spec").layers.len(), 32);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Registry {
    families: BTreeMap<String, Family>,
    custom: Vec<(CustomImplementation, Origin)>,
    rules: Vec<CompatibilityRule>,
}

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

/// A config lowered for the implementation that serves it.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// The mathematics; `None` where a custom implementation keeps it to itself.
    pub spec: Option<ModelSpec>,
    /// Where the checkpoint keeps the parameters.
    pub weights: WeightMap,
}

impl Registry {
    /// A registry that knows nothing.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Every built-in family and rule.
    pub fn builtin() -> Self {
        let families = families::BUILTIN.iter().map(|family| (family.model_type.to_owned(), **family)).collect();
        Self { families, custom: Vec::new(), rules: BUILTIN_RULES.to_vec() }
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

    /// Every custom implementation, those that count first in front.
    pub fn custom_implementations(&self) -> impl Iterator<Item = &CustomImplementation> {
        self.custom.iter().map(|(implementation, _)| implementation)
    }

    /// Custom implementations with a tag.
    pub fn tagged<'a>(&'a self, tag: &'a str) -> impl Iterator<Item = &'a CustomImplementation> {
        self.custom_implementations().filter(move |implementation| implementation.tags.contains(&tag))
    }

    /// What the config class of `raw` assumes for absent keys: that of a custom implementation for its `model_type`, else
    /// the family's.
    ///
    /// # Errors
    /// [`RegistryError::UnsupportedArchitecture`] for a model type that nobody knows.
    pub fn class_defaults(&self, raw: &RawConfig) -> Result<&'static ClassDefaults, RegistryError> {
        let model_type = model_type_of(raw)?;
        let custom = self.custom.iter().find(|(implementation, _)| implementation.model_type == model_type);
        if let Some((implementation, _)) = custom {
            return Ok(implementation.defaults);
        }
        match self.families.get(model_type) {
            Some(family) => Ok(family.defaults),
            None => Err(self.unsupported(model_type, raw.architectures())),
        }
    }

    /// Chooses the implementation for `config` and keeps the reason.
    ///
    /// Custom before generic, unless the generic one is forced; a custom implementation must be registered for
    /// `architectures[0]`, pass its compatibility rule and not decline.
    ///
    /// # Errors
    /// [`RegistryError::UnsupportedArchitecture`] if neither serves it.
    pub fn resolve(&self, config: &ResolvedConfig, options: &ResolveOptions) -> Result<Resolution, RegistryError> {
        let model_type = effective_model_type(config.model_type(), config.peek("layer_types"));
        let architecture = config.architectures().first().cloned();
        let mut considered = Vec::new();
        if let Some(chosen) = self.choose_custom(config, architecture.as_deref(), options, &mut considered) {
            return Ok(Resolution {
                architecture,
                model_type: model_type.to_owned(),
                reason: format!(
                    "the custom implementation `{}` is registered for `{}` and compatible with this config",
                    chosen.name, chosen.architecture
                ),
                implementation: Implementation::Custom { name: chosen.name.to_owned() },
                considered,
            });
        }
        let Some(family) = self.families.get(model_type) else {
            return Err(self.unsupported(model_type, config.architectures().to_vec()));
        };
        let why = considered.last().map_or_else(
            || "no custom implementation is registered for it".to_owned(),
            |last: &Considered| format!("`{}`: {}", last.name, last.verdict),
        );
        Ok(Resolution {
            reason: format!("the generic decoder serves model type `{model_type}` ({why})"),
            implementation: Implementation::Generic { family: family.model_type.to_owned() },
            architecture,
            model_type: model_type.to_owned(),
            considered,
        })
    }

    fn choose_custom(
        &self,
        config: &ResolvedConfig,
        architecture: Option<&str>,
        options: &ResolveOptions,
        considered: &mut Vec<Considered>,
    ) -> Option<&CustomImplementation> {
        let architecture = architecture?;
        let rule = self.rules.iter().rev().find(|rule| rule.architecture == architecture);
        let mut note = |name: &str, verdict: String| considered.push(Considered { name: name.to_owned(), verdict });
        let mut registered = false;
        for (candidate, _) in self.custom.iter().filter(|(known, _)| known.architecture == architecture) {
            registered = true;
            if options.force_generic {
                note(candidate.name, "the generic implementation was forced".to_owned());
            } else if let Some(rule) = rule.filter(|rule| !rule.fits(config)) {
                note(candidate.name, format!("not compatible: {}", rule.reason));
            } else if let Some(Err(reason)) = candidate.supports.map(|supports| supports(config)) {
                note(candidate.name, format!("declined: {reason}"));
            } else {
                note(candidate.name, "chosen".to_owned());
                return Some(candidate);
            }
        }
        if let Some(rule) = rule.filter(|_| !registered) {
            let verdict = if rule.fits(config) { "compatible" } else { "not compatible" };
            note(architecture, format!("config {verdict} by rule, but no custom implementation is registered for it"));
        }
        None
    }

    /// Lowers `config` for the implementation that was chosen, and checks that every key was read.
    ///
    /// # Errors
    /// What the family or the custom implementation finds wrong with the config.
    pub fn lower(&self, config: &ResolvedConfig, resolution: &Resolution) -> Result<Lowered, RegistryError> {
        match &resolution.implementation {
            Implementation::Custom { name } => {
                let implementation = self.custom_named(name).ok_or_else(|| RegistryError::CustomLowering {
                    implementation: name.clone(),
                    reason: "it is not in this registry".to_owned(),
                })?;
                Ok(Lowered { spec: None, weights: (implementation.weight_map)(config)? })
            }
            Implementation::Generic { family } => {
                let family = self
                    .families
                    .get(family)
                    .ok_or_else(|| self.unsupported(config.model_type(), config.architectures().to_vec()))?;
                let spec = (family.lower)(config)?;
                family.ignored_keys.iter().for_each(|key| config.mark_read(key));
                wrapper::check(config, &spec)?;
                let mut weights = family.layout.weight_map(&spec);
                weights.prefixes.splice(0..0, wrapper::prefix(config));
                Ok(Lowered { spec: Some(spec), weights })
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
            missing: lineage::missing(model_type),
            nearest: lineage::misspelt(model_type, known),
            model_type: model_type.to_owned(),
            architectures,
            checkpoint: None,
        }
    }
}

fn model_type_of(raw: &RawConfig) -> Result<&str, RegistryError> {
    let model_type = raw.model_type();
    let model_type = model_type
        .map_err(|source| RegistryError::Config { model_type: "(missing)".to_owned(), source: Box::new(source) })?;
    Ok(effective_model_type(model_type, raw.get("layer_types")))
}

/// transformers reads a Mistral config with layer types as Ministral (configuration_auto.py).
fn effective_model_type<'a>(model_type: &'a str, layer_types: Option<&serde_json::Value>) -> &'a str {
    let has_layer_types = layer_types.is_some_and(|value| !value.is_null());
    if model_type == "mistral" && has_layer_types { "ministral" } else { model_type }
}
