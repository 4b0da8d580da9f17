//! Configs that make no sense, or need something that does not exist.

use super::refusal;
use crate::support::{assert_says, copy_of, edit_json, message};
use automodel::AutoModelForCausalLM;
use serde_json::{Value, json};
use std::fs;

/// The refusal of the fixture `name` with other values in its config.
#[track_caller]
fn refusal_with(name: &str, changes: &[(&str, Value)]) -> String {
    let directory = copy_of(name);
    edit_json(directory.path(), "config.json", |config| {
        changes.iter().for_each(|(key, value)| config[*key] = value.clone());
    });
    refusal(directory.path())
}

/// The refusal of the `llama` fixture with another text as its config.
#[track_caller]
fn refusal_of_text(text: &str) -> String {
    let directory = copy_of("llama");
    fs::write(directory.path().join("config.json"), text).unwrap();
    refusal(directory.path())
}

#[test]
fn a_config_that_is_not_json() {
    let said = refusal_of_text("{\"model_type\": \"llama\",\n  \"vocab_size\" 96}");
    assert_says(&said, &["config.json, line 2, column 16", "not JSON"]);
}

#[test]
fn a_config_that_is_no_object() {
    assert_says(&refusal_of_text("[1, 2]"), &["config.json", "a list", "an object"]);
}

#[test]
fn a_config_nested_without_end() {
    assert_says(&refusal_of_text(&"[".repeat(1_000_000)), &["config.json", "deeper than"]);
}

#[test]
fn no_config_at_all() {
    let directory = copy_of("llama");
    fs::remove_file(directory.path().join("config.json")).unwrap();
    let said = refusal(directory.path());
    assert_says(&said, &[directory.path().to_str().unwrap(), "no config.json", "model.safetensors"]);
}

#[test]
fn negative_sizes() {
    for key in ["hidden_size", "num_hidden_layers", "vocab_size", "num_key_value_heads", "head_dim"] {
        let said = refusal_with("llama", &[(key, json!(-8))]);
        assert_says(
            &said,
            &[&format!("`{key}` is -8"), "config.json", "from the file", "correct the file or override"],
        );
    }
}

#[test]
fn sizes_of_zero() {
    for key in ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size"] {
        assert_says(&refusal_with("llama", &[(key, json!(0))]), &[&format!("`{key}` is 0"), "config.json"]);
    }
    assert_says(&refusal_with("mixtral", &[("num_local_experts", json!(0))]), &["there are 0 experts", "mixtral"]);
}

#[test]
fn absurd_sizes() {
    for (key, value) in
        [("hidden_size", json!(1_u64 << 62)), ("vocab_size", json!(u64::MAX)), ("head_dim", json!(1e300))]
    {
        let said = refusal_with("llama", &[(key, value)]);
        assert!(said.contains(key) || said.contains("too large to address"), "{said}");
    }
    for (fixture, key) in
        [("llama", "num_hidden_layers"), ("mixtral", "num_local_experts"), ("llama", "num_attention_heads")]
    {
        let said = refusal_with(fixture, &[(key, json!(1_000_000_000))]);
        assert_says(&said, &[&format!("`{key}` is 1000000000"), "must be an integer from ", "correct the file"]);
    }
    // A size that a model could have costs nothing before the files contradict it.
    let wide = refusal_with("llama", &[("hidden_size", json!(1 << 20))]);
    assert_says(&wide, &["`model.embed_tokens.weight` is [96, 32] and should be [96, 1048576]"]);
}

#[test]
fn numbers_out_of_range() {
    for (fixture, key, value) in [
        ("olmoe-clip_qkv", "clip_qkv", json!(-1)),
        ("granite", "logits_scaling", json!(0)),
        ("gemma2", "final_logit_softcapping", json!(-30.0)),
        ("gemma2", "query_pre_attn_scalar", json!(0)),
        ("llama", "rms_norm_eps", json!(-1e-6)),
        ("llama", "rms_norm_eps", json!(1e300)),
    ] {
        let said = refusal_with(fixture, &[(key, value)]);
        assert_says(&said, &[&format!("`{key}` is "), "must be a number from ", "correct the file or override"]);
    }
}

#[test]
fn sizes_that_are_no_whole_numbers() {
    assert_says(&refusal_with("llama", &[("hidden_size", json!(32.5))]), &["`hidden_size` is 32.5"]);
    assert_says(&refusal_with("llama", &[("hidden_size", json!("32"))]), &["`hidden_size` is \"32\""]);
}

#[test]
fn heads_that_do_not_divide() {
    let said = refusal_with("llama", &[("num_attention_heads", json!(5)), ("head_dim", Value::Null)]);
    assert_says(&said, &["hidden_size 32", "num_attention_heads 5", "correct one of them"]);
    let said = refusal_with("llama", &[("num_key_value_heads", json!(3))]);
    assert_says(&said, &["num_attention_heads 4", "num_key_value_heads 3", "correct one of them"]);
    let said = refusal_with("llama", &[("head_dim", json!(7))]);
    assert_says(&said, &["rotary embedding", "7 elements of a head", "even"]);
}

#[test]
fn more_experts_for_a_token_than_there_are() {
    let said = refusal_with("mixtral", &[("num_experts_per_tok", json!(5))]);
    assert_says(&said, &["num_experts_per_tok is 5", "4 experts"]);
}

