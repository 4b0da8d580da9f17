//! Rope parameters against those of transformers 5.23 (`fixtures/make.py`).

use automodel_config::{
    ClassDefaults, ConfigError, ConfigWarning, ModelRope, Overrides, RawConfig, ResolvedConfig, RopeDefaults,
    RopeLayer, RopeOptions, RopeParameters, RopeType,
};
use serde_json::{Map, Value, json};

static NO_DEFAULTS: ClassDefaults = ClassDefaults { values: &[], aliases: &[] };

fn resolve(config: &Value, overrides: &Overrides) -> ResolvedConfig {
    let raw = RawConfig::from_value(config.clone()).expect("an object");
    raw.resolve(&NO_DEFAULTS, overrides).expect("resolves")
}

fn llama(keys: Value) -> ResolvedConfig {
    let mut config = json!({"model_type": "llama", "max_position_embeddings": 4096});
    let map = config.as_object_mut().expect("an object");
    map.extend(keys.as_object().expect("an object").clone());
    resolve(&config, &Overrides::new())
}

fn fixtures(part: &str) -> Vec<(Value, Value)> {
    let all: Value = serde_json::from_str(include_str!("fixtures/rope_cases.json")).expect("JSON");
    let cases = all[part].as_array().expect("a list");
    cases.iter().map(|case| (case["config"].clone(), case["expected"].clone())).collect()
}

fn original_length(rope_type: &RopeType) -> Option<usize> {
    match rope_type {
        RopeType::Yarn { original_max_position_embeddings, .. }
        | RopeType::LongRope { original_max_position_embeddings, .. }
        | RopeType::Llama3 { original_max_position_embeddings, .. } => Some(*original_max_position_embeddings),
        _ => None,
    }
}

fn assert_same(ours: &RopeParameters, theirs: &Value, case: &Value) {
    assert_eq!(ours.rope_type.name(), theirs["rope_type"], "{case}");
    assert_eq!(ours.theta, theirs["rope_theta"].as_f64().expect("a number"), "{case}");
    assert_eq!(ours.partial_rotary_factor, theirs["partial_rotary_factor"].as_f64().expect("a number"), "{case}");
    let difference = ours.rope_type.attention_factor() - theirs["attention_factor"].as_f64().expect("a number");
    assert!(difference.abs() < 1e-12, "{case}: {difference}");
    let length = theirs["original_max_position_embeddings"].as_u64().map(|length| length as usize);
    assert_eq!(original_length(&ours.rope_type), length, "{case}");
}

fn nested(theirs: &Value) -> Option<&Map<String, Value>> {
    theirs.as_object().filter(|map| !map.contains_key("rope_type"))
}

#[test]
fn uniform_and_nested_parameters_are_those_of_transformers() {
    let cases = fixtures("uniform_or_nested");
    assert!(cases.len() > 30);
    for (case, theirs) in cases {
        let ours = resolve(&case, &Overrides::new()).rope_parameters(RopeDefaults::default());
        match (ours, nested(&theirs)) {
            (Err(_), Some(map)) => assert!(map.contains_key("error"), "{case}"),
            (Ok(ModelRope::Uniform(ours)), None) => assert_same(&ours, &theirs, &case),
            (Ok(ModelRope::PerLayerType(ours)), Some(map)) => {
                assert_eq!(ours.len(), map.len(), "{case}");
                for (layer_type, theirs) in map {
                    match &ours[layer_type] {
                        Some(ours) => assert_same(ours, theirs, &case),
                        None => assert!(theirs.is_null(), "{case}"),
                    }
                }
            }
            (ours, _) => panic!("{case}: {ours:?}, not {theirs}"),
        }
    }
}

