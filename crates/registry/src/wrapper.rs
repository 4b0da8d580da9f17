//! Text models inside larger ones: what the larger model's own class does to logits and tied heads.
//!
//! The class of a multimodal model puts a head of its own on the text model, without what the text model's class does to its
//! logits, and decides about tying by its own config. Which one does what was found by running each of them in transformers
//! 5.23 (`tests/fixtures/wrappers.json`); a wrapper that is not in the table is refused, because nothing of this can be guessed.

use crate::{RegistryError, spec::ModelSpec};
use automodel_config::{Origin, RawConfig, ResolvedConfig, Wrapper};
use serde_json::{Value, json};

/// What the class of one kind of wrapper does.
#[derive(Clone, Copy, Debug)]
struct Rule {
    /// `model_type` of the wrapper.
    model_type: &'static str,
    /// The text model that its config class assumes.
    text: &'static str,
    /// How it decides whether head and embedding are one tensor.
    tie: TieRule,
    /// Where checkpoints keep what a text model by itself has under `model.`, unless it is a name that every
    /// wrapper may use.
    prefix: Option<&'static str>,
}

/// How a wrapper decides whether head and embedding are one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TieRule {
    /// By its own `tie_word_embeddings`, whatever the text model's; true if absent.
    OwnOrTrue,
    /// By its own `tie_word_embeddings`, whatever the text model's; false if absent.
    OwnOrFalse,
    /// They are one where either config says so.
    Either,
    /// The class has no such tie.
    Never,
    /// They are one where the text model's config says so: the wrapper has a whole model with its head inside.
    Text,
}

impl TieRule {
    /// The decision, if it does not leave it to the text model.
    fn decide(self, own: Option<bool>) -> Option<bool> {
        match self {
            Self::OwnOrTrue => Some(own.unwrap_or(true)),
            Self::OwnOrFalse => Some(own.unwrap_or(false)),
            Self::Either => own.filter(|&tied| tied),
            Self::Never => Some(false),
            Self::Text => None,
        }
    }
}

const fn rule(model_type: &'static str, text: &'static str, tie: TieRule) -> Rule {
    Rule { model_type, text, tie, prefix: None }
}

/// All of them multiply hidden states with the head's weight and leave it at that.
#[rustfmt::skip]
static RULES: &[Rule] = {
    use TieRule::*;
    &[
        rule("audioflamingo3", "qwen2", Never),
        rule("aya_vision", "cohere2", OwnOrTrue),
        rule("cohere2_vision", "cohere2", OwnOrTrue),
        rule("deepseek_vl", "llama", OwnOrTrue),
        rule("deepseek_vl_hybrid", "llama", OwnOrTrue),
        rule("exaone4_5", "exaone4", OwnOrFalse),
        rule("fuyu", "persimmon", OwnOrFalse),
        rule("gemma3", "gemma3_text", OwnOrTrue),
        rule("glmasr", "llama", OwnOrTrue),
        rule("got_ocr2", "qwen2", OwnOrTrue),
        rule("granite_speech", "granite", OwnOrTrue),
        rule("granite_speech_plus", "granite", OwnOrTrue),
        Rule { prefix: Some("model.text_model."), ..rule("idefics2", "mistral", OwnOrFalse) },
        Rule { prefix: Some("model.text_model."), ..rule("idefics3", "llama", OwnOrFalse) },
        rule("internvl", "qwen2", OwnOrTrue),
        rule("janus", "llama", OwnOrTrue),
        rule("lfm2_vl", "lfm2", OwnOrTrue),
        rule("lighton_ocr", "qwen3", OwnOrTrue),
        rule("llama4", "llama4_text", Text),
        rule("llava", "llama", Either),
        rule("llava_next", "llama", OwnOrFalse),
        rule("llava_next_video", "llama", Either),
        rule("llava_onevision", "qwen2", Either),
        rule("mistral3", "mistral", OwnOrTrue),
        rule("moss_transcribe_diarize", "qwen3", OwnOrTrue),
        rule("musicflamingo", "qwen2", Never),
        rule("ovis2", "qwen2", OwnOrTrue),
        rule("pp_chart2table", "qwen2", OwnOrTrue),
        rule("qianfan_ocr", "qwen3", OwnOrFalse),
        rule("qwen2_audio", "qwen2", Never),
        rule("qwen3_asr", "qwen3", OwnOrTrue),
        rule("shieldgemma2", "gemma3_text", Either),
        Rule { prefix: Some("model.text_model."), ..rule("smolvlm", "llama", OwnOrFalse) },
        rule("video_llama_3", "qwen2", Either),
        rule("video_llava", "llama", OwnOrFalse),
        rule("vipllava", "llama", OwnOrFalse),
        rule("voxtral", "llama", Never),
    ]
};

