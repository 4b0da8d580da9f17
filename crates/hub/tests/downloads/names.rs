//! Names from a server or an index are hostile.

use crate::fixture::{Fixture, names_below, shard};
use automodel_hub::{HubError, HubOptions};
use automodel_hub_test_server::{Fault, FaultKind};

const HOSTILE: [&str; 12] = [
    "../../../escaped.safetensors",
    "/tmp/escaped.safetensors",
    "C:\\escaped.safetensors",
    "C:escaped.safetensors",
    "\\\\server\\share\\escaped",
    "//server/share/escaped",
    "a/../../escaped",
    "nul",
    "escaped\u{0}.safetensors",
    "escaped\u{1b}[2J.safetensors",
    "escaped\r\n.safetensors",
    "escaped\u{9b}31m.safetensors",
];

#[test]
fn an_index_cannot_lead_out() {
    for name in HOSTILE {
        let index = serde_json::json!({ "weight_map": { "a": name } }).to_string();
        let place = Fixture::of(vec![("config.json", b"{}".to_vec()), ("model.safetensors.index.json", index.into())]);
        let error = place.load().unwrap_err();
        assert!(matches!(&error, HubError::HostileName { .. }), "{name:?}: {error}");
        assert!(!error.to_string().contains(char::is_control));
        assert!(names_below(place.cache.path()).iter().all(|name| !name.contains("escaped")));
    }
}

#[test]
fn a_list_cannot_lead_out() {
    for name in HOSTILE {
        let git = "a".repeat(40);
        let entry = |path: &str| serde_json::json!({ "type": "file", "path": path, "size": 2, "oid": git });
        let list = serde_json::json!([entry(name), entry("config.json")]).to_string();
        let place = Fixture::new();
        place.fault(Fault::always("/tree/", FaultKind::Body(list.into_bytes())));
        let error = place.load().unwrap_err();
        assert!(!error.to_string().contains(char::is_control), "{error:?}");
        assert!(names_below(place.cache.path()).iter().all(|name| !name.contains("escaped")));
    }
}

#[test]
fn a_folder_cannot_lead_out() {
    let place = Fixture::new();
    for folder in ["..", "/etc", "a/../..", "C:", ""] {
        let options = HubOptions { subfolder: Some(folder.to_owned()), ..place.options() };
        assert!(matches!(place.load_with(&options), Err(HubError::InvalidSubfolder { .. })), "{folder}");
    }
    assert_eq!(place.server.log(), []);
}

#[test]
#[cfg(unix)]
fn a_link_in_the_cache_cannot_lead_out() {
    let place = Fixture::of(vec![
        ("config.json", b"{}".to_vec()),
        ("deep/config.json", b"{}".to_vec()),
        ("deep/model.safetensors", shard("a", 9_000)),
    ]);
    let outside = tempfile::tempdir().unwrap();
    let snapshot = place.directory().join("snapshots").join(&place.commit);
    std::fs::create_dir_all(&snapshot).unwrap();
    std::os::unix::fs::symlink(outside.path(), snapshot.join("deep")).unwrap();
    let options = HubOptions { subfolder: Some("deep".to_owned()), ..place.options() };
    assert!(matches!(place.load_with(&options), Err(HubError::LinkInCache { .. })));
    assert_eq!(names_below(outside.path()), Vec::<String>::new());

    std::fs::remove_file(snapshot.join("deep")).unwrap();
    let checkpoint = place.load_with(&options).unwrap();
    assert_eq!(checkpoint.dir, snapshot.join("deep"));
    assert_eq!(std::fs::read(checkpoint.dir.join("model.safetensors")).unwrap(), shard("a", 9_000));
    place.check_nothing_half_done();
}
