//! The registry: rules of compatibility, registrations and their order, tags, options.

use automodel::config::{ClassDefaults, DefaultValue, Overrides, RawConfig, ResolvedConfig};
use automodel::registry::weights::WeightMap;
use automodel::registry::{
    AcceptedOptions, CompatibilityRule, CustomImplementation, Implementation, Registration, Registry, RegistryError,
    Resolution, ResolveOptions, split_options,
};
use serde_json::{Map, Value, json};

static NEMOTRON_DEFAULTS: ClassDefaults = ClassDefaults { values: &[], aliases: &[] };
static LLAMA_DEFAULTS: ClassDefaults = ClassDefaults { values: &[("vocab_size", DefaultValue::Int(7))], aliases: &[] };

const NEMOTRON: CustomImplementation = CustomImplementation {
    name: "nemotron-v3",
    architecture: "NemotronHForCausalLM",
    model_type: "nemotron_h",
    defaults: &NEMOTRON_DEFAULTS,
    options: AcceptedOptions::Named(&["expert_parallel"]),
    tags: &[],
    supports: None,
    weight_map: |_| Ok(WeightMap::default()),
};

const LLAMA: CustomImplementation = CustomImplementation {
    name: "own-llama",
    architecture: "LlamaForCausalLM",
    model_type: "llama",
    defaults: &LLAMA_DEFAULTS,
    ..NEMOTRON
};

fn resolved(registry: &Registry, config: Value) -> ResolvedConfig {
    let raw = RawConfig::from_value(config).unwrap();
    let defaults = registry.class_defaults(&raw).unwrap();
    raw.resolve(defaults, &Overrides::new()).unwrap()
}

fn resolve(registry: &Registry, config: Value) -> Result<Resolution, RegistryError> {
    registry.resolve(&resolved(registry, config), &ResolveOptions::default())
}

fn llama() -> Value {
    json!({"model_type": "llama", "architectures": ["LlamaForCausalLM"]})
}

fn custom(name: &str) -> Implementation {
    Implementation::Custom { name: name.to_owned() }
}

fn generic(family: &str) -> Implementation {
    Implementation::Generic { family: family.to_owned() }
}

fn with(implementation: CustomImplementation) -> Registry {
    let mut registry = Registry::builtin();
    registry.register_custom(implementation, Registration::New).unwrap();
    registry
}

#[test]
fn nemotron_configs_of_version_3_are_compatible_and_others_not() {
    let registry = with(NEMOTRON);
    let config = |keys: Value| {
        let mut config = json!({"model_type": "nemotron_h", "architectures": ["NemotronHForCausalLM"]});
        config.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        config
    };
    for keys in [
        json!({"n_routed_experts": 8}),
        json!({"layers_block_type": ["mamba", "attention"]}),
        json!({"n_routed_experts": 8, "hybrid_override_pattern": "M*"}),
    ] {
        assert_eq!(resolve(&registry, config(keys.clone())).unwrap().implementation, custom("nemotron-v3"), "{keys}");
    }
    for keys in [json!({"hybrid_override_pattern": "M*M-"}), json!({}), json!({"n_routed_experts": null})] {
        // Nothing generic serves this architecture yet, so that the refusal is all there can be.
        let error = resolve(&registry, config(keys.clone())).unwrap_err();
        assert!(matches!(error, RegistryError::UnsupportedArchitecture { .. }), "{keys}: {error}");
    }
}

#[test]
fn an_incompatible_config_falls_back_to_the_generic_decoder_and_says_why() {
    let mut registry = with(LLAMA);
    let reason = "only configs with `special` describe it";
    registry.add_rule(CompatibilityRule { architecture: "LlamaForCausalLM", any_of: &["special"], reason });
    let resolution = resolve(&registry, llama()).unwrap();
    assert_eq!(resolution.implementation, generic("llama"));
    assert!(resolution.reason.contains(reason), "{}", resolution.reason);
    assert_eq!(resolution.considered[0].name, "own-llama");
    let mut compatible = llama();
    compatible["special"] = json!(1);
    assert_eq!(resolve(&registry, compatible).unwrap().implementation, custom("own-llama"));
}

