//! `cargo xtask ci`: the checks that come after the tests, stopping at the first that fails.

use std::{env, fs, process::Command, time::Instant};

use crate::{Result, fuzz, hub_check, nvrtc_check, tidy, workspace_root};

/// A cargo command: its arguments and the variables that it needs.
struct Step<'a> {
    arguments: &'a [&'a str],
    variables: &'a [(&'a str, &'a str)],
}

/// The features for GPUs. Without `autotune`, which takes minutes on a software Vulkan driver.
const GPU: &str = "automodel-quant/wgpu,automodel/cuda,automodel-cli/wgpu";

/// The tests of kernels, for `cargo test`.
#[rustfmt::skip]
pub const GPU_TESTS: [&str; 20] = [
    "--profile", "gpu", "-p", "automodel-attention", "-p", "automodel-models", "-p", "automodel-quant", "-p", "automodel-generation",
    "-p", "automodel", "-p", "automodel-cli", "--features", GPU, "--test", "gpu", "--test", "gpu_attention",
];

#[rustfmt::skip]
const STEPS: [Step<'static>; 4] = [
    Step { arguments: &["fmt", "--all", "--check"], variables: &[] },
    Step { arguments: &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], variables: &[] },
    Step { arguments: &["doc", "--workspace", "--no-deps"], variables: &[("RUSTDOCFLAGS", "-Dwarnings")] },
    Step {
        arguments: &[
            "clippy", "--profile", "gpu", "-p", "automodel-attention", "-p", "automodel-models", "-p", "automodel-quant",
            "-p", "automodel-generation", "-p", "automodel", "-p", "automodel-cli", "-p", "automodel-gpu-bench", "--features", GPU, "--all-targets", "--",
            "-D", "warnings",
        ],
        variables: &[],
    },
];

/// Set to 1, it lets tests of kernels fail that find no GPU (`tests/support/src/gpu.rs`).
const REQUIRE_GPU: &str = "AUTOMODEL_REQUIRE_GPU";

/// Where the Vulkan loader looks for drivers on Linux, each a JSON file; software drivers are among them.
const VULKAN_DRIVERS: [&str; 3] = ["/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d"];

pub fn run() -> Result<()> {
    for step in &STEPS {
        timed(&step.to_string(), || step.run())?;
    }
    // Kernels run on a software Vulkan driver where there is one. The threads that compile them need larger stacks in a build
    // without optimisation.
    let arguments = [&["test"][..], &GPU_TESTS, &["--", "--nocapture"]].concat();
    let required = env::var(REQUIRE_GPU).unwrap_or_else(|_| u8::from(has_vulkan_driver()).to_string());
    let variables = [("RUST_MIN_STACK", "67108864"), (REQUIRE_GPU, required.as_str())];
    let tests = Step { arguments: &arguments, variables: &variables };
    timed(&tests.to_string(), || tests.run())?;
    let arguments = nvrtc_check::Arguments { install: true, python: "python3".into() };
    timed("cargo xtask nvrtc-check --install", || nvrtc_check::run(&arguments))?;
    let arguments = hub_check::Arguments { install: true, python: "python3".into() };
    timed("cargo xtask hub-check --install", || hub_check::run(&arguments))?;
    let arguments = fuzz::Arguments::for_ci();
    timed("cargo xtask fuzz", || fuzz::run(&arguments))?;
    timed("cargo xtask tidy", tidy::run)
}

/// Whether a driver for the tests of kernels is installed; then they have to run.
fn has_vulkan_driver() -> bool {
    let files = VULKAN_DRIVERS.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
    files.filter_map(|file| file.ok()).any(|file| file.path().extension().is_some_and(|extension| extension == "json"))
}

fn timed(heading: &str, step: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("\n=== {heading}");
    let start = Instant::now();
    let result = step();
    let outcome = if result.is_ok() { "ok" } else { "FAILED" };
    eprintln!("=== {outcome} after {:.1} s: {heading}", start.elapsed().as_secs_f64());
    result.map_err(|error| format!("`{heading}` failed: {error}").into())
}

impl Step<'_> {
    fn run(&self) -> Result<()> {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(self.arguments).envs(self.variables.iter().copied()).current_dir(workspace_root());
        let status = command.status()?;
        if status.success() { Ok(()) } else { Err(status.to_string().into()) }
    }
}

impl std::fmt::Display for Step<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (name, value) in self.variables {
            write!(formatter, "{name}={value} ")?;
        }
        write!(formatter, "cargo {}", self.arguments.join(" "))
    }
}
