//! Repos in a cache directory laid out as `huggingface_hub` lays it out, links into `blobs` included.

use automodel_hub::{Checkpoint, Environment, HubError, HubOptions, ModelSource, RepoId, resolve_with};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

const FIRST: &str = "0123456789abcdef0123456789abcdef01234567";
const SECOND: &str = "0123ffffffffffffffffffffffffffffffffffff";
const THIRD: &str = "abcdabcdabcdabcdabcdabcdabcdabcdabcdabcd";

/// A cache with one repo of three snapshots: `main`, the tag `v1.0`, and a pull request.
struct Cache {
    directory: TempDir,
}

impl Cache {
    fn new() -> Self {
        let cache = Self { directory: tempfile::tempdir().unwrap() };
        for (commit, revision) in [(FIRST, "main"), (SECOND, "v1.0"), (THIRD, "refs/pr/1")] {
            cache.write_ref(revision, &format!("{commit}\n"));
            cache.write_snapshot(commit);
        }
        cache
    }

    fn repo(&self) -> PathBuf {
        self.directory.path().join("models--org--tiny-model")
    }

    fn write_ref(&self, revision: &str, contents: &str) {
        let path = self.repo().join("refs").join(revision);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    fn write_snapshot(&self, commit: &str) {
        let blobs = self.repo().join("blobs");
        let snapshot = self.repo().join("snapshots").join(commit);
        fs::create_dir_all(&blobs).unwrap();
        fs::create_dir_all(&snapshot).unwrap();
        fs::write(blobs.join(commit), format!("{{\"commit\": \"{commit}\"}}")).unwrap();
        link(&format!("../../blobs/{commit}"), &blobs.join(commit), &snapshot.join("config.json"));
    }

    fn resolve(&self, model: &str, revision: Option<&str>) -> Result<Checkpoint, HubError> {
        let options = HubOptions { revision: revision.map(str::to_owned), ..HubOptions::default() };
        let environment = Environment {
            hf_hub_cache: Some(self.directory.path().into()),
            hf_hub_offline: true,
            ..Environment::default()
        };
        resolve_with(model, &options, &environment)
    }
}

/// A link as the cache has it; a copy where links need rights that a test may lack.
fn link(target: &str, source: &Path, link: &Path) {
    #[cfg(unix)]
    {
        let _ = source;
        std::os::unix::fs::symlink(target, link).unwrap();
    }
    #[cfg(not(unix))]
    {
        let _ = target;
        fs::copy(source, link).unwrap();
    }
}

#[test]
fn revisions_lead_to_their_commits() {
    let cache = Cache::new();
    let cases = [
        (None, FIRST),
        (Some("main"), FIRST),
        (Some("v1.0"), SECOND),
        (Some("refs/pr/1"), THIRD),
        (Some(SECOND), SECOND),
        (Some("abcd"), THIRD),
        (Some("01234"), FIRST),
    ];
    for (revision, commit) in cases {
        let checkpoint = cache.resolve("org/tiny-model", revision).unwrap();
        assert_eq!(checkpoint.commit.as_deref(), Some(commit), "{revision:?}");
        assert_eq!(checkpoint.dir, cache.repo().join("snapshots").join(commit));
        assert_eq!(checkpoint.source, ModelSource::Repo(RepoId::parse("org/tiny-model").unwrap()));
        assert!(fs::read_to_string(checkpoint.config_file()).unwrap().contains(commit), "the link is followed");
        assert_eq!(checkpoint.list().unwrap().len(), 1);
    }
}

#[test]
fn an_explicit_cache_directory_wins_over_the_environment() {
    let cache = Cache::new();
    let cache_dir = Some(cache.directory.path().into());
    let options = HubOptions { cache_dir, offline: true, ..HubOptions::default() };
    let environment = Environment { hf_hub_cache: Some("no-such-cache".into()), ..Environment::default() };
    assert!(resolve_with("org/tiny-model", &options, &environment).is_ok());
    assert!(matches!(
        resolve_with("org/tiny-model", &HubOptions::default(), &Environment::default()),
        Err(HubError::UnknownCacheDir)
    ));
}

#[test]
fn an_uncached_repo_says_how_to_get_it_and_where_was_searched() {
    let cache = Cache::new();
    let error = cache.resolve("org/tiny-modl", None).unwrap_err();
    let HubError::UncachedRepo { nearest, cache_dir, .. } = &error else { panic!("{error}") };
    assert_eq!(nearest, &["org/tiny-model"]);
    assert_eq!(cache_dir, cache.directory.path());
    let message = error.to_string();
    assert!(message.contains("`HubOptions::offline`") && message.contains("unset HF_HUB_OFFLINE"), "{message}");
}

#[test]
fn an_uncached_revision_lists_the_cached_ones() {
    let cache = Cache::new();
    let absent = "b".repeat(40);
    for revision in ["v2.0", "fff", absent.as_str()] {
        let error = cache.resolve("org/tiny-model", Some(revision)).unwrap_err();
        let HubError::UncachedRevision { known, .. } = &error else { panic!("{error}") };
        assert_eq!(known, &["main", "refs/pr/1", "v1.0", FIRST, SECOND, THIRD]);
        assert!(error.to_string().contains(&format!("revision `{revision}` of `org/tiny-model`")));
    }
}

#[test]
fn a_short_commit_must_be_unique() {
    let error = Cache::new().resolve("org/tiny-model", Some("0123")).unwrap_err();
    let HubError::AmbiguousCommit { commits, .. } = &error else { panic!("{error}") };
    assert_eq!(commits, &[FIRST, SECOND]);
}

#[test]
fn a_ref_without_its_snapshot_is_an_incomplete_download() {
    let cache = Cache::new();
    fs::remove_dir_all(cache.repo().join("snapshots").join(FIRST)).unwrap();
    let error = cache.resolve("org/tiny-model", None).unwrap_err();
    assert!(matches!(&error, HubError::MissingSnapshot { commit, .. } if commit == FIRST), "{error}");
}

#[test]
#[cfg(unix)]
fn a_snapshot_without_its_blob_is_a_dangling_link() {
    let cache = Cache::new();
    fs::remove_file(cache.repo().join("blobs").join(FIRST)).unwrap();
    assert!(matches!(cache.resolve("org/tiny-model", None), Err(HubError::DanglingLink { .. })));
}

#[test]
fn a_ref_cannot_lead_out_of_the_snapshots() {
    let cache = Cache::new();
    let long = "0".repeat(100_000);
    for contents in ["../../../../etc", "", "\u{0}", &FIRST[..39], long.as_str(), &FIRST.to_uppercase()] {
        cache.write_ref("main", contents);
        let result = cache.resolve("org/tiny-model", None);
        assert!(matches!(result, Err(HubError::MalformedRef { .. })), "{contents:.20}: {result:?}");
    }
}

#[test]
fn a_revision_cannot_lead_out_of_the_refs() {
    let cache = Cache::new();
    fs::write(cache.directory.path().join("outside"), FIRST).unwrap();
    for revision in ["../../outside", "", "/etc/hostname", "refs/../main", "main\0", "..\\main", "C:main"] {
        let result = cache.resolve("org/tiny-model", Some(revision));
        assert!(matches!(result, Err(HubError::InvalidRevision { .. })), "{revision:?}: {result:?}");
    }
}

#[test]
#[cfg(unix)]
fn a_ref_that_is_a_pipe_or_leads_nowhere_is_an_error_and_nobody_waits() {
    let cache = Cache::new();
    let path = cache.repo().join("refs/main");
    fs::remove_file(&path).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let error = cache.resolve("org/tiny-model", None).unwrap_err();
    assert!(matches!(&error, HubError::Unreadable { .. }), "{error}");
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("a named pipe"));
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("gone", &path).unwrap();
    let error = cache.resolve("org/tiny-model", None).unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("a link to gone"), "{error:?}");
}
