//! Rope parameters of transformers v4 (`rope_theta`, `rope_scaling`) and v5 (`rope_parameters`) alike, as
//! `RotaryEmbeddingConfigMixin` of transformers 5.23 (`modeling_rope_utils.py`) reads them.

mod parameters;
mod reader;

pub use parameters::{ModelRope, RopeDefaults, RopeLayer, RopeOptions, RopeParameters, RopeType};

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{
    ConfigError, ConfigWarning, Origin, ResolvedConfig, known, merge,
    resolve::{ROPE_OBJECTS, is_truthy},
};
use reader::RopeReader;

/// An object and its key.
type NamedObject<'a> = (&'static str, &'a Map<String, Value>);

impl ResolvedConfig {
    /// The rope parameters, the same for all layers or by layer type.
    ///
    /// As in transformers 5.23: `rope_scaling` wins over `rope_parameters`; keys missing in the object are taken from the top-level
    /// `rope_theta` and `partial_rotary_factor`, and else from `defaults`; `type` is an older name of `rope_type`; the object is nested
    /// by layer type if it has keys that are layer types.
    ///
    /// A key that the rope type does not use is ignored with a warning. A key that transformers does not have, and an
    /// override without effect, stay unread, so that [`check_all_read`](Self::check_all_read) names them.
    ///
    /// # Errors
    /// An unknown rope type, a missing parameter, or one of the wrong kind or out of range.
    pub fn rope_parameters(&self, defaults: RopeDefaults) -> Result<ModelRope, ConfigError> {
        self.rope_parameters_with(&RopeOptions::from(defaults))
    }

    /// As [`rope_parameters`](Self::rope_parameters), for families that rename rope types or add keys.
    ///
    /// # Errors
    /// As [`rope_parameters`](Self::rope_parameters).
    pub fn rope_parameters_with(&self, options: &RopeOptions) -> Result<ModelRope, ConfigError> {
        self.excuse_original_length();
        let Some((name, object)) = self.rope_object()? else {
            return RopeReader::new(self, Vec::new(), options).parameters().map(ModelRope::Uniform);
        };
        let nested = self.nested_rope_keys(object);
        if nested.is_empty() {
            let parameters = RopeReader::new(self, vec![name.to_owned()], options).parameters()?;
            return Ok(ModelRope::Uniform(parameters));
        }
        let mut by_type = BTreeMap::new();
        for layer_type in nested {
            let path = format!("{name}.{layer_type}");
            let parameters = match object.get(layer_type) {
                Some(Value::Object(_)) => Some(RopeReader::nested(self, vec![path], name, options).parameters()?),
                Some(value) if !value.is_null() => return Err(self.invalid(&path, value, "an object or null")),
                _ => None,
            };
            by_type.insert(layer_type.to_owned(), parameters);
        }
        self.warn_of_keys_beside_nested(name, object);
        Ok(ModelRope::PerLayerType(by_type))
    }

    /// The rope parameters of families that always have one set for each layer type, each with its defaults (Gemma 3, OLMo 3): `rope_parameters` nested by layer type, or the keys of version 4, of which `rope_scaling` and the
    /// theta keys apply to the layer types given by `layers`.
    ///
    /// Without `rope_parameters`, transformers merges `rope_scaling` into `{"rope_type": "default"}`, so that the older name `type` has
    /// no effect; it is ignored with a warning here too.
    ///
    /// # Errors
    /// As [`rope_parameters`](Self::rope_parameters).
    pub fn rope_parameters_by_layer_type(
        &self,
        layers: &[RopeLayer],
        options: &RopeOptions,
    ) -> Result<BTreeMap<String, RopeParameters>, ConfigError> {
        self.excuse_original_length();
        let object_at = |path: &str| match self.peek(path) {
            Some(Value::Object(_)) => Ok(true),
            Some(value) if is_truthy(value) => Err(self.invalid(path, value, "an object or null")),
            _ => {
                self.mark_read(path);
                Ok(false)
            }
        };
        let has_scaling = object_at("rope_scaling")?;
        let has_parameters = object_at("rope_parameters")?;
        let mut by_type = BTreeMap::new();
        for layer in layers {
            let mut objects = Vec::new();
            if has_scaling && layer.takes_rope_scaling {
                objects.push("rope_scaling".to_owned());
            }
            let path = format!("rope_parameters.{}", layer.layer_type);
            if has_parameters && object_at(&path)? {
                objects.push(path);
            }
            let options = RopeOptions { defaults: layer.defaults, ..*options };
            let reader = RopeReader::nested(self, objects, "rope_parameters", &options)
                .with_theta_key(layer.theta_key)
                .with_older_type_name(has_parameters);
            by_type.insert(layer.layer_type.to_owned(), reader.parameters()?);
        }
        if let Some(Value::Object(object)) = self.peek("rope_parameters") {
            self.warn_of_keys_beside_nested("rope_parameters", object);
        }
        Ok(by_type)
    }

    /// Files have `original_max_position_embeddings` even if the rope type does not use it (Phi-3 mini 4k).
    fn excuse_original_length(&self) {
        let key = "original_max_position_embeddings";
        if self.origin(key) != Some(&Origin::Override) {
            self.mark_read(key);
        }
    }

    /// Name and content of the rope object that counts.
    fn rope_object(&self) -> Result<Option<NamedObject<'_>>, ConfigError> {
        let mut in_force = None;
        for name in ROPE_OBJECTS {
            match self.peek(name) {
                None => {}
                Some(value) if !is_truthy(value) => self.mark_read(name),
                Some(value) => match (in_force, value) {
                    (None, Value::Object(object)) => in_force = Some((name, object)),
                    (None, _) => return Err(self.invalid(name, value, "an object or null")),
                    (Some((_, winner)), loser) => {
                        self.mark_read(name);
                        if loser.as_object() != Some(winner) {
                            self.warn(ConfigWarning::RopeScalingWins);
                        }
                    }
                },
            }
        }
        Ok(in_force)
    }

    /// Keys of a rope object under which parameters are nested by layer type.
    fn nested_rope_keys<'a>(&self, object: &'a Map<String, Value>) -> Vec<&'a str> {
        let declared: Vec<&str> = match self.peek("layer_types") {
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        // A layer type that is derived later, or that no layer has, is recognised by its name.
        object.keys().map(String::as_str).filter(|key| declared.contains(key) || known::is_layer_type(key)).collect()
    }

    /// Parameters beside nested ones are ignored by transformers.
    fn warn_of_keys_beside_nested(&self, name: &str, object: &Map<String, Value>) {
        for (key, value) in object {
            let path = format!("{name}.{key}");
            if value.as_object().is_some_and(|inner| !merge::is_tagged(inner)) {
                continue;
            }
            self.settle_unused_rope_key(&path, key, "nested");
        }
    }

    /// Marks an unused rope key as read, unless that would hide a mistake.
    pub(crate) fn settle_unused_rope_key(&self, path: &str, key: &str, rope_type: &'static str) {
        if self.was_read(path) || self.is_null_or_absent(path) {
            return;
        }
        if !known::is_rope_key(key) {
            self.warn(ConfigWarning::UnknownRopeKey { key: path.to_owned() });
        } else if self.origin(path) != Some(&Origin::Override) {
            self.warn(ConfigWarning::UnusedRopeKey { key: path.to_owned(), rope_type });
            self.mark_read(path);
        }
    }
}
