//! Under each fault a download ends with the right bytes or the right error, and leaves nothing half-done.

use crate::fixture::{Fixture, NEEDED, names_below, of_storage};
use automodel_hub::{HubError, HubOptions};
use automodel_hub_test_server::{Fault, FaultKind};
use std::{
    fs,
    time::{Duration, Instant},
};

#[test]
fn a_load_brings_what_it_needs_and_asks_once() {
    let place = Fixture::new();
    let checkpoint = place.load().unwrap();
    assert_eq!(checkpoint.commit.as_deref(), Some(place.commit.as_str()));
    place.check_whole(&checkpoint);
    assert_eq!(fs::read_to_string(place.directory().join("refs/main")).unwrap(), place.commit);
    let log = place.server.log();
    let bodies =
        log.iter().filter(|request| request.target.contains("/storage/") || request.target.contains("resolve-cache"));
    assert_eq!(bodies.count(), NEEDED.len(), "{log:?}");
    assert!(!log.iter().any(|request| request.target.contains("bin") || request.target.contains("original")));

    // Once more: the branch is asked for, and nothing else.
    place.server.clear_log();
    place.check_whole(&place.load().unwrap());
    let targets: Vec<String> = place.server.log().into_iter().map(|request| request.target).collect();
    assert_eq!(targets, ["/api/models/org/tiny/revision/main"]);

    // A commit is known already.
    place.server.clear_log();
    let options = HubOptions { revision: Some(place.commit.clone()), ..place.options() };
    place.check_whole(&place.load_with(&options).unwrap());
    assert_eq!(place.server.log(), []);
}

#[test]
fn what_passes_is_survived() {
    let faults: Vec<(&str, Vec<Fault>)> = vec![
        ("cut", vec![of_storage(3, FaultKind::Cut(50_000))]),
        ("cut at once", vec![of_storage(2, FaultKind::Cut(0))]),
        ("small files cut", vec![Fault::new("resolve-cache", 2, FaultKind::Cut(3))]),
        ("list cut", vec![Fault::new("/tree/", 2, FaultKind::Cut(30))]),
        ("dropped", vec![of_storage(2, FaultKind::Drop), Fault::new("/revision/", 1, FaultKind::Drop)]),
        ("stalled", vec![of_storage(1, FaultKind::Stall(40_000, Duration::from_secs(2)))]),
        (
            "busy",
            [408, 429, 500, 502, 503, 504].map(|status| of_storage(1, FaultKind::Status(status, Vec::new()))).into(),
        ),
        ("busy API", vec![Fault::new("/api/models/", 3, FaultKind::Status(503, Vec::new()))]),
        ("too long once", vec![of_storage(1, FaultKind::Longer(10))]),
        ("too short once", vec![of_storage(1, FaultKind::Shorter(10))]),
        ("wrong hash once", vec![of_storage(1, FaultKind::WrongByte)]),
        ("wrong hash of a small file", vec![Fault::new("resolve-cache", 1, FaultKind::WrongByte)]),
        ("no ranges", vec![of_storage(2, FaultKind::Cut(20_000)), of_storage(2, FaultKind::NoRanges)]),
        ("wrong range", vec![of_storage(2, FaultKind::Cut(20_000)), of_storage(2, FaultKind::WrongRange)]),
        (
            "no such range",
            vec![of_storage(2, FaultKind::Cut(20_000)), of_storage(1, FaultKind::Status(416, Vec::new()))],
        ),
    ];
    std::thread::scope(|scope| {
        for (name, faults) in faults {
            scope.spawn(move || {
                let place = Fixture::new();
                place.server.change(|hub| hub.faults = faults);
                let mut options = place.options();
                options.retries.attempts = 8;
                let checkpoint = place.load_with(&options).unwrap_or_else(|error| panic!("{name}: {error}"));
                place.check_whole(&checkpoint);
                place
                    .server
                    .change(|hub| assert!(hub.faults.iter().all(|fault| fault.times == 0), "{name} was not met"));
            });
        }
    });
}

#[test]
fn an_interrupted_file_goes_on_where_it_was_cut() {
    let place = Fixture::new();
    place.fault(of_storage(usize::MAX, FaultKind::Cut(30_000)));
    let error = place.load().unwrap_err();
    assert!(matches!(error, HubError::Unreachable { attempts: 4, .. }), "{error}");
    assert!(error.to_string().contains("a repeated run resumes it"), "{error}");
    place.check_nothing_half_done();
    assert!(!place.directory().join("refs/main").exists(), "the branch is written when all is there");
    let incomplete =
        names_below(&place.directory().join("blobs")).into_iter().filter(|name| name.contains("incomplete"));
    assert!(incomplete.count() > 0);

    place.clear_faults();
    place.server.clear_log();
    place.check_whole(&place.load().unwrap());
    let storage: Vec<_> = place.server.log().into_iter().filter(|request| request.to_storage).collect();
    assert!(storage.iter().any(|request| request.range_start.is_some_and(|start| start >= 30_000)), "{storage:?}");
    assert!(storage.iter().map(|request| request.body_bytes).sum::<u64>() < 480_000, "{storage:?}");
}

