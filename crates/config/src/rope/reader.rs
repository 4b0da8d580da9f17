//! Reads one set of rope parameters, key by key.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{RopeOptions, RopeParameters, RopeType};
use crate::{ConfigError, ConfigWarning, Origin, ResolvedConfig, ranges, typed};

const KNOWN_TYPES: &[&str] = &["default", "linear", "dynamic", "yarn", "longrope", "llama3", "proportional"];

type Result<T> = std::result::Result<T, ConfigError>;

pub(super) struct RopeReader<'a> {
    config: &'a ResolvedConfig,
    /// Dotted keys of the objects with the parameters; the first that has a key counts.
    objects: Vec<String>,
    /// The object around nested ones.
    around: Option<&'a str>,
    theta_key: Option<&'a str>,
    /// Whether `type` replaces an absent `rope_type`.
    older_type_name: bool,
    options: &'a RopeOptions,
}

impl<'a> RopeReader<'a> {
    /// Parameters that hold for all layers.
    pub(super) fn new(config: &'a ResolvedConfig, objects: Vec<String>, options: &'a RopeOptions) -> Self {
        Self { config, objects, around: None, theta_key: Some(options.theta_key), older_type_name: true, options }
    }

    /// Parameters of one layer type.
    pub(super) fn nested(
        config: &'a ResolvedConfig,
        objects: Vec<String>,
        around: &'a str,
        options: &'a RopeOptions,
    ) -> Self {
        Self { around: Some(around), ..Self::new(config, objects, options) }
    }

    pub(super) fn with_theta_key(self, theta_key: Option<&'a str>) -> Self {
        Self { theta_key, ..self }
    }

    pub(super) fn with_older_type_name(self, older_type_name: bool) -> Self {
        Self { older_type_name, ..self }
    }

    pub(super) fn parameters(&self) -> Result<RopeParameters> {
        let rope_type = self.rope_type()?;
        let parameters = RopeParameters {
            theta: self.theta()?,
            partial_rotary_factor: self.partial_rotary_factor()?,
            extra: self.extra(),
            rope_type,
        };
        self.settle_unused_keys(parameters.rope_type.name());
        Ok(parameters)
    }

    fn rope_type(&self) -> Result<RopeType> {
        let text = |value: &'a Value| value.as_str();
        let older = if self.older_type_name { self.optional("type", "a string or null", text)? } else { None };
        let given = self.optional("rope_type", "a string or null", text)?.or(older).unwrap_or("default");
        let aliases = self.options.type_aliases;
        let name = aliases.iter().find(|(alias, _)| *alias == given).map_or(given, |(_, name)| *name);
        Ok(match name {
            "default" => RopeType::Default,
            "linear" => RopeType::Linear { factor: self.factor()? },
            "dynamic" => RopeType::Dynamic {
                factor: self.factor()?,
                original_max_position_embeddings: self.config.usize("max_position_embeddings")?,
            },
            "yarn" => self.yarn()?,
            "longrope" => self.longrope()?,
            "llama3" => RopeType::Llama3 {
                factor: self.factor()?,
                low_freq_factor: self.number("low_freq_factor")?,
                high_freq_factor: self.number("high_freq_factor")?,
                original_max_position_embeddings: self.original_length()?,
            },
            "proportional" => RopeType::Proportional { factor: self.number_or_null("factor")?.unwrap_or(1.0) },
            unknown => {
                return Err(ConfigError::UnknownRopeType {
                    key: self.path("rope_type").or_else(|| self.path("type")).unwrap_or_else(|| "rope_type".into()),
                    rope_type: unknown.chars().take(80).collect(),
                    known: KNOWN_TYPES,
                    location: self.config.location(),
                });
            }
        })
    }

    fn yarn(&self) -> Result<RopeType> {
        // `_compute_yarn_parameters` evaluates `x or default`, so 0 counts as null.
        let or = |value: Option<f64>, default: f64| value.filter(|value| *value != 0.0).unwrap_or(default);
        // The key is required, but may be null.
        if self.path("factor").is_none() {
            return Err(self.missing("factor"));
        }
        let original_max_position_embeddings = self.original_length()?;
        let factor = match self.number_or_null("factor")? {
            Some(factor) => factor,
            None => self.growth(original_max_position_embeddings)?,
        };
        Ok(RopeType::Yarn {
            factor,
            attention_factor: self.number_or_null("attention_factor")?,
            beta_fast: or(self.number_or_null("beta_fast")?, 32.0),
            beta_slow: or(self.number_or_null("beta_slow")?, 1.0),
            mscale: self.number_or_null("mscale")?,
            mscale_all_dim: self.number_or_null("mscale_all_dim")?,
            truncate: self.truncate()?,
            original_max_position_embeddings,
        })
    }

    /// Transformers looks for `truncate` in the outer object even when the parameters are nested.
    fn truncate(&self) -> Result<bool> {
        let path = match self.around {
            Some(around) => Some(format!("{around}.truncate")).filter(|path| self.config.peek(path).is_some()),
            None => self.path("truncate"),
        };
        path.map_or(Ok(true), |path| self.config.bool(&path))
    }

