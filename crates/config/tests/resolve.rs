//! Overrides, aliases, class defaults, wrappers, and what is read from the result.

use automodel_config::{
    ClassDefaults, ConfigError, ConfigWarning, DefaultValue, FloatType, Origin, Overrides, RawConfig, ResolvedConfig,
};
use serde_json::{Value, json};

static CLASS: ClassDefaults = ClassDefaults {
    values: &[
        ("num_key_value_heads", DefaultValue::Int(8)),
        ("rms_norm_eps", DefaultValue::Float(1e-6)),
        ("attention_bias", DefaultValue::Bool(false)),
        ("hidden_act", DefaultValue::Str("silu")),
        ("head_dim", DefaultValue::Null),
        ("mlp_only_layers", DefaultValue::Json("[]")),
    ],
    aliases: &[("n_embd", "hidden_size"), ("width", "hidden_size")],
};

fn resolve_with(mut keys: Value, overrides: &Overrides) -> Result<ResolvedConfig, ConfigError> {
    let map = keys.as_object_mut().expect("an object");
    map.entry("model_type").or_insert_with(|| json!("example"));
    RawConfig::from_value(keys).and_then(|raw| raw.resolve(&CLASS, overrides))
}

fn resolve(keys: Value) -> ResolvedConfig {
    resolve_with(keys, &Overrides::new()).expect("resolves")
}

#[test]
fn absent_is_not_null() {
    let absent = resolve(json!({}));
    assert_eq!(absent.usize("num_key_value_heads").expect("default"), 8);
    assert_eq!(absent.origin("num_key_value_heads"), Some(&Origin::ClassDefault));
    assert_eq!(absent.list_usize("mlp_only_layers").expect("default"), [0; 0]);
    assert_eq!(absent.str("hidden_act").expect("default"), "silu");
    assert_eq!(absent.f64("rms_norm_eps").expect("default"), 1e-6);
    assert!(absent.is_null_or_absent("head_dim") && absent.is_null_or_absent("nothing"));

    let null = resolve(json!({"num_key_value_heads": null}));
    assert_eq!(null.usize_or_null("num_key_value_heads").expect("null"), None);
    assert!(null.usize("num_key_value_heads").is_err());
    assert_eq!(null.origin("num_key_value_heads"), Some(&Origin::File));
    assert_eq!(null.origin("nothing"), None);
}

