//! Unread keys.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{ConfigError, ResolvedConfig, UnreadKey, harmless, known, merge, resolve};

/// Maximum of unread keys with suggestions; a damaged file may have any number.
const HINT_LIMIT: usize = 32;

impl ResolvedConfig {
    /// Unread keys of the file and the overrides, sorted, under the names of the file, without null values and the reviewed list of keys
    /// that cannot change the model's computation.
    ///
    /// Unread parts of an object that was read in part are dotted keys.
    pub fn unread_keys(&self) -> Vec<String> {
        let read = self.read_keys();
        let parts = self.parts();
        let mut unread = Vec::new();
        for (key, value) in &parts.values {
            let name = parts.file_names.get(key).unwrap_or(key);
            let is_harmless = [name, key].into_iter().any(|key| harmless::harmless_reason(key, value).is_some());
            if parts.file.contains_key(name) && !is_harmless {
                collect_unread(key, name, value, &read, &mut unread);
            }
        }
        unread.sort();
        unread
    }

    /// Refuses a config with unread keys.
    ///
    /// `allowed` are dotted keys, under the names of the file, that may stay unread; a key also allows everything below
    /// it.
    ///
    /// # Errors
    /// [`ConfigError::OtherModel`] for a value of another kind of model, such as `is_causal` false; else
    /// [`ConfigError::UnreadKeys`] with all of them, and for each the nearest known names.
    pub fn check_all_read(&self, allowed: &[String]) -> Result<(), ConfigError> {
        let is_allowed = |key: &String| allowed.iter().any(|allowed| key == allowed || is_below(key, allowed));
        self.check_kind(&is_allowed)?;
        // A misspelt key may stand for a key of the class that the file lacks.
        let missing = || {
            let parts = self.parts();
            parts.values.keys().map(String::as_str).filter(|key| !parts.file.contains_key(*key))
        };
        let keys: Vec<UnreadKey> = self
            .unread_keys()
            .into_iter()
            .filter(|key| !is_allowed(key))
            .enumerate()
            .map(|(index, key)| UnreadKey {
                nearest: if index < HINT_LIMIT { known::nearest(&key, missing()) } else { Vec::new() },
                key,
            })
            .collect();
        if keys.is_empty() { Ok(()) } else { Err(ConfigError::UnreadKeys { keys, location: self.location() }) }
    }

    /// Refuses keys that no family reads because they belong to another kind of model.
    fn check_kind(&self, is_allowed: &dyn Fn(&String) -> bool) -> Result<(), ConfigError> {
        for (key, value) in self.parts().values.iter().filter(|(key, _)| !self.was_read(key) && !is_allowed(key)) {
            if let Some(reason) = harmless::forbidden_reason(key, value) {
                return Err(ConfigError::OtherModel {
                    key: key.clone(),
                    value: resolve::shorten(value).into(),
                    reason,
                    location: self.location().into(),
                });
            }
        }
        Ok(())
    }
}

fn is_below(key: &str, ancestor: &str) -> bool {
    key.strip_prefix(ancestor).is_some_and(|rest| rest.starts_with('.'))
}

/// `path` is under canonical, `name` under the file's names.
fn collect_unread(path: &str, name: &str, value: &Value, read: &BTreeSet<String>, unread: &mut Vec<String>) {
    if value.is_null() || read.contains(path) {
        return;
    }
    let below = format!("{path}.");
    let partly_read = read.range(below.clone()..).next().is_some_and(|key| key.starts_with(&below));
    match value {
        Value::Object(map) if partly_read && !merge::is_tagged(map) => {
            for (key, value) in map {
                collect_unread(&format!("{below}{key}"), &format!("{name}.{key}"), value, read, unread);
            }
        }
        _ => unread.push(name.to_owned()),
    }
}