#[test]
fn damage_is_repaired_once_and_then_reported() {
    for (kind, expected, found) in [
        (FaultKind::WrongByte, "sha256:", "sha256:"),
        (FaultKind::Longer(10), "bytes", "bytes"),
        (FaultKind::Shorter(10), "bytes", "bytes"),
    ] {
        let place = Fixture::new();
        place.fault(of_storage(usize::MAX, kind));
        let error = place.load().unwrap_err();
        let HubError::CorruptDownload { expected: should, found: is, file, .. } = &error else { panic!("{error}") };
        assert!(should.contains(expected) && is.contains(found) && file.ends_with(".safetensors"), "{error}");
        place.check_nothing_half_done();
        assert_eq!(
            names_below(&place.directory().join("snapshots")).iter().filter(|name| name.contains("0000")).count(),
            0
        );
        // Nothing of it is kept, so that the next try is a fresh one.
        place.clear_faults();
        place.check_whole(&place.load().unwrap());
    }
}

#[test]
fn damage_of_an_earlier_run_is_found() {
    let place = Fixture::new();
    place.fault(of_storage(usize::MAX, FaultKind::Cut(30_000)));
    place.load().unwrap_err();
    let blobs = place.directory().join("blobs");
    for name in names_below(&blobs).into_iter().filter(|name| name.ends_with(".incomplete")) {
        let mut bytes = fs::read(blobs.join(&name)).unwrap();
        bytes.iter_mut().take(1).for_each(|byte| *byte ^= 1);
        fs::write(blobs.join(&name), bytes).unwrap();
    }
    place.clear_faults();
    place.check_whole(&place.load().unwrap());
    assert!(place.said("is corrupt ("));

    // Longer than the file can be.
    let place = Fixture::new();
    fs::create_dir_all(place.directory().join("blobs")).unwrap();
    let name = place.server.change(|hub| hub.repos["org/tiny"].commits[&place.commit][NEEDED[1]].etag().to_owned());
    fs::write(place.directory().join("blobs").join(format!("{name}.incomplete")), vec![0; 900_000]).unwrap();
    place.check_whole(&place.load().unwrap());
}