#[test]
fn parameters_by_layer_type_are_those_of_transformers() {
    let layer = |layer_type, theta, theta_key, takes_rope_scaling| RopeLayer {
        layer_type,
        defaults: RopeDefaults { theta, partial_rotary_factor: 1.0 },
        theta_key,
        takes_rope_scaling,
    };
    let gemma3 = [
        layer("full_attention", 1e6, Some("rope_theta"), true),
        layer("sliding_attention", 1e4, Some("rope_local_base_freq"), false),
    ];
    let olmo3 = [layer("full_attention", 5e5, Some("rope_theta"), true), layer("sliding_attention", 5e5, None, false)];
    for (case, theirs) in fixtures("by_layer_type") {
        let layers = if case["model_type"] == "olmo3" { &olmo3 } else { &gemma3 };
        let config = resolve(&case, &Overrides::new());
        let ours = config.rope_parameters_by_layer_type(layers, &RopeOptions::default()).expect("reads");
        let theirs = nested(&theirs).expect("nested");
        assert_eq!(ours.len(), theirs.len(), "{case}");
        for (layer_type, ours) in &ours {
            assert_same(ours, &theirs[layer_type], &case);
        }
        let unread = config.unread_keys();
        assert!(unread.iter().all(|key| !key.contains("rope")), "{case}: {unread:?}");
    }
}

#[test]
fn every_rope_key_of_the_fixtures_is_read_or_warned_of() {
    for (case, theirs) in fixtures("uniform_or_nested") {
        let config = resolve(&case, &Overrides::new());
        if config.rope_parameters(RopeDefaults::default()).is_ok() {
            let unread: Vec<String> = config.unread_keys();
            let about_rope =
                unread.iter().any(|key| key.contains("rope") || key.contains("original") || key.contains("partial"));
            assert!(!about_rope, "{case} ({theirs}): {unread:?}");
        }
    }
}

#[test]
fn parameters_of_each_type_arrive() {
    let read = |object: Value| match llama(json!({"rope_parameters": object})).rope_parameters(RopeDefaults::default())
    {
        Ok(ModelRope::Uniform(parameters)) => parameters.rope_type,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        read(json!({"rope_type": "dynamic", "factor": 2})),
        RopeType::Dynamic { factor: 2.0, original_max_position_embeddings: 4096 }
    );
    let yarn = json!({"rope_type": "yarn", "factor": null, "original_max_position_embeddings": 1024.0, "beta_fast": 0,
                      "beta_slow": 2, "mscale": 0.5, "truncate": false, "attention_factor": 1.5});
    assert_eq!(
        read(yarn),
        RopeType::Yarn {
            factor: 4.0,
            attention_factor: Some(1.5),
            beta_fast: 32.0,
            beta_slow: 2.0,
            mscale: Some(0.5),
            mscale_all_dim: None,
            truncate: false,
            original_max_position_embeddings: 1024,
        }
    );
    let longrope = json!({"type": "longrope", "short_factor": [1, 2.5], "long_factor": [3, 4],
                          "original_max_position_embeddings": 2048});
    assert_eq!(
        read(longrope),
        RopeType::LongRope {
            short_factor: vec![1.0, 2.5],
            long_factor: vec![3.0, 4.0],
            factor: 2.0,
            attention_factor: None,
            original_max_position_embeddings: 2048,
        }
    );
    let llama3 = json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4});
    assert_eq!(
        read(llama3),
        RopeType::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 4096
        }
    );
    assert_eq!(read(json!({"rope_type": "proportional"})), RopeType::Proportional { factor: 1.0 });
}

#[test]
fn truncate_of_nested_yarn_is_read_from_the_outer_object() {
    let inner = json!({"rope_type": "yarn", "factor": 2.0, "truncate": false});
    for (object, expected) in
        [(json!({"full_attention": inner}), true), (json!({"full_attention": inner, "truncate": false}), false)]
    {
        let config = llama(json!({"rope_parameters": object}));
        let Ok(ModelRope::PerLayerType(by_type)) = config.rope_parameters(RopeDefaults::default()) else {
            panic!("nested")
        };
        let truncate = match &by_type["full_attention"].as_ref().expect("not null").rope_type {
            RopeType::Yarn { truncate, .. } => *truncate,
            other => panic!("{other:?}"),
        };
        assert_eq!(truncate, expected);
    }
}

