//! The environment variables for the Hugging Face cache and its server.

use std::{
    env,
    ffi::OsString,
    fmt, io,
    path::{Path, PathBuf},
};

use crate::{HubError, Token, expand::expanded, files};

/// Maximum bytes of a token file.
const TOKEN_FILE_BYTES: u64 = 8192;

/// The environment variables of this crate, as values, so that a caller (or a test) can set them without changing the process. An
/// empty variable counts as unset.
#[derive(Clone, Default, PartialEq, Eq)]
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
    /// `HF_HUB_OFFLINE`, or else `TRANSFORMERS_OFFLINE`, is `1`, `on`, `yes` or `true`, in any case.
    pub hf_hub_offline: bool,
    /// `HF_ENDPOINT`: the server, instead of `https://huggingface.co`.
    pub hf_endpoint: Option<String>,
    /// `HF_TOKEN`, or its old name `HUGGING_FACE_HUB_TOKEN`.
    pub hf_token: Option<Token>,
    /// `HF_TOKEN_PATH`: a file with the token, instead of `token` in `HF_HOME`.
    pub hf_token_path: Option<PathBuf>,
    /// `HF_HUB_DISABLE_IMPLICIT_TOKEN` is set: a token is sent only if an option gives it.
    pub hf_hub_disable_implicit_token: bool,
    /// `HTTPS_PROXY`, or `ALL_PROXY`: the proxy for `https`.
    pub https_proxy: Option<String>,
    /// `HTTP_PROXY`, or `ALL_PROXY`: the proxy for `http`.
    pub http_proxy: Option<String>,
    /// `NO_PROXY`: hosts that are reached without a proxy.
    pub no_proxy: Option<String>,
}

/// Addresses of proxies may contain passwords: only whether one is set is shown.
impl fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |proxy: &Option<String>| proxy.as_ref().map(|_| "..");
        formatter
            .debug_struct("Environment")
            .field("hf_hub_cache", &self.hf_hub_cache)
            .field("huggingface_hub_cache", &self.huggingface_hub_cache)
            .field("hf_home", &self.hf_home)
            .field("xdg_cache_home", &self.xdg_cache_home)
            .field("home", &self.home)
            .field("hf_hub_offline", &self.hf_hub_offline)
            .field("hf_endpoint", &self.hf_endpoint)
            .field("hf_token", &self.hf_token)
            .field("hf_token_path", &self.hf_token_path)
            .field("hf_hub_disable_implicit_token", &self.hf_hub_disable_implicit_token)
            .field("https_proxy", &hidden(&self.https_proxy))
            .field("http_proxy", &hidden(&self.http_proxy))
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

impl Environment {
    /// The environment of this process.
    pub fn from_process() -> Self {
        let environment = Self::from_variables(|name| env::var_os(name));
        Self { home: environment.home.or_else(env::home_dir), ..environment }
    }

