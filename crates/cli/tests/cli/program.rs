//! The program itself: where it runs, and how it is written.

use crate::run::copy_of_demo;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A copy of the program, away from where it was built.
fn copied(directory: &Path) -> PathBuf {
    let program = directory.join("automodel-copy");
    std::fs::copy(env!("CARGO_BIN_EXE_automodel"), &program).unwrap();
    program
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

#[track_caller]
fn answers(output: &Output) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("75\n".to_owned(), String::new()), "{}", output.status);
}

#[test]
fn a_copy_carries_its_demo() {
    let directory = tempfile::tempdir().unwrap();
    let program = copied(directory.path());
    let (home, temporary) = (directory.path().join("home"), directory.path().join("temporary"));
    std::fs::create_dir(&home).unwrap();
    std::fs::create_dir(&temporary).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments).env_clear().env("HOME", &home).env("TMPDIR", &temporary);
        command.current_dir(directory.path()).output().unwrap()
    };
    answers(&run(&["generate", "demo", "--prompt", "27+48="]));
    let inspected = run(&["inspect", "demo"]);
    assert!(String::from_utf8_lossy(&inspected.stdout).contains("the demo is part of this program"));
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0, "what was unpacked is gone");
    assert_eq!(std::fs::read_dir(&home).unwrap().count(), 0, "nothing else is written");
    // Nor does it know where the demo was when it was built.
    let source = workspace().join("crates/automodel/demo").display().to_string();
    let bytes = std::fs::read(&program).unwrap();
    assert!(!bytes.windows(source.len()).any(|window| window == source.as_bytes()), "{source}");
}

/// In a new namespace, where the workspace is an empty file system.
#[cfg(target_os = "linux")]
#[test]
fn a_copy_runs_where_there_is_no_workspace() {
    let directory = tempfile::tempdir().unwrap();
    let program = copied(directory.path());
    let workspace = workspace();
    if program.starts_with(&workspace) {
        eprintln!("SKIPPED: temporary files are in the workspace");
        return;
    }
    let script = "mount -t tmpfs none \"$0\" && ls \"$0\" >&2 && exec \"$1\" generate demo --prompt 27+48=";
    let run = Command::new("unshare")
        .args(["-r", "-m", "sh", "-c", script])
        .args([workspace.as_os_str(), program.as_os_str()])
        .current_dir(directory.path())
        .output();
    match run {
        Ok(output) if !String::from_utf8_lossy(&output.stderr).contains("unshare") => answers(&output),
        other => eprintln!("SKIPPED: no namespaces here: {other:?}"),
    }
}

#[test]
fn a_directory_called_demo_has_to_be_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let other = copy_of_demo(&directory.path().join("demo"));
    std::fs::remove_file(other.join("model.safetensors")).unwrap();
    let run = |model: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_automodel"));
        command.args(["generate", model, "--prompt", "27+48="]).current_dir(directory.path()).output().unwrap()
    };
    let demo = run("demo");
    let warning = String::from_utf8_lossy(&demo.stderr).into_owned();
    assert_eq!(String::from_utf8_lossy(&demo.stdout), "75\n", "{warning}");
    assert_eq!(warning.matches("./demo").count(), 1, "{warning}");
    assert!(String::from_utf8_lossy(&run("./demo").stderr).contains("model.safetensors"));
}

/// Everything goes through `output.rs`, `failure.rs` and `progress.rs`, which escape it.
#[test]
fn no_other_file_writes_to_a_terminal() {
    let exempt = ["output.rs", "progress.rs"];
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            files += 1;
            let text = std::fs::read_to_string(&path).unwrap();
            for (number, line) in text.lines().enumerate() {
                // To ask whether something is a terminal is not to write to it.
                let asks = ["stdout().is_terminal()", "stderr().is_terminal()", "use_stderr()"];
                let line = asks.iter().fold(line.to_owned(), |line, question| line.replace(question, ""));
                let forbidden = ["println!", "print!(", "stdout()", "stderr()", "indicatif", "/dev/tty"];
                let found = forbidden.iter().find(|word| line.contains(*word) && !exempt.contains(&&*name));
                assert_eq!(found, None, "{}:{}: {line}", path.display(), number + 1);
            }
        }
    }
    assert!(files > 20, "only {files} files were read");
}
