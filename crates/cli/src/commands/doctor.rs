//! `automodel doctor`: what this machine has to run models on, and whether it computes what the CPU computes.

use crate::{error::CliError, output, values};
use automodel::loader::QuantizationConfig;
use automodel::quant::QuantType;
use automodel::{AutoModelError, AutoModelForCausalLM, Device, DeviceMemory, DeviceName, FromPretrained};
use serde::Serialize;

const AFTER_HELP: &str = "\
Each device runs the demo, dense and in 4 bits, and its logits are compared with those of the CPU.
Exit code 1 if a device that was asked for fails.

Example: automodel doctor --json";

/// What the demo is asked: `27+48=`.
const TOKENS: [u32; 7] = [1, 6, 11, 14, 8, 12, 15];

/// Greatest difference of a logit, as a share of the greatest logit: float32 products on GPUs may take TF32 tensor cores, with 11
/// bits.
const TOLERANCE: f32 = 2e-2;

/// Check what this machine has to run models on.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Check only this device
    #[arg(long, value_parser = values::device)]
    device: Option<DeviceName>,
}

/// What was found.
#[derive(Serialize)]
struct Report {
    version: &'static str,
    /// Devices that this build knows.
    built: Vec<&'static str>,
    processor: Processor,
    devices: Vec<Checked>,
}

#[derive(Serialize)]
struct Processor {
    threads: usize,
    /// Those that kernels make use of.
    instructions: Vec<&'static str>,
    memory: Option<DeviceMemory>,
}

/// One device and what became of it.
#[derive(Serialize)]
struct Checked {
    device: String,
    works: bool,
    /// What is wrong, and what to do.
    problem: Option<String>,
    /// Greatest difference from the CPU's logits, as a share of the greatest logit.
    dense_error: Option<f32>,
    /// The same with weights in NF4.
    nf4_error: Option<f32>,
}

/// Runs the command.
pub fn run(args: &Args, json: bool) -> Result<(), CliError> {
    let candidates = match args.device {
        Some(device) => vec![device],
        None => [DeviceName::Cpu, DeviceName::Cuda(0), DeviceName::Wgpu].into_iter().filter(|d| d.is_built()).collect(),
    };
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        built: DeviceName::built(),
        processor: Processor {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            instructions: instructions(),
            memory: DeviceMemory::of(&Device::flex()),
        },
        devices: candidates.into_iter().map(check).collect(),
    };
    if json {
        output::print_json(&report)?;
    } else {
        output::print(&report.as_text())?;
    }
    let failed = report.devices.iter().find(|checked| !checked.works).filter(|_| args.device.is_some());
    failed.map_or(Ok(()), |checked| Err(CliError::UnfitDevice { device: checked.device.clone() }))
}

fn check(name: DeviceName) -> Checked {
    let mut checked =
        Checked { device: name.to_string(), works: false, problem: None, dense_error: None, nf4_error: None };
    let compared = name.open().map_err(AutoModelError::from).and_then(|device| {
        let dense = difference(&device, |model| model)?;
        let nf4 = difference(&device, |model| model.quantize(QuantizationConfig::new(QuantType::Nf4)))?;
        Ok((dense, nf4))
    });
    match compared {
        Ok((dense, nf4)) => {
            (checked.dense_error, checked.nf4_error) = (Some(dense), Some(nf4));
            // Written so that NaN fails.
            checked.works = dense <= TOLERANCE && nf4 <= TOLERANCE;
            checked.problem = (!checked.works).then(|| {
                "its logits are not those of the CPU: update its driver, and report it if that does not help".to_owned()
            });
        }
        Err(error) => checked.problem = Some(error.to_string()),
    }
    checked
}

/// How far the demo's logits on a device are from those on the CPU.
fn difference(device: &Device, with: impl Fn(FromPretrained) -> FromPretrained) -> Result<f32, AutoModelError> {
    let logits = |device: &Device| -> Result<Vec<f32>, AutoModelError> {
        let model = with(AutoModelForCausalLM::from_pretrained(automodel::DEMO).device(device.clone())).load()?;
        Ok(model.logits(&TOKENS)?.try_into_data().ok().and_then(|data| data.try_into_vec().ok()).unwrap_or_default())
    };
    let (here, cpu) = (logits(device)?, logits(&Device::flex())?);
    if here.len() != cpu.len() {
        return Ok(f32::INFINITY);
    }
    let greatest = cpu.iter().fold(0.0f32, |greatest, logit| greatest.max(logit.abs()));
    // `max` would pass over NaN.
    let differences = here.iter().zip(&cpu).map(|(a, b)| (a - b).abs() / greatest);
    Ok(differences.fold(0.0, |worst, difference| if difference <= worst { worst } else { difference }))
}

/// Instructions of this processor that the kernels have versions for.
fn instructions() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        let known = [
            ("avx2", std::is_x86_feature_detected!("avx2")),
            ("fma", std::is_x86_feature_detected!("fma")),
            ("f16c", std::is_x86_feature_detected!("f16c")),
            ("avx512f", std::is_x86_feature_detected!("avx512f")),
        ];
        known.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect()
    }
    #[cfg(not(target_arch = "x86_64"))]
    Vec::new()
}

impl Report {
    fn as_text(&self) -> String {
        let Processor { threads, instructions, memory } = &self.processor;
        let kernels = if instructions.is_empty() { "portable".to_owned() } else { instructions.join(" ") };
        let memory = memory.map_or_else(|| "not known".to_owned(), |memory| memory.to_string());
        let facts = [
            ("version", self.version.to_owned()),
            ("built for", self.built.join(", ")),
            ("threads", threads.to_string()),
            ("kernels", kernels),
            ("memory", memory),
        ];
        let facts: Vec<Vec<String>> = facts.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
        let mut text = output::table(&facts, &[]);
        text.push('\n');
        for checked in &self.devices {
            text.push_str(&checked.as_text());
        }
        text
    }
}

impl Checked {
    fn as_text(&self) -> String {
        let errors = match (self.dense_error, self.nf4_error) {
            (Some(dense), Some(nf4)) => format!(" (logits of the demo differ by {dense:.1e}, in NF4 by {nf4:.1e})"),
            _ => String::new(),
        };
        match &self.problem {
            None => format!("{}: works{errors}\n", self.device),
            Some(problem) => format!("{}: does not work{errors}\n  {problem}\n", self.device),
        }
    }
}
