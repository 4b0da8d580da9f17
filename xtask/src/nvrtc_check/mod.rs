//! `cargo xtask nvrtc-check`: the compiler of CUDA takes every kernel, on a machine that has no GPU.
//!
//! `driver.c` stands in for a driver with one H200. The real NVRTC compiles the kernels that the tests named `compiles_` launch; tests named
//! `asks_the_driver_` want no kernel.

use cargo_metadata::{Message, TargetKind};
use clap::Args;
use std::{
    collections::BTreeSet,
    fs,
    io::BufReader,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{Result, ci, python_environment, workspace_root};

const DRIVER: &str = "xtask/src/nvrtc_check/driver.c";
/// The packages that `--install` installs: the compiler and the headers that kernels include.
const PACKAGES: [&str; 4] = [
    "nvidia-cuda-nvrtc==13.0.88",
    "nvidia-cuda-runtime==13.0.96",
    "nvidia-cuda-cccl==13.0.85",
    "nvidia-cuda-crt==13.0.88",
];
/// How the names of the project's own kernels begin: each has to be among those that were compiled.
const KERNELS: [&str; 15] = [
    "attend_",
    "choose_",
    "copy_words_",
    "dequantize_",
    "few_rows_",
    "few_rows_chosen_",
    "join_",
    "matvec_",
    "matvec_chosen_",
    "normalize_",
    "quantize_",
    "rotate_and_append_",
    "route_row_",
    "set_position_",
    "tiles_",
];

#[derive(Args)]
pub struct Arguments {
    /// Install the pinned packages into an environment below the target directory, and use them.
    #[arg(long)]
    pub install: bool,
    /// A Python with those packages; without either, the check is skipped and says so.
    #[arg(long, default_value = "python3")]
    pub python: PathBuf,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let python = if arguments.install { install(&arguments.python)? } else { arguments.python.clone() };
    let Some(toolkit) = toolkit(&python) else {
        println!("nvrtc-check SKIPPED: {} has no {}; try --install", python.display(), PACKAGES.join(", "));
        return Ok(());
    };
    let place = Place::new(toolkit)?;
    let (tests, automodel) = build()?;
    for test in &tests {
        place.compile(test)?;
    }
    place.check_kernels()?;
    place.check_without_compiler(&automodel)
}

/// An environment with the packages: its Python.
fn install(python: &Path) -> Result<PathBuf> {
    let python = python_environment::create(python, &workspace_root().join("target/nvrtc-check/python"))?;
    python_environment::install(&python, &[&["--no-deps"][..], &PACKAGES].concat())?;
    Ok(python)
}

/// Where the packages have installed CUDA, if they are installed.
fn toolkit(python: &Path) -> Option<PathBuf> {
    let find = "import nvidia, os; print(os.path.join(list(nvidia.__path__)[0], 'cu13'))";
    let output = Command::new(python).args(["-c", find]).output().ok()?;
    let folder = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    (output.status.success() && folder.join("include").is_dir()).then_some(folder)
}

/// The tests of GPUs and the command, as `cargo xtask ci` has built them.
fn build() -> Result<(Vec<PathBuf>, PathBuf)> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace_root()).args(["test", "--no-run", "--message-format", "json-render-diagnostics"]);
    let mut child = cargo.args(ci::GPU_TESTS).stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().ok_or("cargo has no output")?;
    let (mut tests, mut automodel) = (Vec::new(), None);
    for message in Message::parse_stream(BufReader::new(stdout)) {
        if let Message::CompilerArtifact(artifact) = message?
            && let Some(executable) = artifact.executable
        {
            if artifact.target.kind.contains(&TargetKind::Test) {
                tests.push(executable.into());
            } else if artifact.target.name == "automodel" {
                automodel = Some(executable.into());
            }
        }
    }
    match (child.wait()?.success(), automodel) {
        (true, Some(automodel)) => Ok((tests, automodel)),
        _ => Err("cargo could not build the tests of GPUs".into()),
    }
}

/// The software driver, and the compiler.
struct Place {
    folder: PathBuf,
    driver: PathBuf,
    toolkit: PathBuf,
    log: PathBuf,
}

impl Place {
    fn new(toolkit: PathBuf) -> Result<Self> {
        let folder = workspace_root().join("target/nvrtc-check");
        let (driver, log) = (folder.join("driver"), folder.join("kernels.txt"));
        fs::create_dir_all(&driver)?;
        fs::write(&log, "")?;
        // NVRTC looks for libcuda.so.1 by itself and crashes on one that is not NVIDIA's; cudarc takes this name too.
        let library = driver.join("libcuda64.so");
        let source = workspace_root().join(DRIVER);
        let mut compiler = Command::new("cc");
        compiler.args(["-O1", "-shared", "-fPIC", "-w", "-o"]).arg(&library).arg(&source);
        match compiler.status() {
            Ok(status) if status.success() => Ok(Self { folder, driver, toolkit, log }),
            Ok(status) => Err(format!("cc could not build {}: {status}", source.display()).into()),
            Err(error) => Err(format!("{} needs a C compiler named cc: {error}", source.display()).into()),
        }
    }

    /// A program that sees a GPU. Its caches of that GPU are kept apart.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(workspace_root().join("crates/automodel")).env("XDG_CACHE_HOME", self.folder.join("cache"));
        command.env("RUST_MIN_STACK", "67108864").env("SOFTWARE_CUDA_LOG", &self.log).env_remove("CUDA_PATH");
        command.env("LD_LIBRARY_PATH", &self.driver);
        command
    }

    /// Runs the tests of a binary that look at no numbers.
    fn compile(&self, test: &Path) -> Result<()> {
        let libraries = format!("{}:{}", self.driver.display(), self.toolkit.join("lib").display());
        let mut command = self.command(test);
        command.env("LD_LIBRARY_PATH", libraries).env("CUDA_PATH", &self.toolkit).args([
            "compiles_",
            "asks_the_driver_",
            "--nocapture",
        ]);
        let status = command.status()?;
        if status.success() { Ok(()) } else { Err(format!("{}: {status}", test.display()).into()) }
    }

    fn check_kernels(&self) -> Result<()> {
        let log = fs::read_to_string(&self.log)?;
        let compiled: BTreeSet<&str> = log.lines().collect();
        let missing = KERNELS.into_iter().filter(|kernel| !compiled.iter().any(|name| name.starts_with(kernel)));
        let missing: Vec<&str> = missing.collect();
        if !missing.is_empty() {
            let expected = missing.join(", ");
            return Err(
                format!("no kernel was compiled whose name begins with {expected}: a test has to launch it").into()
            );
        }
        println!("NVRTC compiled {} kernels for an H200", compiled.len());
        Ok(())
    }

    /// A machine with a driver and without NVRTC: an error that names it, not a panic, and not numbers that nothing wrote.
    fn check_without_compiler(&self, automodel: &Path) -> Result<()> {
        let output = self.command(automodel).args(["doctor", "--device", "cuda"]).output()?;
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        if output.status.code() != Some(1) || !text.contains("libnvrtc") || text.contains("panicked") {
            return Err(format!("without NVRTC the doctor ends with {}:\n{text}", output.status).into());
        }
        println!("without NVRTC, `automodel doctor --device cuda` reports the missing compiler");
        Ok(())
    }
}
