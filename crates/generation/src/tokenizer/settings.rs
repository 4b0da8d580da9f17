//! The settings that a tokenizer class is constructed with, from four files.
//!
//! This follows `_from_pretrained` of transformers' `tokenization_utils_base.py` (5.23), step by step, because the order of
//! the steps decides which file wins, and the order of the tokens decides the ids of new ones.

use super::saved::SavedToken;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap, HashSet};
use tokenizers::AddedToken;

/// The roles that every tokenizer knows (`SPECIAL_TOKENS_ATTRIBUTES`), in their order.
pub(super) const ROLES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// A token as a file writes it: a string, or an object with flags.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum TokenValue {
    Plain(String),
    Flagged(FlaggedToken),
}

/// A token with its flags. Unless `normalized` is set, special tokens are matched in the raw text and others in the normalised text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct FlaggedToken {
    content: String,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: Option<bool>,
    special: bool,
}

/// The arguments of the constructor.
#[derive(Debug)]
pub(super) struct Settings {
    values: Map<String, Value>,
    /// Tokens with model-specific roles.
    specific: Map<String, Value>,
    /// Tokens to add, by their ids in the files.
    pub added: BTreeMap<i64, FlaggedToken>,
}

/// The files beside `tokenizer.json`.
#[derive(Debug, Default)]
pub(super) struct SettingFiles {
    pub config: Map<String, Value>,
    pub special_tokens_map: Map<String, Value>,
    pub added_tokens: Map<String, Value>,
}

impl Settings {
    pub(super) fn new(files: SettingFiles, saved: &[SavedToken]) -> Self {
        let mut values = files.config;
        // In a tokenizer.json the post-processor does this.
        for key in ["tokenizer_class", "init_inputs", "add_bos_token", "add_eos_token"] {
            values.shift_remove(key);
        }
        if !values.get("extra_special_tokens").is_some_and(is_truthy)
            && let Some(list) = values.shift_remove("additional_special_tokens")
        {
            values.insert("extra_special_tokens".to_owned(), list);
        }
        let mut settings = Self { values, specific: Map::new(), added: BTreeMap::new() };
        settings.collect_specific();
        let flags = match settings.values.shift_remove("added_tokens_decoder") {
            Some(decoder) => {
                settings.added = by_id(&decoder);
                settings.added.values().map(|token| (token.content.clone(), token.clone())).collect()
            }
            None => settings.read_older_files(files.special_tokens_map, &files.added_tokens, saved),
        };
        settings.add_flags_to_roles(&flags);
        settings
    }

    /// A setting that is not null.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    /// Whether a setting is truthy in Python.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.values.get(key).is_some_and(is_truthy)
    }

    /// Sets a value that the files leave open; null counts as set.
    pub(super) fn set_default(&mut self, key: &str, value: &str) {
        if !self.values.contains_key(key) {
            self.values.insert(key.to_owned(), value.into());
        }
    }

    /// Tokens by their roles, in the order in which new ones get ids.
    pub(super) fn named(&self) -> Vec<(String, TokenValue)> {
        let common = ROLES.iter().filter_map(|role| self.values.get_key_value(*role));
        let others = self.values.iter().filter(|(key, _)| key.ends_with("_token") && !ROLES.contains(&key.as_str()));
        let mut named: Map<String, Value> =
            common.chain(others).map(|(role, value)| (role.clone(), value.clone())).collect();
        named.extend(self.specific.clone());
        named.into_iter().filter_map(|(role, value)| Some((role, token(&value)?))).collect()
    }

    /// Special tokens without a role.
    pub(super) fn extra(&self) -> Vec<TokenValue> {
        let list = match self.values.get("extra_special_tokens") {
            None => self.values.get("additional_special_tokens"),
            list => list,
        };
        list.and_then(Value::as_array).into_iter().flatten().filter_map(token).collect()
    }

    /// Adds special tokens without a role, unless a file names some.
    pub(super) fn set_default_extra(&mut self, tokens: impl Iterator<Item = TokenValue>) {
        if !self.values.contains_key("extra_special_tokens") {
            let mut list = self.extra();
            list.extend(tokens);
            let list = list.iter().map(TokenValue::to_json).collect();
            self.values.insert("extra_special_tokens".to_owned(), list);
        }
    }

    /// Separates the tokens with model-specific roles: `foo_token` with a string, and those of an object of extra tokens.
    fn collect_specific(&mut self) {
        let specific = &mut self.specific;
        self.values.retain(|key, value| {
            let is_specific = key.ends_with("_token") && value.is_string() && !ROLES.contains(&key.as_str());
            if is_specific {
                specific.insert(key.clone(), value.take());
            }
            !is_specific
        });
        self.collect_named_extra();
    }

    fn collect_named_extra(&mut self) {
        if self.values.get("extra_special_tokens").is_some_and(Value::is_object)
            && let Some(Value::Object(named)) = self.values.shift_remove("extra_special_tokens")
        {
            self.specific.extend(named);
        }
    }

    /// `special_tokens_map.json` and `added_tokens.json` count if `tokenizer_config.json` has no `added_tokens_decoder`, and the added
    /// tokens of `tokenizer.json` override both. Returns the flags of each token that was mentioned.
    fn read_older_files(
        &mut self,
        map: Map<String, Value>,
        added: &Map<String, Value>,
        saved: &[SavedToken],
    ) -> HashMap<String, FlaggedToken> {
        for (key, value) in map {
            let value = match value {
                Value::Object(token) if key != "extra_special_tokens" => as_special(token),
                Value::Array(list) if key == "extra_special_tokens" => self.joined_extra(list),
                other => other,
            };
            self.values.insert(key, value);
        }
        self.collect_named_extra();
        let named = ROLES.iter().filter_map(|role| self.values.get(*role));
        let extra = self.values.get("extra_special_tokens").and_then(Value::as_array);
        // As in transformers, an object of tokenizer_config.json is not converted to a token at this point.
        let is_token = |value: &&Value| value.get("__type").is_none();
        let special = named.chain(extra.into_iter().flatten()).filter(is_token).filter_map(token);
        let special: HashSet<String> = special.map(TokenValue::into_content).collect();
        let older = added.iter().filter_map(|(content, id)| {
            let token = AddedToken::from(content.clone(), special.contains(content));
            Some((id.as_i64()?, FlaggedToken::from(token)))
        });
        let saved = saved.iter().map(|saved| (i64::from(saved.id), saved.token.clone().into()));
        let mut flags = HashMap::new();
        for (id, token) in older.chain(saved) {
            flags.insert(token.content.clone(), token.clone());
            self.added.insert(id, token);
        }
        flags
    }

    /// The extra tokens of `tokenizer_config.json` and those of the older file that are not among them.
    fn joined_extra(&self, more: Vec<Value>) -> Value {
        let known = self.values.get("extra_special_tokens").and_then(Value::as_array);
        let mut seen: HashSet<TokenValue> = known.into_iter().flatten().filter_map(token).collect();
        let mut list: Vec<Value> = known.cloned().unwrap_or_default();
        for value in more {
            let value = match value {
                Value::Object(token) => as_special(token),
                other => other,
            };
            if token(&value).is_some_and(|token| seen.insert(token)) {
                list.push(value);
            }
        }
        Value::Array(list)
    }

    /// Gives roles the flags of the added token with the same content.
    fn add_flags_to_roles(&mut self, flags: &HashMap<String, FlaggedToken>) {
        for role in ROLES {
            if let Some(value) = self.values.get_mut(role)
                && let Some(token) = token(value)
                && let Some(flagged) = flags.get(token.content())
            {
                *value = TokenValue::Flagged(flagged.clone()).to_json();
            }
        }
    }
}

