//! Links in a cache lead nothing out of it: neither what is written nor what is removed.

use crate::fixture::{Fixture, REPO, files, names_below};
use automodel_hub::{HubError, HubOptions, Locking, PruneReport, list_cache, prune_cache, verify_cache};
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// A directory outside of the cache in which everything is called as in a cache, so that following a link would hit it.
struct Outside {
    directory: TempDir,
    names: Vec<String>,
}

impl Outside {
    fn new(commit: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let blob = "b".repeat(64);
        for name in [
            "thesis.txt",
            &format!("{commit}.json"),
            &format!("{commit}/photo.jpg"),
            commit.get(..39).unwrap(),
            &blob,
            &format!("{blob}.incomplete"),
            &format!("blobs/{blob}"),
            &format!("snapshots/{commit}/config.json"),
            &format!("snapshots/{}/config.json", "c".repeat(40)),
            &format!("trees/{commit}.json"),
        ] {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "precious").unwrap();
        }
        let names = names_below(directory.path());
        Self { directory, names }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    #[track_caller]
    fn check_untouched(&self) {
        assert_eq!(names_below(self.path()), self.names);
        for name in &self.names {
            assert_eq!(fs::read_to_string(self.path().join(name)).unwrap(), "precious", "{name}");
        }
    }
}