#[test]
fn a_busy_server_says_how_long_to_wait() {
    let place = Fixture::new();
    let wait = |seconds: &str| FaultKind::Status(429, vec![("retry-after".to_owned(), seconds.to_owned())]);
    place.fault(Fault::new("/revision/", 1, wait("1")));
    let start = Instant::now();
    place.check_whole(&place.load().unwrap());
    assert!(start.elapsed() >= Duration::from_secs(1));
    // Longer than anyone waits.
    place.fault(Fault::new("/tree/", 1, wait("86400")));
    let other = tempfile::tempdir().unwrap();
    let options = HubOptions { cache_dir: Some(other.path().to_owned()), ..place.options() };
    let start = Instant::now();
    let error = place.load_with(&options).unwrap_err();
    assert!(matches!(error, HubError::ServerBusy { status: 429, retry_after_seconds: Some(86_400), .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(1) && error.to_string().contains("wait 86400 s"), "{error}");
}

#[test]
fn nonsense_is_an_error() {
    let big_page = format!("[{}]", "1,".repeat(20 << 20));
    let bodies =
        ["", "[", "[]", "{}", r#"{"sha": "main"}"#, r#"{"sha": "../../../../etc/passwd"}"#, r#"{"sha": 7}"#, &big_page];
    for body in bodies {
        let place = Fixture::new();
        place.fault(Fault::always("/revision/", FaultKind::Body(body.into())));
        let error = place.load().unwrap_err();
        assert!(matches!(error, HubError::InvalidResponse { .. }), "{body:.40}: {error}");
        assert_eq!(names_below(place.cache.path()), Vec::<String>::new());
    }
    let bad_hash = r#"[{"type":"file","path":"config.json","size":1,"oid":"../../x"}]"#;
    for body in
        ["{}", "[1]", r#"[{"type":"file","path":7}]"#, bad_hash, r#"[{"type":"file","path":"a","size":-1,"oid":""}]"#]
    {
        let place = Fixture::new();
        place.fault(Fault::always("/tree/", FaultKind::Body(body.into())));
        let error = place.load().unwrap_err();
        assert!(matches!(error, HubError::InvalidResponse { .. }), "{body}: {error}");
    }
}

#[test]
fn redirects_end() {
    for target in ["/storage/", "/revision/", "/tree/", "resolve-cache"] {
        let place = Fixture::new();
        place.fault(Fault::always(target, FaultKind::RedirectLoop));
        let error = place.load().unwrap_err();
        assert!(matches!(&error, HubError::InvalidResponse { reason, .. } if reason.contains("redirects")), "{error}");
        assert!(!error.to_string().contains("signature"), "{error}");
    }
    for to in ["file:///etc/passwd", "ftp://127.0.0.1/", "http://[", ""] {
        let place = Fixture::new();
        place.fault(Fault::always("/resolve/", FaultKind::Redirect(to.to_owned())));
        assert!(place.load().is_err(), "{to}");
        place.check_nothing_half_done();
    }
}

#[test]
fn a_server_that_is_not_there_is_said_to_be_so() {
    let place = Fixture::new();
    let options = HubOptions { endpoint: Some("http://127.0.0.1:9".to_owned()), ..place.options() };
    let error = place.load_with(&options).unwrap_err();
    assert!(matches!(&error, HubError::Unreachable { url, attempts: 2, .. } if url.contains("127.0.0.1:9")), "{error}");
    assert!(std::error::Error::source(&error).is_some());
    // There is a server, but it knows nothing of encryption.
    let options = HubOptions { endpoint: Some(place.server.url().replace("http:", "https:")), ..place.options() };
    let error = place.load_with(&options).unwrap_err();
    assert!(matches!(&error, HubError::Unreachable { .. }), "{error}");
}

#[test]
fn long_lists_come_in_pages_and_end() {
    let mut files = crate::fixture::files("1");
    let names: Vec<&'static str> = (0..40).map(|number| &*format!("data/{number}.txt").leak()).collect();
    files.extend(names.into_iter().map(|name| (name, b"x".to_vec())));
    let place = Fixture::of(files);
    place.server.change(|hub| hub.page = 7);
    place.check_whole(&place.load().unwrap());
    assert_eq!(place.server.log().iter().filter(|request| request.target.contains("/tree/")).count(), 7);
}

#[test]
fn headers_of_answers_are_bounded_and_may_be_nonsense() {
    let cases = [
        ("x-large", "a".repeat(200 << 10)),
        ("content-length", "99999999999999999999999".to_owned()),
        ("content-length", "-1".to_owned()),
        ("content-range", "bytes 0-99999999999999999999/99999999999999999999".to_owned()),
        ("link", "<http://127.0.0.1:9/elsewhere>; rel=\"next\"".to_owned()),
        ("retry-after", "99999999999999999999999".to_owned()),
    ];
    for target in ["/revision/", "/tree/", "/storage/"] {
        for (name, value) in &cases {
            for status in [200, 206, 429] {
                let place = Fixture::new();
                place
                    .fault(Fault::always(target, FaultKind::Status(status, vec![((*name).to_owned(), value.clone())])));
                let mut options = place.options();
                options.retries.attempts = 2;
                assert!(place.load_with(&options).is_err(), "{target} {name} {status}");
                place.check_nothing_half_done();
            }
        }
    }
}

#[test]
fn proxies_are_used_unless_the_host_is_exempt() {
    let place = Fixture::new();
    let nobody = Some("http://127.0.0.1:9".to_owned());
    let through = automodel_hub::Environment { http_proxy: nobody.clone(), ..place.environment() };
    let error = automodel_hub::resolve_with("org/tiny", &place.options(), &through).unwrap_err();
    assert!(matches!(error, HubError::Unreachable { .. }), "{error}");
    assert_eq!(place.server.log(), []);
    let no_proxy = Some("example.org, 127.0.0.1".to_owned());
    let exempt = automodel_hub::Environment { http_proxy: nobody.clone(), no_proxy, ..place.environment() };
    place.check_whole(&automodel_hub::resolve_with("org/tiny", &place.options(), &exempt).unwrap());
    let https_only = automodel_hub::Environment { https_proxy: nobody, ..place.environment() };
    place.check_whole(&automodel_hub::resolve_with("org/tiny", &place.options(), &https_only).unwrap());
    let nonsense = automodel_hub::Environment { http_proxy: Some("::not a proxy".to_owned()), ..place.environment() };
    let error = automodel_hub::resolve_with("org/tiny", &place.options(), &nonsense).unwrap_err();
    assert!(error.to_string().contains("proxy"), "{error}");
}

#[test]
fn a_list_of_files_has_a_largest_size_whatever_its_pages() {
    let hash = "a".repeat(40);
    let entry =
        |number: u32| serde_json::json!({ "type": "file", "oid": hash, "size": 1, "path": format!("{number:0>1000}") });
    let page: serde_json::Value = (0..10_000).map(entry).collect();
    let place = Fixture::new();
    place.fault(Fault::always("/tree/", FaultKind::EndlessPages(page.to_string().into())));
    let error = place.load().unwrap_err();
    assert!(error.to_string().contains("the list of files has more than 67108864 bytes"), "{error}");
    let pages = place.server.log().iter().filter(|request| request.target.contains("/tree/")).count();
    assert!(pages < 10, "{pages} pages were asked for");
    place.clear_faults();
    place.fault(Fault::always("/tree/", FaultKind::EndlessPages(b"[]".to_vec())));
    assert!(place.load().unwrap_err().to_string().contains("pages"));
}