#[test]
fn an_unknown_architecture_is_told_with_what_it_lacks() {
    for (model_type, parts) in [
        ("lama", &["is not supported", "no implementation is registered for it", "misspelling of llama?"][..]),
        ("deepseek_v4", &["is not supported: its compressed attention is not implemented"]),
        ("qwen33", &["is not supported: no implementation is registered for it"]),
        ("minimax", &["is not supported: its linear attention"]),
    ] {
        let directory = copy_of("llama");
        edit_json(directory.path(), "config.json", |config| {
            config["model_type"] = json!(model_type);
            config["architectures"] = json!(["StrangeForCausalLM"]);
        });
        let said = refusal(directory.path());
        let named = format!("model type `{model_type}` (architectures: StrangeForCausalLM) of `");
        assert_says(&said, &[&named, directory.path().to_str().unwrap()]);
        assert_says(&said, parts);
        assert_eq!(said.contains("misspelling"), model_type == "lama", "{said}");
    }
}

#[test]
fn a_text_model_in_an_unknown_wrapper() {
    let directory = copy_of("llama");
    edit_json(directory.path(), "config.json", |config| {
        let text = std::mem::take(config);
        *config = json!({"model_type": "seer", "architectures": ["SeerForConditionalGeneration"], "text_config": text});
    });
    assert_says(&refusal(directory.path()), &["text model `llama`", "inside a model of type `seer`", "not known here"]);
}

#[test]
fn weights_of_other_tools() {
    for (key, declared, method) in [
        ("quantization", json!({"group_size": 64, "bits": 4}), "mlx"),
        ("quantization_config", json!({"group_size": 64, "bits": 4, "mode": "affine"}), "mlx"),
        (
            "quantization_config",
            json!({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}}),
            "modelopt",
        ),
        ("compression_config", json!({"quant_method": "compressed-tensors"}), "compressed-tensors"),
    ] {
        let said = refusal_with("llama", &[(key, declared)]);
        assert_says(&said, &[method]);
        assert!(!said.contains("remove quantization_config") && !said.contains("unread keys"), "{said}");
    }
}

#[test]
fn an_embedding_model_and_a_reward_model() {
    let said = refusal_with("llama", &[("is_causal", json!(false))]);
    assert_says(&said, &["`is_causal` is false", "not a causal language model", "later ones"]);
    for (head, what) in [(None, "embedding model"), (Some("score.weight"), "reward model")] {
        let directory = copy_of("llama");
        let path = directory.path().join("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let others = tensors.iter().filter_map(|(name, view)| match (name, head) {
            ("lm_head.weight", None) => None,
            ("lm_head.weight", Some(head)) => Some((head, view)),
            _ => Some((name, view)),
        });
        safetensors::serialize_to_file(others, None, &path).unwrap();
        let said = refusal(directory.path());
        assert_says(&said, &["`lm_head.weight`", what, "no logits of tokens"]);
    }
}

#[test]
fn no_model_type() {
    let said = refusal_with("llama", &[("model_type", Value::Null)]);
    assert_says(&said, &["config.json", "no `model_type`", "model_type=llama"]);
}

#[test]
fn mathematics_that_is_not_implemented() {
    let said = refusal_with("llama", &[("hidden_act", json!("mish"))]);
    assert_says(&said, &["`hidden_act` = \"mish\"", "not supported", "silu"]);
    let said = refusal_with("llama", &[("rope_parameters", json!({"rope_type": "spiral", "rope_theta": 1e4}))]);
    assert_says(&said, &["rope_type", "\"spiral\"", "llama3"]);
}

#[test]
fn a_mathematical_key_that_nothing_reads() {
    let said = refusal_with("llama", &[("attn_logit_softcapping", json!(50.0))]);
    let parts = ["`attn_logit_softcapping`", "config.json", "may change what the model computes", "allowed keys"];
    assert_says(&said, &parts);
    // The caller may know better.
    let directory = copy_of("llama");
    edit_json(directory.path(), "config.json", |config| config["attn_logit_softcapping"] = json!(50.0));
    let allowing = AutoModelForCausalLM::from_pretrained(directory.path().to_str().unwrap());
    allowing.allow_unread_key("attn_logit_softcapping").load().unwrap();
}

#[test]
fn an_override_of_an_unknown_key() {
    let directory = copy_of("llama");
    let model = AutoModelForCausalLM::from_pretrained(directory.path().to_str().unwrap());
    let said = message(&model.config_override("num_hiden_layers", 2).load().unwrap_err());
    assert_says(&said, &["unknown key `num_hiden_layers`", "num_hidden_layers", "check the spelling"]);
}

#[test]
fn a_misspelt_option() {
    let directory = copy_of("llama");
    let model = AutoModelForCausalLM::from_pretrained(directory.path().to_str().unwrap());
    let said = message(&model.option("rms_norm_esp", 1e-5).option("zzz", 1).load().unwrap_err());
    assert_says(&said, &["unknown options", "`rms_norm_esp` (did you mean rms_norm_eps", "`zzz`"]);
}

#[test]
fn overrides_are_checked_as_files_are() {
    let directory = copy_of("llama");
    let model = AutoModelForCausalLM::from_pretrained(directory.path().to_str().unwrap());
    let said = message(&model.config_override("num_key_value_heads", -1).load().unwrap_err());
    assert_says(&said, &["`num_key_value_heads` is -1", "from an override"]);
}
