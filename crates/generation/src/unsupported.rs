//! Settings of a generation config that change the text and that this crate does not implement.

use crate::GenerationError;
use automodel_config::{GenerationConfig, json_number};
use serde_json::{Value, json};

/// Keys of `generation_config.json` outside [`GenerationConfig`]'s fields that `generate` of transformers 5.23 acts on,
/// each with its neutral value; null is neutral too.
const NEUTRAL: [(&str, f64); 4] = [
    // The "encoder" of a model without one is the prompt.
    ("encoder_no_repeat_ngram_size", 0.0),
    ("encoder_repetition_penalty", 1.0),
    ("guidance_scale", 1.0),
    ("max_time", f64::INFINITY),
];

/// The same, but only null, an empty list and `false` are neutral.
const ABSENT: [&str; 9] = [
    "bad_words_ids",
    "begin_suppress_tokens",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "remove_invalid_values",
    "sequence_bias",
    "token_healing",
    "watermarking_config",
];

/// Keys that select another generation mode, by the same rule.
const MODES: [&str; 3] = ["constraints", "dola_layers", "force_words_ids"];

/// An error for the first such setting. Some count for sampling alone; `is_chosen` means that the caller selected the generation mode,
/// whatever the checkpoint says.
pub(crate) fn check(config: &GenerationConfig, do_sample: bool, is_chosen: bool) -> Result<(), GenerationError> {
    if !is_chosen {
        check_mode(config, do_sample)?;
    }
    let counts = [
        ("num_return_sequences", config.num_return_sequences, 1),
        ("no_repeat_ngram_size", config.no_repeat_ngram_size, 0),
        ("min_new_tokens", config.min_new_tokens, 0),
        ("min_length", config.min_length, 0),
    ];
    for (option, count, neutral) in counts {
        reject_if(option, json!(count), count.is_some_and(|count| count > neutral))?;
    }
    let suppressed = config.suppress_tokens.as_deref().unwrap_or_default();
    reject_if("suppress_tokens", json!(suppressed), !suppressed.is_empty())?;
    for (option, neutral) in NEUTRAL {
        let value = value(config, option);
        reject_if(option, value.clone(), !value.is_null() && json_number(value) != Some(neutral))?;
    }
    for option in ABSENT {
        reject_if(option, value(config, option).clone(), !is_absent(value(config, option)))?;
    }
    if do_sample { check_sampling(config) } else { Ok(()) }
}

fn check_mode(config: &GenerationConfig, do_sample: bool) -> Result<(), GenerationError> {
    reject_if("num_beams", json!(config.num_beams), config.num_beams.is_some_and(|beams| beams > 1))?;
    for option in MODES {
        reject_if(option, value(config, option).clone(), !is_absent(value(config, option)))?;
    }
    // Without sampling this selects contrastive search.
    let alpha = value(config, "penalty_alpha");
    let is_contrastive = !do_sample && !alpha.is_null() && json_number(alpha).is_none_or(|alpha| alpha > 0.0);
    reject_if("penalty_alpha", alpha.clone(), is_contrastive && config.top_k != Some(1) && config.top_k != Some(0))
}

fn check_sampling(config: &GenerationConfig) -> Result<(), GenerationError> {
    let typical = config.typical_p;
    reject_if("typical_p", json!(typical), typical.is_some_and(|mass| mass < 1.0))?;
    for option in ["epsilon_cutoff", "eta_cutoff"] {
        let cutoff = value(config, option);
        let does_nothing = cutoff.is_null() || json_number(cutoff).is_some_and(|cutoff| cutoff <= 0.0 || cutoff >= 1.0);
        reject_if(option, cutoff.clone(), !does_nothing)?;
    }
    let top_h = value(config, "top_h");
    reject_if("top_h", top_h.clone(), !top_h.is_null())
}

fn value<'c>(config: &'c GenerationConfig, option: &str) -> &'c Value {
    config.other.get(option).unwrap_or(&Value::Null)
}

fn is_absent(value: &Value) -> bool {
    matches!(value, Value::Null | Value::Bool(false)) || value.as_array().is_some_and(Vec::is_empty)
}

fn reject_if(option: &str, value: Value, rejected: bool) -> Result<(), GenerationError> {
    if rejected {
        let shown: String = value.to_string().chars().take(60).collect();
        return Err(GenerationError::UnsupportedOption { option: option.to_owned(), value: shown });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(json: Value) -> Option<String> {
        let config = GenerationConfig::from_str(&json.to_string()).unwrap();
        match check(&config, config.do_sample == Some(true), false) {
            Ok(()) => None,
            Err(GenerationError::UnsupportedOption { option, .. }) => Some(option),
            Err(other) => panic!("unexpected {other}"),
        }
    }

    #[test]
    fn neutral_settings_pass_and_others_are_named() {
        let neutral = json!({"num_beams": 1, "typical_p": 1.0, "guidance_scale": 1, "bad_words_ids": null, "top_h": null,
            "num_beam_groups": 1, "diversity_penalty": 0.5, "prompt_lookup_num_tokens": 3,
            "forced_eos_token_id": null, "suppress_tokens": [], "transformers_version": "4.40.0", "use_cache": true});
        assert_eq!(rejected(neutral), None);
        for (option, value) in [
            ("num_beams", json!(5)),
            ("no_repeat_ngram_size", json!(3)),
            ("suppress_tokens", json!([4])),
            ("guidance_scale", json!(1.5)),
            ("bad_words_ids", json!([[4]])),
            ("forced_bos_token_id", json!(0)),
            ("penalty_alpha", json!(0.6)),
            ("constraints", json!([{}])),
        ] {
            assert_eq!(rejected(json!({ option: value })).as_deref(), Some(option));
        }
        // Only sampling reads it.
        assert_eq!(rejected(json!({"typical_p": 0.5})), None);
        assert_eq!(rejected(json!({"typical_p": 0.5, "do_sample": true})).as_deref(), Some("typical_p"));
        assert_eq!(rejected(json!({"top_h": 0.5, "epsilon_cutoff": 0.1})), None);
        assert_eq!(rejected(json!({"epsilon_cutoff": 0.1, "do_sample": true})).as_deref(), Some("epsilon_cutoff"));
        // Only a search without sampling reads it.
        assert_eq!(rejected(json!({"penalty_alpha": 0.6, "do_sample": true})), None);
    }
}
