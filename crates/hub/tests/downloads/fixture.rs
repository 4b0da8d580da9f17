//! A server with one small repo, and an empty cache.

use automodel_hub::{
    Checkpoint, DownloadEvent, Environment, HubError, HubOptions, RetryPolicy, SharedProgress, resolve_with,
};
use automodel_hub_test_server::{Fault, FaultKind, Hub, Repo, Server};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};
use tempfile::TempDir;

pub const REPO: &str = "org/tiny";

/// The files that a load needs, sorted.
pub const NEEDED: [&str; 5] = [
    "config.json",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
];

/// A file of weights: a header and many bytes that are not alike.
pub fn shard(name: &str, bytes: usize) -> Vec<u8> {
    let header = format!(r#"{{"{name}":{{"dtype":"U8","shape":[{bytes}],"data_offsets":[0,{bytes}]}}}}"#);
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    let seed = name.len() as u32;
    file.extend((0..bytes as u32).map(|index| (index.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 13) as u8));
    file
}

/// The files of a repo: what a load needs, and what it does not.
pub fn files(version: &str) -> Vec<(&'static str, Vec<u8>)> {
    let index =
        r#"{"weight_map": {"a": "model-00001-of-00002.safetensors", "bb": "model-00002-of-00002.safetensors"}}"#;
    vec![
        ("config.json", format!(r#"{{"model_type": "llama", "version": "{version}"}}"#).into_bytes()),
        ("model.safetensors.index.json", index.into()),
        ("model-00001-of-00002.safetensors", shard(&format!("a{version}"), 300_000)),
        ("model-00002-of-00002.safetensors", shard(&format!("bb{version}"), 200_000)),
        ("tokenizer.json", vec![b'x'; 3_000]),
        ("pytorch_model.bin", vec![1; 5_000]),
        ("model.gguf", vec![2; 5_000]),
        ("original/consolidated.00.pth", vec![3; 5_000]),
        ("README.md", b"# Tiny".to_vec()),
    ]
}

pub struct Fixture {
    pub server: Server,
    pub cache: TempDir,
    pub commit: String,
    pub events: Arc<Mutex<Vec<String>>>,
}

impl Fixture {
    pub fn new() -> Self {
        Self::of(files("1"))
    }

    pub fn of(files: Vec<(&'static str, Vec<u8>)>) -> Self {
        let mut repo = Repo::default();
        let commit = repo.commit("main", files);
        let (server, cache) = (Server::start(Hub::with(REPO, repo)), tempfile::tempdir().unwrap());
        Self { server, cache, commit, events: Arc::default() }
    }

    pub fn fault(&self, fault: Fault) {
        self.server.change(|hub| hub.faults.push(fault));
    }

    pub fn clear_faults(&self) {
        self.server.change(|hub| hub.faults.clear());
    }

    pub fn environment(&self) -> Environment {
        Environment {
            hf_hub_cache: Some(self.cache.path().to_owned()),
            hf_endpoint: Some(self.server.url()),
            ..Environment::default()
        }
    }

    /// Options that lose no time.
    pub fn options(&self) -> HubOptions {
        let events = Arc::clone(&self.events);
        let progress = SharedProgress::new(move |event: DownloadEvent<'_>| {
            events.lock().unwrap().push(format!("{event:?}"));
        });
        HubOptions { retries: quick(), progress: Some(progress), ..HubOptions::default() }
    }

    pub fn load(&self) -> Result<Checkpoint, HubError> {
        self.load_with(&self.options())
    }

    pub fn load_with(&self, options: &HubOptions) -> Result<Checkpoint, HubError> {
        resolve_with(REPO, options, &self.environment())
    }

    pub fn said(&self, text: &str) -> bool {
        self.events.lock().unwrap().iter().any(|event| event.contains(text))
    }

    /// Directory of the repo in the cache.
    pub fn directory(&self) -> PathBuf {
        self.cache.path().join("models--org--tiny")
    }

    /// The snapshot has what a load needs and nothing else, with the bytes of the server; nothing is half-done.
    #[track_caller]
    pub fn check_whole(&self, checkpoint: &Checkpoint) {
        self.check_snapshot(checkpoint);
        self.check_nothing_half_done();
        let blobs = names_below(&self.directory().join("blobs"));
        assert!(blobs.iter().all(|name| !name.contains('.')), "{blobs:?}");
    }

    /// The snapshot has what a load needs and nothing else, with the bytes of the server.
    #[track_caller]
    pub fn check_snapshot(&self, checkpoint: &Checkpoint) {
        let commit = checkpoint.commit.clone().unwrap();
        let names = names_below(&checkpoint.dir);
        assert_eq!(names, NEEDED);
        for name in names {
            let expected = self.server.change(|hub| hub.repos[REPO].commits[&commit][&name].contents.clone());
            assert!(fs::read(checkpoint.dir.join(&name)).unwrap() == *expected, "{name}");
        }
    }

    /// Every blob has the contents of its name, and every link points to one.
    #[track_caller]
    pub fn check_nothing_half_done(&self) {
        let environment = self.environment();
        let problems = automodel_hub::verify_cache(&HubOptions::default(), &environment, None, false).unwrap();
        assert_eq!(problems, []);
    }
}

pub fn quick() -> RetryPolicy {
    RetryPolicy {
        attempts: 4,
        initial_delay: Duration::from_millis(4),
        max_delay: Duration::from_millis(20),
        max_retry_after: Duration::from_secs(3),
        stall_timeout: Duration::from_millis(250),
        connect_timeout: Duration::from_secs(2),
    }
}

/// Names of files below a directory, sorted.
pub fn names_below(directory: &Path) -> Vec<String> {
    fn collect(directory: &Path, prefix: &str, names: &mut Vec<String>) {
        for entry in fs::read_dir(directory).into_iter().flatten() {
            let entry = entry.unwrap();
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.file_type().unwrap().is_dir() {
                collect(&entry.path(), &format!("{name}/"), names);
            } else {
                names.push(name);
            }
        }
    }
    let mut names = Vec::new();
    collect(directory, "", &mut names);
    names.sort();
    names
}

/// A fault of the storage of large files.
pub fn of_storage(times: usize, kind: FaultKind) -> Fault {
    Fault::new("/storage/", times, kind)
}