    /// An environment in which `variable` returns the value of a name. In variables that hold a path, `$NAME` and `${NAME}` are
    /// expanded.
    ///
    /// ```
    /// use automodel_hub::Environment;
    /// let environment = Environment::from_variables(|name| (name == "HF_HOME").then(|| "/data/hf".into()));
    /// assert_eq!(environment.cache_dir().unwrap(), std::path::Path::new("/data/hf/hub"));
    /// ```
    pub fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let expanded = |name: &str| path(name).map(|path| expanded(path, &variable));
        // References in `HF_HOME` are expanded once more in the paths that are derived from it.
        let of_home = |name: &str| expanded(name).map(|path| crate::expand::expanded(path, &variable));
        let is_true = |value: OsString| {
            let value = value.to_string_lossy().to_ascii_uppercase();
            ["1", "ON", "YES", "TRUE"].contains(&value.as_str())
        };
        let text = |name: &str| {
            variable(name).and_then(|value| value.into_string().ok()).filter(|value| !value.trim().is_empty())
        };
        // The lower-case names are older, and the only ones that child processes of a web server can trust.
        let proxy = |lower: &str, upper: &str| text(lower).or_else(|| text(upper));
        let all_proxy = || proxy("all_proxy", "ALL_PROXY");
        let token = |name: &str| Token::new(&text(name)?, name).ok();
        Self {
            hf_endpoint: text("HF_ENDPOINT"),
            hf_token: token("HF_TOKEN").or_else(|| token("HUGGING_FACE_HUB_TOKEN")),
            hf_token_path: expanded("HF_TOKEN_PATH"),
            hf_hub_disable_implicit_token: variable("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some_and(is_true),
            https_proxy: proxy("https_proxy", "HTTPS_PROXY").or_else(all_proxy),
            http_proxy: proxy("http_proxy", "HTTP_PROXY").or_else(all_proxy),
            no_proxy: proxy("no_proxy", "NO_PROXY"),
            hf_hub_cache: expanded("HF_HUB_CACHE"),
            huggingface_hub_cache: expanded("HUGGINGFACE_HUB_CACHE"),
            hf_home: of_home("HF_HOME"),
            xdg_cache_home: of_home("XDG_CACHE_HOME"),
            home: path(if cfg!(windows) { "USERPROFILE" } else { "HOME" }),
            hf_hub_offline: ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]
                .into_iter()
                .find_map(|name| variable(name).filter(|value| !value.is_empty()))
                .is_some_and(is_true),
        }
    }

    /// The cache directory, with the precedence of `huggingface_hub`; it need not exist.
    ///
    /// A leading `~` in a variable is the home directory.
    ///
    /// # Errors
    /// [`HubError::UnknownCacheDir`] if no variable determines it, [`HubError::UnknownHome`] if one begins with `~USER`.
    pub fn cache_dir(&self) -> Result<PathBuf, HubError> {
        let cache_dir = None
            .or_else(|| self.hf_hub_cache.clone())
            .or_else(|| self.huggingface_hub_cache.clone())
            .or_else(|| self.hf_home.as_ref().map(|home| home.join("hub")))
            .or_else(|| self.xdg_cache_home.as_ref().map(|cache| cache.join("huggingface").join("hub")))
            .or_else(|| self.home.as_ref().map(|home| home.join(".cache").join("huggingface").join("hub")));
        self.expand_home(&cache_dir.ok_or(HubError::UnknownCacheDir)?)
    }

    /// The default token: `HF_TOKEN`, or else the content of the token file, as `hf auth login` writes it.
    ///
    /// # Errors
    /// [`HubError::InvalidToken`] if the file has other content, [`HubError::Unreadable`] if it exists and cannot be read.
    pub fn token(&self) -> Result<Option<Token>, HubError> {
        if self.hf_hub_disable_implicit_token {
            return Ok(None);
        }
        if let Some(token) = &self.hf_token {
            return Ok(Some(token.clone()));
        }
        let Some(path) = self.token_file() else { return Ok(None) };
        // Without a home directory there is no token file.
        let Ok(path) = self.expand_home(&path) else { return Ok(None) };
        match files::read(&path, TOKEN_FILE_BYTES) {
            Ok(bytes) if bytes.trim_ascii().is_empty() => Ok(None),
            Ok(bytes) => Token::new(&String::from_utf8_lossy(&bytes), &path.display().to_string()).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound && files::dangling(&path).is_none() => Ok(None),
            Err(source) => Err(HubError::Unreadable { path, source }),
        }
    }

    fn token_file(&self) -> Option<PathBuf> {
        None.or_else(|| self.hf_token_path.clone())
            .or_else(|| self.hf_home.as_ref().map(|home| home.join("token")))
            .or_else(|| self.xdg_cache_home.as_ref().map(|cache| cache.join("huggingface").join("token")))
            .or_else(|| self.home.as_ref().map(|home| home.join(".cache").join("huggingface").join("token")))
    }

    /// `path` with a leading `~` replaced by the home directory.
    fn expand_home(&self, path: &Path) -> Result<PathBuf, HubError> {
        if let Ok(rest) = path.strip_prefix("~") {
            return self.home.as_ref().map(|home| home.join(rest)).ok_or(HubError::UnknownCacheDir);
        }
        if path.to_string_lossy().starts_with('~') {
            return Err(HubError::UnknownHome { path: path.to_owned() });
        }
        Ok(path.to_owned())
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
    fn secrets_are_not_shown() {
        let proxy = "http://user:secret@proxy:3128";
        let environment = environment(&[("HTTPS_PROXY", proxy), ("HTTP_PROXY", proxy), ("HF_TOKEN", "hf_secret")]);
        assert_eq!(environment.https_proxy.as_deref(), Some(proxy));
        let text = format!("{environment:?}");
        assert!(!text.contains("secret") && text.contains("https_proxy: Some"), "{text}");
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

    /// Expected values are those that `huggingface_hub` 2.4.0 makes of the same variables.
    #[test]
    #[cfg(unix)]
    fn paths_are_expanded_as_python_expands_them() {
        let cases = [
            ("HF_HOME", "$HOME/x", "/home/ada/x/hub"),
            ("HF_HOME", "${HOME}/x", "/home/ada/x/hub"),
            ("HF_HOME", "~/x/$PLACE", "/home/ada/x/disk/hub"),
            ("HF_HOME", "$NESTED/x", "disk/x/hub"),
            ("HF_HOME", "$ABSENT/x$", "$ABSENT/x$/hub"),
            ("HF_HOME", "${PLACE/x", "${PLACE/x/hub"),
            ("HF_HOME", "a$PLACE-b$PLACEc", "adisk-b$PLACEc/hub"),
            ("XDG_CACHE_HOME", "$HOME/c", "/home/ada/c/huggingface/hub"),
            ("XDG_CACHE_HOME", "~", "/home/ada/huggingface/hub"),
            ("HF_HUB_CACHE", "$HOME/$PLACE", "/home/ada/disk"),
            ("HF_HUB_CACHE", "$NESTED", "$PLACE"),
            ("HUGGINGFACE_HUB_CACHE", "~/$PLACE", "/home/ada/disk"),
        ];
        let others = [("HOME", "/home/ada"), ("PLACE", "disk"), ("NESTED", "$PLACE")];
        for (name, value, expected) in cases {
            let variables = [&others[..], &[(name, value)]].concat();
            assert_eq!(environment(&variables).cache_dir().unwrap(), Path::new(expected), "{name}={value}");
        }
        let of_another = environment(&[("HF_HOME", "~bob/x"), ("HOME", "/home/ada")]);
        assert!(matches!(of_another.cache_dir(), Err(HubError::UnknownHome { .. })));
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("secret"), "hf_file").unwrap();
        let home = directory.path().to_str().unwrap();
        let token = environment(&[("HOME", home), ("HF_TOKEN_PATH", "$HOME/secret")]).token().unwrap();
        assert_eq!(token, Some(Token::new("hf_file", "test").unwrap()));
    }

    #[test]
    #[cfg(unix)]
    fn a_tilde_is_the_home_directory() {
        let with_home = environment(&[("HF_HOME", "~/models"), ("HOME", "/home/ada")]);
        assert_eq!(with_home.cache_dir().unwrap(), Path::new("/home/ada/models/hub"));
        assert!(matches!(environment(&[("HF_HOME", "~/models")]).cache_dir(), Err(HubError::UnknownCacheDir)));
    }

    #[test]
    fn the_token_comes_from_the_variable_or_else_from_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        let home = directory.path().to_str().unwrap();
        assert_eq!(environment(&[("HF_HOME", home)]).token().unwrap(), None);
        std::fs::write(&file, "hf_file\n").unwrap();
        let of_file = Some(Token::new("hf_file", "test").unwrap());
        assert_eq!(environment(&[("HF_HOME", home)]).token().unwrap(), of_file);
        assert_eq!(environment(&[("HF_TOKEN_PATH", file.to_str().unwrap())]).token().unwrap(), of_file);
        let both = [("HF_HOME", home), ("HF_TOKEN", "hf_variable")];
        assert_eq!(environment(&both).token().unwrap(), Some(Token::new("hf_variable", "test").unwrap()));
        let disabled = [("HF_HOME", home), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")];
        assert_eq!(environment(&disabled).token().unwrap(), None);
        assert!(!format!("{:?}", environment(&both)).contains("hf_variable"));
    }

    #[test]
    fn offline_is_read_as_huggingface_hub_reads_it() {
        for (value, expected) in [("1", true), ("true", true), ("Yes", true), ("ON", true), ("0", false), ("", false)] {
            for name in ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
                assert_eq!(environment(&[(name, value)]).hf_hub_offline, expected, "{name}={value}");
            }
        }
        let both = |first, second| environment(&[("HF_HUB_OFFLINE", first), ("TRANSFORMERS_OFFLINE", second)]);
        assert!(both("1", "0").hf_hub_offline && both("", "1").hf_hub_offline);
        assert!(!both("0", "1").hf_hub_offline, "the newer name is the one that counts");
    }
}
