//! The plan of a generation: options, the checkpoint's config, defaults and limits.

use crate::{GenerationError, GenerationOptions, SamplingOptions, unsupported};
use automodel_config::GenerationConfig;
use std::hash::{BuildHasher, RandomState};

/// `max_length` of transformers' `_get_default_generation_params`, which without another setting counts new tokens alone.
const DEFAULT_NEW_TOKENS: usize = 20;

/// The resolved settings of a generation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GenerationPlan {
    pub max_new_tokens: usize,
    pub sampling: SamplingOptions,
    /// End-of-sequence tokens; empty if the caller ignores them.
    pub eos_token_ids: Vec<u32>,
    pub stop_strings: Vec<String>,
    /// A token of the vocabulary for finished rows.
    pub pad_token_id: u32,
}

/// The longest prompt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LongestPrompt {
    pub row: usize,
    pub tokens: usize,
}

/// Limits of the model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ModelLimits {
    pub vocab_size: usize,
    pub max_position_embeddings: Option<usize>,
}

impl GenerationPlan {
    pub(crate) fn new(
        options: &GenerationOptions,
        config: &GenerationConfig,
        longest: LongestPrompt,
        limits: ModelLimits,
    ) -> Result<Self, GenerationError> {
        check(options)?;
        let limit = limits.max_position_embeddings.filter(|_| !options.allow_long_sequences);
        let sampling = sampling(options, config);
        sampling.validate()?;
        check_no_ignored_options(options, sampling.do_sample)?;
        if !options.allow_unsupported {
            check_usable(options, config, sampling.do_sample)?;
            // An explicit request for greedy decoding overrides the search of the checkpoint.
            unsupported::check(config, sampling.do_sample, options.do_sample == Some(false))?;
        }
        let eos = options.eos_token_ids.as_ref().unwrap_or(&config.eos_token_id);
        let pad = config.pad_token_id.filter(|&id| (id as usize) < limits.vocab_size);
        Ok(Self {
            max_new_tokens: max_new_tokens(options, config, longest, limit)?,
            sampling,
            eos_token_ids: if options.ignore_eos { Vec::new() } else { eos.clone() },
            stop_strings: options.stop_strings.clone().or_else(|| config.stop_strings.clone()).unwrap_or_default(),
            pad_token_id: pad.unwrap_or(0),
        })
    }
}

fn check(options: &GenerationOptions) -> Result<(), GenerationError> {
    let at_least_one = |option, value: Option<usize>| match value {
        Some(0) => Err(GenerationError::InvalidOption { option, value: "0".to_owned(), expected: "at least 1" }),
        _ => Ok(()),
    };
    at_least_one("max_new_tokens", options.max_new_tokens)?;
    at_least_one("prefill_chunk", options.prefill_chunk)?;
    if options.stop_strings.iter().flatten().any(String::is_empty) {
        let value = "an empty string".to_owned();
        return Err(GenerationError::InvalidOption {
            option: "stop_strings",
            value,
            expected: "text of at least one character",
        });
    }
    Ok(())
}

/// Sampling options without sampling are errors, unless they have no effect or come from the checkpoint.
fn check_no_ignored_options(options: &GenerationOptions, do_sample: bool) -> Result<(), GenerationError> {
    let fallback = SamplingOptions::default();
    let number = |option, given: Option<f64>, neutral: f64| (option, given.filter(|given| *given != neutral));
    let given = [
        // Other programs use 0 for greedy decoding.
        number("temperature", options.temperature.filter(|temperature| *temperature != 0.0), fallback.temperature),
        number("top_k", options.top_k.filter(|top_k| *top_k != 0).map(|top_k| top_k as f64), fallback.top_k as f64),
        number("top_p", options.top_p, fallback.top_p),
        number("min_p", options.min_p, fallback.min_p),
    ];
    match given.into_iter().find_map(|(option, value)| Some((option, value?))) {
        Some((option, value)) if !do_sample => Err(GenerationError::IgnoredOption { option, value: value.to_string() }),
        _ => Ok(()),
    }
}