    fn longrope(&self) -> Result<RopeType> {
        let original_max_position_embeddings = self.original_length()?;
        let factor = match self.number_or_null("factor")? {
            Some(factor) => factor,
            None => self.growth(original_max_position_embeddings)?,
        };
        Ok(RopeType::LongRope {
            short_factor: self.divisors("short_factor")?,
            long_factor: self.divisors("long_factor")?,
            factor,
            attention_factor: self.number_or_null("attention_factor")?,
            original_max_position_embeddings,
        })
    }

    fn factor(&self) -> Result<f64> {
        let factor = self.number("factor")?;
        if factor < 1.0
            && let Some(key) = self.path("factor")
        {
            self.config.warn(ConfigWarning::SmallRopeFactor { key });
        }
        Ok(factor)
    }

    /// `max_position_embeddings` over the length of the pre-training.
    fn growth(&self, original_length: usize) -> Result<f64> {
        Ok(self.config.usize("max_position_embeddings")? as f64 / original_length as f64)
    }

    /// `original_max_position_embeddings`: for parameters of all layers a top-level one wins (Phi-3 writes it there);
    /// without one, `max_position_embeddings`.
    fn original_length(&self) -> Result<usize> {
        let key = "original_max_position_embeddings";
        let range = ranges::of_size(key);
        let size = |value: &Value| typed::count(value).filter(|size| range.contains(*size));
        let inner = self.optional(key, &typed::integers(range, " or null"), size)?;
        let is_override = |path: &str| self.config.origin(path) == Some(&Origin::Override);
        let inner_is_override = self.path(key).is_some_and(|path| is_override(&path));
        let outer = match self.around {
            None if !inner_is_override || is_override(key) => self.config.usize_or_null(key)?,
            _ => None,
        };
        match outer.or(inner) {
            Some(length) => Ok(length),
            None => self.config.usize("max_position_embeddings"),
        }
    }

    fn theta(&self) -> Result<f64> {
        let outer = match self.theta_key {
            // A null in the class defaults means that another default applies; a null in the file is a mistake.
            Some(key) if self.config.origin(key) == Some(&Origin::ClassDefault) => self.config.f64_or_null(key)?,
            Some(key) if self.config.peek(key).is_some() => Some(self.config.f64(key)?),
            _ => None,
        };
        match self.path("rope_theta") {
            Some(path) => self.config.f64(&path),
            None => Ok(outer.unwrap_or(self.options.defaults.theta)),
        }
    }

    fn partial_rotary_factor(&self) -> Result<f64> {
        let outer = self.config.f64_or_null(self.options.partial_rotary_factor_key)?;
        let inner = self.number_or_null("partial_rotary_factor")?;
        Ok(inner.or(outer).unwrap_or(self.options.defaults.partial_rotary_factor))
    }

    fn extra(&self) -> BTreeMap<String, Value> {
        let given = |key: &&str| {
            let value = self.config.value(&self.path(key)?)?;
            (!value.is_null()).then(|| ((*key).to_owned(), value.clone()))
        };
        self.options.extra_keys.iter().filter_map(given).collect()
    }

    fn settle_unused_keys(&self, rope_type: &'static str) {
        for object in &self.objects {
            let Some(Value::Object(map)) = self.config.peek(object) else { continue };
            if map.is_empty() {
                self.config.mark_read(object);
            }
            for key in map.keys() {
                let shadowed = self.path(key).is_some_and(|path| self.config.was_read(&path));
                let path = format!("{object}.{key}");
                if shadowed {
                    self.config.mark_read(&path);
                } else {
                    self.config.settle_unused_rope_key(&path, key, rope_type);
                }
            }
        }
    }

    /// Dotted key of a parameter, in the first object that has it.
    fn path(&self, key: &str) -> Option<String> {
        self.objects.iter().map(|object| format!("{object}.{key}")).find(|path| self.config.peek(path).is_some())
    }

    /// A required number, within the range of its key.
    fn number(&self, key: &str) -> Result<f64> {
        self.config.f64(&self.path(key).ok_or_else(|| self.missing(key))?)
    }

    fn number_or_null(&self, key: &str) -> Result<Option<f64>> {
        self.path(key).map_or(Ok(None), |path| self.config.f64_or_null(&path))
    }

    /// A list with at least one number, each within the range of the key.
    fn divisors(&self, key: &str) -> Result<Vec<f64>> {
        let path = self.path(key).ok_or_else(|| self.missing(key))?;
        let range = ranges::of_number(key);
        let read = |value: &'a Value| {
            typed::list(value, |item| typed::within(item, range)).filter(|divisors| !divisors.is_empty())
        };
        self.config.required(&path, &format!("a list, each entry {}", typed::numbers(range, "")), read)
    }

    fn optional<T>(&self, key: &str, expected: &str, read: impl FnOnce(&'a Value) -> Option<T>) -> Result<Option<T>> {
        self.path(key).map_or(Ok(None), |path| self.config.optional(&path, expected, read))
    }

    fn missing(&self, key: &str) -> ConfigError {
        let object = self.objects.first().map_or("rope_parameters", String::as_str);
        ConfigError::MissingKey { key: format!("{object}.{key}"), location: self.config.location() }
    }
}
