//! Settings of a generation config that change the text and that this crate does not implement.

use crate::GenerationError;
use automodel_config::GenerationConfig;
use serde_json::{Value, json};

/// Keys of `generation_config.json` outside [`GenerationConfig`]'s fields that `generate` of transformers 5.23 acts on,
/// each with a value that does nothing; null does nothing either.
const NEUTRAL: [(&str, f64); 9] = [
    ("diversity_penalty", 0.0),
    ("epsilon_cutoff", 0.0),
    ("eta_cutoff", 0.0),
    ("guidance_scale", 1.0),
    ("penalty_alpha", 0.0),
    ("prompt_lookup_num_tokens", 0.0),
    ("top_h", 1.0),
    ("num_beam_groups", 1.0),
    ("max_time", f64::INFINITY),
];

/// The same, but anything other than null, an empty list or `false` does something.
const ABSENT: [&str; 11] = [
    "bad_words_ids",
    "begin_suppress_tokens",
    "constraints",
    "dola_layers",
    "exponential_decay_length_penalty",
    "force_words_ids",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "remove_invalid_values",
    "sequence_bias",
    "watermarking_config",
];

/// Fails for the first such setting. Some count for sampling alone.
pub(crate) fn check(config: &GenerationConfig, do_sample: bool) -> Result<(), GenerationError> {
    let counts = [
        ("num_beams", config.num_beams, 1),
        ("num_return_sequences", config.num_return_sequences, 1),
        ("no_repeat_ngram_size", config.no_repeat_ngram_size, 0),
        ("min_new_tokens", config.min_new_tokens, 0),
        ("min_length", config.min_length, 0),
    ];
    for (option, count, neutral) in counts {
        reject_if(option, json!(count), count.is_some_and(|count| count > neutral))?;
    }
    let typical = config.typical_p;
    reject_if("typical_p", json!(typical), do_sample && typical.is_some_and(|mass| mass < 1.0))?;
    let suppressed = config.suppress_tokens.as_deref().unwrap_or_default();
    reject_if("suppress_tokens", json!(suppressed), !suppressed.is_empty())?;
    for (option, neutral) in NEUTRAL {
        let value = config.other.get(option).unwrap_or(&Value::Null);
        reject_if(option, value.clone(), !value.is_null() && value.as_f64() != Some(neutral))?;
    }
    for option in ABSENT {
        let value = config.other.get(option).unwrap_or(&Value::Null);
        let absent = matches!(value, Value::Null | Value::Bool(false)) || value.as_array().is_some_and(Vec::is_empty);
        reject_if(option, value.clone(), !absent)?;
    }
    Ok(())
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
        match check(&config, config.do_sample == Some(true)) {
            Ok(()) => None,
            Err(GenerationError::UnsupportedOption { option, .. }) => Some(option),
            Err(other) => panic!("unexpected {other}"),
        }
    }

    #[test]
    fn neutral_settings_pass_and_others_are_named() {
        let neutral = json!({"num_beams": 1, "typical_p": 1.0, "guidance_scale": 1, "bad_words_ids": null, "top_h": null,
            "forced_eos_token_id": null, "suppress_tokens": [], "transformers_version": "4.40.0", "use_cache": true});
        assert_eq!(rejected(neutral), None);
        for (option, value) in [
            ("num_beams", json!(5)),
            ("no_repeat_ngram_size", json!(3)),
            ("suppress_tokens", json!([4])),
            ("guidance_scale", json!(1.5)),
            ("bad_words_ids", json!([[4]])),
            ("forced_bos_token_id", json!(0)),
        ] {
            assert_eq!(rejected(json!({ option: value })).as_deref(), Some(option));
        }
        // Only sampling reads it.
        assert_eq!(rejected(json!({"typical_p": 0.5})), None);
        assert_eq!(rejected(json!({"typical_p": 0.5, "do_sample": true})).as_deref(), Some("typical_p"));
    }
}
