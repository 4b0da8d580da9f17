//! Runs the command and reads its output.

use assert_cmd::Command;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The result of a run.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Standard output of a run that went well and said nothing else.
    #[track_caller]
    pub fn stdout(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "{self:?}");
        self.stdout
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(self) -> Value {
        serde_json::from_str(&self.stdout()).expect("JSON on standard output")
    }

    /// The JSON object on standard error of a run that failed.
    #[track_caller]
    pub fn json_error(self) -> Value {
        assert!(self.code != 0 && self.stdout.is_empty(), "{self:?}");
        serde_json::from_str(&self.stderr).expect("JSON on standard error")
    }
}

/// Runs `automodel` with `arguments`.
pub fn automodel<A: AsRef<std::ffi::OsStr>>(arguments: &[A]) -> Ran {
    with_input(arguments, "")
}

/// Runs `automodel` with `arguments` and `input` on standard input.
pub fn with_input<A: AsRef<std::ffi::OsStr>>(arguments: &[A], input: impl Into<Vec<u8>>) -> Ran {
    let elsewhere = tempfile::tempdir().expect("a directory");
    in_directory(elsewhere.path(), arguments, input)
}

/// Runs `automodel` in `directory`, so that the working directory of the tests has no say.
pub fn in_directory<A: AsRef<std::ffi::OsStr>>(directory: &Path, arguments: &[A], input: impl Into<Vec<u8>>) -> Ran {
    in_directory_with(directory, arguments, input, &[])
}

/// Runs `automodel` in `directory` with more variables in its environment.
pub fn in_directory_with<A: AsRef<std::ffi::OsStr>>(
    directory: &Path,
    arguments: &[A],
    input: impl Into<Vec<u8>>,
    variables: &[(&str, &str)],
) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_automodel"))
        .args(arguments)
        .current_dir(directory)
        // Nor does the cache of the user who runs the tests.
        .env("HF_HUB_CACHE", directory.join("no-cache"))
        // And no test leaves the machine.
        .env("HF_HUB_OFFLINE", "1")
        .env("NO_PROXY", "*")
        .env_remove("no_proxy")
        .env_remove("HF_TOKEN")
        .envs(variables.iter().copied())
        .write_stdin(input)
        .output()
        .expect("the command starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ran { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Directory of a fixture.
pub fn fixture(name: &str) -> String {
    automodel_test_support::fixtures::checkpoint(name).display().to_string()
}

/// A copy of the demo in `directory`, whose files may be changed.
pub fn copy_of_demo(directory: &Path) -> PathBuf {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../automodel/demo");
    std::fs::create_dir_all(directory).expect("a directory");
    for name in
        ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    {
        std::fs::copy(demo.join(name), directory.join(name)).expect("a file of the demo");
    }
    directory.to_owned()
}
