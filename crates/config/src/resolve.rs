//! From the author's keys to the effective keys: overrides, then aliases, then class defaults.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{
    ClassDefaults, ConfigError, ConfigWarning, Origin, Overrides, RawConfig, ResolvedConfig,
    json::{self, NESTING_LIMIT},
    known, merge, overrides,
    resolved::Parts,
    rope_overrides,
};

/// The two names of the object with the rope parameters, the one that wins in transformers first.
pub(crate) const ROPE_OBJECTS: [&str; 2] = ["rope_scaling", "rope_parameters"];

pub(crate) fn resolve(
    raw: RawConfig,
    defaults: &ClassDefaults,
    overrides: &Overrides,
) -> Result<ResolvedConfig, ConfigError> {
    let patch = text_level_patch(&raw, overrides)?;
    check_known(&raw, defaults, &patch)?;
    let patch = rename_to_file_names(&raw.values, defaults, rope_overrides::adapt(&raw.values, patch));

    let mut file = raw.values.clone();
    merge::merge(&mut file, &patch);
    let mut overridden: Vec<String> = merge::leaves(&patch).into_iter().map(|(key, _)| key).collect();
    overridden.extend(push_down_rope_defaults(&mut file, &patch, defaults));

    let mut warnings = raw.warnings.clone();
    let (mut values, file_names) = canonicalise(&file, defaults, &mut warnings);
    let mut origins: BTreeMap<String, Origin> =
        overridden.iter().map(|key| (canonical_path(key, defaults), Origin::Override)).collect();
    for key in values.keys() {
        if raw.values.contains_key(file_names.get(key).unwrap_or(key)) {
            origins.entry(key.clone()).or_insert(Origin::File);
        } else {
            origins.insert(key.clone(), Origin::Override);
        }
    }
    for (key, why) in &raw.derived {
        if !overridden.contains(key) {
            origins.insert(canonical(key, defaults).to_owned(), Origin::Derived(why));
        }
    }
    for (key, default) in defaults.values {
        if !values.contains_key(*key) {
            values.insert((*key).to_owned(), default.to_value(key)?);
            origins.insert((*key).to_owned(), Origin::ClassDefault);
        }
    }

    let resolved_raw = RawConfig { values: file, ..raw };
    let model_type = resolved_raw.model_type()?.to_owned();
    let architectures = resolved_raw.architectures();
    Ok(ResolvedConfig::from_parts(Parts {
        model_type,
        architectures,
        values,
        origins,
        file_names,
        file: resolved_raw.values,
        wrapper: resolved_raw.wrapper,
        path: resolved_raw.path,
        warnings,
    }))
}

/// A value as JSON text, shortened for a message.
pub(crate) fn shorten(value: &Value) -> String {
    const LONGEST: usize = 80;
    let text = match json::as_float(value) {
        Some(number) if !number.is_finite() => number.to_string(),
        _ => value.to_string(),
    };
    match text.char_indices().nth(LONGEST) {
        None => text,
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or("")),
    }
}

/// The overrides with `text_config.key` (if the text model was wrapped there) moved to the level of the text model.
fn text_level_patch(raw: &RawConfig, overrides: &Overrides) -> Result<Map<String, Value>, ConfigError> {
    let mut patch = overrides.values().clone();
    if !patch.values().all(json::is_shallow) {
        return Err(ConfigError::ExcessiveNesting { location: "an override".into(), limit: NESTING_LIMIT });
    }
    for (key, _) in merge::leaves(&patch) {
        overrides::check_key(&key).map_err(|problem| ConfigError::MalformedOverride { text: key.clone(), problem })?;
    }
    if let Some((key, _)) = &raw.wrapper
        && let Some(Value::Object(inner)) = patch.get(*key).cloned()
    {
        patch.shift_remove(*key);
        merge::merge(&mut patch, &inner);
    }
    Ok(patch)
}

fn check_known(raw: &RawConfig, defaults: &ClassDefaults, patch: &Map<String, Value>) -> Result<(), ConfigError> {
    for (key, _) in merge::leaves(patch) {
        let top = key.split('.').next().unwrap_or(&key);
        let (is_known, misspelt) = if ROPE_OBJECTS.contains(&top) && top != key {
            let last = key.rsplit('.').next().unwrap_or(&key);
            (known::is_rope_key(last) || known::is_layer_type(last) || raw.get(&key).is_some(), key.as_str())
        } else {
            (raw.values.contains_key(top) || known::is_known(top) || in_class(defaults, top), top)
        };
        if !is_known {
            let in_file = raw.values.keys().map(String::as_str);
            let in_class =
                defaults.values.iter().map(|(key, _)| *key).chain(defaults.aliases.iter().map(|pair| pair.0));
            return Err(ConfigError::UnknownOverride {
                nearest: known::nearest(misspelt, in_file.chain(in_class)),
                key,
            });
        }
    }
    Ok(())
}

fn in_class(defaults: &ClassDefaults, key: &str) -> bool {
    defaults.values.iter().any(|(name, _)| *name == key)
        || defaults.aliases.iter().any(|(alias, canonical)| *alias == key || *canonical == key)
}

