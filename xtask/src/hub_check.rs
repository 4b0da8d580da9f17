//! `cargo xtask hub-check`: our cache and that of `huggingface_hub` are the same one.

use clap::Args;
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use crate::{Result, python_environment, workspace_root};

const REPO: &str = "org/checked";
/// The packages that `--install` installs.
const PACKAGE: &str = "huggingface_hub==2.4.0";
const SCRIPT: &str = "xtask/src/hub_check.py";
/// The files that loading the demo needs.
const NEEDED: [&str; 5] =
    ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];

#[derive(Args)]
pub struct Arguments {
    /// Install the pinned package into an environment below the target directory, and use that.
    #[arg(long)]
    pub install: bool,
    /// A Python with the package huggingface_hub; without either, the check is skipped and says so.
    #[arg(long, default_value = "python3")]
    pub python: PathBuf,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let installed = arguments.install.then(|| install(&arguments.python)).transpose();
    let python = match installed {
        Ok(installed) => installed.unwrap_or_else(|| arguments.python.clone()),
        Err(reason) => {
            println!("{PACKAGE} could not be installed: {reason}");
            arguments.python.clone()
        }
    };
    let Some(version) = version(&python) else {
        println!("hub-check SKIPPED: {} has no huggingface_hub; give another with --python", python.display());
        return Ok(());
    };
    let place = Place::new(&python)?;
    let mut server = Server::start(&place)?;

    // Python finds our downloads and does not download them again.
    let ours = place.directory.join("ours");
    place.automodel(&server, &ours, &["pull", REPO])?;
    server.bodies()?;
    let found = place.python(&server, &ours, "ours")?;
    expect_none("Python downloaded files that are in the cache", &server.bodies()?)?;
    println!("huggingface_hub {version} finds the downloads of `automodel pull`: {}", found.trim());

    // And the other way round.
    let theirs = place.directory.join("theirs");
    let found = place.python(&server, &theirs, "theirs")?;
    server.bodies()?;
    place.automodel(&server, &theirs, &["pull", REPO])?;
    expect_none("automodel downloaded files that are in the cache", &server.bodies()?)?;
    place.automodel(&server, &theirs, &["cache", "verify"])?;
    let text = place.automodel(&server, &theirs, &["generate", REPO, "--offline", "--prompt", "27+48="])?;
    if text.trim() != "75" {
        return Err(format!("the model of the shared cache says {text:?}").into());
    }
    println!("`automodel pull` finds the downloads of huggingface_hub {version}: {}", found.trim());
    Ok(())
}

/// An environment with the package: its Python.
fn install(python: &Path) -> Result<PathBuf> {
    let python = python_environment::create(python, &workspace_root().join("target/hub-check-python"))?;
    python_environment::install(&python, &[PACKAGE])?;
    Ok(python)
}

/// The version of huggingface_hub, if there is one.
fn version(python: &Path) -> Option<String> {
    let output =
        Command::new(python).args(["-c", "import huggingface_hub as hub; print(hub.__version__)"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn expect_none(complaint: &str, requests: &[String]) -> Result<()> {
    if requests.is_empty() { Ok(()) } else { Err(format!("{complaint}: {}", requests.join(", ")).into()) }
}

/// The files of a repo, and the programs.
struct Place {
    root: PathBuf,
    directory: PathBuf,
    files: PathBuf,
    python: PathBuf,
    programs: PathBuf,
}

impl Place {
    fn new(python: &Path) -> Result<Self> {
        let root = workspace_root();
        let metadata = cargo_metadata::MetadataCommand::new().current_dir(&root).no_deps().exec()?;
        let target = metadata.target_directory.into_std_path_buf();
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        // With the tests: two packages alone would need other features of their dependencies, and so all of those built again.
        let all = ["build", "--workspace", "--bins", "--tests"];
        succeeded("cargo build", Command::new(cargo).args(all).current_dir(&root))?;

        let directory = target.join("hub-check");
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        let files = directory.join("files");
        fs::create_dir_all(&files)?;
        for name in NEEDED {
            fs::copy(root.join("crates/automodel/demo").join(name), files.join(name))?;
        }
        fs::write(files.join("README.md"), "# Checked\n")?;
        fs::write(files.join("pytorch_model.bin"), vec![1; 10_000])?;
        Ok(Self { root, directory, files, python: python.to_owned(), programs: target.join("debug") })
    }

    /// A program that knows the server and a cache, and nothing of whoever runs the check.
    fn command(&self, program: &Path, server: &Server, cache: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root).env("HF_ENDPOINT", &server.url).env("HF_HUB_CACHE", cache);
        command.env("HF_HOME", &self.directory).env("HF_HUB_DISABLE_XET", "1").env("HF_HUB_DISABLE_TELEMETRY", "1");
        command.env("NO_PROXY", "*").env("no_proxy", "*").env_remove("HF_TOKEN").env_remove("HF_HUB_OFFLINE");
        command
    }

    fn automodel(&self, server: &Server, cache: &Path, arguments: &[&str]) -> Result<String> {
        let what = format!("automodel {}", arguments.join(" "));
        succeeded(&what, self.command(&self.programs.join("automodel"), server, cache).args(arguments))
    }

    fn python(&self, server: &Server, cache: &Path, mode: &str) -> Result<String> {
        let mut command = self.command(&self.python, server, cache);
        command.arg(self.root.join(SCRIPT)).arg(mode).arg(&self.files).args(NEEDED);
        succeeded(&format!("{SCRIPT} {mode}"), &mut command)
    }
}

fn succeeded(what: &str, command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::piped()).output().map_err(|error| format!("{what} cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{what} ended with {}:\n{}{said}", output.status, String::from_utf8_lossy(&output.stdout)).into())
}

/// The server of the tests in a process of its own.
struct Server {
    child: Child,
    url: String,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Server {
    fn start(place: &Place) -> Result<Self> {
        let mut command = Command::new(place.programs.join("automodel-hub-test-server"));
        let mut child = command.arg(&place.files).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take().ok_or("the server takes no input")?;
        let mut output = BufReader::new(child.stdout.take().ok_or("the server has no output")?);
        let mut url = String::new();
        output.read_line(&mut url)?;
        Ok(Self { child, url: url.trim().to_owned(), input, output })
    }

    /// Files that were sent since the last question.
    fn bodies(&mut self) -> Result<Vec<String>> {
        writeln!(self.input, "log")?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let requests: Vec<Value> = serde_json::from_str(&line)?;
        let is_body = |request: &&Value| {
            let target = request["target"].as_str().unwrap_or_default();
            let is_file = ["/resolve", "/storage/"].iter().any(|part| target.contains(part));
            is_file && request["bytes"].as_u64() > Some(0)
        };
        Ok(requests.iter().filter(is_body).map(Value::to_string).collect())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
