//! A family reads the keys of its configuration class and no others: every key that its class lacks is tried with a value that
//! matters to other families, against what transformers 5.23 makes of it (`tests/fixtures/generate/class_keys.py`).

use automodel_config::{ClassDefaults, Overrides, RawConfig, ResolvedConfig};
use automodel_registry::spec::ModelSpec;
use automodel_registry::{Registry, RegistryError, ResolveOptions};
use serde_json::{Map, Value};
use std::error::Error;

/// Keys that a class does not have and that are read all the same: `(family, key)`, any family where that is empty.
const READ: &[(&str, &str)] = &[
    // As configs of transformers 4 have them; the class takes them where the newer ones are absent.
    ("", "partial_rotary_factor"),
    ("axk1", "first_k_dense_replace"),
    ("axk1", "moe_layer_freq"),
    ("gemma3_text", "rope_local_base_freq"),
    ("gemma3_text", "sliding_window_pattern"),
    ("gpt_neox", "rotary_emb_base"),
    ("gpt_neox", "rotary_pct"),
    ("gpt_neox_japanese", "rotary_emb_base"),
    ("gpt_neox_japanese", "rotary_pct"),
    // A Mistral with layer types is a Ministral (configuration_auto.py), which has them.
    ("mistral", "layer_types"),
    // They say again what another key says, and must agree with it.
    ("axk1", "head_dim"),
    ("deepseek_v3", "head_dim"),
    ("phi", "rotary_dim"),
    ("youtu", "head_dim"),
    ("stablelm", "num_heads"),
];

fn fixture() -> Value {
    serde_json::from_str(include_str!("fixtures/class_keys.json")).unwrap()
}

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap()
}

fn config_of(family: &str, row: &Value) -> Value {
    let mut config = row["config"].clone();
    config["model_type"] = family.into();
    config
}

/// The config with its specification, before it is asked for unread keys.
fn lower(config: Value) -> Result<(ResolvedConfig, ModelSpec), RegistryError> {
    let registry = Registry::builtin();
    let raw = RawConfig::from_value(config).unwrap();
    let defaults: &ClassDefaults = registry.class_defaults(&raw)?;
    let config = raw.resolve(defaults, &Overrides::new()).unwrap();
    let resolution = registry.resolve(&config, &ResolveOptions::default())?;
    let spec = registry.lower(&config, &resolution)?.spec.unwrap();
    Ok((config, spec))
}

fn said(error: &dyn Error) -> String {
    std::iter::successors(Some(error), |&error| error.source()).map(ToString::to_string).collect()
}

#[test]
fn all_families_are_tried() {
    let fixture = fixture();
    let tried: Vec<&str> = object(&fixture["families"]).keys().map(String::as_str).collect();
    let registry = Registry::builtin();
    let of_transformers = registry.families().filter(|family| registry.remark(family.model_type).is_none());
    let mut known: Vec<String> = of_transformers.map(|family| family.model_type.to_owned()).collect();
    known.sort();
    assert_eq!(tried, known);
}

#[test]
fn keys_of_other_families_change_nothing_or_are_refused_by_name() {
    let fixture = fixture();
    let mut problems = Vec::new();
    for (family, row) in object(&fixture["families"]) {
        let base = lower(config_of(family, row)).unwrap().1;
        let own: Vec<&str> = row["keys"].as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect();
        for (key, value) in object(&fixture["values"]).iter().filter(|(key, _)| !own.contains(&key.as_str())) {
            let mut config = config_of(family, row);
            config[key] = value.clone();
            let counts = row["strays"].get(key).is_some();
            let read = READ.iter().any(|(of, name)| name == key && (of.is_empty() || of == family));
            match lower(config) {
                // A key that counts in transformers must not be passed over without a word.
                Ok((config, spec)) if counts => {
                    let warned = config.warnings().iter().any(|warning| warning.to_string().contains(key));
                    let refused = config.check_all_read(&[]).is_err_and(|error| said(&error).contains(key));
                    if spec == base && !refused && !warned {
                        problems.push(format!("{family} passes over {key}, which counts"));
                    }
                }
                Ok((config, spec)) => {
                    if spec != base && !read {
                        problems.push(format!("{family} is changed by {key}, which its class does not have"));
                    }
                    // What the family itself did not excuse is told, or excused for all.
                    let registry = Registry::builtin();
                    let ignored = registry.families().find(|known| known.model_type == family).unwrap().ignored_keys;
                    let told = config.unread_keys().contains(key);
                    let harmless = automodel_config::harmless_reason(key, value).is_some();
                    if !read && !ignored.contains(&key.as_str()) && !told && !harmless {
                        problems.push(format!("{family} reads {key}, which its class does not have"));
                    }
                }
                // It counts there too, or is refused by name.
                Err(error) if counts || said(&error).contains(key) => {}
                Err(error) => problems.push(format!("{family} with {key}: {}", said(&error))),
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn a_model_that_sees_later_positions_is_refused_with_the_reason() {
    let fixture = fixture();
    for (family, row) in object(&fixture["families"]) {
        let mut config = config_of(family, row);
        config["is_causal"] = false.into();
        let (config, _) = lower(config).unwrap();
        let said = config.check_all_read(&[]).unwrap_err().to_string();
        assert!(said.contains("`is_causal` is false") && said.contains("later ones"), "{family}: {said}");
        assert!(!said.contains("allowed"), "{family}: {said}");
    }
}