/// Canonical name of a top-level key.
fn canonical<'a>(key: &'a str, defaults: &ClassDefaults) -> &'a str {
    defaults.aliases.iter().find(|(alias, _)| *alias == key).map_or(key, |(_, canonical)| *canonical)
}

fn canonical_path(dotted: &str, defaults: &ClassDefaults) -> String {
    match dotted.split_once('.') {
        Some((top, rest)) => format!("{}.{rest}", canonical(top, defaults)),
        None => canonical(dotted, defaults).to_owned(),
    }
}

/// Renames each override to the name (or names) of the key in the file, so that the override counts whichever name it uses.
fn rename_to_file_names(
    file: &Map<String, Value>,
    defaults: &ClassDefaults,
    mut patch: Map<String, Value>,
) -> Map<String, Value> {
    join_rope_objects(&mut patch);
    let mut renamed = Map::new();
    for (key, value) in patch {
        for name in names_to_write(&key, &value, file, &renamed, defaults) {
            let mut entry = Map::new();
            entry.insert(name, value.clone());
            merge::merge(&mut renamed, &entry);
        }
    }
    renamed
}

/// Merges overrides of both rope objects under the name of the earlier one.
fn join_rope_objects(patch: &mut Map<String, Value>) {
    let given: Vec<String> = patch.keys().filter(|key| ROPE_OBJECTS.contains(&key.as_str())).cloned().collect();
    if let [earlier, later] = given.as_slice()
        && let Some(value) = patch.shift_remove(later)
    {
        let mut entry = Map::new();
        entry.insert(earlier.clone(), value);
        merge::merge(patch, &entry);
    }
}

fn names_to_write(
    key: &str,
    value: &Value,
    file: &Map<String, Value>,
    renamed: &Map<String, Value>,
    defaults: &ClassDefaults,
) -> Vec<String> {
    let mut names: Vec<&str> = Vec::new();
    if ROPE_OBJECTS.contains(&key) {
        if value.as_object().is_some_and(Map::is_empty) {
            return Vec::new();
        }
        // An object merges with the effective one; null removes both.
        let in_force = |name: &&str| file.get(*name).is_some_and(is_truthy);
        names.extend(
            ROPE_OBJECTS
                .iter()
                .filter(|name| if value.is_object() { in_force(name) } else { file.contains_key(**name) }),
        );
        names.truncate(if value.is_object() { 1 } else { ROPE_OBJECTS.len() });
    } else if key == "torch_dtype" {
        // `dtype` wins over `torch_dtype`, so an override of either is written as `dtype`.
        names.push("dtype");
    } else {
        let canonical = canonical(key, defaults);
        let aliases = defaults.aliases.iter().filter(|(_, name)| *name == canonical).map(|(alias, _)| *alias);
        let group = std::iter::once(canonical).chain(aliases);
        names.extend(group.filter(|name| file.contains_key(*name) || renamed.contains_key(*name)));
    }
    if names.is_empty() {
        names.push(key);
    }
    names.into_iter().map(str::to_owned).collect()
}

/// Whether a value that should be an object is truthy in Python.
pub(crate) fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// Writes overrides of the top-level `rope_theta` and `partial_rotary_factor` into the rope object if it has the key, because its
/// keys win over the top-level ones. Returns the dotted keys written.
fn push_down_rope_defaults(
    file: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    defaults: &ClassDefaults,
) -> Vec<String> {
    let mut written = Vec::new();
    for (name, value) in patch {
        let key = canonical(name, defaults);
        if !["rope_theta", "partial_rotary_factor"].contains(&key) {
            continue;
        }
        for object in ROPE_OBJECTS {
            let Some(Value::Object(rope)) = file.get_mut(object) else { continue };
            let set_in_patch = |path: &str| merge::get(patch, path).is_some();
            if rope.contains_key(key) && !set_in_patch(&format!("{object}.{key}")) {
                rope.insert(key.to_owned(), value.clone());
                written.push(format!("{object}.{key}"));
            }
            for (layer_type, nested) in rope.iter_mut() {
                let path = format!("{object}.{layer_type}.{key}");
                if let Value::Object(nested) = nested
                    && nested.contains_key(key)
                    && !set_in_patch(&path)
                {
                    nested.insert(key.to_owned(), value.clone());
                    written.push(path);
                }
            }
        }
    }
    written
}

/// Values under canonical names, and for each renamed key the name in the file.
fn canonicalise(
    file: &Map<String, Value>,
    defaults: &ClassDefaults,
    warnings: &mut Vec<ConfigWarning>,
) -> (Map<String, Value>, BTreeMap<String, String>) {
    let mut values = file.clone();
    let mut file_names = BTreeMap::new();
    for (alias, canonical) in defaults.aliases {
        let Some(value) = file.get(*alias) else { continue };
        values.shift_remove(*alias);
        match values.get(*canonical) {
            None => {
                values.insert((*canonical).to_owned(), value.clone());
                file_names.insert((*canonical).to_owned(), (*alias).to_owned());
            }
            Some(kept) if kept != value => warnings.push(ConfigWarning::AliasConflict {
                alias: (*alias).to_owned(),
                canonical: file_names.get(*canonical).cloned().unwrap_or_else(|| (*canonical).to_owned()),
            }),
            Some(_) => {}
        }
    }
    (values, file_names)
}
