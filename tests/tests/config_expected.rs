//! Config files of well-known checkpoints, and the defaults of each family: what is concluded from them against what
//! transformers concludes.

use crate::support::{check_all, fixture};
use automodel::config::{Overrides, RawConfig, ResolvedConfig};
use automodel::registry::spec::{
    Activation, AttentionMask, AttentionSpec, FeedForward, LayerSpec, Mixer, MlaSpec, ModelSpec, RopeScaling, RopeSpec,
};
use automodel::registry::{Registry, ResolveOptions};
use serde_json::Value;
use std::fmt;
use std::fs;

/// A line of `expected.jsonl`.
struct Expected(Value);

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text("file"))
    }
}

impl Expected {
    fn text(&self, key: &str) -> &str {
        self.0[key].as_str().unwrap()
    }

    fn size(&self, key: &str) -> usize {
        self.0[key].as_u64().unwrap() as usize
    }

    /// A size of one layer, where layers differ.
    fn size_of(&self, layer: usize, key: &str) -> usize {
        let own = self.0["per_layer_config"][layer.to_string()][key].as_u64();
        own.map_or_else(|| self.size(key), |size| size as usize)
    }

    /// OLMo has no key for the epsilon of its norms: its class has it in the code.
    fn norm_eps(&self) -> f64 {
        if self.text("model_type") == "olmo" { 1e-5 } else { self.0["norm_eps"].as_f64().unwrap() }
    }

    /// Nemotron's class leaves null as it is, and then cannot make a model; null means as many as heads in all other classes.
    fn key_value_heads(&self, layer: usize) -> usize {
        let is_left_null = self.text("model_type") == "nemotron" && self.0["num_key_value_heads"].is_null();
        self.size_of(layer, if is_left_null { "num_attention_heads" } else { "num_key_value_heads" })
    }

    /// 0 and null both mean that there is no window.
    fn window(&self) -> Option<usize> {
        self.0["sliding_window"].as_u64().filter(|&window| window > 0).map(|window| window as usize)
    }

    fn layer_type(&self, layer: usize) -> Option<&str> {
        self.0["layer_types"].as_array().map(|types| types[layer].as_str().unwrap())
    }

    /// The rope parameters of one layer.
    fn rope(&self, layer: usize) -> Option<&Value> {
        let parameters = &self.0["rope_parameters"];
        match self.layer_type(layer).and_then(|layer_type| parameters.get(layer_type)) {
            Some(nested) => Some(nested),
            None => (!parameters.is_null()).then_some(parameters),
        }
    }
}

#[test]
fn conclusions_are_those_of_transformers() {
    let lines = fs::read_to_string(fixture("configs/expected.jsonl")).unwrap();
    let expected: Vec<Expected> = lines.lines().map(|line| Expected(serde_json::from_str(line).unwrap())).collect();
    let files = fs::read_dir(fixture("configs")).unwrap().map(|entry| entry.unwrap().path());
    assert_eq!(expected.len(), files.filter(|path| path.extension().is_some_and(|end| end == "json")).count());
    check_all(&expected, |expected| {
        let (config, spec) = lower(expected)?;
        let mut found = Differences(Vec::new());
        compare_sizes(&mut found, expected, &config, &spec);
        for (index, layer) in spec.backbone.layers.iter().enumerate() {
            compare_layer(&mut found, expected, index, layer);
        }
        found.0.dedup();
        if found.0.is_empty() { Ok(()) } else { Err(found.0.join("; ")) }
    });
}

fn lower(expected: &Expected) -> Result<(ResolvedConfig, ModelSpec), String> {
    let failed = |error: &dyn std::error::Error| crate::support::message(error);
    let raw = RawConfig::from_file(&fixture("configs").join(expected.text("file"))).map_err(|error| failed(&error))?;
    let registry = Registry::builtin();
    let defaults = registry.class_defaults(&raw).map_err(|error| failed(&error))?;
    let config = raw.resolve(defaults, &Overrides::new()).map_err(|error| failed(&error))?;
    let resolution = registry.resolve(&config, &ResolveOptions::default()).map_err(|error| failed(&error))?;
    let spec = registry.lower(&config, &resolution).map_err(|error| failed(&error))?.spec.unwrap();
    config.check_all_read(&[]).map_err(|error| failed(&error))?;
    Ok((config, spec))
}

struct Differences(Vec<String>);

impl Differences {
    fn compare<T: PartialEq + fmt::Debug>(&mut self, what: &str, expected: T, found: T) {
        if expected != found {
            self.0.push(format!("{what} is {found:?} instead of {expected:?}"));
        }
    }
}

