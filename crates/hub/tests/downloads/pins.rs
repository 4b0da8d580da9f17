//! One load is of one commit, whatever happens to the branch; and a cache serves when the server does not.

use crate::fixture::{Fixture, REPO, files};
use automodel_hub::{HubError, HubOptions};
use automodel_hub_test_server::{Fault, FaultKind};
use std::fs;

#[test]
fn a_push_in_between_mixes_nothing() {
    let place = Fixture::new();
    let second = place.server.change(|hub| {
        let repo = hub.repos.get_mut(REPO).unwrap();
        let second = repo.commit("other", files("2"));
        repo.branches.remove("other");
        second
    });
    let moved = FaultKind::MoveBranch { repo: REPO.to_owned(), branch: "main".to_owned(), commit: second.clone() };
    place.fault(Fault::new("/revision/main", 1, moved));
    let first = place.load().unwrap();
    assert_eq!(first.commit.as_deref(), Some(place.commit.as_str()));
    place.check_whole(&first);

    // The next load is of the new commit, and what is the same is not fetched again.
    place.server.clear_log();
    let next = place.load().unwrap();
    assert_eq!(next.commit.as_deref(), Some(second.as_str()));
    place.check_whole(&next);
    place.check_whole(&first);
    let log = place.server.log();
    assert!(!log.iter().any(|request| request.target.contains("tokenizer.json")), "{log:?}");
}

#[test]
fn another_commit_than_was_asked_for_is_refused() {
    let place = Fixture::new();
    let headers = vec![("x-repo-commit".to_owned(), "f".repeat(40)), ("location".to_owned(), "/x".to_owned())];
    place.fault(Fault::always("/resolve/", FaultKind::Status(302, headers)));
    let error = place.load().unwrap_err();
    assert!(matches!(error, HubError::InvalidResponse { .. } | HubError::UnknownRepo { .. }), "{error}");
    place.check_nothing_half_done();
}

#[test]
fn a_branch_tag_and_commit_lead_to_the_same() {
    let place = Fixture::new();
    place.server.change(|hub| {
        let repo = hub.repos.get_mut(REPO).unwrap();
        repo.branches.insert("refs/pr/1".to_owned(), place.commit.clone());
    });
    for revision in ["main", "refs/pr/1", place.commit.as_str(), &place.commit[..8]] {
        let options = HubOptions { revision: Some(revision.to_owned()), ..place.options() };
        let checkpoint = place.load_with(&options).unwrap();
        assert_eq!(checkpoint.commit.as_deref(), Some(place.commit.as_str()), "{revision}");
    }
    assert_eq!(fs::read_to_string(place.directory().join("refs/refs/pr/1")).unwrap(), place.commit);
}

#[test]
fn a_whole_cache_serves_when_the_server_does_not() {
    let place = Fixture::new();
    place.load().unwrap();
    let unreachable = HubOptions { endpoint: Some("http://127.0.0.1:9".to_owned()), ..place.options() };
    place.check_whole(&place.load_with(&unreachable).unwrap());
    assert!(place.said("from the cache is used"));
    place.fault(Fault::always("/api/", FaultKind::Status(500, Vec::new())));
    place.check_whole(&place.load().unwrap());

    // Filled by someone else, without a list.
    fs::remove_dir_all(place.directory().join("trees")).unwrap();
    place.check_whole(&place.load_with(&unreachable).unwrap());
    let of_commit = HubOptions { revision: Some(place.commit.clone()), ..unreachable.clone() };
    place.check_whole(&place.load_with(&of_commit).unwrap());

    // Not whole.
    fs::remove_file(place.directory().join("snapshots").join(&place.commit).join("model-00001-of-00002.safetensors"))
        .unwrap();
    for options in [&unreachable, &of_commit] {
        assert!(matches!(place.load_with(options), Err(HubError::Unreachable { .. })));
    }
}

#[test]
fn offline_mode_asks_nobody() {
    let place = Fixture::new();
    let offline = HubOptions { offline: true, ..place.options() };
    assert!(matches!(place.load_with(&offline), Err(HubError::UncachedRepo { offline: true, .. })));
    assert_eq!(place.server.log(), []);
    place.load().unwrap();
    place.server.clear_log();
    place.check_whole(&place.load_with(&offline).unwrap());
    fs::remove_file(place.directory().join("snapshots").join(&place.commit).join("model-00001-of-00002.safetensors"))
        .unwrap();
    let error = place.load_with(&offline).unwrap_err();
    assert!(matches!(&error, HubError::IncompleteSnapshot { missing, .. } if missing.len() == 1), "{error}");
    assert_eq!(place.server.log(), []);

    // A file that a load can do without is only missed.
    place.load().unwrap();
    fs::remove_file(place.directory().join("snapshots").join(&place.commit).join("tokenizer.json")).unwrap();
    place.load_with(&offline).unwrap();
    assert!(place.said("tokenizer.json of `org/tiny` is not in the cache"));
    place.server.clear_log();

    // The blob is still there: nothing is downloaded.
    place.check_whole(&place.load().unwrap());
    assert!(place.server.log().iter().all(|request| !request.to_storage));
}
