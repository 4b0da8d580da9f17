//! Several processes, and processes that die.

use crate::fixture::{Fixture, NEEDED, REPO, files, names_below, quick, shard};
use automodel_hub::{Environment, HubOptions, Locking, prune_cache, resolve_with};
use automodel_hub_test_server::{Fault, FaultKind, Server};
use std::{
    env,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const ENDPOINT: &str = "HUB_TEST_ENDPOINT";
const CACHE: &str = "HUB_TEST_CACHE";
const LEASES: &str = "HUB_TEST_LEASES";
/// A file whose absence ends the process that cleans.
const CLEANING: &str = "HUB_TEST_CLEANING";

/// The work of a child process; without its variables this test does nothing.
#[test]
fn child_process() {
    let (Ok(endpoint), Ok(cache)) = (env::var(ENDPOINT), env::var(CACHE)) else { return };
    let locking = if env::var_os(LEASES).is_some() { Locking::Leases } else { Locking::Probe };
    let options = HubOptions { retries: quick(), locking, ..HubOptions::default() };
    let environment =
        Environment { hf_hub_cache: Some(cache.into()), hf_endpoint: Some(endpoint), ..Environment::default() };
    resolve_with(REPO, &options, &environment).unwrap();
}

fn start(server: &Server, cache: &Path, leases: bool) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "processes::child_process", "--test-threads", "1"]);
    command.env(ENDPOINT, server.url()).env(CACHE, cache).stdout(Stdio::null()).stderr(Stdio::null());
    if leases {
        command.env(LEASES, "1");
    }
    command.spawn().unwrap()
}

/// A process that cleans the cache again and again; nothing among the other tests.
#[test]
fn cleaning_process() {
    let (Ok(cache), Some(flag)) = (env::var(CACHE), env::var_os(CLEANING)) else { return };
    let locking = if env::var_os(LEASES).is_some() { Locking::Leases } else { Locking::Probe };
    let options = HubOptions { cache_dir: Some(cache.into()), locking, ..HubOptions::default() };
    while Path::new(&flag).exists() {
        prune_cache(&options, &Environment::default(), false).unwrap();
    }
}

/// Loads commit after commit in two processes at once while a third one cleans.
fn loads_beside_cleaning(rounds: u32, leases: bool) {
    let place = Fixture::new();
    let flag = tempfile::NamedTempFile::new().unwrap();
    let mut cleaning = Command::new(env::current_exe().unwrap());
    cleaning.args(["--exact", "processes::cleaning_process", "--test-threads", "1"]);
    cleaning.env(CACHE, place.cache.path()).env(CLEANING, flag.path()).stdout(Stdio::null());
    if leases {
        cleaning.env(LEASES, "1");
    }
    let cleaning = cleaning.stderr(Stdio::piped()).spawn().unwrap();
    for round in 0..rounds {
        let commit =
            place.server.change(|hub| hub.repos.get_mut(REPO).unwrap().commit("main", files(&round.to_string())));
        // The pauses between the first file and the last are what a cleaning process could meet.
        place.server.change(|hub| hub.bytes_per_second = (round % 2 == 0).then_some(4_000_000));
        let loads =
            [start(&place.server, place.cache.path(), leases), start(&place.server, place.cache.path(), leases)];
        for load in loads {
            assert!(load.wait_with_output().unwrap().status.success(), "round {round}");
        }
        let offline = HubOptions { offline: true, ..place.options() };
        let checkpoint = place.load_with(&offline).unwrap();
        assert_eq!(checkpoint.commit.as_deref(), Some(&*commit), "round {round}");
        place.check_snapshot(&checkpoint);
    }
    drop(flag);
    let ended = cleaning.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let report = prune_cache(&HubOptions::default(), &place.environment(), false).unwrap();
    assert_eq!(report.kept, []);
    assert_eq!(names_below(&place.directory().join("snapshots")).len(), NEEDED.len(), "the old commits went");
}

#[test]
fn loads_are_whole_beside_a_process_that_cleans() {
    loads_beside_cleaning(60, false);
}

#[test]
fn loads_are_whole_beside_a_process_that_cleans_with_leases() {
    loads_beside_cleaning(4, true);
}

/// Pauses that are not alike.
fn pauses() -> impl Iterator<Item = Duration> {
    let mut state = 12_345_u32;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Duration::from_millis(u64::from(5 + (state >> 16) % 90))
    })
}

