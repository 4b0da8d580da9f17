//! A family reads the keys of its configuration class and no others: every key that its class lacks and that of another causal
//! language model of transformers has is tried with a value that matters there, against what transformers 5.23 makes of it
//! (`tests/fixtures/generate/class_keys.py`), and with values of several kinds.

use automodel_config::{Overrides, RawConfig, ResolvedConfig};
use automodel_registry::spec::ModelSpec;
use automodel_registry::{FamilyConfig, Implementation, Registry, RegistryError, ResolveOptions};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::error::Error;
use std::sync::LazyLock;

/// Keys that a class does not have and that are read all the same: `(family, key)`, any family where that is empty.
const READ: &[(&str, &str)] = &[
    // As configs of transformers 4 have them; the class takes them where the newer ones are absent.
    ("", "partial_rotary_factor"),
    // Beside the rope parameters, as modeling_rope_utils.py reads it for every class.
    ("", "original_max_position_embeddings"),
    ("axk1", "first_k_dense_replace"),
    ("axk1", "moe_layer_freq"),
    ("cohere2_moe", "first_k_dense_replace"),
    ("gemma3_text", "rope_local_base_freq"),
    ("gemma3_text", "sliding_window_pattern"),
    ("gpt_neox", "rotary_emb_base"),
    ("gpt_neox", "rotary_pct"),
    ("gpt_neox_japanese", "rotary_emb_base"),
    ("gpt_neox_japanese", "rotary_pct"),
    ("minimax_m2", "rotary_dim"),
    // The class takes it without declaring it.
    ("modernbert-decoder", "global_attn_every_n_layers"),
    // Read beside absent rope parameters, which other rows have.
    ("phimoe", "rope_theta"),
    ("qwen2_5_vl_text", "rope_theta"),
    // A Mistral with layer types is a Ministral (configuration_auto.py), which has them.
    ("mistral", "layer_types"),
    // They say again what another key says, and must agree with it.
    ("axk1", "head_dim"),
    ("deepseek_v3", "head_dim"),
    ("hy_v3", "first_k_dense_replace"),
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

/// The config with its specification, before it is asked for unread keys. Without the weight map, which takes longer than all else.
fn lower(config: Value) -> Result<(ResolvedConfig, ModelSpec), RegistryError> {
    static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::builtin);
    let raw = RawConfig::from_value(config).unwrap();
    let (config, resolution) = REGISTRY.resolve_config(&raw, &Overrides::new(), &ResolveOptions::default())?;
    let Implementation::Generic { family } = resolution.implementation else { panic!("{}", resolution.reason) };
    let family = REGISTRY.families().find(|known| known.model_type == family).unwrap();
    let spec = (family.lower)(&FamilyConfig::new(&config))?;
    family.ignored_keys.iter().for_each(|key| config.mark_read(key));
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
                    // Where transformers itself fails, there are no numbers that could differ.
                    let harmless = automodel_config::harmless_reason(key, value).is_some();
                    let fails = row["strays"][key].as_str().is_some_and(|effect| effect.ends_with("Error"));
                    let excused = refused || warned || (harmless && fails);
                    if spec == base && !excused {
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

/// Whatever the kind of the value: a stray key is not part of the mathematics, or is named.
#[test]
fn values_of_any_kind_under_keys_of_other_families_change_nothing() {
    let fixture = fixture();
    let rows = object(&fixture["families"]);
    let listed = rows.values().flat_map(|row| row["keys"].as_array().unwrap()).map(|key| key.as_str().unwrap());
    let keys: BTreeSet<&str> = object(&fixture["values"]).keys().map(String::as_str).chain(listed).collect();
    assert!(keys.len() > 500, "{}", keys.len());
    let problems: Vec<String> = std::thread::scope(|scope| {
        let each = rows.iter().map(|(family, row)| scope.spawn(|| changed_by(family, row, &keys)));
        let each: Vec<_> = each.collect();
        each.into_iter().flat_map(|family| family.join().unwrap()).collect()
    });
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Keys that the family's class does not have and that change its mathematics, or fail without their name.
fn changed_by(family: &str, row: &Value, keys: &BTreeSet<&str>) -> Vec<String> {
    let base = lower(config_of(family, row)).unwrap().1;
    let own: Vec<&str> = row["keys"].as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect();
    let is_read = |key: &str| READ.iter().any(|(of, name)| *name == key && (of.is_empty() || *of == family));
    let mut problems = Vec::new();
    for key in keys.iter().filter(|key| !own.contains(key) && !is_read(key) && row["strays"].get(**key).is_none()) {
        for value in [json!(true), json!(3), json!([0, 1])] {
            let mut config = config_of(family, row);
            config[*key] = value.clone();
            let problem = match lower(config) {
                Ok((_, spec)) if spec == base => continue,
                Ok(_) => "changes the mathematics".to_owned(),
                Err(error) if said(&error).contains(key) => continue,
                Err(error) => said(&error),
            };
            problems.push(format!("{family} with {key} = {value}: {problem}"));
        }
    }
    problems
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
