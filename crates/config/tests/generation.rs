//! Settings of text generation.

use automodel_config::{ConfigError, GenerationConfig, Overrides, RawConfig};
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
fn wrong_values_are_named() {
    for (json, key) in [
        (r#"{"eos_token_id": "</s>"}"#, "eos_token_id"),
        (r#"{"eos_token_id": [1, null]}"#, "eos_token_id"),
        (r#"{"bos_token_id": 1.5}"#, "bos_token_id"),
        (r#"{"pad_token_id": 1e20}"#, "pad_token_id"),
        (r#"{"temperature": -1}"#, "temperature"),
        (r#"{"temperature": NaN}"#, "temperature"),
        (r#"{"top_p": 1.5}"#, "top_p"),
        (r#"{"top_k": -1}"#, "top_k"),
        (r#"{"repetition_penalty": 0}"#, "repetition_penalty"),
        (r#"{"do_sample": 1}"#, "do_sample"),
        (r#"{"stop_strings": [1]}"#, "stop_strings"),
    ] {
        match GenerationConfig::from_str(json) {
            Err(ConfigError::InvalidValue { key: named, .. }) => assert_eq!(named, key),
            other => panic!("{json}: {other:?}"),
        }
    }
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
}

#[test]
fn special_tokens_come_from_the_model_config() {
    let read = |text: &str, overrides: &Overrides| {
        let raw = RawConfig::from_str(text).expect("an object");
        let config = raw.resolve(&Default::default(), overrides).expect("resolves");
        GenerationConfig::from_model_config(&config).expect("reads")
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
