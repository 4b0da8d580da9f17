//! Repos of a Hub on loopback.

use crate::run::{Ran, copy_of_demo, in_directory_with};
use automodel_hub_test_server::{Fault, FaultKind, Hub, Repo, Server};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const REPO: &str = "org/adder";
const GENERATE: [&str; 4] = ["generate", REPO, "--prompt", "27+48="];

/// A server with the demo as a repo, and a machine with an empty cache.
struct Place {
    server: Server,
    directory: TempDir,
    commit: String,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let demo = copy_of_demo(&directory.path().join("demo-files"));
        let files = std::fs::read_dir(demo).unwrap().map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
        });
        let mut repo = Repo::default();
        let commit = repo.commit("main", files);
        Self { server: Server::start(Hub::with(REPO, repo)), directory, commit }
    }

    fn cache(&self) -> PathBuf {
        self.directory.path().join("hub")
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, &[])
    }

    fn run_with(&self, arguments: &[&str], more: &[(&str, &str)]) -> Ran {
        let (url, cache) = (self.server.url(), self.cache().display().to_string());
        let home = self.directory.path().display().to_string();
        let mut variables = vec![
            ("HF_ENDPOINT", url.as_str()),
            ("HF_HUB_CACHE", cache.as_str()),
            ("HF_HOME", &home),
            ("HF_HUB_OFFLINE", "0"),
        ];
        variables.extend(more);
        in_directory_with(self.directory.path(), arguments, "", &variables)
    }

    fn requests_of_weights(&self) -> usize {
        self.server.log().iter().filter(|request| request.to_storage && request.range_start.is_none()).count()
    }
}

#[test]
fn a_repo_id_generates_and_is_downloaded_once() {
    let place = Place::new();
    assert_eq!(place.run(&GENERATE).stdout(), "75\n");
    let downloads = place.requests_of_weights();
    assert_eq!(place.run(&GENERATE).stdout(), "75\n");
    assert_eq!(place.requests_of_weights(), downloads);
    assert_eq!(place.run(&[&GENERATE[..], &["--offline"]].concat()).stdout(), "75\n");
    let requests = place.server.log().len();
    assert_eq!(place.run_with(&GENERATE, &[("HF_HUB_OFFLINE", "1")]).stdout(), "75\n");
    assert_eq!(place.server.log().len(), requests, "offline asks nobody");
}

#[test]
fn looking_answers_as_for_a_directory_and_downloads_nothing() {
    let place = Place::new();
    let directory = place.directory.path().join("demo-files").display().to_string();
    for command in ["plan", "inspect"] {
        let remote = place.run(&[command, REPO, "--json", "--memory", "1GiB"]).json();
        let mut local = place.run(&[command, &directory, "--json", "--memory", "1GiB"]).json();
        let mut remote_facts = remote.clone();
        for key in ["directory", "commit", "headers_only"] {
            if let (Some(remote), Some(local)) = (remote_facts.as_object_mut(), local.as_object_mut()) {
                remote.remove(key);
                local.remove(key);
            }
        }
        assert_eq!(remote_facts, local);
        if command == "inspect" {
            assert_eq!(
                (remote["headers_only"].as_bool(), remote["commit"].as_str()),
                (Some(true), Some(&*place.commit))
            );
        }
    }
    assert!(place.run(&["inspect", REPO]).stdout().contains("none yet: config and headers"));
    assert_eq!(place.requests_of_weights(), 0);
    assert!(!place.cache().exists());
}

#[test]
fn what_cannot_run_is_refused_before_weights_are_downloaded() {
    let place = Place::new();
    let ran = place.run(&[&GENERATE[..], &["--quantize", "nf4", "--memory", "240KiB"]].concat());
    assert!(ran.code == 1 && ran.stderr.contains("nothing was loaded"), "{ran:?}");
    let ran = place.run(&[&GENERATE[..], &["--override", "hidden_act=magic"]].concat());
    assert!(ran.code == 1 && ran.stderr.contains("magic"), "{ran:?}");
    assert_eq!(place.requests_of_weights(), 0);
    assert!(!place.cache().exists());
}

