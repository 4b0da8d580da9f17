//! The environment variables that say where the Hugging Face cache is.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

use crate::HubError;

/// The environment variables that matter here, as values, so that a caller (or a test) can set them without touching the
/// process. An empty variable counts as unset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// `HF_HUB_CACHE`: the cache directory itself.
    pub hf_hub_cache: Option<PathBuf>,
    /// `HUGGINGFACE_HUB_CACHE`: its old name.
    pub huggingface_hub_cache: Option<PathBuf>,
    /// `HF_HOME`: the cache is `hub` in it.
    pub hf_home: Option<PathBuf>,
    /// `XDG_CACHE_HOME`: the cache is `huggingface/hub` in it.
    pub xdg_cache_home: Option<PathBuf>,
    /// `HOME` (`USERPROFILE` on Windows): the cache is `.cache/huggingface/hub` in it.
    pub home: Option<PathBuf>,
    /// `HF_HUB_OFFLINE` is `1`, `on`, `yes` or `true`, in any case.
    pub hf_hub_offline: bool,
}

impl Environment {
    /// The environment of this process.
    pub fn from_process() -> Self {
        Self::from_variables(|name| env::var_os(name))
    }

    /// An environment in which `variable` gives the value of a name.
    ///
    /// ```
    /// use automodel_hub::Environment;
    /// let environment = Environment::from_variables(|name| (name == "HF_HOME").then(|| "/data/hf".into()));
    /// assert_eq!(environment.cache_dir().unwrap(), std::path::Path::new("/data/hf/hub"));
    /// ```
    pub fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let is_true = |value: OsString| {
            let value = value.to_string_lossy().to_ascii_uppercase();
            ["1", "ON", "YES", "TRUE"].contains(&value.as_str())
        };
        Self {
            hf_hub_cache: path("HF_HUB_CACHE"),
            huggingface_hub_cache: path("HUGGINGFACE_HUB_CACHE"),
            hf_home: path("HF_HOME"),
            xdg_cache_home: path("XDG_CACHE_HOME"),
            home: path(if cfg!(windows) { "USERPROFILE" } else { "HOME" }),
            hf_hub_offline: variable("HF_HUB_OFFLINE").is_some_and(is_true),
        }
    }

    /// The cache directory, in the order of precedence of `huggingface_hub`; it need not exist.
    ///
    /// A leading `~` in a variable stands for the home directory.
    ///
    /// # Errors
    /// [`HubError::UnknownCacheDir`] if no variable leads to one.
    pub fn cache_dir(&self) -> Result<PathBuf, HubError> {
        let cache_dir = None
            .or_else(|| self.hf_hub_cache.clone())
            .or_else(|| self.huggingface_hub_cache.clone())
            .or_else(|| self.hf_home.as_ref().map(|home| home.join("hub")))
            .or_else(|| self.xdg_cache_home.as_ref().map(|cache| cache.join("huggingface").join("hub")))
            .or_else(|| self.home.as_ref().map(|home| home.join(".cache").join("huggingface").join("hub")));
        cache_dir.and_then(|path| self.expand_home(&path)).ok_or(HubError::UnknownCacheDir)
    }

    /// `path` with a leading `~` replaced by the home directory; `None` if there is a `~` but no home.
    fn expand_home(&self, path: &Path) -> Option<PathBuf> {
        match path.strip_prefix("~") {
            Ok(rest) => self.home.as_ref().map(|home| home.join(rest)),
            Err(_) => Some(path.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::from_variables(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn the_most_specific_variable_wins() {
        let home = if cfg!(windows) { "USERPROFILE" } else { "HOME" };
        let variables = [
            ("HF_HUB_CACHE", "/1"),
            ("HUGGINGFACE_HUB_CACHE", "/2"),
            ("HF_HOME", "/3"),
            ("XDG_CACHE_HOME", "/4"),
            (home, "/5"),
        ];
        let expected = ["/1", "/2", "/3/hub", "/4/huggingface/hub", "/5/.cache/huggingface/hub"];
        for (first, expected) in expected.iter().enumerate() {
            assert_eq!(environment(&variables[first..]).cache_dir().unwrap(), Path::new(expected));
        }
    }

    #[test]
    fn empty_is_unset_and_nothing_is_an_error() {
        assert!(matches!(environment(&[("HF_HUB_CACHE", "")]).cache_dir(), Err(HubError::UnknownCacheDir)));
    }

    #[test]
    #[cfg(unix)]
    fn a_tilde_is_the_home_directory() {
        let with_home = environment(&[("HF_HOME", "~/models"), ("HOME", "/home/ada")]);
        assert_eq!(with_home.cache_dir().unwrap(), Path::new("/home/ada/models/hub"));
        assert!(matches!(environment(&[("HF_HOME", "~/models")]).cache_dir(), Err(HubError::UnknownCacheDir)));
    }

    #[test]
    fn offline_is_read_as_huggingface_hub_reads_it() {
        for (value, expected) in [("1", true), ("true", true), ("Yes", true), ("ON", true), ("0", false), ("", false)] {
            assert_eq!(environment(&[("HF_HUB_OFFLINE", value)]).hf_hub_offline, expected, "{value}");
        }
    }
}
