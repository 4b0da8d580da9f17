//! Special tokens: beginning and end of sequence, padding, and those of a model family.

use super::settings::TokenValue;
use std::collections::BTreeMap;

/// Special tokens by their names in `tokenizer_config.json`, such as `bos_token`, as chat templates read them.
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

    pub(super) fn from_named(named: impl IntoIterator<Item = (String, TokenValue)>) -> Self {
        Self { tokens: named.into_iter().map(|(name, token)| (name, token.into_content())).collect() }
    }
}
