//! Properties over arbitrary input.

use automodel_config::{
    ClassDefaults, DefaultValue, GenerationConfig, Overrides, RawConfig, ResolvedConfig, RopeDefaults, RopeLayer,
    RopeOptions,
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

static CLASS: ClassDefaults = ClassDefaults {
    values: &[
        ("head_dim", DefaultValue::Null),
        ("rope_theta", DefaultValue::Null),
        ("vocab_size", DefaultValue::Int(9)),
    ],
    aliases: &[("n_embd", "hidden_size"), ("d_model", "hidden_size"), ("rotary_emb_base", "rope_theta")],
};

/// Keys that the code under test treats specially.
#[rustfmt::skip]
const KEYS: &[&str] = &[
    "model_type", "architectures", "hidden_size", "n_embd", "d_model", "vocab_size", "layer_types", "num_hidden_layers",
    "rope_theta", "rotary_emb_base", "partial_rotary_factor", "rope_parameters", "rope_scaling", "factor", "rope_type",
    "type", "original_max_position_embeddings", "max_position_embeddings", "dtype", "torch_dtype", "text_config",
    "decoder", "full_attention", "sliding_attention", "short_factor", "long_factor", "low_freq_factor",
    "high_freq_factor", "quantization_config", "eos_token_id", "top_k", "temperature", "__float__", "a.b", "",
];

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..70).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec![
            "llama3",
            "yarn",
            "longrope",
            "linear",
            "dynamic",
            "default",
            "proportional",
            "float16",
            "NaN",
            "Infinity",
            "full_attention",
            "sliding_attention",
            "attention",
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            any_object(inner).prop_map(Value::Object),
        ]
    })
}

fn any_object(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    let pair = (prop::sample::select(KEYS), value).prop_map(|(key, value)| (key.to_owned(), value));
    prop::collection::vec(pair, 0..10).prop_map(|pairs| pairs.into_iter().collect())
}

/// Reads everything there is to read; only the absence of panics matters.
fn read_everything(config: &ResolvedConfig) {
    for key in KEYS {
        let _ = (config.usize(key), config.count_or_null(key), config.f64(key), config.bool(key), config.str(key));
        let _ = (config.list_usize(key), config.list_f64(key), config.list_bool(key), config.list_str(key));
        let _ = (config.origin(key), config.is_null_or_absent(key));
    }
    let _ = (config.layer_types(3), config.dtype(), config.quantization_config().is_some());
    if let Ok(parameters) = config.rope_parameters(RopeDefaults::default()) {
        let _ = format!("{parameters:?}");
    }
    let full = RopeLayer {
        layer_type: "full_attention",
        defaults: RopeDefaults::default(),
        theta_key: Some("rope_theta"),
        takes_rope_scaling: true,
    };
    if let Ok(by_type) = config.rope_parameters_by_layer_type(&[full], &RopeOptions::default()) {
        let _: f64 = by_type.values().map(|parameters| parameters.rope_type.attention_factor()).sum();
    }
    let _ = (config.describe(), config.warnings(), config.unread_keys());
    if let Err(error) = config.check_all_read(&[]) {
        let _ = error.to_string();
    }
    let _ = GenerationConfig::from_model_config(config);
}

fn overrides_from(map: &Map<String, Value>) -> Overrides {
    map.iter().fold(Overrides::new(), |overrides, (key, value)| overrides.set(key, value.clone()))
}

/// Overrides that are always accepted.
fn valid_overrides() -> impl Strategy<Value = Overrides> {
    let number = (1_i64..9).prop_map(Value::from);
    let rope = prop_oneof![
        Just(Value::Null),
        prop::collection::vec((prop::sample::select(vec!["factor", "rope_theta", "rope_type"]), 1_i64..9), 0..3)
            .prop_map(|pairs| pairs
                .into_iter()
                .map(|(key, value)| (key.to_owned(), json!(value)))
                .collect::<Map<_, _>>())
            .prop_map(Value::Object),
    ];
    let plain =
        prop::sample::select(vec!["hidden_size", "n_embd", "d_model", "rope_theta", "rotary_emb_base", "vocab_size"]);
    let entry = prop_oneof![
        (plain.prop_map(str::to_owned), number),
        (prop::sample::select(vec!["rope_scaling", "rope_parameters"]).prop_map(str::to_owned), rope),
        (prop::sample::select(vec!["dtype", "torch_dtype"]).prop_map(str::to_owned), Just(json!("float16"))),
    ];
    prop::collection::vec(entry, 0..6)
        .prop_map(|entries| entries.into_iter().fold(Overrides::new(), |all, (key, value)| all.set(&key, value)))
}

fn resolve(file: &Value, overrides: &Overrides) -> ResolvedConfig {
    let raw = RawConfig::from_value(file.clone()).expect("an object");
    raw.resolve(&CLASS, overrides).expect("resolves")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_json_makes_it_panic(file in any_object(any_value()), patch in any_object(any_value())) {
        let overrides = overrides_from(&patch);
        for value in [Value::Object(file.clone()), json!({"model_type": "a", "text_config": file})] {
            let raw = RawConfig::from_value(value).expect("an object");
            let _ = (raw.model_type().is_ok(), raw.architectures(), raw.get("rope_parameters.factor"));
            for overrides in [&overrides, &Overrides::new()] {
                if let Ok(config) = raw.clone().resolve(&CLASS, overrides) {
                    read_everything(&config);
                }
            }
        }
        let text = Value::Object(file).to_string();
        let _ = GenerationConfig::from_str(&text);
    }

    #[test]
    fn no_text_makes_it_panic(text in any::<String>(), near_json in "[\\[\\]{}:,\"\\\\ 0-9eE.+-aNIt]{0,40}") {
        let _ = RawConfig::from_str(&text);
        let _ = RawConfig::from_str(&near_json);
        let _ = Overrides::parse([text, near_json]);
    }

    #[test]
    fn what_serde_writes_is_read_back(file in any_object(any_value())) {
        let expected = Value::Object(file);
        let raw = RawConfig::from_str(&expected.to_string()).expect("JSON");
        for (key, value) in expected.as_object().expect("an object") {
            prop_assert_eq!(raw.get(key), Some(value));
        }
    }

    #[test]
    fn overriding_twice_is_overriding_once(
        file in prop::collection::vec((prop::sample::select(KEYS), any_value()), 0..8),
        overrides in valid_overrides(),
    ) {
        let mut file: Map<String, Value> = file.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        file.retain(|key, _| !["text_config", "decoder", "model_type"].contains(&key.as_str()));
        file.insert("model_type".into(), json!("example"));
        let once = resolve(&Value::Object(file), &overrides);
        let twice = resolve(&once.to_json(), &overrides);
        prop_assert_eq!(once.to_json(), twice.to_json());
        prop_assert_eq!(once.to_json_with_defaults(), twice.to_json_with_defaults());
    }

    #[test]
    fn overriding_with_nothing_changes_nothing(file in any_object(any_value())) {
        let mut file = file;
        file.retain(|key, _| !["text_config", "decoder"].contains(&key.as_str()));
        file.insert("model_type".into(), json!("example"));
        let file = Value::Object(file);
        prop_assert_eq!(resolve(&file, &Overrides::new()).to_json(), file);
    }
}