/// Wrappers that are known and refused, with the reason.
const REFUSED: &[(&str, &str)] = &[
    ("paligemma", "a prompt sees all of itself, later positions too, which a causal language model does not"),
    ("blip-2", "its class does not run without an image"),
    ("instructblip", "its class does not run without an image"),
    ("instructblipvideo", "its class does not run without a video"),
    ("hyperclovax_vision_v2", "its class scales the logits by settings of its own"),
];

/// A text model, the key by which its class changes logits, and the value at which it does not.
type LogitKey = (&'static str, &'static str, fn() -> Value);

/// What text models do to their logits in their own class.
#[rustfmt::skip]
static LOGIT_KEYS: &[LogitKey] = &[
    ("cohere", "logit_scale", || json!(1.0)),
    ("cohere2", "logit_scale", || json!(1.0)),
    ("granite", "logits_scaling", || json!(1.0)),
    ("gemma2", "final_logit_softcapping", || Value::Null),
    ("gemma3_text", "final_logit_softcapping", || Value::Null),
];

const TIE: &str = "tie_word_embeddings";
const WHY_LOGITS: &str = "the class of the larger model leaves logits as they are";
const WHY_TIE: &str = "the class of the larger model decides about tying";
const WHY_TYPE: &str = "what the larger model's config class assumes";

/// The text model's config in place of its wrapper's, with the values that the wrapper's own class gives to what is outside
/// the text model's layers. A config without wrapper stays as it is; one inside an unknown wrapper is unwrapped only, and
/// refused when it is lowered.
pub fn unwrap_text_model(raw: RawConfig) -> RawConfig {
    let mut raw = raw.unwrap_text_config();
    let known = raw.wrapper().and_then(|wrapper| Some((rule_of(wrapper.model_type?)?, own_tie(wrapper))));
    let Some((rule, own_tie)) = known else { return raw };
    if raw.get("model_type").is_none_or(Value::is_null) {
        raw.set_derived("model_type", json!(rule.text), WHY_TYPE);
    }
    let model_type = raw.model_type().map(str::to_owned).unwrap_or_default();
    for (_, key, neutral) in LOGIT_KEYS.iter().filter(|(family, ..)| *family == model_type) {
        raw.set_derived(key, neutral(), WHY_LOGITS);
    }
    if let Some(tied) = rule.tie.decide(own_tie) {
        raw.set_derived(TIE, json!(tied), WHY_TIE);
    }
    raw
}

