//! Generation settings: generation_config.json.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use crate::{
    ConfigError, Origin, ResolvedConfig, json,
    raw::{self, location},
    resolve, typed,
};

/// The attributes of transformers' `GenerationConfig` (5.23) that decide which tokens are generated: the keys that it takes
/// from a config.json.
const KEYS: [&str; 46] = [
    "assistant_early_exit",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "constraints",
    "diversity_penalty",
    "do_sample",
    "dola_layers",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "encoder_repetition_penalty",
    "eos_token_id",
    "epsilon_cutoff",
    "eta_cutoff",
    "exponential_decay_length_penalty",
    "force_words_ids",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "guidance_scale",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "max_time",
    "min_length",
    "min_new_tokens",
    "min_p",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "pad_token_id",
    "penalty_alpha",
    "prompt_lookup_num_tokens",
    "remove_invalid_values",
    "renormalize_logits",
    "repetition_penalty",
    "sequence_bias",
    "stop_strings",
    "suppress_tokens",
    "temperature",
    "token_healing",
    "top_h",
    "top_k",
    "top_p",
    "typical_p",
    "watermarking_config",
];

/// Generation settings. `None` means absent or `null` in the file. An invalid value is an error only where it is used: it is in
/// [`invalid`](Self::invalid).
///
/// ```
/// use automodel_config::GenerationConfig;
///
/// let author = GenerationConfig::from_str(r#"{"eos_token_id": [2, 7], "temperature": 0.6, "do_sample": true}"#)?;
/// let caller = GenerationConfig { temperature: Some(1.0), ..GenerationConfig::default() };
/// let merged = author.merge(caller);
/// assert_eq!(merged.eos_token_id, [2, 7]);
/// assert_eq!(merged.temperature, Some(1.0));
/// # Ok::<(), automodel_config::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationConfig {
    /// End-of-sequence tokens; empty if the file has none.
    pub eos_token_id: Vec<u32>,
    /// Beginning-of-sequence token.
    pub bos_token_id: Option<u32>,
    /// Padding token of shorter texts of a batch.
    pub pad_token_id: Option<u32>,
    /// Maximum of tokens to generate, without the prompt.
    pub max_new_tokens: Option<usize>,
    /// Maximum of tokens, with the prompt.
    pub max_length: Option<usize>,
    /// Minimum of tokens to generate, without the prompt.
    pub min_new_tokens: Option<usize>,
    /// Minimum of tokens, with the prompt.
    pub min_length: Option<usize>,
    /// Whether to sample; otherwise greedy decoding.
    pub do_sample: Option<bool>,
    /// Divisor of the logits; at least 0.
    pub temperature: Option<f64>,
    /// Number of most likely tokens to sample from; 0 for all.
    pub top_k: Option<usize>,
    /// Probability mass of the most likely tokens to sample from, from 0 to 1.
    pub top_p: Option<f64>,
    /// Minimum probability relative to the most likely token, from 0 to 1.
    pub min_p: Option<f64>,
    /// Locally typical probability mass, from 0 to 1.
    pub typical_p: Option<f64>,
    /// Divisor of the scores of tokens that occurred; above 0.
    pub repetition_penalty: Option<f64>,
    /// Length of token sequences that must not occur twice; 0 for none.
    pub no_repeat_ngram_size: Option<usize>,
    /// Beams of a beam search; 1 for none.
    pub num_beams: Option<usize>,
    /// Texts to generate for each prompt.
    pub num_return_sequences: Option<usize>,
    /// Texts that end the generation.
    pub stop_strings: Option<Vec<String>>,
    /// Tokens that are never generated.
    pub suppress_tokens: Option<Vec<u32>>,
    /// Other keys, unchanged.
    pub other: Map<String, Value>,
    /// Keys with invalid values, which are `None` above.
    pub invalid: BTreeMap<String, InvalidSetting>,
}

/// A value of the wrong kind, or out of its range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidSetting {
    /// The value, shortened.
    pub value: String,
    /// The accepted values.
    pub expected: &'static str,
    /// The file, or a description of a text from elsewhere.
    pub location: String,
}

