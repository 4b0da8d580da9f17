//! Configs that make no sense, or ask for what there is not.

use super::refusal;
use crate::support::{assert_says, copy_of, edit_json, load, message};
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
    let layers = refusal_with("llama", &[("num_hidden_layers", json!(1_000_000_000))]);
    assert_says(&layers, &["num_hidden_layers is 1000000000", "more than any model's", "correct it"]);
    let experts = refusal_with("mixtral", &[("num_local_experts", json!(1_000_000_000))]);
    assert_says(&experts, &["1000000000 experts", "correct the config"]);
    // A size that could be addressed costs nothing before the files contradict it.
    let wide = refusal_with("llama", &[("hidden_size", json!(1 << 30))]);
    assert_says(&wide, &["`model.embed_tokens.weight` is [96, 32] and should be [96, 1073741824]"]);
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
fn an_unknown_architecture_names_the_nearest() {
    let directory = copy_of("llama");
    edit_json(directory.path(), "config.json", |config| {
        config["model_type"] = json!("qwen33");
        config["architectures"] = json!(["Qwen33ForCausalLM"]);
    });
    let said = refusal(directory.path());
    let checkpoint = directory.path().to_str().unwrap();
    assert_says(&said, &["`qwen33`", "Qwen33ForCausalLM", checkpoint, "nearest supported are qwen3", "register"]);
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
