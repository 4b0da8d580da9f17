//! Options, defaults and limits brought together.

use crate::{GenerationError, GenerationOptions, SamplingOptions, unsupported};
use automodel_config::GenerationConfig;
use std::hash::{BuildHasher, RandomState};

/// `max_length` of transformers' `_get_default_generation_params`, which without any other wish counts new tokens alone.
const DEFAULT_NEW_TOKENS: usize = 20;

/// What a generation will do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GenerationPlan {
    pub max_new_tokens: usize,
    pub sampling: SamplingOptions,
    /// Tokens that end a row; empty if the caller ignores them.
    pub eos_token_ids: Vec<u32>,
    pub stop_strings: Vec<String>,
    /// A token of the vocabulary for rows that have ended.
    pub pad_token_id: u32,
}

/// The longest prompt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LongestPrompt {
    pub row: usize,
    pub tokens: usize,
}

/// What the model limits.
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
        if !options.allow_unsupported {
            unsupported::check(config, sampling.do_sample)?;
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
            expected: "text of at least one letter",
        });
    }
    Ok(())
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

/// The standard library keys its hash maps from the operating system's random numbers.
fn random_seed() -> u64 {
    RandomState::new().hash_one(0u8)
}

/// Asking for more than fits is an error; what a checkpoint suggests is cut to what fits, as transformers cuts its
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
        (Some(new), _) => new.max(1),
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
    fn length_comes_from_the_nearest_wish() {
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
    fn refuses_what_does_not_fit_with_the_numbers() {
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

    #[test]
    fn unimplemented_settings_are_named_unless_allowed() {
        let beams = GenerationConfig { num_beams: Some(4), ..GenerationConfig::default() };
        let options = GenerationOptions::default();
        assert!(plan(&options, &beams, None).unwrap_err().to_string().contains("`num_beams` = 4"));
        let allowing = GenerationOptions { allow_unsupported: true, ..options };
        assert!(plan(&allowing, &beams, None).is_ok());
    }

    #[test]
    fn options_go_before_the_checkpoint_and_the_checkpoint_before_the_class() {
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
