//! Reading files: what is refused, and how the refusal reads.

use std::{error::Error, fs, path::Path};

use automodel_config::{ConfigError, ConfigWarning, FILE_SIZE_LIMIT, GenerationConfig, Overrides, RawConfig};

fn read(bytes: &[u8]) -> Result<RawConfig, ConfigError> {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("config.json"), bytes).expect("written");
    RawConfig::from_file(directory.path())
}

fn message(result: Result<RawConfig, ConfigError>) -> String {
    let message = result.expect_err("refused").to_string();
    // The directory differs from run to run.
    match message.find("/config.json") {
        Some(end) => {
            let start = message[..end].rfind(' ').map_or(0, |space| space + 1);
            format!("{}DIR{}", &message[..start], &message[end..])
        }
        None => message,
    }
}

#[test]
fn a_directory_stands_for_its_config() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("config.json");
    fs::write(&path, "\u{feff}{\"model_type\": \"llama\"}\r\n").expect("written");
    for given in [directory.path(), path.as_path()] {
        let raw = RawConfig::from_file(given).expect("reads");
        assert_eq!(raw.model_type().expect("a type"), "llama");
        assert_eq!(raw.path(), Some(path.as_path()));
    }
}

#[test]
fn a_missing_file_is_named_and_keeps_its_cause() {
    let error = RawConfig::from_file(Path::new("/nowhere/config.json")).expect_err("missing");
    assert!(error.to_string().contains("/nowhere/config.json"), "{error}");
    assert!(error.source().is_some_and(|cause| cause.is::<std::io::Error>()));
    assert!(GenerationConfig::from_file(Path::new("/nowhere")).is_err());
}

#[test]
fn texts_that_are_not_a_config_are_refused() {
    insta::assert_snapshot!(message(read(b"{\"a\": 1,\n \"b\" 2}")), @r"DIR/config.json, line 2, column 6: not JSON: expected `:` after a key (found '2')");
    insta::assert_snapshot!(message(read(b"")), @"DIR/config.json, line 1, column 1: not JSON: expected a value (found the end of the text)");
    insta::assert_snapshot!(message(read(b"[1]")), @"DIR/config.json contains a list, but a config must be an object");
    insta::assert_snapshot!(message(read(b"3")), @"DIR/config.json contains a number, but a config must be an object");
    insta::assert_snapshot!(message(read(b"{\"a\": \"\xff\"}")), @"DIR/config.json is not UTF-8 text (first invalid byte at offset 7): save it again as UTF-8");
    insta::assert_snapshot!(message(read("[".repeat(1000).as_bytes())), @"DIR/config.json nests objects and lists deeper than the limit of 100 levels");
    insta::assert_snapshot!(message(RawConfig::from_str("nul")), @"the config, line 1, column 1: not JSON: expected a value (found 'n')");
}

#[test]
fn oversized_files_are_refused_unread() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("config.json");
    let file = fs::File::create(&path).expect("created");
    // A hole: it takes no space on disk.
    file.set_len(FILE_SIZE_LIMIT * 1000).expect("sized");
    match RawConfig::from_file(&path) {
        Err(ConfigError::OversizedFile { limit, .. }) => assert_eq!(limit, FILE_SIZE_LIMIT),
        other => panic!("{other:?}"),
    }
}

#[test]
fn model_type_is_needed() {
    for text in ["{}", r#"{"model_type": null}"#, r#"{"model_type": ""}"#] {
        let raw = RawConfig::from_str(text).expect("an object");
        assert!(matches!(raw.model_type(), Err(ConfigError::MissingModelType { .. })), "{text}");
        let message = raw.resolve(&Default::default(), &Overrides::new()).expect_err(text).to_string();
        assert!(message.contains("model_type=llama"), "{message}");
        let raw = RawConfig::from_str(text).expect("an object");
        let overridden = raw.resolve(&Default::default(), &Overrides::new().set("model_type", "qwen2"));
        assert_eq!(overridden.expect("given").model_type(), "qwen2");
    }
    let raw = RawConfig::from_str(r#"{"model_type": 3}"#).expect("an object");
    assert!(matches!(raw.model_type(), Err(ConfigError::InvalidValue { .. })));
}

#[test]
fn missing_architectures_are_none() {
    for (text, expected) in [
        ("{}", &[][..]),
        (r#"{"architectures": null}"#, &[]),
        (r#"{"architectures": ["A", 3, "B"]}"#, &["A", "B"]),
        (r#"{"architectures": ["Outer"], "text_config": {"architectures": ["Inner"]}}"#, &["Outer"]),
    ] {
        let raw = RawConfig::from_str(text).expect("an object");
        assert_eq!(raw.architectures(), expected, "{text}");
        assert_eq!(raw.unwrap_text_config().architectures(), expected, "{text}");
    }
}

#[test]
fn repeated_keys_are_warned_of() {
    let raw = RawConfig::from_str(r#"{"model_type": "a", "model_type": "b"}"#).expect("an object");
    let config = raw.resolve(&Default::default(), &Overrides::new()).expect("resolves");
    assert_eq!(config.model_type(), "b");
    assert_eq!(config.warnings(), [ConfigWarning::RepeatedKey { key: "model_type".into() }]);
}

#[test]
#[cfg(unix)]
fn pipes_and_dangling_links_are_named_without_blocking() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("config.json");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
    let cause = |result: Result<RawConfig, ConfigError>| {
        let error = result.expect_err("refused");
        error.source().map(ToString::to_string).unwrap_or_default()
    };
    assert!(cause(RawConfig::from_file(directory.path())).contains("it is a named pipe"));
    fs::remove_file(&path).expect("removed");
    std::os::unix::fs::symlink("../blobs/gone", &path).expect("linked");
    assert!(cause(RawConfig::from_file(directory.path())).contains("a link to ../blobs/gone, which does not exist"));
    fs::rename(&path, directory.path().join("generation_config.json")).expect("renamed");
    assert!(GenerationConfig::from_file(directory.path()).is_err());
}