impl GenerationConfig {
    /// Reads a file, or the `generation_config.json` of a directory.
    ///
    /// # Errors
    /// The file cannot be read or is not a JSON object.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let path = if path.is_dir() { path.join("generation_config.json") } else { path.to_owned() };
        let (values, _) = raw::read_object(&path)?;
        Ok(Reader::new(values, Some(&path)).read_all())
    }

    /// Parses a text.
    ///
    /// # Errors
    /// The text is not a JSON object.
    #[expect(clippy::should_implement_trait, reason = "reads like `from_file`")]
    pub fn from_str(json: &str) -> Result<Self, ConfigError> {
        let (values, _) = raw::parse_object(json.as_bytes(), &location(None))?;
        Ok(Reader::new(values, None).read_all())
    }

    /// The special tokens of a config, class defaults included, as transformers uses them for a model that is built from a config alone.
    /// A wrapper's tokens take precedence over those of its text model.
    pub fn from_model_config(config: &ResolvedConfig) -> Self {
        let tokens = ["eos_token_id", "bos_token_id", "pad_token_id"];
        let set = tokens.iter().filter_map(|key| Some(((*key).to_owned(), outer_or(config, key, config.value(key))?)));
        Reader::new(set.collect(), config.path()).read_all()
    }

    /// The generation settings in the config.json of a checkpoint without generation_config.json (as `adjust_generation_fn` in
    /// transformers' `generation/utils.py` reads them): the keys of the file, without class defaults. A wrapper's settings take
    /// precedence over those of its text model.
    pub fn from_config_file(config: &ResolvedConfig) -> Self {
        let file = &config.parts().file;
        let set = KEYS.iter().filter_map(|key| Some(((*key).to_owned(), outer_or(config, key, file.get(*key))?)));
        Reader::new(set.collect(), config.path()).read_all()
    }

    /// These settings with the caller's overrides of the config on top.
    #[must_use]
    pub fn with_overrides_of(self, config: &ResolvedConfig) -> Self {
        let overridden = |key: &&&str| config.origin(key) == Some(&Origin::Override);
        let set = KEYS.iter().filter(overridden).filter_map(|key| Some(((*key).to_owned(), config.peek(key)?.clone())));
        self.merge(Reader::new(set.collect(), None).read_all())
    }

    /// These settings overridden by those of `later` that are set.
    #[must_use]
    pub fn merge(self, later: GenerationConfig) -> Self {
        let set: Vec<&str> = later.keys().collect();
        let mut invalid = self.invalid;
        invalid.retain(|key, _| !set.contains(&key.as_str()));
        invalid.extend(later.invalid);
        let mut other = self.other;
        other.extend(later.other);
        Self {
            invalid,
            eos_token_id: if later.eos_token_id.is_empty() { self.eos_token_id } else { later.eos_token_id },
            bos_token_id: later.bos_token_id.or(self.bos_token_id),
            pad_token_id: later.pad_token_id.or(self.pad_token_id),
            max_new_tokens: later.max_new_tokens.or(self.max_new_tokens),
            max_length: later.max_length.or(self.max_length),
            min_new_tokens: later.min_new_tokens.or(self.min_new_tokens),
            min_length: later.min_length.or(self.min_length),
            do_sample: later.do_sample.or(self.do_sample),
            temperature: later.temperature.or(self.temperature),
            top_k: later.top_k.or(self.top_k),
            top_p: later.top_p.or(self.top_p),
            min_p: later.min_p.or(self.min_p),
            typical_p: later.typical_p.or(self.typical_p),
            repetition_penalty: later.repetition_penalty.or(self.repetition_penalty),
            no_repeat_ngram_size: later.no_repeat_ngram_size.or(self.no_repeat_ngram_size),
            num_beams: later.num_beams.or(self.num_beams),
            num_return_sequences: later.num_return_sequences.or(self.num_return_sequences),
            stop_strings: later.stop_strings.or(self.stop_strings),
            suppress_tokens: later.suppress_tokens.or(self.suppress_tokens),
            other,
        }
    }

    /// The keys with a value.
    fn keys(&self) -> impl Iterator<Item = &'static str> {
        let set = [
            ("eos_token_id", !self.eos_token_id.is_empty()),
            ("bos_token_id", self.bos_token_id.is_some()),
            ("pad_token_id", self.pad_token_id.is_some()),
            ("max_new_tokens", self.max_new_tokens.is_some()),
            ("max_length", self.max_length.is_some()),
            ("min_new_tokens", self.min_new_tokens.is_some()),
            ("min_length", self.min_length.is_some()),
            ("do_sample", self.do_sample.is_some()),
            ("temperature", self.temperature.is_some()),
            ("top_k", self.top_k.is_some()),
            ("top_p", self.top_p.is_some()),
            ("min_p", self.min_p.is_some()),
            ("typical_p", self.typical_p.is_some()),
            ("repetition_penalty", self.repetition_penalty.is_some()),
            ("no_repeat_ngram_size", self.no_repeat_ngram_size.is_some()),
            ("num_beams", self.num_beams.is_some()),
            ("num_return_sequences", self.num_return_sequences.is_some()),
            ("stop_strings", self.stop_strings.is_some()),
            ("suppress_tokens", self.suppress_tokens.is_some()),
        ];
        set.into_iter().filter(|(_, is_said)| *is_said).map(|(key, _)| key)
    }
}