/// Refuses a text model whose wrapper is not known, or was not asked what it does.
pub(crate) fn check(config: &ResolvedConfig, spec: &ModelSpec) -> Result<(), RegistryError> {
    let Some(wrapper) = config.wrapper() else { return Ok(()) };
    let unknown = |reason: &str| {
        Err(RegistryError::UnsupportedWrapper {
            wrapper: wrapper.model_type.unwrap_or("(none given)").to_owned(),
            text: config.model_type().to_owned(),
            reason: reason.to_owned(),
        })
    };
    let name = wrapper.model_type.unwrap_or_default();
    if let Some((_, reason)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        return unknown(reason);
    }
    let Some(rule) = rule_of(name) else {
        return unknown("what its class does to the logits and the head of the text model is not known here");
    };
    if wrapper.get(TIE).is_some_and(|tied| !tied.is_boolean()) {
        return unknown("its `tie_word_embeddings` is neither true nor false");
    }
    let asked_for = |key: &str| config.origin(key) == Some(&Origin::Override);
    let Some(head) = spec.head() else { return Ok(()) };
    let does_more = head.bias || head.logit_softcap.is_some() || head.logit_scale.is_some_and(|scale| scale != 1.0);
    if does_more && !LOGIT_KEYS.iter().any(|(_, key, _)| asked_for(key)) {
        return unknown(
            "its class puts a head without bias, scale or cap on the text model, and this text model has one",
        );
    }
    let tied = rule.tie.decide(own_tie(wrapper));
    if tied.is_some_and(|tied| tied != head.tied) && !asked_for(TIE) {
        return unknown("its config decides about tying, and was not asked: unwrap it with `unwrap_text_model`");
    }
    Ok(())
}

fn own_tie(wrapper: Wrapper<'_>) -> Option<bool> {
    wrapper.get(TIE).and_then(Value::as_bool)
}

/// Where checkpoints of a wrapper keep the text model, besides the names that every wrapper may use.
pub(crate) fn prefix(wrapper: &str) -> Option<&'static str> {
    rule_of(wrapper)?.prefix
}