#[test]
fn architectures_without_a_rule_are_compatible() {
    let resolution = resolve(&with(LLAMA), llama()).unwrap();
    assert_eq!(resolution.implementation, custom("own-llama"));
    assert!(resolution.reason.contains("LlamaForCausalLM"), "{}", resolution.reason);
}

#[test]
fn without_architectures_nothing_custom_is_chosen() {
    for architectures in [Value::Null, json!([])] {
        let config = json!({"model_type": "llama", "architectures": architectures});
        assert_eq!(resolve(&with(LLAMA), config).unwrap().implementation, generic("llama"));
    }
    assert_eq!(resolve(&with(LLAMA), json!({"model_type": "llama"})).unwrap().implementation, generic("llama"));
}

#[test]
fn the_generic_implementation_can_be_forced() {
    let registry = with(LLAMA);
    let resolution = registry
        .resolve(&resolved(&registry, llama()), &ResolveOptions { force_generic: true, ..ResolveOptions::default() })
        .unwrap();
    assert_eq!(resolution.implementation, generic("llama"));
    assert!(resolution.reason.contains("forced"), "{}", resolution.reason);
}

#[test]
fn a_registered_config_class_wins_over_the_family() {
    assert_eq!(resolved(&with(LLAMA), llama()).usize("vocab_size").unwrap(), 7);
    assert_eq!(resolved(&Registry::builtin(), llama()).usize("vocab_size").unwrap(), 32_000);
}

#[test]
fn an_overridden_model_type_brings_its_own_class() {
    let raw = RawConfig::from_value(json!({"model_type": "lama", "architectures": ["LlamaForCausalLM"]})).unwrap();
    let registry = Registry::builtin();
    let resolve = |overrides| registry.resolve_config(&raw, &overrides, &ResolveOptions::default());
    assert!(matches!(resolve(Overrides::new()), Err(RegistryError::UnsupportedArchitecture { .. })));
    let (config, resolution) = resolve(Overrides::new().set("model_type", "qwen2")).unwrap();
    assert_eq!(resolution.implementation, generic("qwen2"));
    assert_eq!(config.usize("vocab_size").unwrap(), 151_936);
}

#[test]
fn what_a_config_alone_may_describe_is_bounded() {
    let registry = Registry::builtin();
    let lower = |config: Value, tensors| {
        let raw = RawConfig::from_value(config).unwrap();
        let (config, resolution) =
            registry.resolve_config(&raw, &Overrides::new(), &ResolveOptions::default()).unwrap();
        registry.lower_for(&config, &resolution, tensors).map(|lowered| lowered.weights.parameters.len())
    };
    let experts = |layers: usize, experts: usize| {
        json!({"model_type": "qwen3_moe", "num_hidden_layers": layers, "num_experts": experts, "hidden_size": 2,
               "moe_intermediate_size": 1, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 2})
    };
    for (layers, of_each) in [(1024, 8192), (16, 8192), (1024, 100)] {
        let error = lower(experts(layers, of_each), 41).unwrap_err();
        assert!(matches!(error, RegistryError::TooManyParameters { tensors: 41, .. }), "{error}");
        assert!(error.to_string().contains("the checkpoint has 41 tensor(s)"), "{error}");
    }
    // Qwen3-235B, from its config alone; and a size that no model has, with files that confirm it.
    assert!(lower(experts(94, 128), 0).unwrap() > 94 * 128 * 3);
    assert!(lower(experts(64, 1024), 64 * 1024 * 3).unwrap() > 64 * 1024 * 3);
    // One norm for each head is one tensor for each head.
    let heads = json!({"model_type": "stablelm", "qk_layernorm": true, "num_attention_heads": 1 << 16,
                       "num_key_value_heads": 1 << 16, "hidden_size": 1 << 20, "num_hidden_layers": 1});
    assert!(matches!(lower(heads, 0).unwrap_err(), RegistryError::TooManyParameters { .. }));
}