/// The wrapper's value unless it is null or overridden, else the text model's.
fn outer_or(config: &ResolvedConfig, key: &str, text: Option<&Value>) -> Option<Value> {
    let outer = config.outer(key).filter(|value| !value.is_null());
    let overridden = config.origin(key) == Some(&Origin::Override);
    if overridden { text.or(outer) } else { outer.or(text) }.cloned()
}

/// Removes values from the object one by one; the rest is `other`.
struct Reader {
    values: Map<String, Value>,
    location: String,
    invalid: BTreeMap<String, InvalidSetting>,
}

impl Reader {
    fn new(values: Map<String, Value>, path: Option<&Path>) -> Self {
        Self { values, location: location(path), invalid: BTreeMap::new() }
    }

    fn read_all(mut self) -> GenerationConfig {
        let (one, count, size) = ("a token id", "an integer of at least 0", "an integer of at least 1");
        GenerationConfig {
            eos_token_id: self.take("eos_token_id", "a token id or a list of token ids", token_ids).unwrap_or_default(),
            bos_token_id: self.take("bos_token_id", one, token_id).flatten(),
            pad_token_id: self.take("pad_token_id", one, token_id).flatten(),
            max_new_tokens: self.take("max_new_tokens", size, |value| whole(value).filter(|whole| *whole > 0)),
            max_length: self.take("max_length", count, whole),
            min_new_tokens: self.take("min_new_tokens", count, whole),
            min_length: self.take("min_length", count, whole),
            do_sample: self.take("do_sample", "true or false", Value::as_bool),
            temperature: self.take("temperature", "a number of at least 0", |value| {
                typed::finite(value).filter(|number| *number >= 0.0)
            }),
            top_k: self.take("top_k", count, whole),
            top_p: self.take("top_p", "a number of at least 0", mass),
            min_p: self.take("min_p", "a number from 0 to 1", |value| {
                typed::finite(value).filter(|part| (0.0..=1.0).contains(part))
            }),
            typical_p: self.take("typical_p", "a number of at least 0", mass),
            repetition_penalty: self.take("repetition_penalty", "a number above 0", |value| {
                typed::finite(value).filter(|number| *number > 0.0)
            }),
            no_repeat_ngram_size: self.take("no_repeat_ngram_size", count, whole),
            num_beams: self.take("num_beams", size, typed::size),
            num_return_sequences: self.take("num_return_sequences", size, typed::size),
            stop_strings: self.take("stop_strings", "a string or a list of strings", strings),
            suppress_tokens: self.take("suppress_tokens", "a list of token ids", token_ids),
            other: self.values,
            invalid: self.invalid,
        }
    }

    fn take<T>(&mut self, key: &str, expected: &'static str, read: impl FnOnce(&Value) -> Option<T>) -> Option<T> {
        let value = self.values.shift_remove(key).filter(|value| !value.is_null())?;
        let usable = read(&value);
        if usable.is_none() {
            let value = resolve::shorten(&value);
            let setting = InvalidSetting { value, expected, location: self.location.clone() };
            self.invalid.insert(key.to_owned(), setting);
        }
        usable
    }
}

/// An integer of at least 0, saturated at the range of `usize`.
fn whole(value: &Value) -> Option<usize> {
    let number = typed::finite(value).filter(|number| number.fract() == 0.0 && *number >= 0.0)?;
    // A float becomes the nearest integer of the range; those below 2^53 are exact.
    Some(value.as_u64().map_or(number as usize, |whole| usize::try_from(whole).unwrap_or(usize::MAX)))
}

/// A probability mass; values from 1 on mean all of it, as in transformers' conditions.
fn mass(value: &Value) -> Option<f64> {
    json::as_float(value).filter(|part| *part >= 0.0).map(|part| part.min(1.0))
}

/// A token id; `Some(None)` for a negative one, which files on the hub use for "none".
fn token_id(value: &Value) -> Option<Option<u32>> {
    if typed::finite(value).is_some_and(|number| number < 0.0 && number.fract() == 0.0) {
        return Some(None);
    }
    u32::try_from(typed::count(value)?).ok().map(Some)
}

/// One token id or a list of them, negative ones left out.
fn token_ids(value: &Value) -> Option<Vec<u32>> {
    match value {
        Value::Array(items) => {
            Some(items.iter().map(token_id).collect::<Option<Vec<_>>>()?.into_iter().flatten().collect())
        }
        single => Some(token_id(single)?.into_iter().collect()),
    }
}

fn strings(value: &Value) -> Option<Vec<String>> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match value {
        Value::String(single) => Some(vec![single.clone()]),
        list => typed::list(list, text),
    }
}
