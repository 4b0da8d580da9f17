//! How each contender is called. One that cannot run is skipped, with the reason.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use super::{
    Setup, build,
    contenders::{Contender, Program},
    python,
};

/// A contender that can run.
#[derive(Debug)]
pub struct Ready {
    pub contender: &'static Contender,
    program: PathBuf,
    arguments: Vec<OsString>,
    /// Versions of the program and its libraries.
    pub version: String,
    /// The files that it reads.
    pub files: Vec<PathBuf>,
}

/// A contender that did not run, or not to the end.
#[derive(Clone, Debug)]
pub struct Skipped {
    pub contender: &'static Contender,
    pub reason: String,
}

/// The arguments of one process.
#[derive(Clone, Copy, Debug)]
pub struct Tokens {
    pub prompt: u32,
    pub new: u32,
    pub warmup: u32,
}

/// Builds, converts and looks for whatever the contenders need.
pub fn prepare(
    chosen: &[&'static Contender],
    model: &Path,
    pythons: &[PathBuf],
    setup: &Setup,
) -> (Vec<Ready>, Vec<Skipped>) {
    let mut preparation = Preparation { model, pythons, setup, automodel: None, candle: None };
    let (mut ready, mut skipped) = (Vec::new(), Vec::new());
    for &contender in chosen {
        match preparation.prepare(contender) {
            Ok(prepared) => ready.push(prepared),
            Err(reason) => {
                eprintln!("{}: skipped: {reason}", contender.name);
                skipped.push(Skipped { contender, reason });
            }
        }
    }
    (ready, skipped)
}

/// Programs and files that are built once for several contenders.
struct Preparation<'a> {
    model: &'a Path,
    pythons: &'a [PathBuf],
    setup: &'a Setup,
    automodel: Option<Result<PathBuf, String>>,
    candle: Option<Result<PathBuf, String>>,
}

impl Preparation<'_> {
    fn prepare(&mut self, contender: &'static Contender) -> Result<Ready, String> {
        let setup = self.setup;
        let mut files = super::checkpoint::shards(self.model).map_err(|error| error.to_string())?;
        let model = self.model.as_os_str().to_owned();
        let (program, mut arguments, version) = match contender.program {
            Program::Automodel(options) => {
                let program = self.automodel.get_or_insert_with(|| build::automodel(setup)).clone()?;
                if options.contains(&"float32") && is_float32(&program, self.model)? {
                    return Err("automodel's default is float32 already".to_owned());
                }
                let mut arguments = vec!["bench".into(), model, "--json".into()];
                arguments.extend(options.iter().map(OsString::from));
                (program, arguments, format!("automodel {}", env!("CARGO_PKG_VERSION")))
            }
            Program::Transformers(dtype) => {
                let packages: &[&str] = match dtype {
                    "nf4" => &["transformers", "torch", "bitsandbytes"],
                    _ => &["transformers", "torch"],
                };
                let (python, version) = python::with_packages(self.pythons, packages)?;
                let script = python::directory().join("transformers_bench.py").into_os_string();
                (python.to_owned(), vec![script, model, "--dtype".into(), dtype.into()], version)
            }
            Program::Llama(dtype) => {
                let packages = ["llama-cpp-python", "gguf", "numpy"];
                let (python, version) = python::with_packages(self.pythons, &packages)?;
                let file = self.gguf(python, dtype)?;
                files = vec![file.clone()];
                let script = python::directory().join("llama_bench.py").into_os_string();
                (python.to_owned(), vec![script, file.into(), "--dtype".into(), dtype.into()], version)
            }
            Program::Candle(dtype) => {
                let program = self.candle.get_or_insert_with(|| build::candle(setup)).clone()?;
                (program, vec![model, "--dtype".into(), dtype.into()], "candle 0.11.1".to_owned())
            }
            Program::Mistral(options) => {
                let program = on_path("mistralrs").ok_or("`mistralrs` is not on the path")?;
                let version = mistral_version(&program)?;
                let mut arguments = vec!["bench".into(), "--model-id".into(), model, "--cpu".into()];
                arguments.extend(["--iterations", "1"].iter().chain(options).map(OsString::from));
                (program, arguments, version)
            }
        };
        if matches!(contender.program, Program::Transformers(_) | Program::Llama(_)) {
            arguments.extend(["--threads".into(), setup.threads.to_string().into()]);
        }
        Ok(Ready { contender, program, arguments, version, files })
    }

    /// The GGUF file of the checkpoint, which is made if it is not there, beside the one it is quantised from.
    fn gguf(&self, python: &Path, dtype: &str) -> Result<PathBuf, String> {
        let name = self.model.file_name().unwrap_or_default().to_string_lossy();
        let file = |dtype: &str| self.setup.work.join(format!("{name}-{dtype}.gguf"));
        if !file(dtype).exists() {
            eprintln!("making {}", file(dtype).display());
            let mut command = Command::new(python);
            command.arg(python::directory().join("make_gguf.py")).arg(self.model).arg("--bf16").arg(file("bf16"));
            if dtype == "q4_0" {
                command.arg("--q4-0").arg(file("q4_0"));
            }
            command.args(["--threads", &self.setup.threads.to_string()]);
            let log = self.setup.work.join(format!("logs/gguf-{dtype}"));
            super::process::run(command, &log, self.setup.timeout)?;
        }
        Ok(file(dtype))
    }
}

impl Ready {
    pub fn command(&self, tokens: Tokens, threads: u32) -> Command {
        let mut command = Command::new(&self.program);
        let [prompt, new] = match self.contender.program {
            Program::Mistral(_) => ["--prompt-len", "--gen-len"],
            _ => ["--prompt-tokens", "--new-tokens"],
        };
        // The tokens that mistral.rs generates after the first are a measurement of their own.
        let is_start_of_mistral = matches!(self.contender.program, Program::Mistral(_)) && tokens.new == 1;
        let new_tokens = if is_start_of_mistral { 0 } else { tokens.new };
        command.args(&self.arguments);
        command.args([prompt, &tokens.prompt.to_string(), new, &new_tokens.to_string()]);
        command.args(["--warmup", &tokens.warmup.to_string()]);
        for variable in ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"] {
            command.env(variable, threads.to_string());
        }
        // Nothing is downloaded, and logs have no colours.
        command.env("HF_HUB_OFFLINE", "1").env("NO_COLOR", "1");
        command
    }
}

/// Whether ours computes with float32 weights unless told otherwise.
fn is_float32(automodel: &Path, model: &Path) -> Result<bool, String> {
    let output = Command::new(automodel).arg("inspect").arg(model).arg("--json").output();
    let output = output.map_err(|error| format!("automodel cannot be started: {error}"))?;
    let json: Value = serde_json::from_slice(&output.stdout).map_err(|error| format!("automodel inspect: {error}"))?;
    let dtypes = json["target_bytes"].as_object().ok_or("automodel inspect says nothing of target_bytes")?;
    Ok(dtypes.keys().all(|dtype| dtype == "F32"))
}

fn on_path(name: &str) -> Option<PathBuf> {
    let name = format!("{name}{}", env::consts::EXE_SUFFIX);
    env::split_paths(&env::var_os("PATH")?).map(|directory| directory.join(&name)).find(|path| path.is_file())
}

fn mistral_version(program: &Path) -> Result<String, String> {
    let output = Command::new(program).arg("--version").output();
    let output = output.map_err(|error| format!("mistralrs cannot be started: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
