//! Looking at a repo reads little of it.

use crate::fixture::{Fixture, REPO, names_below, shard};
use automodel_hub::{Checkpoint, HubError, HubOptions, resolve_headers_with};
use automodel_hub_test_server::{Fault, FaultKind};
use std::fs;

fn resolve_headers(place: &Fixture) -> Result<Checkpoint, HubError> {
    resolve_headers_with(REPO, &place.options(), &place.environment())
}

/// Beginning and size of a file.
fn header(file: &[u8]) -> (&[u8], u64) {
    let length = usize::try_from(u64::from_le_bytes(*file.first_chunk().unwrap())).unwrap();
    (&file[..8 + length], file.len() as u64)
}

#[test]
fn headers_come_without_weights() {
    let place = Fixture::new();
    let checkpoint = resolve_headers(&place).unwrap();
    assert!(checkpoint.headers_only);
    assert_eq!(checkpoint.commit.as_deref(), Some(place.commit.as_str()));
    let sent: u64 = place.server.log().iter().map(|request| request.body_bytes).sum();
    assert!(sent < 8_000, "{sent} bytes of 500,000");
    for (name, tensor, bytes) in
        [("model-00001-of-00002.safetensors", "a1", 300_000), ("model-00002-of-00002.safetensors", "bb1", 200_000)]
    {
        let file = shard(tensor, bytes);
        let path = checkpoint.file(name).unwrap();
        let (expected, size) = header(&file);
        assert_eq!(fs::metadata(&path).unwrap().len(), size);
        assert!(fs::read(&path).unwrap().starts_with(expected));
    }
    assert_eq!(names_below(place.cache.path()), Vec::<String>::new(), "the cache is left alone");
    let directory = checkpoint.dir.clone();
    let copy = checkpoint.clone();
    drop(checkpoint);
    assert!(copy.config_file().is_file());
    drop(copy);
    assert!(!directory.exists());
}

#[test]
fn a_downloaded_repo_is_looked_at_where_it_is() {
    let place = Fixture::new();
    let whole = place.load().unwrap();
    place.server.clear_log();
    assert_eq!(resolve_headers(&place).unwrap(), whole);
    assert_eq!(place.server.log().len(), 1);
    let offline = HubOptions { offline: true, ..place.options() };
    assert_eq!(resolve_headers_with(REPO, &offline, &place.environment()).unwrap(), whole);
}

#[test]
fn long_headers_take_a_second_request() {
    let padding = " ".repeat(400_000);
    let text = format!(r#"{{"a":{{"dtype":"U8","shape":[600000],"data_offsets":[0,600000]}}{padding}}}"#);
    let mut file = (text.len() as u64).to_le_bytes().to_vec();
    file.extend(text.as_bytes());
    file.extend(vec![9; 600_000]);
    let place = Fixture::of(vec![("config.json", b"{}".to_vec()), ("model.safetensors", file.clone())]);
    for fault in [None, Some(FaultKind::Cut(1_000)), Some(FaultKind::NoRanges)] {
        let times = if matches!(fault, Some(FaultKind::NoRanges)) { usize::MAX } else { 2 };
        place
            .server
            .change(|hub| hub.faults = fault.map(|kind| Fault::new("/storage/", times, kind)).into_iter().collect());
        let checkpoint = resolve_headers(&place).unwrap();
        let seen = fs::read(checkpoint.file("model.safetensors").unwrap()).unwrap();
        let (expected, _) = header(&file);
        assert!(
            seen.len() == file.len()
                && seen.starts_with(expected)
                && seen[expected.len()..].iter().all(|&byte| byte == 0)
        );
    }
}

#[test]
fn headers_that_cannot_be_are_refused() {
    let with_length = |length: u64| [&length.to_le_bytes()[..], &[b'x'; 5_000]].concat();
    for file in [vec![], vec![1; 7], with_length(u64::MAX), with_length(5_001), with_length(200_000_000)] {
        let place = Fixture::of(vec![("config.json", b"{}".to_vec()), ("model.safetensors", file)]);
        let error = resolve_headers(&place).unwrap_err();
        assert!(matches!(error, HubError::InvalidHeader { .. }), "{error}");
    }
    let place = Fixture::new();
    place.fault(Fault::always("/storage/", FaultKind::WrongRange));
    // A first range begins at 0, wherever the server means to go wrong.
    assert!(resolve_headers(&place).is_ok());
    place.server.change(|hub| hub.faults = vec![Fault::always("resolve-cache", FaultKind::WrongByte)]);
    assert!(matches!(resolve_headers(&place), Err(HubError::CorruptDownload { .. })));
}
