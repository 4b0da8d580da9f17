//! Answers of a server, and files of a cache that somebody else wrote.
//!
//! The file `body PATH` is the body of the answer to a request whose path has PATH; `headers STATUS PATH` its status and headers, a line
//! each; `cache NAME` a file of the cache; `link NAME` a link in it, to what the file says; `lock` the lock file. What the input does not
//! change is a sound repo, whose commit is written as `{commit}`. Beside the cache is the folder `outside`, in which nothing may change.

use automodel::hub::{
    Environment, HubError, HubOptions, RetryPolicy, list_cache, prune_cache, resolve_headers_with, resolve_with,
    verify_cache,
};
use automodel_hub_test_server::{Fault, FaultKind, Hub, Repo, Server};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Component, Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};

use super::{MIB, Target, say};
use crate::Files;

const REPO: &str = "org/tiny";
/// Nobody listens there: answers lead to no other machine.
const NOWHERE: &str = "http://127.0.0.1:1";
const OUTSIDE: &str = "outside";

pub const TARGET: Target = Target {
    name: "hub",
    run,
    // Threads of downloads, and their buffers.
    fixed_bytes: 32 * MIB,
    bytes_per_byte: 1024,
    words: &[
        "../",
        "..\\\\",
        "/etc/passwd",
        "C:\\\\",
        "CON",
        "\\u0000",
        ".safetensors",
        "model.safetensors.index.json",
        "\"lfs\"",
        "\"oid\"",
        "\"size\"",
        "\"path\"",
        "\"sha\"",
        "; rel=\"next\"",
        "location: /",
        "etag: ",
        "retry-after: ",
        "x-error-code: GatedRepo",
        "content-range: bytes 0-1/2",
        "x-linked-size: ",
        "sha256:",
        "refs/main",
    ],
};

fn run(input: &[u8]) {
    let Ok(directory) = tempfile::tempdir() else { return };
    let Ok(root) = fs::canonicalize(directory.path()) else { return };
    let cache = root.join("cache");
    let Served { server, commit } = served();
    let files = with_commit(Files::split(input), commit);
    if prepare(&root, &cache, commit, &files).is_err() {
        return;
    }
    let before = outside(&root);
    server.change(|hub| *hub = Hub { faults: faults(&files), ..sound().0 });
    let (options, environment) = (options(&files, &root, &cache), environment(&server.url()));
    let results: [Result<(), HubError>; 6] = [
        resolve_headers_with(REPO, &options, &environment).map(drop),
        resolve_with(REPO, &options, &environment).map(drop),
        resolve_with(REPO, &HubOptions { offline: true, ..options.clone() }, &environment).map(drop),
        list_cache(&options, &environment).map(drop),
        verify_cache(&options, &environment, None, true).map(drop),
        prune_cache(&options, &environment, false).map(drop),
    ];
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        say(error);
    }
    server.clear_log();
    let after = outside(&root);
    let changed = before.iter().find(|(path, contents)| after.get(*path) != Some(contents)).map(|(path, _)| path);
    let changed = changed.or_else(|| after.keys().find(|path| !before.contains_key(*path)));
    assert_eq!(changed, None, "files outside the cache were changed");
}

struct Served {
    server: Server,
    commit: String,
}

/// One server for all inputs: the ports of a machine are not without number.
fn served() -> &'static Served {
    static SERVED: OnceLock<Served> = OnceLock::new();
    SERVED.get_or_init(|| {
        let (hub, commit) = sound();
        Served { server: Server::start(hub), commit }
    })
}