#[test]
fn every_value_knows_its_origin() {
    let overrides = Overrides::new().set("rope_parameters.factor", 4.0).set("attention_bias", true);
    let file = json!({"rope_parameters": {"rope_type": "linear", "factor": 2.0}, "n_embd": 8});
    let mut config = resolve_with(file, &overrides).expect("resolves");
    config.set_derived("head_dim", json!(4), "hidden_size / num_attention_heads");
    assert_eq!(config.origin("rope_parameters"), Some(&Origin::File));
    assert_eq!(config.origin("rope_parameters.rope_type"), Some(&Origin::File));
    assert_eq!(config.origin("rope_parameters.factor"), Some(&Origin::Override));
    assert_eq!(config.usize("head_dim").expect("derived"), 4);
    let rows: Vec<String> =
        config.describe().iter().map(|(key, value, origin)| format!("{key} = {value} ({origin})")).collect();
    insta::assert_snapshot!(rows.join("\n"), @r#"
    attention_bias = true (from an override)
    head_dim = 4 (derived: hidden_size / num_attention_heads)
    hidden_act = "silu" (from the class default)
    hidden_size = 8 (from the file)
    mlp_only_layers = [] (from the class default)
    model_type = "example" (from the file)
    num_key_value_heads = 8 (from the class default)
    rms_norm_eps = 1e-6 (from the class default)
    rope_parameters.factor = 4.0 (from an override)
    rope_parameters.rope_type = "linear" (from the file)
    "#);
}

#[test]
fn sizes_are_checked() {
    for value in
        [json!(0), json!(-1), json!(1.5), json!("8"), json!([8]), json!(1e300), json!(2147483648_u64), json!(true)]
    {
        let config = resolve(json!({"hidden_size": value}));
        let message = config.usize("hidden_size").expect_err(&value.to_string()).to_string();
        assert!(message.contains("`hidden_size`") && message.contains(&value.to_string()), "{message}");
    }
    for (value, expected) in
        [(json!(8), 8), (json!(4096.0), 4096), (json!(1e6), 1_000_000), (json!(2147483647), 2147483647)]
    {
        assert_eq!(resolve(json!({"window": value})).usize("window").expect("a size"), expected);
    }
    let zero = resolve(json!({"hidden_size": 0, "head_dim": -0.0}));
    assert_eq!(zero.count("hidden_size").expect("a count"), 0);
    assert_eq!(zero.count_or_null("head_dim").expect("a count"), Some(0));
    assert_eq!(zero.count_or_null("vocab_size").expect("absent"), None);
}

#[test]
fn numbers_are_within_the_range_of_their_key() {
    let infinity = json!({"__float__": "Infinity"});
    for (key, least, most, outside) in [
        ("rms_norm_eps", 0.0, 1.0, vec![json!(-1e-9), json!(1.1), infinity.clone()]),
        ("clip_qkv", 1e-6, 1e9, vec![json!(-1), json!(0), json!(5e-324), json!({"__float__": "NaN"})]),
        ("logits_scaling", 1e-6, 1e9, vec![json!(0.0), json!(-8), infinity]),
        ("rope_theta", 1e-6, 1e15, vec![json!(0), json!(-1e4), json!(1e300)]),
        ("anything", -1e30, 1e30, vec![json!(1e31)]),
    ] {
        for value in [least, most] {
            assert_eq!(resolve(json!({key: value})).f64(key).expect(key), value);
        }
        for value in outside {
            let message = resolve(json!({key: value})).f64_or_null(key).expect_err(key).to_string();
            assert!(
                message.contains(&format!("`{key}` is ")) && message.contains("must be a number from "),
                "{message}"
            );
        }
    }
    for (key, most) in
        [("num_hidden_layers", 1 << 10), ("num_experts", 1 << 13), ("head_dim", 1 << 16), ("vocab_size", 1 << 27)]
    {
        assert_eq!(resolve(json!({key: most})).usize(key).expect(key), most);
        assert!(resolve(json!({key: most + 1})).usize_or_null(key).is_err(), "{key}");
        assert!(resolve(json!({key: most + 1})).count(key).is_err(), "{key}");
    }
}

#[test]
fn other_kinds_are_checked() {
    let config = resolve(json!({
        "a": null, "b": "text", "c": [1, 2.0], "d": [true], "e": {"__float__": "Infinity"}, "f": ["x", 1], "g": 1,
        "h": [0.5, {"__float__": "Infinity"}], "i": [{"__float__": "NaN"}],
    }));
    assert!(!config.bool("a").expect("null is false"));
    assert_eq!(config.bool_or_null("a").expect("null"), None);
    assert!(config.bool("b").is_err() && config.bool("g").is_err() && config.bool("nothing").is_err());
    assert_eq!(config.str_or_null("b").expect("text"), Some("text"));
    assert!(config.str("a").is_err() && config.str_or_null("g").is_err());
    assert_eq!(config.list_usize_or_null("c").expect("a list"), Some(vec![1, 2]));
    assert_eq!(config.list_bool("d").expect("a list"), [true]);
    assert!(config.f64("e").is_err() && config.f64_or_null("b").is_err());
    assert_eq!(config.f64("g").expect("a number"), 1.0);
    assert!(config.list_str("f").is_err() && config.list_str_or_null("f").is_err());
    assert_eq!(config.list_f64("h").expect("a list"), [0.5, f64::INFINITY]);
    assert!(config.list_f64_or_null("i").is_err() && config.list_bool_or_null("c").is_err());
}

#[test]
fn messages_name_key_value_origin_and_remedy() {
    let overrides = Overrides::new().set("vocab_size", "many");
    let config = resolve_with(json!({"n_embd": -64}), &overrides).expect("resolves");
    let message = |key: &str| config.usize(key).expect_err(key).to_string();
    insta::assert_snapshot!(message("hidden_size"), @r#"`hidden_size` (`n_embd` in the file) is -64 in the config (from the file), but must be an integer from 1 to 1048576: correct the file or override the value"#);
    insta::assert_snapshot!(message("vocab_size"), @r#"`vocab_size` is "many" in the config (from an override), but must be an integer from 1 to 134217728: correct the file or override the value"#);
    insta::assert_snapshot!(message("num_hidden_layers"), @r#"the config has no `num_hidden_layers`, and the config class has no default for it: add it to the file or override it with num_hidden_layers=VALUE"#);
    insta::assert_snapshot!(resolve_with(json!({}), &Overrides::new().set("num_hiden_layers", 2)).expect_err("unknown"), @r#"override of unknown key `num_hiden_layers` (near names: num_hidden_layers, num_heads, num_layers): check the spelling; a key can be overridden if the file, its class or transformers knows it"#);
    insta::assert_snapshot!(config.check_all_read(&[]).map(|()| "read").unwrap_or("unread"), @"read");
    insta::assert_snapshot!(resolve(json!({"hidden_acts": "gelu", "novelty": 1})).check_all_read(&[]).expect_err("unread"), @r#"the config has unread keys that may change what the model computes: `hidden_acts` (near names: hidden_act, hidden_activation, hidden_size), `novelty`; if a key has no effect, add it to the allowed keys"#);
}

#[test]
fn either_name_of_an_aliased_key_can_be_overridden() {
    for file in [
        json!({}),
        json!({"n_embd": 1}),
        json!({"hidden_size": 1}),
        json!({"n_embd": 1, "hidden_size": 1}),
        json!({"width": 1}),
    ] {
        for name in ["n_embd", "hidden_size", "width"] {
            let config = resolve_with(file.clone(), &Overrides::new().set(name, 2)).expect("resolves");
            assert_eq!(config.usize("hidden_size").expect("a size"), 2, "{file} {name}");
            assert_eq!(config.origin("hidden_size"), Some(&Origin::Override));
            assert_eq!(config.warnings(), [], "{file} {name}");
            let saved = resolve(config.to_json());
            assert_eq!(saved.usize("hidden_size").expect("a size"), 2, "{file} {name}");
        }
    }
}

#[test]
fn the_canonical_name_counts_when_both_occur() {
    let config = resolve(json!({"n_embd": 1, "hidden_size": 2}));
    assert_eq!(config.usize("hidden_size").expect("a size"), 2);
    let conflict = ConfigWarning::AliasConflict { alias: "n_embd".into(), canonical: "hidden_size".into() };
    assert_eq!(config.warnings(), [conflict]);
    assert_eq!(config.unread_keys(), [""; 0]);
}

#[test]
fn overrides_merge_into_objects_and_may_be_any_known_key() {
    let overrides =
        Overrides::parse(["quantization_config.bits=4", "vocab_size=7", "use_cache=false"]).expect("parses");
    let config = resolve_with(json!({"quantization_config": {"quant_method": "gptq", "bits": 8}}), &overrides);
    let config = config.expect("resolves");
    assert_eq!(config.quantization_config(), Some(&json!({"quant_method": "gptq", "bits": 4})));
    assert_eq!(config.usize("vocab_size").expect("a size"), 7);
    for (key, near) in [
        ("hidden_siz", "hidden_size"),
        ("rope_parameters.factr", "factor"),
        ("rope_parametrs.factor", "rope_parameters"),
    ] {
        match resolve_with(json!({}), &Overrides::new().set(key, 1)) {
            Err(ConfigError::UnknownOverride { key: named, nearest }) => {
                assert_eq!(named, key);
                assert_eq!(nearest.first().map(String::as_str), Some(near), "{key}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(
        resolve_with(json!({}), &Overrides::new().set("rope_parameters..factor", 1)),
        Err(ConfigError::MalformedOverride { .. })
    ));
}

#[test]
fn overrides_choose_the_class() {
    let overrides =
        Overrides::new().set("model_type", "other").set("layer_types", json!(["a"])).set("architectures", json!(["B"]));
    let raw = RawConfig::from_value(json!({"model_type": "example", "architectures": ["A"]})).expect("an object");
    let raw = raw.with_class_overrides(&overrides);
    assert_eq!((raw.model_type().expect("a type"), raw.architectures()), ("other", vec!["B".to_owned()]));
    assert_eq!(raw.get("layer_types"), Some(&json!(["a"])));
    // Of a wrapper it is the text model's, whichever way it is named, before it is unwrapped and after.
    for key in ["model_type", "text_config.model_type"] {
        let overrides = Overrides::new().set(key, "other");
        let wrapped = json!({"model_type": "outer", "text_config": {"model_type": "example"}});
        let raw = RawConfig::from_value(wrapped).expect("an object");
        for raw in
            [raw.clone().with_class_overrides(&overrides), raw.unwrap_text_config().with_class_overrides(&overrides)]
        {
            assert_eq!(raw.model_type().expect("a type"), "other", "{key}");
            assert_eq!(raw.unwrap_text_config().get_outer("model_type"), Some(&json!("outer")), "{key}");
        }
    }
}

#[test]
fn derived_values_give_way_to_overrides_and_are_written() {
    let mut raw = RawConfig::from_value(json!({"model_type": "example", "vocab_size": 7})).expect("an object");
    raw.set_derived("vocab_size", json!(9), "a reason");
    let config = raw.clone().resolve(&CLASS, &Overrides::new()).expect("resolves");
    assert_eq!(config.usize("vocab_size").expect("a size"), 9);
    assert_eq!(config.origin("vocab_size"), Some(&Origin::Derived("a reason")));
    assert_eq!(config.to_json()["vocab_size"], 9);
    let config = raw.resolve(&CLASS, &Overrides::new().set("vocab_size", 8)).expect("resolves");
    assert_eq!(config.usize("vocab_size").expect("a size"), 8);
    assert_eq!(config.origin("vocab_size"), Some(&Origin::Override));
}

#[test]
fn other_tools_name_their_quantisation_otherwise() {
    for key in ["quantization", "compression_config", "quantization_config"] {
        let declared = json!({"group_size": 64, "bits": 4});
        let config = resolve(json!({key: declared}));
        assert_eq!(config.quantization_config(), Some(&declared), "{key}");
        assert!(config.check_all_read(&[]).is_ok(), "{key}");
        let wrapped = resolve(json!({key: declared, "text_config": {}}));
        assert_eq!(wrapped.quantization_config(), Some(&declared), "{key}");
    }
}

#[test]
fn null_can_override() {
    let overrides = Overrides::new().set("rope_scaling", Value::Null);
    let file = json!({"rope_scaling": {"factor": 2.0}, "rope_parameters": {"factor": 3.0}});
    let config = resolve_with(file, &overrides).expect("resolves");
    assert!(config.is_null_or_absent("rope_scaling") && config.is_null_or_absent("rope_parameters"));
}

#[test]
fn layer_types_are_cut_renamed_or_refused() {
    let config = resolve(json!({"layer_types": ["attention", "sliding_attention", "mamba"]}));
    let full = ["full_attention", "sliding_attention", "linear_attention"];
    assert_eq!(config.layer_types(3).expect("equal"), Some(full.map(str::to_owned).to_vec()));
    assert_eq!(config.warnings(), []);
    assert_eq!(config.layer_types(2).expect("longer"), Some(full[..2].iter().map(|name| (*name).to_owned()).collect()));
    config.layer_types(2).expect("again");
    assert_eq!(config.warnings(), [ConfigWarning::LayerTypesCut { given: 3, num_hidden_layers: 2 }]);
    let text = config.warnings().first().map(ToString::to_string).unwrap_or_default();
    assert!(text.contains("3 entries for 2 layers"), "{text}");
    match config.layer_types(4) {
        Err(ConfigError::ShortLayerTypes { given: 3, num_hidden_layers: 4, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(resolve(json!({"layer_types": null})).layer_types(2).expect("null"), None);
    assert!(resolve(json!({"layer_types": ["a", 1]})).layer_types(2).is_err());
}

#[test]
fn wrappers_are_unwrapped() {
    for wrapper in ["text_config", "decoder", "generator", "text_encoder"] {
        let file = json!({
            "model_type": "outer", "architectures": ["OuterModel"], "quantization_config": {"bits": 4}, "dtype": "float16",
            wrapper: {"model_type": "inner", "hidden_size": 8, "quantization_config": null},
        });
        let raw = RawConfig::from_value(file).expect("an object");
        assert_eq!(raw.text_config_key(), Some(wrapper));
        assert_eq!(raw.model_type().expect("a type"), "inner");
        let overrides = Overrides::new().set(&format!("{wrapper}.vocab_size"), 3).set("num_hidden_layers", 2);
        let config = raw.resolve(&CLASS, &overrides).expect("resolves");
        assert_eq!((config.model_type(), config.architectures()), ("inner", &["OuterModel".to_owned()][..]));
        assert_eq!(config.usize("hidden_size").expect("a size"), 8);
        assert_eq!(config.usize("vocab_size").expect("a size"), 3);
        assert_eq!(config.usize("num_hidden_layers").expect("a size"), 2);
        assert_eq!(config.quantization_config(), Some(&json!({"bits": 4})));
        assert_eq!(config.dtype().expect("a type"), Some(FloatType::Float16));
    }
    let two = json!({"model_type": "outer", "text_config": {}, "decoder": {}});
    let raw = RawConfig::from_value(two).expect("an object");
    assert!(matches!(raw.resolve(&CLASS, &Overrides::new()), Err(ConfigError::AmbiguousTextConfig { .. })));
    let plain = resolve(json!({"decoder": null, "generator": "text"}));
    assert_eq!(plain.model_type(), "example");
    let own = resolve(json!({"torch_dtype": "float32", "text_config": {"torch_dtype": "bfloat16"}}));
    assert_eq!(own.dtype().expect("a type"), Some(FloatType::BFloat16));
}

#[test]
fn keys_among_those_of_the_wrapper_become_a_text_config() {
    let file = json!({
        "model_type": "outer", "architectures": ["OuterModel"], "dtype": "float16", "hidden_size": 8, "image_token": 7,
        "vision_config": {"hidden_size": 2}, "quantization_config": {"bits": 4}, "rope_scaling": {"type": "mrope"},
    });
    let raw = RawConfig::from_value(file).expect("an object").nest_text_config(|key| key == "image_token");
    assert_eq!(raw.text_config_key(), Some("text_config"));
    let raw = raw.unwrap_text_config();
    assert_eq!(raw.get("hidden_size"), Some(&json!(8)));
    assert_eq!(raw.get("rope_scaling.type"), Some(&json!("mrope")));
    assert_eq!(raw.get("quantization_config.bits"), Some(&json!(4)));
    assert_eq!((raw.get("image_token"), raw.get_outer("image_token")), (None, Some(&json!(7))));
    assert_eq!((raw.get("vision_config"), raw.get("model_type")), (None, None));
    let mut parts: Vec<&str> = raw.wrapper().expect("a wrapper").parts().map(|(key, _)| key).collect();
    // In the order of the file where `serde_json` keeps it.
    parts.sort_unstable();
    assert_eq!(parts, ["text_config", "vision_config"]);
    // One that has a text model stays as it is.
    let nested = json!({"model_type": "outer", "hidden_size": 8, "decoder": {"model_type": "inner"}});
    let raw = RawConfig::from_value(nested).expect("an object").nest_text_config(|_| false);
    assert_eq!((raw.text_config_key(), raw.get("hidden_size")), (Some("decoder"), Some(&json!(8))));
}

#[test]
fn dtype_comes_before_torch_dtype() {
    for (file, expected) in [
        (json!({}), None),
        (json!({"torch_dtype": "float16"}), Some(FloatType::Float16)),
        (json!({"torch_dtype": "torch.bfloat16"}), Some(FloatType::BFloat16)),
        (json!({"dtype": null, "torch_dtype": "float32"}), Some(FloatType::Float32)),
        (json!({"dtype": "bfloat16", "torch_dtype": "float32"}), Some(FloatType::BFloat16)),
        (json!({"dtype": "auto"}), None),
    ] {
        assert_eq!(resolve(file.clone()).dtype().expect("reads"), expected, "{file}");
    }
    for value in [json!("int8"), json!("torch.uint8"), json!("fp16"), json!(16)] {
        let message = resolve(json!({"dtype": value})).dtype().expect_err("refused").to_string();
        assert!(message.contains("`dtype`") && message.contains("floating-point"), "{message}");
    }
    let overridden = resolve_with(json!({"dtype": "float32"}), &Overrides::new().set("torch_dtype", "float16"));
    assert_eq!(overridden.expect("resolves").dtype().expect("reads"), Some(FloatType::Float16));
}

#[test]
fn unread_keys_are_named_until_read_or_allowed() {
    let config = resolve(json!({
        "hidden_size": 8, "n_embd": 8, "eos_token_id": 2, "attention_dropout": 0.5, "unknown": null,
        "nested": {"a": 1, "b": {"c": 2, "d": 3}, "e": null},
    }));
    assert_eq!(config.unread_keys(), ["hidden_size", "nested"]);
    config.usize("hidden_size").expect("a size");
    config.usize("nested.b.c").expect("a size");
    assert_eq!(config.unread_keys(), ["nested.a", "nested.b.d"]);
    assert!(config.check_all_read(&["nested.a".into()]).is_err());
    assert!(config.check_all_read(&["nested.a".into(), "nested.b".into()]).is_ok());
    let copy = config.clone();
    copy.value("nested");
    assert_eq!(copy.unread_keys(), [""; 0]);
    assert_eq!(config.unread_keys(), ["nested.a", "nested.b.d"]);
}

#[test]
fn unread_keys_bear_the_name_of_the_file() {
    let config = resolve(json!({"n_embd": 8}));
    assert_eq!(config.unread_keys(), ["n_embd"]);
    assert!(config.check_all_read(&["n_embd".into()]).is_ok());
}

#[test]
fn a_broken_class_default_is_an_error() {
    static BROKEN: ClassDefaults = ClassDefaults { values: &[("a", DefaultValue::Json("[1,"))], aliases: &[] };
    let raw = RawConfig::from_str(r#"{"model_type": "example"}"#).expect("an object");
    assert!(matches!(raw.resolve(&BROKEN, &Overrides::new()), Err(ConfigError::InvalidClassDefault { .. })));
}

#[test]
fn saving_spells_out_overrides_but_no_defaults() {
    let config = resolve_with(json!({"n_embd": 8}), &Overrides::new().set("vocab_size", 5)).expect("resolves");
    assert_eq!(config.to_json(), json!({"n_embd": 8, "model_type": "example", "vocab_size": 5}));
    let all = config.to_json_with_defaults();
    assert_eq!((&all["hidden_size"], &all["num_key_value_heads"]), (&json!(8), &json!(8)));
}
