//! `automodel doctor`: what this machine has to run models on, and whether it computes what the CPU computes.

use crate::{error::CliError, output, values};
use automodel::loader::QuantizationConfig;
use automodel::{AutoModelError, AutoModelForCausalLM, Device, DeviceMemory, DeviceName};
use serde::Serialize;

const AFTER_HELP: &str = "\
The CPU has to answer the demo's question; other devices run the demo, dense and in 4 bits, and have
to come to the CPU's logits. Exit code 1 if a device that was asked for fails.

Example: automodel doctor --json";

/// What the demo is asked, as text and as tokens, and what it answers.
const QUESTION: &str = "27+48=";
const TOKENS: [u32; 7] = [1, 6, 11, 14, 8, 12, 15];
const ANSWER: &str = "75";

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
    let is_compared = candidates.iter().any(|name| *name != DeviceName::Cpu);
    let cpu = if is_compared { logits(&Device::flex()) } else { Ok(Default::default()) };
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        built: DeviceName::built(),
        processor: Processor {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            instructions: instructions(),
            memory: DeviceMemory::of(&Device::flex()),
        },
        devices: candidates.into_iter().map(|name| check(name, &cpu)).collect(),
    };
    if json {
        output::print_json(&report)?;
    } else {
        output::print(&report.as_text())?;
    }
    let failed = report.devices.iter().find(|checked| !checked.works).filter(|_| args.device.is_some());
    failed.map_or(Ok(()), |checked| Err(CliError::UnfitDevice { device: checked.device.clone() }))
}

fn check(name: DeviceName, cpu: &Reference) -> Checked {
    let found = match (name, cpu) {
        (DeviceName::Cpu, _) => answers().map(|()| None),
        (_, Ok(cpu)) => compare(name, cpu).map(Some),
        (_, Err(problem)) => Err(format!("there is nothing to compare with: the CPU fails: {problem}")),
    };
    let (errors, problem) = match found {
        Ok(errors) => (errors, None),
        Err(problem) => (None, Some(problem)),
    };
    Checked {
        device: name.to_string(),
        works: problem.is_none(),
        problem,
        dense_error: errors.map(|errors| errors[0]),
        nf4_error: errors.map(|errors| errors[1]),
    }
}

/// Whether the demo on the CPU can add.
fn answers() -> Result<(), String> {
    let demo = AutoModelForCausalLM::from_pretrained(automodel::DEMO).load();
    match demo.and_then(|demo| demo.generate_text(QUESTION)) {
        Ok(text) if text.trim() == ANSWER => Ok(()),
        Ok(text) => Err(format!("the demo answers {QUESTION} with {text:?}")),
        Err(error) => Err(error.to_string()),
    }
}

/// The demo's logits on the CPU, dense and in NF4, or why there are none.
type Reference = Result<[Vec<f32>; 2], String>;

fn logits(device: &Device) -> Reference {
    let logits = |quantized: bool| -> Result<Vec<f32>, AutoModelError> {
        let builder = AutoModelForCausalLM::from_pretrained(automodel::DEMO).device(device.clone());
        let builder = if quantized { builder.quantize(QuantizationConfig::nf4()) } else { builder };
        let logits = builder.load()?.logits(&TOKENS)?;
        // What cannot be read is no logits, and differs from all.
        Ok(logits.try_into_data().ok().and_then(|data| data.try_into_vec().ok()).unwrap_or_default())
    };
    match (logits(false), logits(true)) {
        (Ok(dense), Ok(nf4)) => Ok([dense, nf4]),
        (Err(error), _) | (_, Err(error)) => Err(error.to_string()),
    }
}

/// How far a device's logits are from the CPU's, if that is near enough.
fn compare(name: DeviceName, cpu: &[Vec<f32>; 2]) -> Result<[f32; 2], String> {
    let device = name.open().map_err(|error| error.to_string())?;
    let here = logits(&device)?;
    let errors = [difference(&here[0], &cpu[0]), difference(&here[1], &cpu[1])];
    // Written so that NaN fails.
    if errors.iter().all(|error| *error <= TOLERANCE) {
        return Ok(errors);
    }
    Err(format!(
        "its logits differ from the CPU's by {:.1e}, in NF4 by {:.1e}: update its driver, and report it if that does not help",
        errors[0], errors[1]
    ))
}

/// The greatest difference, as a share of the greatest logit; NaN if there is one.
fn difference(here: &[f32], cpu: &[f32]) -> f32 {
    if here.len() != cpu.len() {
        return f32::INFINITY;
    }
    let greatest = cpu.iter().fold(0.0f32, |greatest, logit| greatest.max(logit.abs()));
    // `max` would pass over NaN.
    let differences = here.iter().zip(cpu).map(|(a, b)| (a - b).abs() / greatest);
    differences.fold(0.0, |worst, difference| if worst.is_nan() || difference <= worst { worst } else { difference })
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
        match (&self.problem, self.dense_error, self.nf4_error) {
            (Some(problem), ..) => format!("{}: does not work\n  {problem}\n", self.device),
            (None, Some(dense), Some(nf4)) => {
                format!("{}: works (logits differ from the CPU's by {dense:.1e}, in NF4 by {nf4:.1e})\n", self.device)
            }
            _ => format!("{}: works ({QUESTION}{ANSWER})\n", self.device),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_see_what_is_not_a_number() {
        assert_eq!(difference(&[1.0, 2.5], &[1.0, 2.0]), 0.25);
        assert_eq!(difference(&[1.0], &[1.0, 2.0]), f32::INFINITY);
        assert!(
            difference(&[f32::NAN, 1.0], &[1.0, 1.0]).is_nan() && difference(&[1.0, f32::NAN], &[1.0, 1.0]).is_nan()
        );
    }

    #[test]
    fn tokens_are_those_of_the_question() {
        let demo = AutoModelForCausalLM::from_pretrained(automodel::DEMO).load().unwrap();
        assert_eq!(demo.tokenizer().unwrap().encode(QUESTION, true).unwrap(), TOKENS);
    }
}