/// A setting of the checkpoint must be valid if it is used: the caller does not override it and, for sampling settings, tokens are
/// sampled.
fn check_usable(
    options: &GenerationOptions,
    config: &GenerationConfig,
    do_sample: bool,
) -> Result<(), GenerationError> {
    let length = options.max_new_tokens.is_some();
    let is_overridden = |option: &str| match option {
        "eos_token_id" => options.eos_token_ids.is_some() || options.ignore_eos,
        "max_new_tokens" => length,
        "max_length" => length || config.max_new_tokens.is_some(),
        "do_sample" => options.do_sample.is_some(),
        "temperature" => options.temperature.is_some() || !do_sample,
        "top_k" => options.top_k.is_some() || !do_sample,
        "top_p" => options.top_p.is_some() || !do_sample,
        "min_p" => options.min_p.is_some() || !do_sample,
        "typical_p" => !do_sample,
        "repetition_penalty" => options.repetition_penalty.is_some(),
        "stop_strings" => options.stop_strings.is_some(),
        // The first is not used here, the second has a fallback, and greedy decoding overrides beams.
        "bos_token_id" | "pad_token_id" => true,
        "num_beams" => options.do_sample == Some(false),
        _ => false,
    };
    match config.invalid.iter().find(|(option, _)| !is_overridden(option)) {
        None => Ok(()),
        Some((option, setting)) => Err(GenerationError::InvalidSetting {
            option: option.clone(),
            value: setting.value.clone(),
            expected: setting.expected,
            location: setting.location.clone(),
        }),
    }
}

fn sampling(options: &GenerationOptions, config: &GenerationConfig) -> SamplingOptions {
    let fallback = SamplingOptions::default();
    SamplingOptions {
        do_sample: options.do_sample.or(config.do_sample).unwrap_or(fallback.do_sample),
        temperature: options.temperature.or(config.temperature).unwrap_or(fallback.temperature),
        top_k: options.top_k.or(config.top_k).unwrap_or(fallback.top_k),
        top_p: options.top_p.or(config.top_p).unwrap_or(fallback.top_p),
        min_p: options.min_p.or(config.min_p).unwrap_or(fallback.min_p),
        repetition_penalty: options
            .repetition_penalty
            .or(config.repetition_penalty)
            .unwrap_or(fallback.repetition_penalty),
        seed: options.seed.unwrap_or_else(random_seed),
    }
}

/// The standard library seeds its hash maps with random numbers of the operating system.
fn random_seed() -> u64 {
    RandomState::new().hash_one(0u8)
}

