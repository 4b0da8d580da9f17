//! Converts overrides of `rope_scaling` and `rope_parameters` to the layout of the file.

use serde_json::{Map, Value, json};

use crate::{
    known, merge,
    resolve::{ROPE_OBJECTS, is_truthy},
};

/// Keys of a rope object that are not part of the scaling: `rope_scaling` of version 4 does not have them.
const NO_SCALING: [&str; 2] = ["rope_theta", "partial_rotary_factor"];

/// The layer type to which a scaling of version 4 applies if the parameters differ by layer type (Gemma 3, OLMo 3).
const SCALED_LAYERS: &str = "full_attention";

/// Converts each override of a rope object to an equivalent one in the layout of the file:
///
/// - `type` is `rope_type`, which would win over it where the file has that;
/// - `rope_scaling` null does not change base and partial rotation, which version 5 has in the same object;
/// - parameters for a file that has them by layer type apply to the layers that a `rope_scaling` of version 4 applies to.
pub(crate) fn adapt(file: &Map<String, Value>, mut patch: Map<String, Value>) -> Map<String, Value> {
    // Overrides of both objects are merged later, and are not converted.
    let is_alone = !ROPE_OBJECTS.iter().all(|name| patch.contains_key(*name));
    for name in ROPE_OBJECTS {
        let adapted = match patch.get_mut(name) {
            Some(Value::Object(given)) => {
                name_the_type(given);
                if is_alone { nest(in_force(file), given) } else { None }
            }
            Some(Value::Null) if is_alone && name == "rope_scaling" => unscaled(in_force(file)),
            _ => None,
        };
        if let Some(adapted) = adapted {
            patch.shift_remove(name);
            let mut entry = Map::new();
            entry.insert("rope_parameters".to_owned(), Value::Object(adapted));
            merge::merge(&mut patch, &entry);
        }
    }
    patch
}

/// The file's effective object, if the file has only that of version 5.
fn in_force(file: &Map<String, Value>) -> Option<&Map<String, Value>> {
    let is_set = |name: &&str| file.get(*name).is_some_and(is_truthy);
    let given: Vec<&str> = ROPE_OBJECTS.into_iter().filter(|name| is_set(name)).collect();
    if given == ["rope_parameters"] { file.get("rope_parameters")?.as_object() } else { None }
}

fn name_the_type(given: &mut Map<String, Value>) {
    if let Some(older) = given.shift_remove("type") {
        given.entry("rope_type").or_insert(older);
    }
    for nested in given.values_mut().filter_map(Value::as_object_mut) {
        name_the_type(nested);
    }
}

/// `given` under the layer type that it applies to, if the file's parameters are by layer type and `given` is not.
fn nest(file: Option<&Map<String, Value>>, given: &Map<String, Value>) -> Option<Map<String, Value>> {
    let by_type = |map: &Map<String, Value>| map.keys().any(|key| known::is_layer_type(key));
    if given.is_empty() || by_type(given) || !by_type(file?) || !file?.contains_key(SCALED_LAYERS) {
        return None;
    }
    let mut nested = Map::new();
    nested.insert(SCALED_LAYERS.to_owned(), Value::Object(given.clone()));
    Some(nested)
}

/// An override that removes all scaling from the file's parameters; `None` if the file has none of version 5, so that null itself has
/// that effect.
fn unscaled(file: Option<&Map<String, Value>>) -> Option<Map<String, Value>> {
    let plain = |parameters: &Map<String, Value>| {
        let cleared = parameters.keys().filter(|key| !NO_SCALING.contains(&key.as_str()));
        let mut cleared: Map<String, Value> = cleared.map(|key| (key.clone(), Value::Null)).collect();
        cleared.insert("rope_type".to_owned(), json!("default"));
        cleared
    };
    let file = file?;
    let nested: Map<String, Value> = file
        .iter()
        .filter(|(key, _)| known::is_layer_type(key))
        .filter_map(|(key, value)| Some((key.clone(), Value::Object(plain(value.as_object()?)))))
        .collect();
    Some(if nested.is_empty() { plain(file) } else { nested })
}
