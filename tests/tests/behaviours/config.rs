//! Configs: overrides, layer types, wrappers, finished configs.

use super::{fixture, logits};
use crate::support::{assert_says, copy_of, distance, edit_json, load, message};
use automodel::config::{Origin, Overrides, RawConfig};
use automodel::loader::SaveOptions;
use automodel::registry::spec::{AttentionMask, RopeScaling};
use automodel::{AutoModel, AutoModelForCausalLM};
use serde_json::{Value, json};
use std::fs;

fn rope(model: &AutoModel) -> (f64, RopeScaling) {
    let (_, attention) = model.prepared().lowered.spec.as_ref().unwrap().backbone.attentions().next().unwrap();
    let rope = attention.rope.as_ref().unwrap();
    (rope.theta, rope.scaling.clone())
}

#[test]
fn overrides_merge_into_nested_objects() {
    let (
        theta,
        RopeScaling::Llama3 { low_freq_factor: low, high_freq_factor: high, original_max_position_embeddings, .. },
    ) = rope(&fixture("llama-v4").load().unwrap())
    else {
        panic!("the fixture has llama3 scaling")
    };
    let expected = RopeScaling::Llama3 {
        factor: 3.0,
        low_freq_factor: low,
        high_freq_factor: high,
        original_max_position_embeddings,
    };
    let dotted = fixture("llama-v4").config_override("rope_scaling.factor", 3.0).load().unwrap();
    assert_eq!(rope(&dotted), (theta, expected.clone()));
    let object = fixture("llama-v4").config_override("rope_scaling", json!({"factor": 3.0})).load().unwrap();
    assert_eq!(rope(&object), (theta, expected.clone()));
    let option = fixture("llama-v4").option("rope_scaling.factor", 3.0).load().unwrap();
    assert_eq!(rope(&option), (theta, expected));
    let scalar = fixture("llama-v4").config_overrides(&Overrides::new().set("rope_theta", 77.0)).load().unwrap();
    assert_eq!(rope(&scalar).0, 77.0);
    let config = &scalar.prepared().config;
    assert_eq!(
        (config.origin("rope_theta"), config.origin("hidden_size")),
        (Some(&Origin::Override), Some(&Origin::File))
    );
}

#[test]
fn layer_types_longer_than_the_model_are_cut_with_a_warning() {
    let directory = copy_of("gemma2");
    let original = logits(&load(directory.path()).unwrap());
    let mut lengths = (0, 0);
    edit_json(directory.path(), "config.json", |config| {
        let types = config["layer_types"].as_array_mut().unwrap();
        types.push(json!("full_attention"));
        lengths = (types.len(), types.len() - 1);
    });
    let model = load(directory.path()).unwrap();
    assert_eq!(logits(&model), original);
    let warnings: Vec<String> = model.prepared().config.warnings().iter().map(ToString::to_string).collect();
    assert_says(&warnings.join("\n"), &[&format!("{} entries for {} layers", lengths.0, lengths.1)]);
}

#[test]
fn layer_types_of_the_right_length_are_left_alone() {
    let model = fixture("gemma2").load().unwrap();
    assert!(model.prepared().config.warnings().is_empty());
    assert_eq!(model.prepared().config.origin("layer_types"), Some(&Origin::File));
}

#[test]
fn layer_types_shorter_than_the_model_are_refused() {
    let directory = copy_of("gemma2");
    edit_json(directory.path(), "config.json", |config| {
        config["layer_types"].as_array_mut().unwrap().pop();
    });
    let said = message(&load(directory.path()).unwrap_err());
    assert_says(&said, &["`layer_types`", "entries for", "num_hidden_layers", "add the missing entries"]);
}

#[test]
fn missing_architectures_are_none() {
    for architectures in [None, Some(Value::Null)] {
        let directory = copy_of("llama");
        edit_json(directory.path(), "config.json", |config| {
            config.as_object_mut().unwrap().remove("architectures");
            if let Some(value) = architectures {
                config["architectures"] = value;
            }
        });
        let model = load(directory.path()).unwrap();
        assert_eq!(model.prepared().resolution.architecture, None);
        assert_eq!(logits(&model), logits(&fixture("llama").load().unwrap()));
    }
}

#[test]
fn a_text_model_inside_a_wrapper_is_the_text_model() {
    let directory = copy_of("llama");
    edit_json(directory.path(), "config.json", |config| {
        let text = std::mem::take(config);
        *config = json!({
            "model_type": "internvl", "architectures": ["InternVLForConditionalGeneration"], "tie_word_embeddings": false,
            "text_config": text,
        });
    });
    // As transformers 5 names the tensors of such models.
    let path = directory.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let renamed = tensors.iter().map(|(name, view)| (name.replacen("model.", "model.language_model.", 1), view));
    safetensors::serialize_to_file(renamed, None, &path).unwrap();

    let model = load(directory.path()).unwrap();
    assert_eq!(logits(&model), logits(&fixture("llama").load().unwrap()));
    let shallower = AutoModelForCausalLM::from_pretrained(directory.path().to_str().unwrap())
        .config_override("text_config", json!({"num_hidden_layers": 2}));
    let shallower = shallower.load().unwrap();
    assert_eq!(shallower.prepared().lowered.spec.as_ref().unwrap().backbone.layers.len(), 2);
    assert_eq!(shallower.prepared().config.usize("hidden_size").unwrap(), 32);
}