#[test]
fn wrong_values_are_named() {
    for (object, named) in [
        (json!({"rope_type": "linear", "factor": "2"}), "rope_parameters.factor"),
        (json!({"rope_type": "linear", "factor": 0}), "rope_parameters.factor"),
        (json!({"rope_type": "linear"}), "rope_parameters.factor"),
        (json!({"rope_type": "default", "rope_theta": null}), "rope_parameters.rope_theta"),
        (json!({"rope_type": "default", "rope_theta": -1}), "rope_parameters.rope_theta"),
        (json!({"rope_type": "default", "partial_rotary_factor": 2}), "rope_parameters.partial_rotary_factor"),
        (json!({"rope_type": 7}), "rope_parameters.rope_type"),
        (json!({"type": "su"}), "rope_parameters.type"),
        (json!({"rope_type": "longrope", "short_factor": [1], "long_factor": [0]}), "rope_parameters.long_factor"),
        (json!({"rope_type": "yarn", "factor": 2, "original_max_position_embeddings": -4}), "rope_parameters.original"),
        (json!([1]), "`rope_parameters`"),
        (json!({"full_attention": 3}), "rope_parameters.full_attention"),
    ] {
        let result = llama(json!({"rope_parameters": object})).rope_parameters(RopeDefaults::default());
        let message = result.expect_err(&object.to_string()).to_string();
        assert!(message.contains(named), "{message}");
    }
    let theta = llama(json!({"rope_theta": null})).rope_parameters(RopeDefaults::default());
    assert!(theta.is_err_and(|error| error.to_string().contains("rope_theta")));
}

#[test]
fn keys_without_effect_are_warned_of_and_unknown_ones_stay_unread() {
    let config =
        llama(json!({"rope_parameters": {"rope_type": "default", "factor": 2.0, "beta_fats": 3, "alpha": null}}));
    config.rope_parameters(RopeDefaults::default()).expect("reads");
    let key = "rope_parameters.factor".to_owned();
    assert!(config.warnings().contains(&ConfigWarning::UnusedRopeKey { key, rope_type: "default" }));
    config.usize("max_position_embeddings").expect("a size");
    match config.check_all_read(&[]) {
        Err(ConfigError::UnreadKeys { keys, .. }) => {
            assert_eq!(keys.len(), 1);
            assert_eq!(keys[0].key, "rope_parameters.beta_fats");
            assert_eq!(keys[0].nearest.first().map(String::as_str), Some("beta_fast"));
        }
        other => panic!("{other:?}"),
    }
    assert!(config.check_all_read(&["rope_parameters".to_owned()]).is_ok());
}