#[test]
fn a_second_registration_must_ask_for_replacement() {
    let mut registry = with(LLAMA);
    let other = CustomImplementation { name: "other-llama", ..LLAMA };
    let error = registry.register_custom(other, Registration::New).unwrap_err().to_string();
    assert!(error.contains("LlamaForCausalLM") && error.contains("replacement"), "{error}");
    assert_eq!(resolve(&registry, llama()).unwrap().implementation, custom("own-llama"));
    registry.register_custom(other, Registration::Replace).unwrap();
    assert_eq!(resolve(&registry, llama()).unwrap().implementation, custom("other-llama"));

    let family = *registry.families().find(|family| family.model_type == "llama").unwrap();
    let error = registry.register_family(family, Registration::New).unwrap_err().to_string();
    assert!(error.contains("family `llama`"), "{error}");
    registry.register_family(family, Registration::Replace).unwrap();
}

#[test]
fn a_run_time_registration_overrides_a_built_in_one() {
    let builtin = CustomImplementation { name: "builtin-llama", ..LLAMA };
    let mut registry = Registry::builtin().with_builtin_custom(builtin);
    assert_eq!(resolve(&registry, llama()).unwrap().implementation, custom("builtin-llama"));
    registry.register_custom(LLAMA, Registration::New).unwrap();
    assert_eq!(resolve(&registry, llama()).unwrap().implementation, custom("own-llama"));
}

#[test]
fn an_implementation_can_decline() {
    let supports: fn(&ResolvedConfig) -> Result<(), String> = |config| match config.usize("vocab_size") {
        Ok(size) if size > 100 => Err("its table has 100 rows".to_owned()),
        _ => Ok(()),
    };
    let registry = with(CustomImplementation { supports: Some(supports), ..LLAMA });
    assert_eq!(resolve(&registry, llama()).unwrap().implementation, custom("own-llama"));
    let mut large = llama();
    large["vocab_size"] = json!(101);
    let resolution = resolve(&registry, large).unwrap();
    assert_eq!(resolution.implementation, generic("llama"));
    assert!(resolution.considered[0].verdict.contains("its table has 100 rows"), "{resolution:?}");
}

#[test]
fn implementations_are_found_by_tag() {
    let registry = with(CustomImplementation { tags: &["retrieval", "long"], ..LLAMA });
    let names = |tag: &str| registry.tagged(tag).map(|found| found.name).collect::<Vec<_>>();
    assert_eq!(names("retrieval"), ["own-llama"]);
    assert!(names("vision").is_empty());
}

#[test]
fn options_go_to_whom_they_are_for() {
    let registry = with(LLAMA);
    let mut config = llama();
    config["rope_parameters"] = json!({"rope_type": "default", "rope_theta": 1e4});
    let config = resolved(&registry, config);
    let options = json!({"vocab_size": 9, "rope_parameters.rope_theta": 5.0, "expert_parallel": true});
    let Value::Object(options) = options else { unreachable!() };
    let split = split_options(options, &config, LLAMA.options).unwrap();
    assert_eq!(split.implementation, Map::from_iter([("expert_parallel".to_owned(), json!(true))]));
    let expected = Overrides::new().set("vocab_size", 9).set("rope_parameters.rope_theta", 5.0);
    assert_eq!(split.overrides, expected);
}

#[test]
fn unknown_options_are_an_error_unless_any_is_taken() {
    let config = resolved(&with(LLAMA), llama());
    let options = || Map::from_iter([("expert_paralel".to_owned(), json!(true)), ("vocab_sise".to_owned(), json!(1))]);
    let error = split_options(options(), &config, LLAMA.options).unwrap_err().to_string();
    for part in ["`expert_paralel` (did you mean expert_parallel", "`vocab_sise` (did you mean vocab_size"] {
        assert!(error.contains(part), "{error}");
    }
    let split = split_options(options(), &config, AcceptedOptions::Any).unwrap();
    assert_eq!(split.implementation, options());
    let registry = with(LLAMA);
    let resolution = registry.resolve(&config, &ResolveOptions::default()).unwrap();
    assert_eq!(registry.accepted_options(&resolution).names(), ["expert_parallel"]);
}