#[test]
fn what_of_a_larger_model_is_not_loaded_is_told_with_its_size() {
    assert_eq!(fixture("llama").inspect().unwrap().larger_model, None);
    let summary = fixture("llava").inspect().unwrap();
    let larger = summary.larger_model.unwrap();
    assert_eq!((larger.model_type.as_deref(), larger.loaded.as_str()), (Some("llava"), "text_config"));
    let names: Vec<&str> = larger.not_loaded.iter().map(|module| module.name.as_str()).collect();
    assert_eq!(names, ["multi_modal_projector", "vision_tower"]);
    let projector = &larger.not_loaded[0];
    // Two layers with biases, from 16 to 32 and from 32 to 32, in float32.
    assert_eq!((projector.tensors, projector.bytes), (4, 4 * (16 * 32 + 32 + 32 * 32 + 32)));
    let all = larger.not_loaded.iter().fold((0, 0), |sum, module| (sum.0 + module.tensors, sum.1 + module.bytes));
    assert_eq!(all, (summary.unread_tensors, summary.unread_bytes));
}

#[test]
fn a_text_model_without_a_class_of_its_own_is_saved_as_one_that_computes_the_same() {
    for (name, alone) in [("qwen2_vl-v4", "qwen2"), ("qwen3_vl_moe", "qwen3_moe"), ("glm4v", "glm4")] {
        let model = fixture(name).load().unwrap();
        let parent = tempfile::tempdir().unwrap();
        let copy = parent.path().join("copy");
        model.save_pretrained(&copy, &SaveOptions::default()).unwrap();
        let saved: Value = serde_json::from_slice(&fs::read(copy.join("config.json")).unwrap()).unwrap();
        assert_eq!(saved["model_type"], alone);
        assert!(saved.get("vision_config").is_none() && !saved.to_string().contains("mrope"), "{saved}");
        let again = load(&copy).unwrap();
        assert_eq!(again.prepared().lowered.spec, model.prepared().lowered.spec, "{name}");
        assert_eq!(logits(&again), logits(&model), "{name}");
    }
}

#[test]
fn an_override_of_the_model_type_chooses_the_family() {
    let directory = copy_of("llama");
    edit_json(directory.path(), "config.json", |config| config["model_type"] = json!("lama"));
    let model = || AutoModelForCausalLM::from_pretrained(directory.path().to_str().unwrap());
    assert!(model().load().is_err());
    let loaded = model().config_override("model_type", "llama").load().unwrap();
    assert_eq!(logits(&loaded), logits(&fixture("llama").load().unwrap()));
    assert_eq!(loaded.prepared().config.origin("model_type"), Some(&Origin::Override));
    edit_json(directory.path(), "config.json", |config| {
        config.as_object_mut().unwrap().remove("model_type");
    });
    assert_eq!(logits(&model().config_override("model_type", "llama").load().unwrap()), logits(&loaded));
}

#[test]
fn an_override_of_layer_types_makes_a_mistral_a_ministral() {
    // The class of Ministral has another window than Mistral's where neither says.
    let types = json!(["sliding_attention", "full_attention"]);
    let directory = copy_of("mistral-full");
    let model = AutoModelForCausalLM::from_pretrained(directory.path().to_str().unwrap())
        .config_override("layer_types", types)
        .config_override("sliding_window", 4);
    let model = model.load().unwrap();
    assert_eq!(model.prepared().resolution.model_type, "ministral");
    let spec = model.prepared().lowered.spec.as_ref().unwrap();
    let masks = spec.backbone.attentions().map(|(_, attention)| attention.mask);
    assert_eq!(masks.collect::<Vec<_>>(), [AttentionMask::Sliding { window: 4 }, AttentionMask::Full]);
}

#[test]
fn what_the_wrapper_decides_is_saved() {
    for name in ["aya_vision", "llava", "llava_next"] {
        let model = fixture(name).load().unwrap();
        let saved = tempfile::tempdir().unwrap();
        let path = saved.path().join("saved");
        model.save_pretrained(&path, &SaveOptions::default()).unwrap();
        assert_eq!(logits(&load(&path).unwrap()), logits(&model), "{name}");
    }
}

#[test]
fn a_finished_config_is_used_as_it_is() {
    let raw = json!({"model_type": "qwen3", "vocab_size": 20, "hidden_size": 8, "intermediate_size": 16,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4});
    let build = |seed| {
        let config = RawConfig::from_value(raw.clone()).unwrap();
        AutoModelForCausalLM::from_config(config).seed(seed).build().unwrap()
    };
    let model = build(1);
    assert!(model.checkpoint().is_none() && model.prepared().config.path().is_none());
    assert_eq!(model.prepared().config.to_json(), raw);
    assert_eq!(model.logits(&[1, 2, 3]).unwrap().dims(), [3, 20]);
    let of = |model: &AutoModel| -> Vec<f32> { model.logits(&[1, 2, 3]).unwrap().into_data().try_into_vec().unwrap() };
    assert_eq!(of(&model), of(&build(1)), "the same seed gives the same model");
    assert!(distance(&of(&model), &of(&build(2))) > 0.1, "another seed gives another");
}
