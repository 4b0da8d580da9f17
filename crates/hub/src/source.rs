//! The source of a checkpoint: a directory or a repo.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use crate::{HubError, files, suggestions};

/// Maximum length of an organisation and of a repo name.
const LONGEST: usize = 96;

/// The source of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModelSource {
    /// A directory on this machine.
    Directory(PathBuf),
    /// A repo of the Hugging Face Hub.
    Repo(RepoId),
}

impl ModelSource {
    /// Parses a user's text. An existing directory wins; text that looks like a path must exist; the rest is a repo id.
    ///
    /// ```
    /// use automodel_hub::{HubError, ModelSource};
    /// assert!(matches!(ModelSource::parse("Qwen/Qwen3-0.6B")?, ModelSource::Repo(repo) if repo.name() == "Qwen3-0.6B"));
    /// assert!(matches!(ModelSource::parse("./no/such/model"), Err(HubError::MissingPath { .. })));
    /// # Ok::<(), HubError>(())
    /// ```
    ///
    /// # Errors
    /// [`HubError::NotADirectory`] and [`HubError::UnsupportedFormat`] for an existing file, [`HubError::DanglingLink`] for a
    /// dangling link, [`HubError::Unreadable`] for an unreadable path, [`HubError::MissingPath`] for a path that does not exist,
    /// [`HubError::InvalidRepoId`] for anything else that is not a repo id.
    pub fn parse(model: &str) -> Result<Self, HubError> {
        let path = Path::new(model);
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => return Ok(Self::Directory(path.to_owned())),
            Ok(metadata) => return Err(no_directory(path, metadata.file_type())),
            Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                return Err(HubError::Unreadable { path: path.to_owned(), source });
            }
            Err(_) => {}
        }
        if let Some(target) = files::dangling(path) {
            return Err(HubError::DanglingLink { link: path.to_owned(), target });
        }
        if looks_like_a_path(model) {
            return Err(HubError::MissingPath { path: path.to_owned(), nearest: suggestions::directories_near(path) });
        }
        RepoId::parse(model).map(Self::Repo)
    }
}

impl fmt::Display for ModelSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(formatter),
            Self::Repo(repo) => repo.fmt(formatter),
        }
    }
}

fn no_directory(path: &Path, kind: fs::FileType) -> HubError {
    match files::foreign_format(path) {
        Some(format) if kind.is_file() => HubError::UnsupportedFormat { path: path.to_owned(), format },
        _ => HubError::NotADirectory {
            path: path.to_owned(),
            kind: files::irregular(kind).unwrap_or("a file"),
            directory: directory_of(path),
        },
    }
}

fn directory_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Whether the text is a path rather than a repo id. On every system a Windows path counts as a path.
fn looks_like_a_path(model: &str) -> bool {
    let drive = model.as_bytes().get(1) == Some(&b':');
    let local = model == "." || model == ".." || model.starts_with("./") || model.starts_with("../");
    local || drive || model.starts_with(['/', '~']) || model.ends_with('/') || model.contains('\\') || {
        model.matches('/').count() > 1 && !model.contains("://")
    }
}

/// A repo id that follows the rules of the Hub: `ORG/NAME`, or `NAME` alone for a few old repos.
///
/// Each part has 1 to 96 of the characters `A-Z a-z 0-9 . _ -`, begins and ends with a letter, digit or `_`, and has no
/// `--` and no `..`, so it is safe as a part of a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RepoId {
    organization: Option<String>,
    name: String,
}

impl RepoId {
    /// Reads `ORG/NAME` or `NAME`.
    ///
    /// # Errors
    /// [`HubError::InvalidRepoId`] with the violated rule.
    pub fn parse(text: &str) -> Result<Self, HubError> {
        let (organization, name) = match text.split_once('/') {
            Some((organization, name)) => (Some(organization), name),
            None => (None, text),
        };
        match organization.into_iter().chain([name]).find_map(broken_rule) {
            Some(reason) => Err(HubError::InvalidRepoId { name: text.to_owned(), reason }),
            None => Ok(Self { organization: organization.map(str::to_owned), name: name.to_owned() }),
        }
    }