/// A request for more than fits is an error; the checkpoint's setting is cut to what fits, as transformers cuts its
/// default.
fn max_new_tokens(
    options: &GenerationOptions,
    config: &GenerationConfig,
    longest: LongestPrompt,
    limit: Option<usize>,
) -> Result<usize, GenerationError> {
    let LongestPrompt { row, tokens } = longest;
    let too_long =
        |max_new_tokens, limit| GenerationError::SequenceTooLong { row, prompt_tokens: tokens, max_new_tokens, limit };
    let room = limit.map(|limit| (limit, limit.saturating_sub(tokens)));
    if let Some(asked) = options.max_new_tokens {
        return match room {
            Some((limit, room)) if asked > room => Err(too_long(asked, limit)),
            _ => Ok(asked),
        };
    }
    let suggested = match (config.max_new_tokens, config.max_length) {
        (Some(new), _) => new,
        (None, Some(length)) if length <= tokens => {
            return Err(GenerationError::NoRoomBelowMaxLength { row, prompt_tokens: tokens, max_length: length });
        }
        (None, Some(length)) => length - tokens,
        (None, None) => DEFAULT_NEW_TOKENS,
    };
    match room {
        Some((limit, 0)) => Err(too_long(suggested, limit)),
        Some((_, room)) => Ok(suggested.min(room)),
        None => Ok(suggested),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(
        options: &GenerationOptions,
        config: &GenerationConfig,
        limit: Option<usize>,
    ) -> Result<GenerationPlan, GenerationError> {
        let limits = ModelLimits { vocab_size: 100, max_position_embeddings: limit };
        GenerationPlan::new(options, config, LongestPrompt { row: 3, tokens: 10 }, limits)
    }

    fn new_tokens(asked: Option<usize>, config: GenerationConfig, limit: Option<usize>) -> Result<usize, String> {
        let options = GenerationOptions { max_new_tokens: asked, ..GenerationOptions::default() };
        plan(&options, &config, limit).map(|plan| plan.max_new_tokens).map_err(|error| error.to_string())
    }

    #[test]
    fn length_comes_from_the_most_specific_setting() {
        let none = GenerationConfig::default;
        let suggested = || GenerationConfig { max_new_tokens: Some(7), max_length: Some(50), ..none() };
        assert_eq!(new_tokens(Some(5), suggested(), None), Ok(5));
        assert_eq!(new_tokens(None, suggested(), None), Ok(7));
        assert_eq!(new_tokens(None, GenerationConfig { max_new_tokens: None, ..suggested() }, None), Ok(40));
        assert_eq!(new_tokens(None, none(), None), Ok(20));
        assert_eq!(new_tokens(None, none(), Some(16)), Ok(6));
        assert_eq!(new_tokens(Some(6), none(), Some(16)), Ok(6));
    }

    #[test]
    fn too_long_requests_are_refused_with_the_numbers() {
        let error = new_tokens(Some(7), GenerationConfig::default(), Some(16)).unwrap_err();
        for part in ["prompt 3", "10 tokens", "7 new", "16 positions", "allow_long_sequences"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(new_tokens(None, GenerationConfig::default(), Some(10)).is_err());
        let short = GenerationConfig { max_length: Some(10), ..GenerationConfig::default() };
        assert!(new_tokens(None, short, None).unwrap_err().contains("max_length"));
        assert!(new_tokens(Some(0), GenerationConfig::default(), None).unwrap_err().contains("max_new_tokens"));
        let allowed =
            GenerationOptions { max_new_tokens: Some(7), allow_long_sequences: true, ..GenerationOptions::default() };
        assert_eq!(plan(&allowed, &GenerationConfig::default(), Some(16)).unwrap().max_new_tokens, 7);
    }

    fn read(json: &str) -> GenerationConfig {
        GenerationConfig::from_str(json).unwrap()
    }

    #[test]
    fn invalid_settings_are_errors_only_where_they_are_used() {
        let greedy = GenerationOptions::default();
        let sampled = GenerationOptions { do_sample: Some(true), ..GenerationOptions::default() };
        for (json, option) in [
            (r#"{"top_k": -1}"#, "top_k"),
            (r#"{"top_k": "all"}"#, "top_k"),
            (r#"{"temperature": Infinity}"#, "temperature"),
            (r#"{"temperature": -1}"#, "temperature"),
            (r#"{"top_p": NaN}"#, "top_p"),
            (r#"{"min_p": 2}"#, "min_p"),
            (r#"{"typical_p": "x"}"#, "typical_p"),
        ] {
            assert!(plan(&greedy, &read(json), None).is_ok(), "{json}");
            let error = plan(&sampled, &read(json), None).unwrap_err();
            assert!(error.to_string().contains(&format!("`{option}` is ")), "{error}");
            let allowing = GenerationOptions { allow_unsupported: true, ..sampled.clone() };
            assert!(plan(&allowing, &read(json), None).is_ok(), "{json}");
        }
        let own = GenerationOptions { top_k: Some(3), ..sampled.clone() };
        assert!(plan(&own, &read(r#"{"top_k": -1}"#), None).is_ok());
        for json in [r#"{"top_k": null, "top_p": null}"#, r#"{"top_k": 0}"#, r#"{"top_p": 1.5}"#, r#"{"top_k": 1e30}"#]
        {
            assert!(plan(&sampled, &read(json), None).is_ok(), "{json}");
        }
        // These are always used.
        for (json, option) in [
            (r#"{"max_new_tokens": 0}"#, "max_new_tokens"),
            (r#"{"max_length": "long"}"#, "max_length"),
            (r#"{"eos_token_id": "</s>"}"#, "eos_token_id"),
            (r#"{"repetition_penalty": 0}"#, "repetition_penalty"),
            (r#"{"do_sample": 1}"#, "do_sample"),
            (r#"{"num_beams": 0}"#, "num_beams"),
        ] {
            let error = plan(&greedy, &read(json), None).unwrap_err();
            assert!(
                matches!(&error, GenerationError::InvalidSetting { option: named, .. } if named == option),
                "{error}"
            );
        }
        assert!(plan(&greedy, &read(r#"{"pad_token_id": "x", "bos_token_id": 1.5}"#), None).is_ok());
    }

    #[test]
    fn ignored_options_are_errors() {
        let ignored = |options: GenerationOptions| match plan(&options, &GenerationConfig::default(), None) {
            Err(GenerationError::IgnoredOption { option, .. }) => Some(option),
            Err(other) => panic!("unexpected {other}"),
            Ok(_) => None,
        };
        let none = GenerationOptions::default;
        assert_eq!(ignored(GenerationOptions { temperature: Some(0.7), ..none() }), Some("temperature"));
        assert_eq!(ignored(GenerationOptions { top_k: Some(5), ..none() }), Some("top_k"));
        assert_eq!(ignored(GenerationOptions { top_p: Some(0.9), do_sample: Some(false), ..none() }), Some("top_p"));
        assert_eq!(ignored(GenerationOptions { min_p: Some(0.1), ..none() }), Some("min_p"));
        assert_eq!(ignored(GenerationOptions { top_p: Some(0.9), do_sample: Some(true), ..none() }), None);
        let neutral =
            GenerationOptions { temperature: Some(1.0), top_k: Some(0), top_p: Some(1.0), min_p: Some(0.0), ..none() };
        assert_eq!(ignored(neutral), None);
        assert_eq!(ignored(GenerationOptions { temperature: Some(0.0), ..none() }), None);
        // A checkpoint may set them for sampling.
        assert!(plan(&none(), &read(r#"{"temperature": 0.6, "top_p": 0.9}"#), None).is_ok());
    }

    #[test]
    fn greedy_decoding_overrides_the_search_of_the_checkpoint() {
        let modes = [
            r#"{"num_beams": 4, "early_stopping": true, "num_beam_groups": 2, "diversity_penalty": 0.5}"#,
            r#"{"penalty_alpha": 0.6, "top_k": 4}"#,
            r#"{"constraints": [{}], "num_beams": 2}"#,
            r#"{"force_words_ids": [[1]]}"#,
            r#"{"dola_layers": "high"}"#,
            r#"{"num_beams": "four"}"#,
        ];
        for json in modes {
            let open = GenerationOptions::default();
            assert!(plan(&open, &read(json), None).is_err(), "{json}");
            let greedy = GenerationOptions { do_sample: Some(false), ..GenerationOptions::default() };
            assert!(plan(&greedy, &read(json), None).is_ok(), "{json}");
        }
    }

    #[test]
    fn unimplemented_settings_are_named_unless_allowed() {
        let beams = GenerationConfig { num_beams: Some(4), ..GenerationConfig::default() };
        let options = GenerationOptions::default();
        assert!(plan(&options, &beams, None).unwrap_err().to_string().contains("`num_beams` = 4"));
        let allowing = GenerationOptions { allow_unsupported: true, ..options };
        assert!(plan(&allowing, &beams, None).is_ok());
    }

    #[test]
    fn options_override_the_checkpoint_and_the_checkpoint_overrides_the_defaults() {
        let config = GenerationConfig {
            do_sample: Some(true),
            temperature: Some(0.6),
            eos_token_id: vec![2, 3],
            pad_token_id: Some(100),
            ..GenerationConfig::default()
        };
        let options = GenerationOptions { temperature: Some(0.9), seed: Some(4), ..GenerationOptions::default() };
        let planned = plan(&options, &config, None).unwrap();
        let expected = SamplingOptions { do_sample: true, temperature: 0.9, seed: 4, ..SamplingOptions::default() };
        assert_eq!(planned.sampling, expected);
        assert_eq!((planned.eos_token_ids, planned.pad_token_id), (vec![2, 3], 0));
        let ignoring = GenerationOptions { ignore_eos: true, ..options };
        assert!(plan(&ignoring, &config, None).unwrap().eos_token_ids.is_empty());
    }
}
