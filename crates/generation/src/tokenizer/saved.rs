//! The parts of `tokenizer.json`.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::HashMap;
use tokenizers::models::bpe::{Merges, Vocab};
use tokenizers::{AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper};

/// The content of `tokenizer.json`, with its model as an `M`. Truncation is left out, since a prompt is never truncated.
#[derive(Debug, Deserialize)]
pub(super) struct Saved<M> {
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    pub added_tokens: Vec<SavedToken>,
    #[serde(default)]
    pub normalizer: Option<NormalizerWrapper>,
    #[serde(default)]
    pub pre_tokenizer: Option<PreTokenizerWrapper>,
    #[serde(default)]
    pub post_processor: Option<PostProcessorWrapper>,
    #[serde(default)]
    pub decoder: Option<DecoderWrapper>,
    #[serde(default)]
    padding: Option<Value>,
    pub model: M,
}

/// A token with its id.
#[derive(Debug, Deserialize)]
pub(super) struct SavedToken {
    pub id: u32,
    #[serde(flatten)]
    pub token: AddedToken,
}

/// The vocabulary of a tokenizer model of any kind.
#[derive(Debug, Deserialize)]
pub(super) struct Vocabulary {
    vocab: Entries,
    #[serde(default)]
    merges: Vec<Merge>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Entries {
    ByToken(HashMap<String, u32>),
    InOrder(Vec<Entry>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Entry {
    Token(String),
    Scored(String, #[expect(dead_code, reason = "only the order matters")] f64),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Line(String),
}

impl<M: DeserializeOwned> Saved<M> {
    /// Parses the file as JSON, or else as Python reads JSON.
    pub(super) fn parse(bytes: &[u8]) -> tokenizers::Result<Self> {
        let saved: Self = serde_json::from_slice(bytes).or_else(|strict| {
            let object = automodel_config::parse_json_object(bytes, "tokenizer.json").map_err(|_| strict)?;
            serde_json::from_value(Value::Object(object))
        })?;
        match saved.version.as_deref() {
            None | Some("1.0") => Ok(saved),
            Some(other) => Err(format!("its format has version {other:?}, and only \"1.0\" is supported").into()),
        }
    }

    /// The padding token, if the file was saved with padding.
    pub(super) fn pad_token(&self) -> Option<&str> {
        self.padding.as_ref()?.get("pad_token")?.as_str()
    }
}

impl Vocabulary {
    /// Ids of tokens, and merges in their order.
    pub(super) fn into_parts(self) -> tokenizers::Result<(Vocab, Merges)> {
        let ids = match self.vocab {
            Entries::ByToken(ids) => ids.into_iter().collect(),
            Entries::InOrder(entries) => entries.into_iter().map(Entry::into_token).zip(0u32..).collect(),
        };
        let merges: Option<Vec<_>> = self.merges.into_iter().map(Merge::into_pair).collect();
        Ok((ids, merges.ok_or("a merge is not a pair of tokens")?))
    }
}

impl Entry {
    fn into_token(self) -> String {
        match self {
            Self::Token(token) | Self::Scored(token, _) => token,
        }
    }
}

impl Merge {
    fn into_pair(self) -> Option<(String, String)> {
        match self {
            Self::Pair(left, right) => Some((left, right)),
            Self::Line(line) => {
                let (left, right) = line.split_once(' ').filter(|(_, right)| !right.contains(' '))?;
                Some((left.to_owned(), right.to_owned()))
            }
        }
    }
}