    /// The user or organisation; `None` for the old repos without one.
    pub fn organization(&self) -> Option<&str> {
        self.organization.as_deref()
    }

    /// The name without the organisation.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Name of the repo's directory in the cache: `models--ORG--NAME`.
    ///
    /// ```
    /// let repo = automodel_hub::RepoId::parse("Qwen/Qwen3-0.6B")?;
    /// assert_eq!(repo.cache_name(), "models--Qwen--Qwen3-0.6B");
    /// # Ok::<(), automodel_hub::HubError>(())
    /// ```
    pub fn cache_name(&self) -> String {
        match &self.organization {
            Some(organization) => format!("models--{organization}--{}", self.name),
            None => format!("models--{}", self.name),
        }
    }

    /// The repo whose cache directory is called `name`.
    pub(crate) fn from_cache_name(name: &str) -> Option<Self> {
        Self::parse(&name.strip_prefix("models--")?.replacen("--", "/", 1)).ok()
    }
}

impl fmt::Display for RepoId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.organization {
            Some(organization) => write!(formatter, "{organization}/{}", self.name),
            None => formatter.write_str(&self.name),
        }
    }
}

/// The first rule that a part of a repo id violates.
/// Source: `REPO_ID_REGEX` and `validate_repo_id` in `huggingface_hub/utils/_validators.py`.
fn broken_rule(part: &str) -> Option<&'static str> {
    let is_word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    if part.is_empty() {
        Some("a part of it is empty")
    } else if part.len() > LONGEST {
        Some("a part of it is longer than 96 characters")
    } else if !part.chars().all(|character| is_word(character) || matches!(character, '.' | '-')) {
        Some("it has characters other than letters, digits, `.`, `_` and `-`")
    } else if !part.starts_with(is_word) || !part.ends_with(is_word) {
        Some("a part of it begins or ends with `.` or `-`")
    } else if part.contains("--") || part.contains("..") {
        Some("it has `--` or `..`")
    } else if part.ends_with(".git") {
        Some("it ends in `.git`")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repo_ids_survive_the_cache_name() {
        for text in ["gpt2", "Qwen/Qwen3-0.6B", "_a/b_", "a-b/c.d"] {
            let repo = RepoId::parse(text).unwrap();
            assert_eq!(repo.to_string(), text);
            assert_eq!(RepoId::from_cache_name(&repo.cache_name()), Some(repo));
        }
        assert_eq!(RepoId::from_cache_name("datasets--a--b"), None);
    }

    #[test]
    fn hostile_repo_ids_are_refused() {
        let long = "a".repeat(97);
        let hostile = [
            "", "a/", "/a", "a b", "a/b/c", "..", "a/..", "a..b", "a--b", "-a", "a-", ".a", "a.", "a/b.git", "a\0b",
            "a\nb", "modèle", "a\\b", "a/b?x=1", "https:", &long,
        ];
        for text in hostile {
            assert!(matches!(RepoId::parse(text), Err(HubError::InvalidRepoId { .. })), "{text:?}");
        }
        assert!(RepoId::parse(&format!("{0}/{0}", &long[1..])).is_ok());
    }

    #[test]
    fn paths_are_distinguished_from_repo_ids() {
        for path in
            ["./x", "../x", "/x", "~/x", "~", ".", "a/b/c", "a/", "C:\\models", "C:x", "\\\\server\\share", "a\\b"]
        {
            assert!(looks_like_a_path(path), "{path}");
        }
        for other in ["gpt2", "a/b", ".hidden", "https://huggingface.co/a/b"] {
            assert!(!looks_like_a_path(other), "{other}");
        }
    }
}
