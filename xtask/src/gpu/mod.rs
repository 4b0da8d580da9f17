//! `cargo xtask gpu`: a bundle of tests and benchmarks for a machine with a GPU and without Rust.

use cargo_metadata::{Message, TargetKind};
use clap::Args;
use std::{
    fs,
    io::BufReader,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{Result, workspace_root};

const SCRIPT: &str = include_str!("run.sh");
const BESIDE: &str = include_str!("beside_bitsandbytes.py");
/// Small checkpoints of every family.
const CHECKPOINTS: &str = "tests/fixtures/checkpoints";
/// References of transformers, which no test on a GPU reads.
const REFERENCE: &str = "reference";
/// Packages with a feature for each kind of GPU.
const WITH_GPUS: [&str; 7] = [
    "automodel-attention",
    "automodel-models",
    "automodel-quant",
    "automodel-generation",
    "automodel",
    "automodel-cli",
    "automodel-gpu-bench",
];

#[derive(Args)]
pub struct Arguments {
    /// The profile to build with; figures of another than `release` say nothing.
    #[arg(long, default_value = "release")]
    profile: String,
    /// Build with wgpu too, to try the bundle on a software Vulkan driver.
    #[arg(long)]
    wgpu: bool,
    /// The folder to write, which must not exist; beside it comes an archive of it.
    #[arg(long, default_value = "target/gpu-bundle")]
    out: PathBuf,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let out = workspace_root().join(&arguments.out);
    if out.exists() {
        return Err(format!("{} exists: remove it, or give another folder with --out", out.display()).into());
    }
    let (tests, binaries): (Vec<Built>, Vec<Built>) = build(arguments)?.into_iter().partition(|built| built.is_test);
    // Those of the command look for it where cargo built it.
    let tests: Vec<Built> = tests.into_iter().filter(|built| built.package != "automodel-cli").collect();

    for folder in ["tests", "bin"] {
        fs::create_dir_all(out.join(folder))?;
    }
    for Built { package, target, executable, .. } in &tests {
        copy(executable, &out.join("tests").join(format!("{package}-{target}")))?;
    }
    for Built { target, executable, .. } in &binaries {
        copy(executable, &out.join("bin").join(target))?;
    }
    fs::write(out.join("run.sh"), SCRIPT)?;
    fs::write(out.join("beside_bitsandbytes.py"), BESIDE)?;
    for checkpoint in fs::read_dir(workspace_root().join(CHECKPOINTS))? {
        let checkpoint = checkpoint?;
        if checkpoint.file_type()?.is_dir() {
            copy_folder(&checkpoint.path(), &out.join("checkpoints").join(checkpoint.file_name()))?;
        }
    }
    let archive = pack(&out)?;
    println!("{} holds {} test and {} other binaries", out.display(), tests.len(), binaries.len());
    println!("{}: {} MB", archive.display(), fs::metadata(&archive)?.len() / 1_000_000);
    println!("on the machine with the GPU: tar -xJf {}, then `sh run.sh` in it", file_name(&archive));
    Ok(())
}

/// A binary that cargo made.
struct Built {
    package: String,
    target: String,
    is_test: bool,
    executable: PathBuf,
}

/// Everything in one call: with other packages or features cargo would compile Burn once more.
fn build(arguments: &Arguments) -> Result<Vec<Built>> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace_root()).args(["build", "-p", "xtask"]);
    for package in WITH_GPUS {
        cargo.args(["-p", package]);
    }
    cargo.args(["--bins", "--test", "gpu", "--test", "gpu_attention"]);
    let kinds: &[&str] = if arguments.wgpu { &["cuda", "wgpu"] } else { &["cuda"] };
    let features = kinds.iter().flat_map(|kind| WITH_GPUS.map(|package| format!("{package}/{kind}")));
    let features: Vec<String> = features.collect();
    cargo.args(["--profile", &arguments.profile, "--features", &features.join(",")]);
    cargo.args(["--message-format", "json-render-diagnostics"]);
    let mut child = cargo.stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().ok_or("cargo has no output")?;
    let mut built = Vec::new();
    for message in Message::parse_stream(BufReader::new(stdout)) {
        if let Message::CompilerArtifact(artifact) = message?
            && let Some(executable) = artifact.executable
        {
            // The id ends with `path#name@version` or, where the folder has the name, with `path#version`.
            let id = artifact.package_id.repr;
            let (path, end) = id.rsplit_once('#').unwrap_or(("", &id));
            let package = end.split_once('@').map_or_else(|| file_name(Path::new(path)), |(name, _)| name.to_owned());
            let is_test = artifact.target.kind.contains(&TargetKind::Test);
            built.push(Built { package, target: artifact.target.name, is_test, executable: executable.into() });
        }
    }
    if child.wait()?.success() { Ok(built) } else { Err("cargo could not build the bundle's binaries".into()) }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).map_err(|error| format!("{} to {}: {error}", from.display(), to.display()))?;
    // Symbols are most of a binary; the bundle travels. Without the tool it is only larger.
    let _ = Command::new("strip").arg(to).status();
    Ok(())
}

/// The files of a folder, not its folders and no references.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() && !entry.file_name().to_string_lossy().starts_with(REFERENCE) {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// An archive of a folder. The binaries have most of their code in common, each within the window from the one before.
fn pack(folder: &Path) -> Result<PathBuf> {
    let archive = folder.with_extension("tar.xz");
    let parent = folder.parent().ok_or("the bundle needs a folder around it")?;
    let mut tar = Command::new("tar");
    tar.env("XZ_OPT", "--lzma2=preset=3,dict=192MiB").arg("-cJf").arg(&archive).arg("-C").arg(parent);
    let status = tar.arg(file_name(folder)).status()?;
    if status.success() { Ok(archive) } else { Err("tar could not pack the bundle: is xz installed?".into()) }
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
