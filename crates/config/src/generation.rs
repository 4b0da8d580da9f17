//! Settings of text generation: generation_config.json.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::{
    ConfigError, Origin, ResolvedConfig,
    raw::{self, location},
    resolve, typed,
};

/// Settings of text generation. `None` is what the file does not say, or says `null` for.
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
    /// Tokens that end a text; empty if the file gives none.
    pub eos_token_id: Vec<u32>,
    /// Token that begins a text.
    pub bos_token_id: Option<u32>,
    /// Token that fills up shorter texts of a batch.
    pub pad_token_id: Option<u32>,
    /// Tokens to generate at most, the prompt not counted.
    pub max_new_tokens: Option<usize>,
    /// Tokens at most, the prompt counted.
    pub max_length: Option<usize>,
    /// Tokens to generate at least, the prompt not counted.
    pub min_new_tokens: Option<usize>,
    /// Tokens at least, the prompt counted.
    pub min_length: Option<usize>,
    /// Whether to draw from the distribution; otherwise the likeliest token is taken.
    pub do_sample: Option<bool>,
    /// Divisor of the logits; at least 0.
    pub temperature: Option<f64>,
    /// How many of the likeliest tokens to draw from; 0 for all.
    pub top_k: Option<usize>,
    /// Probability mass of the likeliest tokens to draw from, from 0 to 1.
    pub top_p: Option<f64>,
    /// Least probability relative to the likeliest token, from 0 to 1.
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
    /// Keys that this crate gives no meaning, as they were.
    pub other: Map<String, Value>,
}

impl GenerationConfig {
    /// Reads a file; a directory stands for its `generation_config.json`.
    ///
    /// # Errors
    /// The file cannot be read or is not a JSON object, or a value is of the wrong kind or out of range.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let path = if path.is_dir() { path.join("generation_config.json") } else { path.to_owned() };
        let (values, _) = raw::read_object(&path)?;
        Reader::new(values, Some(path)).read_all()
    }

    /// Parses a text.
    ///
    /// # Errors
    /// The text is not a JSON object, or a value is of the wrong kind or out of range.
    #[expect(clippy::should_implement_trait, reason = "reads like `from_file`")]
    pub fn from_str(json: &str) -> Result<Self, ConfigError> {
        let (values, _) = raw::parse_object(json.as_bytes(), &location(None))?;
        Reader::new(values, None).read_all()
    }

    /// What a config.json says about special tokens. Other generation settings in a config.json are ignored, as
    /// transformers 5 does. A wrapper's tokens come before those of its text model.
    ///
    /// # Errors
    /// A token id of the wrong kind.
    pub fn from_model_config(config: &ResolvedConfig) -> Result<Self, ConfigError> {
        let mut values = Map::new();
        for key in ["eos_token_id", "bos_token_id", "pad_token_id"] {
            let outer = config.outer(key).filter(|value| !value.is_null());
            let overridden = config.origin(key) == Some(&Origin::Override);
            let text = config.value(key);
            if let Some(value) = if overridden { text.or(outer) } else { outer.or(text) } {
                values.insert(key.to_owned(), value.clone());
            }
        }
        Reader::new(values, config.path().map(Path::to_owned)).read_all()
    }

    /// These settings with others on top: what `later` says counts, what it leaves out stays.
    #[must_use]
    pub fn merge(self, later: GenerationConfig) -> Self {
        let mut other = self.other;
        other.extend(later.other);
        Self {
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
}

/// Takes values out of the object one by one; what stays is `other`.
struct Reader {
    values: Map<String, Value>,
    path: Option<PathBuf>,
}

impl Reader {
    fn new(values: Map<String, Value>, path: Option<PathBuf>) -> Self {
        Self { values, path }
    }

    fn read_all(mut self) -> Result<GenerationConfig, ConfigError> {
        let one = "a token id";
        let part = |value: &Value| typed::finite(value).filter(|part| (0.0..=1.0).contains(part));
        Ok(GenerationConfig {
            eos_token_id: self
                .take("eos_token_id", "a token id or a list of token ids", token_ids)?
                .unwrap_or_default(),
            bos_token_id: self.take("bos_token_id", one, token_id)?.flatten(),
            pad_token_id: self.take("pad_token_id", one, token_id)?.flatten(),
            max_new_tokens: self.take("max_new_tokens", "an integer of at least 0", typed::count)?,
            max_length: self.take("max_length", "an integer of at least 0", typed::count)?,
            min_new_tokens: self.take("min_new_tokens", "an integer of at least 0", typed::count)?,
            min_length: self.take("min_length", "an integer of at least 0", typed::count)?,
            do_sample: self.take("do_sample", "true or false", Value::as_bool)?,
            temperature: self.take("temperature", "a number of at least 0", |value| {
                typed::finite(value).filter(|number| *number >= 0.0)
            })?,
            top_k: self.take("top_k", "an integer of at least 0", typed::count)?,
            top_p: self.take("top_p", "a number from 0 to 1", part)?,
            min_p: self.take("min_p", "a number from 0 to 1", part)?,
            typical_p: self.take("typical_p", "a number from 0 to 1", part)?,
            repetition_penalty: self.take("repetition_penalty", "a number above 0", |value| {
                typed::finite(value).filter(|number| *number > 0.0)
            })?,
            no_repeat_ngram_size: self.take("no_repeat_ngram_size", "an integer of at least 0", typed::count)?,
            num_beams: self.take("num_beams", "an integer of at least 1", typed::size)?,
            num_return_sequences: self.take("num_return_sequences", "an integer of at least 1", typed::size)?,
            stop_strings: self.take("stop_strings", "a string or a list of strings", strings)?,
            suppress_tokens: self.take("suppress_tokens", "a list of token ids", token_ids)?,
            other: self.values,
        })
    }

    fn take<T>(
        &mut self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        match self.values.shift_remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(&value).map(Some).ok_or_else(|| ConfigError::InvalidValue {
                key: key.to_owned(),
                alias: None,
                value: resolve::shorten(&value).into(),
                origin: Origin::File,
                expected: expected.into(),
                location: location(self.path.as_deref()).into(),
            }),
        }
    }
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