fn compare_sizes(found: &mut Differences, expected: &Expected, config: &ResolvedConfig, spec: &ModelSpec) {
    found.compare("model_type", expected.text("model_type"), config.model_type());
    found.compare("hidden_size", expected.size("hidden_size"), spec.backbone.hidden_size);
    found.compare("vocab_size", expected.size("vocab_size"), spec.backbone.vocab_size);
    found.compare("num_hidden_layers", expected.size("num_hidden_layers"), spec.backbone.layers.len());
    let positions = expected.0["max_position_embeddings"].as_u64().map(|positions| positions as usize);
    found.compare("max_position_embeddings", positions, spec.backbone.max_position_embeddings);
    found.compare(
        "tie_word_embeddings",
        expected.0["tie_word_embeddings"].as_bool().unwrap(),
        spec.head().unwrap().tied,
    );
    if let Some(norm) = spec.backbone.final_norm {
        found.compare("norm_eps", expected.norm_eps(), norm.eps);
    }
}

fn compare_layer(found: &mut Differences, expected: &Expected, index: usize, layer: &LayerSpec) {
    let mixer = layer.mixers().next().unwrap();
    let (heads, key_value_heads, head_dim, rope) = match mixer {
        Mixer::Attention(AttentionSpec { num_attention_heads, num_key_value_heads, head_dim, rope, .. }) => {
            (num_attention_heads, num_key_value_heads, head_dim, rope)
        }
        // The class calls the part that rotates the head.
        Mixer::Mla(MlaSpec { num_attention_heads, qk_rope_head_dim, rope, .. }) => {
            (num_attention_heads, num_attention_heads, qk_rope_head_dim, rope)
        }
        Mixer::ShortConv(_) => {
            found.compare(&format!("type of layer {index}"), Some("conv"), expected.layer_type(index));
            return;
        }
    };
    found.compare("heads", expected.size("num_attention_heads"), *heads);
    // Windowed layers of this family have twice as many.
    let is_windowed = mixer.attention().is_some_and(|attention| attention.mask != AttentionMask::Full);
    let is_doubled = expected.text("model_type") == "mimo_v2_flash" && is_windowed;
    let expected_key_value_heads = expected.key_value_heads(index) * if is_doubled { 2 } else { 1 };
    found.compare("key-value heads", expected_key_value_heads, *key_value_heads);
    found.compare("head_dim", expected.size_of(index, "head_dim"), *head_dim);
    for named in layer.norms() {
        found.compare("norm_eps of layers", expected.norm_eps(), named.norm.eps);
    }
    compare_mlp(found, expected, layer.feed_forwards().next().unwrap());
    found.compare(&format!("mask of layer {index}"), Some(expected_mask(expected, index)), mixer.mask());
    compare_positions(found, expected, index, rope.as_ref());
}

fn compare_mlp(found: &mut Differences, expected: &Expected, mlp: &FeedForward) {
    let dense = match mlp {
        FeedForward::Gated(mlp) | FeedForward::Plain(mlp) => mlp,
        FeedForward::Moe(moe) => &moe.expert,
    };
    let model_type = expected.text("model_type");
    // LFM2 has no key for its activation.
    let name = expected.0["activation"].as_str().unwrap_or("silu");
    // gpt-oss has an activation of its own.
    let expected_activation = if model_type == "gpt_oss" { Activation::QuickGelu } else { activation(name) };
    found.compare("activation", expected_activation, dense.activation);
    // Experts of these families have a width of their own, for which the reference has no column; LFM2's class changes it when the
    // module is made.
    let others = [
        "afmoe",
        "axk1",
        "deepseek_v2",
        "deepseek_v3",
        "deepseek_v32",
        "ernie4_5_moe",
        "exaone_moe",
        "flint",
        "glm4_moe_lite",
        "glm_moe_dsa",
        "hy_v3",
        "laguna",
        "mellum",
        "mimo_v2_flash",
    ];
    let has_own_width = model_type.starts_with("qwen") || others.contains(&model_type);
    if model_type != "lfm2" && !(has_own_width && mlp.moe().is_some()) {
        found.compare("intermediate_size", expected.size("intermediate_size"), dense.intermediate_size);
    }
}

fn activation(name: &str) -> Activation {
    match name {
        "silu" => Activation::Silu,
        "gelu" => Activation::Gelu,
        "gelu_new" | "gelu_pytorch_tanh" => Activation::GeluTanh,
        "relu" => Activation::Relu,
        "relu2" => Activation::Relu2,
        "xielu" => Activation::Xielu,
        other => panic!("no fixture has activation {other}"),
    }
}

