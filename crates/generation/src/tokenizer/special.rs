//! The tokens with a role: beginning and end of sequence, padding, and those a model family adds.

use serde_json::{Map, Value};
use std::collections::BTreeMap;
use tokenizers::AddedToken;

/// Special tokens by their names in `tokenizer_config.json`, such as `bos_token`; what chat templates see of a tokenizer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    tokens: BTreeMap<String, String>,
}

impl SpecialTokens {
    /// With `token` as `name`.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, token: impl Into<String>) -> Self {
        self.tokens.insert(name.into(), token.into());
        self
    }

    /// The token called `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.tokens.get(name).map(String::as_str)
    }

    /// Names and tokens, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.tokens.iter().map(|(name, token)| (name.as_str(), token.as_str()))
    }

    pub(super) fn from_files(config: &Map<String, Value>, special_tokens_map: &Map<String, Value>) -> Self {
        let named = |(name, value): (&String, &Value)| Some((name.clone(), content(value)?.to_owned()));
        Self { tokens: entries(config, special_tokens_map).filter_map(named).collect() }
    }
}

/// Tokens that must be in the tokenizer: those of `added_tokens_decoder` in the order of their ids, then the named ones.
pub(super) fn added_tokens(config: &Map<String, Value>, special_tokens_map: &Map<String, Value>) -> Vec<AddedToken> {
    let listed = config.get("added_tokens_decoder").and_then(Value::as_object);
    let mut by_id: Vec<(u64, &Value)> =
        listed.into_iter().flatten().filter_map(|(id, token)| Some((id.parse().ok()?, token))).collect();
    by_id.sort_by_key(|(id, _)| *id);
    let mut tokens: Vec<AddedToken> = by_id.into_iter().filter_map(|(_, token)| added_token(token, false)).collect();
    let named = entries(config, special_tokens_map).filter_map(|(_, token)| added_token(token, true));
    for token in named.chain(extra_tokens(config)) {
        if !tokens.iter().any(|other| other.content == token.content) {
            tokens.push(token);
        }
    }
    tokens
}

/// The `*_token` entries. `special_tokens_map.json` is the older file: it speaks only where `tokenizer_config.json` has
/// no `added_tokens_decoder`, and then goes first (`_from_pretrained` in transformers' `tokenization_utils_base.py`).
fn entries<'a>(
    config: &'a Map<String, Value>,
    special_tokens_map: &'a Map<String, Value>,
) -> impl Iterator<Item = (&'a String, &'a Value)> {
    let legacy = (!config.contains_key("added_tokens_decoder")).then_some(special_tokens_map);
    let named = |(name, value): &(&String, &Value)| name.ends_with("_token") && content(value).is_some();
    config.iter().chain(legacy.into_iter().flatten()).filter(named)
}

/// `extra_special_tokens`, before transformers 5 `additional_special_tokens`: a list, or an object of named ones.
fn extra_tokens(config: &Map<String, Value>) -> impl Iterator<Item = AddedToken> {
    let extra = config.get("extra_special_tokens").filter(|value| !value.is_null());
    let tokens: Vec<&Value> = match extra.or_else(|| config.get("additional_special_tokens")) {
        Some(Value::Array(list)) => list.iter().collect(),
        Some(Value::Object(named)) => named.values().collect(),
        _ => Vec::new(),
    };
    tokens.into_iter().filter_map(|token| added_token(token, true))
}

/// A token is written as a string or as an object with a `content`.
fn content(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

fn added_token(value: &Value, special: bool) -> Option<AddedToken> {
    let flag = |name: &str, default: bool| value.get(name).and_then(Value::as_bool).unwrap_or(default);
    let special = special || flag("special", false);
    let token = AddedToken::from(content(value)?, special);
    let normalized = token.normalized;
    Some(
        token
            .single_word(flag("single_word", false))
            .lstrip(flag("lstrip", false))
            .rstrip(flag("rstrip", false))
            .normalized(flag("normalized", normalized)),
    )
}