#[test]
fn a_process_killed_at_fifty_points_goes_on_and_loses_little() {
    let place = Fixture::of(vec![
        ("config.json", b"{}".to_vec()),
        ("tokenizer.json", vec![b'x'; 3_000]),
        ("model.safetensors", shard("a", 6_000_000)),
    ]);
    place.server.change(|hub| hub.bytes_per_second = Some(3_000_000));
    let (mut killed, mut size) = (0, 0);
    for pause in pauses().take(50) {
        let mut child = start(&place.server, place.cache.path(), false);
        thread::sleep(pause);
        killed += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        place.check_nothing_half_done();
        // The downloaded part only grows.
        let blobs = place.directory().join("blobs");
        let names = names_below(&blobs);
        let now: u64 = names.iter().map(|name| std::fs::metadata(blobs.join(name)).unwrap().len()).sum();
        assert!(now >= size, "{now} bytes after {size}");
        size = now;
    }
    place.server.change(|hub| hub.bytes_per_second = None);
    let checkpoint = place.load().unwrap();
    assert!(std::fs::read(checkpoint.dir.join("model.safetensors")).unwrap() == shard("a", 6_000_000));
    place.check_nothing_half_done();
    assert!(killed >= 25, "only {killed} were killed while they ran");
    assert!(names_below(&place.directory().join("blobs")).iter().all(|name| !name.contains('.')));
}

fn eight_processes(leases: bool) {
    let place = Fixture::new();
    place.server.change(|hub| hub.bytes_per_second = Some(1_000_000));
    let children: Vec<Child> = (0..8).map(|_| start(&place.server, place.cache.path(), leases)).collect();
    for child in children {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    let bodies: Vec<_> = place.server.log().into_iter().filter(|request| request.body_bytes > 0).collect();
    for name in ["storage", "resolve-cache"] {
        let mut targets: Vec<&str> =
            bodies.iter().map(|request| request.target.as_str()).filter(|target| target.contains(name)).collect();
        let all = targets.len();
        targets.sort_unstable();
        targets.dedup();
        assert_eq!(all, targets.len(), "something was downloaded twice: {bodies:?}");
    }
    place.check_whole(&place.load().unwrap());
}

#[test]
fn eight_processes_download_once() {
    eight_processes(false);
}

#[test]
fn eight_processes_download_once_with_leases() {
    eight_processes(true);
}

#[test]
fn whoever_waits_takes_over_when_the_first_dies() {
    let place = Fixture::new();
    // The first process gets a little of each shard and then nothing for a long time.
    place.fault(Fault::new("/storage/", 2, FaultKind::Stall(60_000, Duration::from_secs(30))));
    let mut options = place.options();
    options.retries.stall_timeout = Duration::from_secs(60);
    let mut first = Command::new(env::current_exe().unwrap())
        .args(["--exact", "processes::patient_child_process", "--test-threads", "1"])
        .env(ENDPOINT, place.server.url())
        .env(CACHE, place.cache.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while place.server.log().iter().filter(|request| request.to_storage).count() < 2 {
        assert!(start.elapsed() < Duration::from_secs(20), "the first process asks for nothing");
        thread::sleep(Duration::from_millis(5));
    }
    thread::sleep(Duration::from_millis(100));
    thread::scope(|scope| {
        let second = scope.spawn(|| place.load_with(&options).unwrap());
        while !place.said("Waiting") {
            assert!(start.elapsed() < Duration::from_secs(20), "nobody waits");
            thread::sleep(Duration::from_millis(5));
        }
        first.kill().unwrap();
        first.wait().unwrap();
        place.check_whole(&second.join().unwrap());
    });
    let resumed = place.server.log().into_iter().filter(|request| request.range_start == Some(60_000)).count();
    assert!(resumed >= 2, "{:?}", place.server.log());
}

/// As [`child_process`], but never takes a silent connection for a broken one.
#[test]
fn patient_child_process() {
    let (Ok(endpoint), Ok(cache)) = (env::var(ENDPOINT), env::var(CACHE)) else { return };
    let mut retries = quick();
    retries.stall_timeout = Duration::from_secs(60);
    let options = HubOptions { retries, ..HubOptions::default() };
    let environment =
        Environment { hf_hub_cache: Some(cache.into()), hf_endpoint: Some(endpoint), ..Environment::default() };
    resolve_with(REPO, &options, &environment).unwrap();
}