fn rule_of(model_type: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.model_type == model_type)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Registry, ResolveOptions};
    use automodel_config::Overrides;

    /// One row of what the classes did.
    fn rows() -> Vec<(String, Value)> {
        let rows: Value = serde_json::from_str(include_str!("../tests/fixtures/wrappers.json")).unwrap();
        rows.as_object().unwrap().clone().into_iter().collect()
    }

    fn flag(name: &str) -> Option<bool> {
        match name {
            "none" => None,
            name => Some(name == "true"),
        }
    }

    #[test]
    fn the_table_is_what_the_classes_do() {
        let names: Vec<String> = rows().into_iter().map(|(name, _)| name).filter(|name| name != "paligemma").collect();
        assert_eq!(names, RULES.iter().map(|rule| rule.model_type).collect::<Vec<_>>());
        for (name, row) in rows() {
            let Some(rule) = rule_of(&name) else { continue };
            assert_eq!(row["default_text"], rule.text, "{name}");
            let common = ["model.language_model.", "language_model.model."];
            let stored = row["text_prefix"].as_str().unwrap();
            assert_eq!(rule.prefix, (!common.contains(&stored)).then_some(stored), "{name}");
            let head = if rule.tie == TieRule::Text { "language_model.lm_head." } else { "lm_head." };
            assert_eq!(row["head_prefix"], head, "{name}");
            for (text, logits) in row["logits"].as_object().unwrap() {
                // A text model that does nothing to its logits agrees with both.
                let does_something = LOGIT_KEYS.iter().any(|(family, ..)| family == text);
                assert_eq!(logits, if does_something { "plain" } else { "plain+text" }, "{name} on {text}");
            }
        }
    }

    #[test]
    fn heads_are_tied_as_the_classes_tie_them() {
        for (name, row) in rows() {
            let Some(rule) = rule_of(&name) else { continue };
            let text = row["logits"].as_object().unwrap().keys().next().unwrap();
            for (case, expected) in row["tied"].as_object().unwrap() {
                let (outer, inner) = case.split_once('/').unwrap();
                let mut config = json!({"model_type": name, "text_config": {"model_type": text}});
                if let Some(tied) = flag(outer) {
                    config["tie_word_embeddings"] = json!(tied);
                }
                if let Some(tied) = flag(inner) {
                    config["text_config"]["tie_word_embeddings"] = json!(tied);
                }
                let raw = unwrap_text_model(RawConfig::from_value(config).unwrap());
                // Where nothing is said, the class of the text model decides.
                let default = Registry::builtin().class_defaults(&raw).ok().and_then(|defaults| {
                    let resolved = raw.clone().resolve(defaults, &Overrides::new()).unwrap();
                    resolved.bool("tie_word_embeddings").ok()
                });
                let tied = raw.get("tie_word_embeddings").and_then(Value::as_bool).or(default).unwrap_or(false);
                assert_eq!(json!(tied), *expected, "{name}, {case} ({:?})", rule.tie);
            }
        }
    }

    fn spec(config: Value, overrides: &Overrides) -> Result<(ResolvedConfig, ModelSpec), RegistryError> {
        let registry = Registry::builtin();
        let raw = unwrap_text_model(RawConfig::from_value(config).unwrap());
        let config = raw.clone().resolve(registry.class_defaults(&raw).unwrap(), overrides).unwrap();
        let resolution = registry.resolve(&config, &ResolveOptions::default())?;
        let spec = registry.lower(&config, &resolution)?.spec.unwrap();
        config.check_all_read(&[]).unwrap();
        Ok((config, spec))
    }

    #[test]
    fn what_the_wrapper_decides_is_written_with_the_config() {
        let wrapped = json!({"model_type": "aya_vision", "tie_word_embeddings": false,
            "text_config": {"model_type": "cohere2", "logit_scale": 0.25, "tie_word_embeddings": true}});
        let (config, of_wrapper) = spec(wrapped.clone(), &Overrides::new()).unwrap();
        assert_eq!((of_wrapper.head().unwrap().logit_scale, of_wrapper.head().unwrap().tied), (Some(1.0), false));
        assert!(matches!(config.origin("logit_scale"), Some(Origin::Derived(_))));
        let (_, of_text) = spec(config.to_json(), &Overrides::new()).unwrap();
        assert_eq!(of_text, of_wrapper, "saved by itself, the text model is the same");
        // An override of the caller counts.
        let (_, overridden) = spec(wrapped, &Overrides::new().set("logit_scale", 0.5)).unwrap();
        assert_eq!(overridden.head().unwrap().logit_scale, Some(0.5));
    }

    #[test]
    fn unknown_wrappers_are_refused_by_name() {
        for (wrapper, reason) in
            [(json!("seer"), "not known here"), (json!("paligemma"), "sees all of itself"), (Value::Null, "none given")]
        {
            let config = json!({"model_type": wrapper, "text_config": {"model_type": "gemma"}});
            let said = spec(config, &Overrides::new()).unwrap_err().to_string();
            assert!(said.contains(reason) && said.contains("`gemma`"), "{said}");
        }
        let config =
            json!({"model_type": "llava", "tie_word_embeddings": "yes", "text_config": {"model_type": "gemma"}});
        let said = spec(config, &Overrides::new()).unwrap_err().to_string();
        assert!(said.contains("neither true nor false"), "{said}");
    }

    #[test]
    fn a_wrapper_that_was_not_asked_is_refused() {
        let registry = Registry::builtin();
        for outer in [true, false] {
            let config = json!({"model_type": "internvl", "tie_word_embeddings": outer, "text_config": {"model_type": "qwen2",
                "tie_word_embeddings": false}});
            let raw = RawConfig::from_value(config).unwrap();
            let config = raw.clone().resolve(registry.class_defaults(&raw).unwrap(), &Overrides::new()).unwrap();
            let resolution = registry.resolve(&config, &ResolveOptions::default()).unwrap();
            // Where the two agree, there was nothing to ask.
            assert_eq!(registry.lower(&config, &resolution).is_err(), outer);
        }
    }

    #[test]
    fn a_head_that_the_wrapper_cannot_have_is_refused() {
        let config = json!({"model_type": "llava", "text_config": {"model_type": "phi"}});
        let said = spec(config, &Overrides::new()).unwrap_err().to_string();
        assert!(said.contains("`llava`") && said.contains("without bias"), "{said}");
    }

    #[test]
    fn a_text_model_without_type_is_that_of_the_wrappers_class() {
        let config = json!({"model_type": "mistral3", "text_config": {"hidden_size": 64}});
        assert_eq!(spec(config, &Overrides::new()).unwrap().0.model_type(), "mistral");
    }
}