/// Puts a link to `target` in the place of what is in the cache, which is moved aside.
fn replace_by_link(path: &Path, target: &Path) {
    if fs::symlink_metadata(path).is_ok() {
        fs::rename(path, path.with_extension("aside")).unwrap();
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink(target, path).unwrap();
}

fn prune(place: &Fixture) -> PruneReport {
    prune_cache(&HubOptions::default(), &place.environment(), false).unwrap()
}

/// Where links are planted in a cache.
fn places(place: &Fixture) -> Vec<PathBuf> {
    let repo = place.directory();
    vec![
        repo.clone(),
        repo.join("blobs"),
        repo.join("snapshots"),
        repo.join("snapshots").join(&place.commit),
        repo.join("trees"),
        repo.join("refs"),
        place.cache.path().join(".locks"),
        place.cache.path().join(".locks/models--org--tiny"),
    ]
}

#[test]
fn nothing_is_removed_through_a_link() {
    for number in 0..8 {
        let place = Fixture::new();
        place.load().unwrap();
        // The commit has no ref, so all of it may be removed.
        fs::remove_file(place.directory().join("refs/main")).unwrap();
        let outside = Outside::new(&place.commit);
        let link = places(&place).swap_remove(number);
        replace_by_link(&link, outside.path());
        let report = prune(&place);
        outside.check_untouched();
        assert!(!report.kept.is_empty(), "{}: {report:?}", link.display());
        assert!(report.kept.iter().any(|kept| kept.reason.contains("link")), "{}: {report:?}", link.display());
        let problems = verify_cache(&HubOptions::default(), &place.environment(), None, true).unwrap();
        outside.check_untouched();
        assert!(problems.iter().all(|problem| !problem.path.starts_with(&link) || !problem.removed), "{problems:?}");
        list_cache(&HubOptions::default(), &place.environment()).unwrap();
        outside.check_untouched();
    }
}

#[test]
fn a_link_among_the_blobs_or_in_a_snapshot_goes_and_what_it_leads_to_stays() {
    let place = Fixture::new();
    place.load().unwrap();
    let outside = Outside::new(&place.commit);
    let (blobs, snapshot) = (place.directory().join("blobs"), place.directory().join("snapshots").join(&place.commit));
    let blob = "b".repeat(64);
    symlink(outside.path().join(&blob), blobs.join(&blob)).unwrap();
    symlink(outside.path().join("thesis.txt"), blobs.join(format!("{blob}.incomplete"))).unwrap();
    prune(&place);
    assert!(fs::symlink_metadata(blobs.join(&blob)).is_err());
    outside.check_untouched();

    symlink(outside.path(), snapshot.join("folder")).unwrap();
    fs::remove_file(place.directory().join("refs/main")).unwrap();
    assert!(prune(&place).kept.iter().any(|kept| kept.path.ends_with("folder")));
    fs::remove_file(snapshot.join("folder")).unwrap();
    symlink(outside.path().join("thesis.txt"), snapshot.join("tokenizer_config.json")).unwrap();
    assert!(prune(&place).removed.iter().any(|pruned| pruned.path == snapshot));
    assert!(!snapshot.exists());
    outside.check_untouched();
}

#[test]
fn nothing_is_downloaded_through_a_link() {
    for locking in [Locking::Probe, Locking::Leases] {
        for number in 0..8 {
            let place = Fixture::new();
            let options = HubOptions { locking, ..place.options() };
            let outside = Outside::new(&place.commit);
            let link = places(&place).swap_remove(number);
            replace_by_link(&link, outside.path());
            let result = place.load_with(&options);
            outside.check_untouched();
            // Without the list the next load asks again; all else is needed.
            if !link.ends_with("trees") {
                let error = result.unwrap_err();
                let HubError::LinkInCache { link: named, target } = &error else {
                    panic!("{}: {error}", link.display())
                };
                assert_eq!((named, target.as_path()), (&link, outside.path()));
            }
        }
    }
}

#[test]
fn no_file_is_written_through_a_link() {
    let blob_of = |place: &Fixture, name: &str| {
        place.server.change(|hub| hub.repos[REPO].commits[&place.commit][name].etag().to_owned())
    };
    for name in ["config.json", "model-00001-of-00002.safetensors"] {
        let place = Fixture::new();
        let outside = tempfile::tempdir().unwrap();
        let (victim, blob) = (outside.path().join("victim"), blob_of(&place, name));
        fs::write(&victim, "precious").unwrap();
        let repo = place.directory();
        let locks = place.cache.path().join(".locks/models--org--tiny");
        let links = [
            (repo.join("blobs").join(format!("{blob}.incomplete")), false),
            (repo.join("blobs").join(&blob), true),
            (repo.join("snapshots").join(&place.commit).join(name), true),
            (repo.join("refs/main"), true),
            (repo.join("trees").join(format!("{}.json", place.commit)), true),
            (locks.join(format!("{blob}.lock")), false),
            (locks.join("gate.lock"), false),
            (place.cache.path().join("CACHEDIR.TAG"), true),
        ];
        for target in [victim.as_path(), &outside.path().join("made")] {
            for (link, is_replaced) in &links {
                fs::remove_dir_all(place.cache.path()).unwrap();
                fs::create_dir_all(link.parent().unwrap()).unwrap();
                symlink(target, link).unwrap();
                let result = place.load();
                assert_eq!(result.is_ok(), *is_replaced, "{}: {result:?}", link.display());
                assert_eq!(names_below(outside.path()), ["victim"], "{}", link.display());
                assert_eq!(fs::read_to_string(&victim).unwrap(), "precious", "{}", link.display());
                if *is_replaced && !link.ends_with("CACHEDIR.TAG") {
                    place.check_whole(&result.unwrap());
                }
            }
        }
    }
}

#[test]
fn a_lock_file_of_a_project_is_not_written_through_a_link() {
    let directory = tempfile::tempdir().unwrap();
    let (victim, path) = (directory.path().join("victim"), directory.path().join("automodel.lock"));
    fs::write(&victim, "precious").unwrap();
    symlink(&victim, &path).unwrap();
    automodel_hub::LockFile::default().write(&path).unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    assert!(automodel_hub::LockFile::read(&path).is_ok());
}

#[test]
fn a_cache_that_is_itself_a_link_is_used_as_any_other() {
    let mut place = Fixture::new();
    let disk = tempfile::tempdir().unwrap();
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(disk.path().join("hub")).unwrap();
    symlink(disk.path().join("hub"), home.path().join("hub")).unwrap();
    place.cache = home;
    let environment =
        automodel_hub::Environment { hf_hub_cache: Some(place.cache.path().join("hub")), ..place.environment() };
    let load = || automodel_hub::resolve_with(REPO, &place.options(), &environment).unwrap();
    assert_eq!(names_below(&load().dir).len(), 5);
    place.server.change(|hub| hub.repos.get_mut(REPO).unwrap().commit("main", files("2")));
    assert_eq!(names_below(&load().dir).len(), 5);
    let report = prune_cache(&HubOptions::default(), &environment, false).unwrap();
    assert_eq!((report.removed.len(), report.kept.len()), (4, 0), "{report:?}");
    assert_eq!(names_below(&load().dir).len(), 5);
    assert_eq!(verify_cache(&HubOptions::default(), &environment, None, true).unwrap(), []);
    assert!(disk.path().join("hub/models--org--tiny/refs/main").exists());
}

/// The layout of `huggingface_hub` 2.4 for files of Xet storage: blobs are links into a store that repos share.
#[test]
fn blobs_may_be_links_into_the_store_that_repos_share() {
    let place = Fixture::new();
    let checkpoint = place.load().unwrap();
    let name = "model-00001-of-00002.safetensors";
    let blob = fs::canonicalize(checkpoint.dir.join(name)).unwrap();
    let store = place.cache.path().join("blobs/ab");
    fs::create_dir_all(&store).unwrap();
    let shared = store.join(format!("ab{}", "0".repeat(62)));
    fs::rename(&blob, &shared).unwrap();
    let target = format!("../../blobs/ab/{}", shared.file_name().unwrap().to_str().unwrap());
    symlink(target, &blob).unwrap();
    place.check_whole(&place.load().unwrap());
    assert_eq!(prune(&place), PruneReport::default());

    // Another revision links the same blob: nothing is downloaded.
    fs::remove_file(checkpoint.dir.join(name)).unwrap();
    place.server.clear_log();
    place.check_whole(&place.load().unwrap());
    assert!(place.server.log().iter().all(|request| !request.to_storage));

    fs::remove_file(place.directory().join("refs/main")).unwrap();
    assert!(prune(&place).removed.iter().any(|pruned| pruned.path.ends_with(blob.file_name().unwrap())));
    assert!(shared.exists() && fs::symlink_metadata(&blob).is_err());
}

/// Links of other programs into the blobs of a repo count.
#[test]
fn a_blob_that_another_repo_leads_to_stays() {
    let place = Fixture::new();
    let checkpoint = place.load().unwrap();
    let blob = fs::canonicalize(checkpoint.dir.join("config.json")).unwrap();
    let other = place.cache.path().join("models--org--other");
    let commit = "d".repeat(40);
    fs::create_dir_all(other.join("snapshots").join(&commit)).unwrap();
    fs::create_dir_all(other.join("refs")).unwrap();
    fs::write(other.join("refs/main"), &commit).unwrap();
    let target = format!("../../../models--org--tiny/blobs/{}", blob.file_name().unwrap().to_str().unwrap());
    symlink(target, other.join("snapshots").join(&commit).join("config.json")).unwrap();
    fs::remove_file(place.directory().join("refs/main")).unwrap();
    prune(&place);
    assert!(!checkpoint.dir.exists());
    assert_eq!(fs::read(other.join("snapshots").join(&commit).join("config.json")).unwrap(), fs::read(&blob).unwrap());
}