#[test]
fn options_rename_types_and_hand_out_extra_keys() {
    let config =
        llama(json!({"rope_scaling": {"type": "yarn", "short_factor": [1.0], "long_factor": [2.0], "alpha": 3}}));
    let options =
        RopeOptions { type_aliases: &[("yarn", "longrope")], extra_keys: &["alpha", "beta"], ..Default::default() };
    match config.rope_parameters_with(&options) {
        Ok(ModelRope::Uniform(parameters)) => {
            assert_eq!(parameters.rope_type.name(), "longrope");
            assert_eq!(parameters.extra.into_iter().collect::<Vec<_>>(), [("alpha".to_owned(), json!(3))]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn overrides_of_rope_count_whatever_the_file_is_like() {
    let files = [
        json!({}),
        json!({"rope_theta": 2.0}),
        json!({"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_theta": 2.0}),
        json!({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 2.0}}),
        json!({"rope_parameters": {"rope_theta": 2.0}, "rope_scaling": {"type": "linear", "factor": 2.0}}),
    ];
    for file in files {
        for prefix in ["rope_scaling", "rope_parameters"] {
            let mut config = json!({"model_type": "llama", "max_position_embeddings": 64});
            config.as_object_mut().expect("an object").extend(file.as_object().expect("an object").clone());
            let overrides = Overrides::new()
                .set(&format!("{prefix}.rope_type"), "yarn")
                .set(&format!("{prefix}.factor"), 8.0)
                .set(&format!("{prefix}.original_max_position_embeddings"), 32)
                .set("rope_theta", 77.0);
            let resolved = resolve(&config, &overrides);
            let Ok(ModelRope::Uniform(parameters)) = resolved.rope_parameters(RopeDefaults::default()) else {
                panic!("{config}")
            };
            assert_eq!(parameters.theta, 77.0, "{config}");
            let as_expected = matches!(
                parameters.rope_type,
                RopeType::Yarn { factor: 8.0, original_max_position_embeddings: 32, .. }
            );
            assert!(as_expected, "{config}: {parameters:?}");
            resolved.usize("max_position_embeddings").expect("a size");
            assert_eq!(resolved.unread_keys(), [""; 0], "{config}");
        }
    }
}

/// Type, base and factor of the one set of parameters.
fn uniform(config: &Value, overrides: &Overrides) -> (String, f64, Option<f64>) {
    let resolved = resolve(config, overrides);
    let Ok(ModelRope::Uniform(parameters)) = resolved.rope_parameters(RopeDefaults::default()) else {
        panic!("{config}")
    };
    resolved.usize("max_position_embeddings").expect("a size");
    assert_eq!(resolved.unread_keys(), [""; 0], "{config}");
    let factor = match parameters.rope_type {
        RopeType::Linear { factor } | RopeType::Yarn { factor, .. } => Some(factor),
        _ => None,
    };
    (parameters.rope_type.name().to_owned(), parameters.theta, factor)
}

#[test]
fn a_scaling_of_version_4_overrides_a_file_of_version_5() {
    let files = [
        json!({"rope_type": "default", "rope_theta": 5.0}),
        json!({"rope_type": "llama3", "rope_theta": 5.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}),
    ];
    for rope_parameters in files {
        let file = json!({"model_type": "llama", "max_position_embeddings": 64, "rope_parameters": rope_parameters});
        for name in ["type", "rope_type"] {
            let overrides = Overrides::new().set("rope_scaling", json!({name: "linear", "factor": 3.0}));
            assert_eq!(uniform(&file, &overrides), ("linear".to_owned(), 5.0, Some(3.0)), "{file}");
        }
        // Without scaling, the base stays.
        let none = Overrides::new().set("rope_scaling", Value::Null);
        assert_eq!(uniform(&file, &none), ("default".to_owned(), 5.0, None), "{file}");
    }
}

#[test]
fn a_scaling_of_version_4_goes_to_the_full_layers() {
    let file = json!({"model_type": "gemma3_text", "max_position_embeddings": 64, "rope_parameters": {
        "full_attention": {"rope_type": "default", "rope_theta": 5.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 3.0},
    }});
    let read = |overrides: &Overrides| {
        let resolved = resolve(&file, overrides);
        let ModelRope::PerLayerType(by_type) = resolved.rope_parameters(RopeDefaults::default()).expect("reads") else {
            panic!("{file}")
        };
        resolved.usize("max_position_embeddings").expect("a size");
        assert_eq!(resolved.unread_keys(), [""; 0]);
        let of =
            |name: &str| by_type[name].clone().map(|set| (set.rope_type.name().to_owned(), set.theta)).expect("set");
        (of("full_attention"), of("sliding_attention"))
    };
    for name in ["rope_scaling", "rope_parameters"] {
        let overrides = Overrides::new().set(name, json!({"type": "linear", "factor": 3.0}));
        assert_eq!(read(&overrides), (("linear".to_owned(), 5.0), ("default".to_owned(), 3.0)), "{name}");
    }
    let none = Overrides::new().set("rope_scaling", Value::Null);
    assert_eq!(read(&none), (("default".to_owned(), 5.0), ("default".to_owned(), 3.0)));
}

#[test]
fn keys_that_transformers_warns_of_and_ignores_are_ignored_with_a_warning() {
    let rope = json!({"rope_type": "yarn", "factor": 4.0, "attn_factor": 0.878, "extrapolation_factor": 1.0});
    let config = llama(json!({"rope_scaling": rope}));
    let Ok(ModelRope::Uniform(parameters)) = config.rope_parameters(RopeDefaults::default()) else { panic!("reads") };
    // `attention_factor` would be read.
    assert!((parameters.rope_type.attention_factor() - (0.1 * 4f64.ln() + 1.0)).abs() < 1e-12);
    let key = "rope_scaling.attn_factor".to_owned();
    assert!(config.warnings().contains(&ConfigWarning::UnusedRopeKey { key, rope_type: "yarn" }));
    assert_eq!(config.unread_keys(), [""; 0]);
}

#[test]
fn an_override_without_effect_stays_unread() {
    let config = json!({"model_type": "llama", "rope_parameters": {"rope_type": "default"}});
    let resolved = resolve(&config, &Overrides::new().set("rope_parameters.factor", 4.0));
    resolved.rope_parameters(RopeDefaults::default()).expect("reads");
    assert_eq!(resolved.unread_keys(), ["rope_parameters.factor"]);
}