impl TokenValue {
    pub(super) fn content(&self) -> &str {
        match self {
            Self::Plain(content) => content,
            Self::Flagged(token) => &token.content,
        }
    }

    pub(super) fn into_content(self) -> String {
        match self {
            Self::Plain(content) => content,
            Self::Flagged(token) => token.content,
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Plain(content) => content.as_str().into(),
            Self::Flagged(token) => serde_json::json!({
                "content": token.content, "single_word": token.single_word, "lstrip": token.lstrip,
                "rstrip": token.rstrip, "normalized": token.normalized, "special": token.special,
            }),
        }
    }
}

impl FlaggedToken {
    pub(super) fn content(&self) -> &str {
        &self.content
    }

    /// The same token as a special one.
    pub(super) fn into_special(self) -> Self {
        Self { special: true, ..self }
    }
}

impl From<AddedToken> for FlaggedToken {
    fn from(token: AddedToken) -> Self {
        let AddedToken { content, single_word, lstrip, rstrip, normalized, special } = token;
        Self { content, single_word, lstrip, rstrip, normalized: Some(normalized), special }
    }
}

impl From<FlaggedToken> for AddedToken {
    fn from(token: FlaggedToken) -> Self {
        let FlaggedToken { content, single_word, lstrip, rstrip, normalized, special } = token;
        Self { content, single_word, lstrip, rstrip, normalized: normalized.unwrap_or(!special), special }
    }
}

/// A token, if the value is one.
fn token(value: &Value) -> Option<TokenValue> {
    if let Value::String(content) = value {
        return Some(TokenValue::Plain(content.clone()));
    }
    let flag = |name: &str| value.get(name).and_then(Value::as_bool);
    let is_set = |name: &str| flag(name).unwrap_or(false);
    Some(TokenValue::Flagged(FlaggedToken {
        content: value.get("content")?.as_str()?.to_owned(),
        single_word: is_set("single_word"),
        lstrip: is_set("lstrip"),
        rstrip: is_set("rstrip"),
        normalized: flag("normalized"),
        special: is_set("special"),
    }))
}

/// A token of an older file, which is a special one.
fn as_special(mut token: Map<String, Value>) -> Value {
    token.shift_remove("__type");
    token.insert("special".to_owned(), true.into());
    Value::Object(token)
}

/// `added_tokens_decoder`: tokens by their ids.
fn by_id(decoder: &Value) -> BTreeMap<i64, FlaggedToken> {
    let flagged = |value: &Value| match token(value)? {
        TokenValue::Flagged(token) => Some(token),
        TokenValue::Plain(_) => None,
    };
    let entries = decoder.as_object().into_iter().flatten();
    entries.filter_map(|(id, value)| Some((id.parse().ok()?, flagged(value)?))).collect()
}

/// Whether the value is truthy in Python.
fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}