#[test]
fn pull_locks_and_locked_refuses_anything_else() {
    let place = Place::new();
    let pulled = place.run(&["pull", REPO, "--lock", "automodel.lock", "--json"]).json();
    assert_eq!(pulled["commit"].as_str(), Some(&*place.commit));
    assert_eq!(pulled["files"].as_array().map(Vec::len), Some(5));
    let lock = std::fs::read_to_string(place.directory.path().join("automodel.lock")).unwrap();
    assert!(lock.contains(&place.commit) && lock.contains("\"revision\": \"main\""), "{lock}");
    assert_eq!(place.run(&[&GENERATE[..], &["--locked"]].concat()).stdout(), "75\n");

    // The branch moves on; what is locked stays.
    place.server.change(|hub| {
        let repo = hub.repos.get_mut(REPO).unwrap();
        repo.commit("main", [("config.json", b"{}".to_vec()), ("model.safetensors", vec![0; 9])]);
    });
    let text = place.run(&["pull", REPO, "--locked=automodel.lock"]).stdout();
    assert!(text.contains(&place.commit), "{text}");
    let other = place.run(&["pull", REPO, "--locked", "--revision", "v2"]);
    assert!(other.code == 1 && other.stderr.contains("locks"), "{other:?}");
    std::fs::write(place.directory.path().join("automodel.lock"), lock.replacen("sha256:", "sha256:0", 1)).unwrap();
    let other = place.run(&[&GENERATE[..], &["--locked"]].concat());
    assert!(other.code == 1 && other.stderr.contains("nothing was loaded"), "{other:?}");
}

#[test]
fn the_cache_is_listed_verified_and_pruned() {
    let place = Place::new();
    place.run(&["pull", REPO]).stdout();
    let list = place.run(&["cache", "list"]).stdout();
    assert!(list.contains(REPO) && list.contains(&place.commit) && list.contains("main"), "{list}");
    assert_eq!(place.run(&["cache", "list", "--json"]).json()["repos"][0]["repo"], REPO);
    assert_eq!(place.run(&["cache", "verify"]).stdout(), "all files match their hashes\n");

    let snapshot = place.cache().join("models--org--adder/snapshots").join(&place.commit);
    let blob = std::fs::canonicalize(snapshot.join("model.safetensors")).unwrap();
    let mut bytes = std::fs::read(&blob).unwrap();
    bytes[5_000] ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    let ran = place.run(&["cache", "verify", REPO]);
    assert!(ran.code == 1 && ran.stdout.contains("sha256:") && ran.stderr.contains("--remove"), "{ran:?}");
    let ran = place.run(&["cache", "verify", "--remove"]);
    assert!(ran.code == 1 && ran.stderr.contains("were removed"), "{ran:?}");
    assert_eq!(place.run(&GENERATE).stdout(), "75\n");
    assert_eq!(place.run(&["cache", "verify", "--json"]).json(), serde_json::json!([]));

    std::fs::remove_file(place.cache().join("models--org--adder/refs/main")).unwrap();
    let planned = place.run(&["cache", "prune", "--dry-run"]).stdout();
    assert!(planned.contains("would be freed") && snapshot.exists(), "{planned}");
    let pruned = place.run(&["cache", "prune", "--json"]).json();
    assert!(pruned["bytes"].as_u64() > Some(1_000_000) && !snapshot.exists(), "{pruned}");
}

#[test]
fn errors_of_the_server_say_what_to_do_and_show_no_token() {
    let place = Place::new();
    let ran = place.run(&["pull", "org/ader"]);
    assert!(ran.code == 1 && ran.stderr.contains("similar names there: org/adder"), "{ran:?}");
    place.server.change(|hub| {
        hub.token = Some("hf_right".to_owned());
        hub.repos.get_mut(REPO).unwrap().is_gated = true;
    });
    let ran = place.run(&["pull", REPO]);
    assert!(ran.code == 1 && ran.stderr.contains("accept its terms on http"), "{ran:?}");
    let ran = place.run(&["pull", REPO, "--token", "hf_wrong", "-vv"]);
    assert!(ran.code == 1 && ran.stderr.contains("settings/tokens") && !ran.stderr.contains("hf_wrong"), "{ran:?}");
    let ran = place.run_with(&["pull", REPO, "-vvv"], &[("HF_TOKEN", "hf_right")]);
    assert!(ran.code == 1 && ran.stderr.contains("no access yet") && !ran.stderr.contains("hf_right"), "{ran:?}");
    let ran = place.run(&["pull", &Path::new("demo-files").display().to_string()]);
    assert!(ran.code == 1 && ran.stderr.contains("is a directory"), "{ran:?}");
}

#[test]
fn a_cut_download_is_finished_by_the_next_run() {
    let place = Place::new();
    let busy = FaultKind::Status(429, vec![("retry-after".to_owned(), "9999".to_owned())]);
    place.server.change(|hub| {
        hub.faults = vec![Fault::new("/storage/", 1, FaultKind::Cut(100_000)), Fault::always("/storage/", busy)]
    });
    let ran = place.run(&["pull", REPO]);
    assert!(ran.code == 1 && ran.stderr.contains("asks to wait 9999 s"), "{ran:?}");
    place.server.change(|hub| hub.faults.clear());
    place.run(&["pull", REPO]).stdout();
    assert!(place.server.log().iter().any(|request| request.range_start == Some(100_000)), "{:?}", place.server.log());
    assert_eq!(place.run(&GENERATE).stdout(), "75\n");
}

