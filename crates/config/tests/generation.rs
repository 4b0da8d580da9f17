//! Settings of text generation.

use automodel_config::{ClassDefaults, DefaultValue, GenerationConfig, Overrides, RawConfig};
use serde_json::json;

fn read(json: &str) -> GenerationConfig {
    GenerationConfig::from_str(json).expect("reads")
}

#[test]
fn settings_are_read_and_the_rest_is_kept() {
    let config = read(
        r#"{"eos_token_id": [1, 2.0], "bos_token_id": 0, "pad_token_id": -1, "max_new_tokens": 5, "temperature": 0.5,
            "top_k": 0, "top_p": 0.9, "do_sample": true, "stop_strings": "end", "suppress_tokens": [3], "min_p": null,
            "transformers_version": "4.40", "_from_model_config": true}"#,
    );
    let expected = GenerationConfig {
        eos_token_id: vec![1, 2],
        bos_token_id: Some(0),
        max_new_tokens: Some(5),
        temperature: Some(0.5),
        top_k: Some(0),
        top_p: Some(0.9),
        do_sample: Some(true),
        stop_strings: Some(vec!["end".into()]),
        suppress_tokens: Some(vec![3]),
        other: [("transformers_version".into(), json!("4.40")), ("_from_model_config".into(), json!(true))]
            .into_iter()
            .collect(),
        ..GenerationConfig::default()
    };
    assert_eq!(config, expected);
    assert_eq!(read(r#"{"eos_token_id": 7}"#).eos_token_id, [7]);
    assert_eq!(read(r#"{"eos_token_id": [-1, 7]}"#).eos_token_id, [7]);
}

#[test]
fn invalid_values_are_kept_apart_and_named() {
    for (json, key) in [
        (r#"{"eos_token_id": "</s>"}"#, "eos_token_id"),
        (r#"{"eos_token_id": [1, null]}"#, "eos_token_id"),
        (r#"{"bos_token_id": 1.5}"#, "bos_token_id"),
        (r#"{"pad_token_id": 1e20}"#, "pad_token_id"),
        (r#"{"temperature": -1}"#, "temperature"),
        (r#"{"temperature": NaN}"#, "temperature"),
        (r#"{"temperature": Infinity}"#, "temperature"),
        (r#"{"top_p": -0.5}"#, "top_p"),
        (r#"{"top_p": "all"}"#, "top_p"),
        (r#"{"min_p": 1.5}"#, "min_p"),
        (r#"{"top_k": -1}"#, "top_k"),
        (r#"{"top_k": 2.5}"#, "top_k"),
        (r#"{"max_new_tokens": 0}"#, "max_new_tokens"),
        (r#"{"repetition_penalty": 0}"#, "repetition_penalty"),
        (r#"{"do_sample": 1}"#, "do_sample"),
        (r#"{"num_beams": 0}"#, "num_beams"),
        (r#"{"stop_strings": [1]}"#, "stop_strings"),
    ] {
        let config = read(json);
        let named: Vec<&String> = config.invalid.keys().collect();
        assert_eq!(named, [key], "{json}");
        assert!(!config.invalid[key].expected.is_empty() && config.invalid[key].location == "the config");
        assert_eq!(GenerationConfig { invalid: Default::default(), ..config }, GenerationConfig::default(), "{json}");
    }
    assert_eq!(read(r#"{"top_k": -1}"#).invalid["top_k"].value, "-1");
}

#[test]
fn odd_but_valid_values_are_read() {
    assert_eq!(read(r#"{"top_p": 1.5, "typical_p": Infinity}"#).top_p, Some(1.0));
    assert_eq!(read(r#"{"top_k": 1e30}"#).top_k, Some(usize::MAX));
    assert_eq!(read(r#"{"max_length": 18446744073709551615}"#).max_length, Some(usize::MAX));
    assert_eq!(read(r#"{"temperature": null, "top_k": null}"#), GenerationConfig::default());
}

#[test]
fn later_settings_count() {
    let early = read(r#"{"eos_token_id": 1, "temperature": 0.5, "top_k": 3, "a": 1, "b": 1}"#);
    let late = read(r#"{"eos_token_id": [2], "temperature": 0.7, "b": 2}"#);
    let merged = early.clone().merge(late.clone());
    assert_eq!(merged.eos_token_id, [2]);
    assert_eq!((merged.temperature, merged.top_k), (Some(0.7), Some(3)));
    assert_eq!(serde_json::Value::Object(merged.other.clone()), json!({"a": 1, "b": 2}));
    assert_eq!(merged.clone().merge(late), merged);
    assert_eq!(early.clone().merge(GenerationConfig::default()), early);
    assert_eq!(GenerationConfig::default().merge(early.clone()), early);
    let wrong = read(r#"{"top_k": "x", "top_p": "y"}"#);
    let named = |config: GenerationConfig| config.invalid.into_keys().collect::<Vec<_>>();
    assert_eq!(named(wrong.clone().merge(early.clone())), ["top_p"]);
    assert_eq!(named(early.merge(wrong)), ["top_k", "top_p"]);
}

#[test]
fn special_tokens_come_from_the_model_config() {
    let read = |text: &str, overrides: &Overrides| {
        let raw = RawConfig::from_str(text).expect("an object");
        let config = raw.resolve(&Default::default(), overrides).expect("resolves");
        GenerationConfig::from_model_config(&config)
    };
    let plain = read(
        r#"{"model_type": "a", "eos_token_id": [3, 4], "pad_token_id": null, "temperature": 2}"#,
        &Overrides::new(),
    );
    assert_eq!(plain, GenerationConfig { eos_token_id: vec![3, 4], ..GenerationConfig::default() });
    let wrapped = r#"{"eos_token_id": 5, "text_config": {"model_type": "a", "eos_token_id": 6, "bos_token_id": 7}}"#;
    let config = read(wrapped, &Overrides::new());
    assert_eq!((config.eos_token_id, config.bos_token_id), (vec![5], Some(7)));
    let config = read(wrapped, &Overrides::new().set("eos_token_id", 8));
    assert_eq!(config.eos_token_id, [8]);
}

#[test]
fn a_config_has_generation_settings_without_a_generation_config() {
    let resolved = |text: &str, overrides: &Overrides| {
        let raw = RawConfig::from_str(text).expect("an object");
        let config = raw.resolve(&DEFAULTS, overrides).expect("resolves");
        GenerationConfig::from_config_file(&config).with_overrides_of(&config)
    };
    let text = r#"{"model_type": "a", "eos_token_id": 3, "max_length": 9, "do_sample": true, "repetition_penalty": 1.3,
        "num_beams": null, "bad_words_ids": [[1]], "hidden_size": 8, "top_k": -1}"#;
    let config = resolved(text, &Overrides::new());
    assert_eq!((config.max_length, config.do_sample, config.repetition_penalty), (Some(9), Some(true), Some(1.3)));
    assert_eq!(config.eos_token_id, [3]);
    assert_eq!(serde_json::Value::Object(config.other), json!({"bad_words_ids": [[1]]}));
    assert_eq!(config.invalid.into_keys().collect::<Vec<_>>(), ["top_k"]);
    // A class default is not a value of the file.
    assert_eq!(config.bos_token_id, None);
    let wrapped = r#"{"max_length": 5, "temperature": null, "text_config": {"model_type": "a", "max_length": 6, "temperature": 2,
        "top_p": 0.5}}"#;
    let config = resolved(wrapped, &Overrides::new().set("top_p", 0.25));
    assert_eq!((config.max_length, config.temperature, config.top_p), (Some(5), Some(2.0), Some(0.25)));
    // An override counts whatever file speaks.
    let raw = RawConfig::from_str(text).expect("an object");
    let config = raw.resolve(&DEFAULTS, &Overrides::new().set("eos_token_id", 8)).expect("resolves");
    assert_eq!(read(r#"{"eos_token_id": 2}"#).with_overrides_of(&config).eos_token_id, [8]);
}

static DEFAULTS: ClassDefaults = ClassDefaults { values: &[("bos_token_id", DefaultValue::Int(1))], aliases: &[] };