/// Families without layer types have one window for all layers, or none.
fn expected_mask(expected: &Expected, layer: usize) -> AttentionMask {
    match (expected.layer_type(layer), expected.window()) {
        (None | Some("sliding_attention"), Some(window)) => AttentionMask::Sliding { window },
        (None, None) | (Some("full_attention" | "indexed_attention"), _) => AttentionMask::Full,
        // `attention_chunk_size` of the class.
        (Some("chunked_attention"), None) => AttentionMask::Chunked { size: 8192 },
        (layer_type, window) => panic!("no fixture has {layer_type:?} with window {window:?}"),
    }
}

fn compare_positions(found: &mut Differences, expected: &Expected, index: usize, rope: Option<&RopeSpec>) {
    let rotates = match expected.text("model_type") {
        "biogpt" | "bloom" | "gpt2" | "gpt_bigcode" | "gpt_neo" | "mpt" | "openai-gpt" | "opt" | "xglm" => false,
        // `no_rope_layer_interval` is 4 in both files.
        "smollm3" => !(index + 1).is_multiple_of(4),
        "afmoe" | "cohere2" | "cohere2_moe" | "exaone4" | "exaone_moe" | "flint" | "kolibri1" => {
            expected.layer_type(index) == Some("sliding_attention")
        }
        "llama4_text" => expected.layer_type(index) == Some("chunked_attention"),
        _ => true,
    };
    found.compare(&format!("rotation of layer {index}"), rotates, rope.is_some());
    if let (true, Some(rope)) = (rotates, rope) {
        let parameters = expected.rope(index).unwrap_or_else(|| panic!("{expected} has no rope parameters"));
        compare_rope(found, expected, parameters, rope, expected.size_of(index, "head_dim"));
    }
}

fn compare_rope(found: &mut Differences, expected: &Expected, parameters: &Value, rope: &RopeSpec, head_dim: usize) {
    let number = |key: &str| parameters[key].as_f64().unwrap_or(f64::NAN);
    let length = || parameters["original_max_position_embeddings"].as_u64().unwrap_or(0) as usize;
    let factors =
        |key: &str| -> Vec<f64> { parameters[key].as_array().unwrap().iter().map(|f| f.as_f64().unwrap()).collect() };
    // This JSON parser may miss the last bit of a number.
    if (number("rope_theta") / rope.theta - 1.0).abs() > 1e-15 {
        found.compare("rope_theta", number("rope_theta"), rope.theta);
    }
    let part = parameters["partial_rotary_factor"].as_f64().unwrap_or(1.0);
    found.compare("rotary_dim", (head_dim as f64 * part) as usize, rope.rotary_dim);
    match (parameters["rope_type"].as_str().unwrap(), &rope.scaling) {
        ("default", RopeScaling::Default) => {}
        ("proportional", RopeScaling::Proportional { factor, head_dim: whole }) => {
            found.compare("factor", parameters["factor"].as_f64().unwrap_or(1.0), *factor);
            found.compare("head_dim of frequencies", head_dim, *whole);
        }
        (
            "llama3",
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings },
        ) => {
            found.compare("factor", number("factor"), *factor);
            found.compare("low_freq_factor", number("low_freq_factor"), *low_freq_factor);
            found.compare("high_freq_factor", number("high_freq_factor"), *high_freq_factor);
            found.compare("original length", length(), *original_max_position_embeddings);
        }
        ("longrope", RopeScaling::LongRope(longrope)) => {
            found.compare("short_factor", factors("short_factor"), longrope.short_factor.clone());
            found.compare("long_factor", factors("long_factor"), longrope.long_factor.clone());
            found.compare("original length", length(), longrope.original_max_position_embeddings);
            // `_compute_longrope_parameters` of transformers, without a factor of its own.
            let growth = expected.size("max_position_embeddings") as f64 / length() as f64;
            let attention_factor = (1.0 + growth.ln() / (length() as f64).ln()).sqrt();
            found.compare("attention_factor", attention_factor, longrope.attention_factor);
        }
        ("yarn", RopeScaling::Yarn(yarn)) => {
            found.compare("factor", number("factor"), yarn.factor);
            found.compare("beta_fast", number("beta_fast"), yarn.beta_fast);
            found.compare("beta_slow", number("beta_slow"), yarn.beta_slow);
            found.compare("truncate", parameters["truncate"].as_bool().unwrap_or(true), yarn.truncate);
            found.compare("original length", length(), yarn.original_max_position_embeddings);
            // Where both scales are given they are 1 in the fixtures.
            if parameters.get("mscale").is_some_and(Value::is_number) {
                found.compare("attention_factor", number("mscale") / number("mscale_all_dim"), yarn.attention_factor);
            }
        }
        (rope_type, scaling) => found.0.push(format!("rope is {scaling:?} instead of {rope_type}")),
    }
}