#[test]
#[cfg(unix)]
fn cleaning_removes_nothing_outside_of_the_cache_and_says_what_it_left() {
    use std::os::unix::fs::symlink;
    let commit = "a".repeat(40);
    let directory = tempfile::tempdir().unwrap();
    let (cache, outside) = (directory.path().join("hub"), directory.path().join("outside"));
    for folder in [&outside.join(&commit), &outside.join("blobs"), &cache] {
        std::fs::create_dir_all(folder).unwrap();
    }
    let precious = [
        outside.join(&commit).join("photo.jpg"),
        outside.join(format!("{commit}.json")),
        outside.join("blobs/notes.txt"),
    ];
    precious.iter().for_each(|path| std::fs::write(path, "precious").unwrap());
    let repo = cache.join("models--a--b");
    for name in ["blobs", "snapshots", "trees", ""] {
        let _ = std::fs::remove_dir_all(&repo);
        let _ = std::fs::remove_file(&repo);
        if name.is_empty() {
            symlink(&outside, &repo).unwrap();
        } else {
            std::fs::create_dir_all(repo.join("snapshots").join(&commit)).unwrap();
            let _ = std::fs::remove_dir_all(repo.join(name));
            symlink(&outside, repo.join(name)).unwrap();
        }
        let cache = cache.display().to_string();
        let run = |arguments: &[&str]| in_directory_with(directory.path(), arguments, "", &[("HF_HUB_CACHE", &cache)]);
        let text = run(&["cache", "prune"]).stdout();
        assert!(text.contains("kept: it is a link to"), "{name}: {text}");
        let verified = run(&["cache", "verify", "--remove"]);
        assert!(verified.code == 1 || name == "trees", "{name}: {verified:?}");
        assert!(!verified.stdout.contains("(removed)"), "{name}: {verified:?}");
        assert!(run(&["cache", "prune", "--json"]).json()["kept"].is_array());
        run(&["cache", "list"]).stdout();
        assert!(precious.iter().all(|path| std::fs::read_to_string(path).unwrap() == "precious"), "{name}");
    }
}

#[test]
fn either_variable_turns_downloads_off() {
    let place = Place::new();
    for (first, second, is_offline) in [("1", "", true), ("", "1", true), ("0", "1", false)] {
        let ran =
            place.run_with(&["inspect", "org/absent"], &[("HF_HUB_OFFLINE", first), ("TRANSFORMERS_OFFLINE", second)]);
        assert!(ran.code == 1 && ran.stderr.contains("offline mode forbids downloads") == is_offline, "{ran:?}");
        assert_eq!(
            ran.stderr.contains("hint: leave out --offline, or fill the cache with `automodel pull`"),
            is_offline
        );
        assert_eq!(place.server.log().is_empty(), is_offline);
    }
}

#[test]
#[cfg(unix)]
fn variables_in_the_place_of_the_cache_are_expanded() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().display().to_string();
    for value in ["$HOME/somewhere", "${HOME}/somewhere", "~/somewhere"] {
        let variables = [("HOME", home.as_str()), ("HF_HOME", value), ("HF_HUB_CACHE", "")];
        let text = in_directory_with(directory.path(), &["cache", "list"], "", &variables).stdout();
        assert!(text.contains(&format!("in {home}/somewhere/hub")), "{value}: {text}");
    }
}

#[test]
#[cfg(unix)]
fn links_to_nowhere_and_other_formats_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let model = copy_of_demo(&directory.path().join("model"));
    let run = |arguments: &[&str]| in_directory_with(directory.path(), arguments, "", &[]);
    for name in ["model.safetensors", "config.json", "generation_config.json"] {
        let aside = directory.path().join("aside");
        std::fs::rename(model.join(name), &aside).unwrap();
        std::os::unix::fs::symlink("../blobs/gone", model.join(name)).unwrap();
        let ran = run(&["generate", "model", "--prompt", "27+48="]);
        let said = ran.stderr.contains("link to ../blobs/gone, which does not exist");
        assert!(ran.code == 1 && said && ran.stderr.contains(name), "{ran:?}");
        std::fs::remove_file(model.join(name)).unwrap();
        std::fs::rename(&aside, model.join(name)).unwrap();
    }
    std::fs::remove_file(model.join("model.safetensors")).unwrap();
    std::fs::create_dir(model.join("model.safetensors")).unwrap();
    let ran = run(&["logits", "model", "--tokens", "1"]);
    assert!(ran.code == 1 && ran.stderr.contains("model.safetensors is a directory"), "{ran:?}");
    std::fs::write(directory.path().join("model-q4.gguf"), "GGUF").unwrap();
    let ran = run(&["inspect", "model-q4.gguf"]);
    assert!(ran.code == 1 && ran.stderr.contains("GGUF format, which is not supported"), "{ran:?}");
}
