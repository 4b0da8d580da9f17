//! The whole corpus passes, and every kind of fault of a target is found.

use automodel_fuzz::{Counting, Target, check, named};
use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn fuzz(corpus: &Path, artifacts: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_automodel-fuzz"));
    command.arg("--corpus").arg(corpus).arg("--artifacts").arg(artifacts).args(arguments).output().unwrap()
}

#[test]
fn the_corpus_passes() {
    let (corpus, artifacts) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus"), tempfile::tempdir().unwrap());
    let output = fuzz(&corpus, artifacts.path(), &["--seconds", "0"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    for target in automodel_fuzz::TARGETS {
        let inputs = fs::read_dir(corpus.join(target.name)).unwrap().count();
        assert!(said.contains(&format!("{}: {inputs} inputs", target.name)), "{said}");
    }
}

/// Each fault of the target `faulty` is a finding that is kept, and the inputs after it are run too.
fn finding_of(input: &str) -> (String, String) {
    let (corpus, artifacts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(corpus.path().join("faulty")).unwrap();
    fs::write(corpus.path().join("faulty/1"), input).unwrap();
    fs::write(corpus.path().join("faulty/2"), "nothing").unwrap();
    let output = fuzz(corpus.path(), artifacts.path(), &["--seconds", "0", "--target", "faulty"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains(" inputs, "), "{said}");
    let kept: Vec<_> =
        fs::read_dir(artifacts.path().join("faulty")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let kept = kept.iter().find(|path| !path.ends_with("current")).expect("a finding is kept");
    assert_eq!(fs::read_to_string(kept).unwrap(), input);
    (kept.file_name().unwrap().to_string_lossy().into_owned(), said)
}

#[test]
fn panics_aborts_and_greed_are_found() {
    for (input, kind, words) in [
        ("panic", "panic-", "faulty.rs"),
        ("abort", "end-", "the process ended"),
        ("recurse", "end-", "the process ended"),
        ("allocate 2000000", "memory-", "2000000 bytes allocated for an input of 16 bytes"),
        ("allocate 4000000000", "end-", "the process ended"),
    ] {
        let (name, said) = finding_of(input);
        assert!(name.starts_with(kind) && said.contains(words), "{input}: {name}\n{said}");
    }
}

#[test]
fn memory_is_counted() {
    // Far from the bound on both sides: other tests of this process allocate meanwhile.
    let target = Target { fixed_bytes: 64 << 20, bytes_per_byte: 1, ..*named("faulty").unwrap() };
    assert!(check(&target, b"allocate 50000000").unwrap().peak >= 50_000_000);
    let excess = check(&target, b"allocate 80000000").unwrap_err().to_string();
    assert!(excess.ends_with("for an input of 17 bytes, which may take 67108881"), "{excess}");
}