/// A hub with a small repo, and its commit.
fn sound() -> (Hub, String) {
    let header = br#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#;
    let shard = [&(header.len() as u64).to_le_bytes()[..], header, b"abcd"].concat();
    let mut repo = Repo::default();
    let commit = repo.commit(
        "main",
        [
            ("config.json", br#"{"model_type": "llama"}"#.to_vec()),
            ("model.safetensors.index.json", br#"{"weight_map": {"a": "model-1.safetensors"}}"#.to_vec()),
            ("model-1.safetensors", shard),
            ("tokenizer.json", vec![b'x'; 5000]),
        ],
    );
    (Hub::with(REPO, repo), commit)
}

fn with_commit(mut files: Files, commit: &str) -> Files {
    const PLACE: &str = "{commit}";
    for (name, contents) in &mut files.entries {
        *name = name.replace(PLACE, commit);
        if contents.windows(PLACE.len()).any(|window| window == PLACE.as_bytes()) {
            *contents = String::from_utf8_lossy(contents).replace(PLACE, commit).into_bytes();
        }
    }
    files
}

/// The cache, and beside it files that must stay.
fn prepare(root: &Path, cache: &Path, commit: &str, files: &Files) -> io::Result<()> {
    fs::create_dir(cache)?;
    let outside = root.join(OUTSIDE);
    for name in [commit, "blobs", "snapshots"] {
        fs::create_dir_all(outside.join(name).join(commit))?;
        fs::write(outside.join(name).join(commit).join("photo.jpg"), OUTSIDE)?;
    }
    let contents = "a".repeat(40);
    for name in ["thesis.txt", "x.incomplete", "x.lock", &contents, &format!("{commit}.json")] {
        fs::write(outside.join(name), OUTSIDE)?;
        fs::write(outside.join("blobs").join(name), OUTSIDE)?;
    }
    fs::write(root.join("lock"), files.get("lock").unwrap_or_default())?;
    for (name, contents) in &files.entries {
        // Two entries of an input may want the same name, which is not a fault of the tested code.
        if let Some(path) = name.strip_prefix("cache ").and_then(|name| inside(cache, name)) {
            let _ = fs::write(path, contents);
        }
        if let Some(name) = name.strip_prefix("link ")
            && let Some(path) = inside(cache, name)
        {
            link(name, &String::from_utf8_lossy(contents), &path);
        }
    }
    Ok(())
}

/// The path of a name in the cache, whose folders are made; none for names and links that lead out: this code must not do harm itself.
fn inside(cache: &Path, name: &str) -> Option<PathBuf> {
    let name = Path::new(name);
    let is_plain = name.components().all(|part| matches!(part, Component::Normal(_)));
    let (path, folder) = (cache.join(name), cache.join(name.parent()?));
    if !is_plain || name.as_os_str().len() > 200 {
        return None;
    }
    let exists = folder.ancestors().find(|folder| fs::symlink_metadata(folder).is_ok())?;
    (fs::canonicalize(exists).ok()? == exists).then_some(())?;
    fs::create_dir_all(&folder).ok()?;
    Some(path)
}

/// Makes a link to `target`, if that goes up at first only, no higher than the root, and then down.
fn link(name: &str, target: &str, path: &Path) {
    let parts: Vec<Component<'_>> = Path::new(target).components().collect();
    let up = parts.iter().take_while(|part| matches!(part, Component::ParentDir)).count();
    let is_down = parts.iter().skip(up).all(|part| matches!(part, Component::Normal(_)));
    if up <= Path::new(name).components().count() && is_down {
        #[cfg(unix)]
        let _ = std::os::unix::fs::symlink(target, path);
        #[cfg(not(unix))]
        let _ = path;
    }
}

fn faults(files: &Files) -> Vec<Fault> {
    let of_entry = |(name, contents): &(String, Vec<u8>)| {
        if let Some(path) = name.strip_prefix("body ") {
            return Some(Fault::always(path, FaultKind::Body(contents.clone())));
        }
        let (status, path) = name.strip_prefix("headers ")?.split_once(' ')?;
        // No address but that of the server itself.
        let text = String::from_utf8_lossy(contents).replace("//", "//127.0.0.1:1/");
        let headers = text.lines().filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
        Some(Fault::always(path, FaultKind::Status(status.parse().ok()?, headers)))
    };
    files.entries.iter().filter_map(of_entry).collect()
}

fn options(files: &Files, root: &Path, cache: &Path) -> HubOptions {
    let pause = Duration::from_millis(1);
    HubOptions {
        cache_dir: Some(cache.to_owned()),
        parallel: 2,
        lock_file: files.get("lock").map(|_| root.join("lock")),
        retries: RetryPolicy {
            attempts: 2,
            initial_delay: pause,
            max_delay: pause,
            max_retry_after: pause,
            stall_timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(1),
        },
        ..HubOptions::default()
    }
}

fn environment(server: &str) -> Environment {
    Environment {
        hf_endpoint: Some(server.to_owned()),
        http_proxy: Some(NOWHERE.to_owned()),
        https_proxy: Some(NOWHERE.to_owned()),
        no_proxy: Some("127.0.0.1".to_owned()),
        ..Environment::default()
    }
}

/// Paths and contents of everything that is not in the cache.
fn outside(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                _ if path == root.join("cache") => {}
                Ok(kind) if kind.is_dir() => {
                    found.insert(path.clone(), Vec::new());
                    folders.push(path);
                }
                _ => drop(found.insert(path.clone(), fs::read(&path).unwrap_or_default())),
            }
        }
    }
    found
}
