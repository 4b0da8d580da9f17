//! `automodel doctor`: the devices of this machine, and whether they compute the same as the CPU.

mod report;

use crate::{error::CliError, output, values};
use automodel::cuda::{CudaFacts, CudaProblem};
use automodel::loader::QuantizationConfig;
use automodel::quant::self_test::{self, greatest_difference};
use automodel::{AutoModelError, AutoModelForCausalLM, Device, DeviceMemory, DeviceName};
use report::{Checked, Cuda, Processor, Report};
use std::panic::{AssertUnwindSafe, catch_unwind};

const AFTER_HELP: &str = "\
The CPU must answer the demo's question; other devices run every 4-bit kernel and the demo, dense and
in 4 bits, and must give the CPU's values. Exit code 1 if the requested device fails.

Example: automodel doctor --json";

/// The demo's question, as text and as tokens, and the answer.
const QUESTION: &str = "27+48=";
const TOKENS: [u32; 7] = [1, 6, 11, 14, 8, 12, 15];
const ANSWER: &str = "75";

/// Maximum difference of a logit, relative to the largest logit: float32 products on GPUs may use TF32 tensor cores, with 11 bits.
const TOLERANCE: f32 = 2e-2;

/// Check the devices of this machine.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Check only this device
    #[arg(long, value_parser = values::device)]
    device: Option<DeviceName>,
}

/// Runs the command.
pub fn run(args: &Args, json: bool) -> Result<(), CliError> {
    let candidates = match args.device {
        Some(device) => vec![device],
        None => [DeviceName::Cpu, DeviceName::Cuda(0), DeviceName::Wgpu].into_iter().filter(|d| d.is_built()).collect(),
    };
    let is_compared = candidates.iter().any(|name| *name != DeviceName::Cpu);
    let cpu = if is_compared { logits(&Device::flex()) } else { Ok(Default::default()) };
    let is_cuda = candidates.iter().any(|name| matches!(name, DeviceName::Cuda(_)));
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        built: DeviceName::built(),
        processor: Processor {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            instructions: instructions(),
            memory: DeviceMemory::of(&Device::flex()),
        },
        // Before a device is opened, so that the free memory is what models of this process can use.
        cuda: if is_cuda { CudaFacts::gather().map(Cuda::new) } else { None },
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

impl Cuda {
    fn new(facts: CudaFacts) -> Self {
        let problems: Vec<CudaProblem> = facts.problems();
        Self { facts, problems }
    }
}

fn check(name: DeviceName, cpu: &Reference) -> Checked {
    let mut checked = Checked { device: name.to_string(), ..Default::default() };
    let found = match name {
        DeviceName::Cpu => answers(),
        _ => compare(name, cpu, &mut checked),
    };
    checked.problem = found.err();
    checked.works = checked.problem.is_none();
    checked
}

/// An error unless the demo adds correctly on the CPU.
fn answers() -> Result<(), String> {
    let demo = AutoModelForCausalLM::from_pretrained(automodel::DEMO).load();
    match demo.and_then(|demo| demo.generate_text(QUESTION)) {
        Ok(text) if text.trim() == ANSWER => Ok(()),
        Ok(text) => Err(format!("the demo answers {QUESTION} with {text:?}")),
        Err(error) => Err(error.to_string()),
    }
}

/// The demo's logits on the CPU, dense and in NF4, or the error.
type Reference = Result<[Vec<f32>; 2], String>;

fn logits(device: &Device) -> Reference {
    let logits = |quantized: bool| -> Result<Vec<f32>, AutoModelError> {
        let builder = AutoModelForCausalLM::from_pretrained(automodel::DEMO).device(device.clone());
        let builder = if quantized { builder.quantize(QuantizationConfig::nf4()) } else { builder };
        let logits = builder.load()?.logits(&TOKENS)?;
        // Logits that cannot be read are empty, and differ from any.
        Ok(logits.try_into_data().ok().and_then(|data| data.try_into_vec().ok()).unwrap_or_default())
    };
    match (logits(false), logits(true)) {
        (Ok(dense), Ok(nf4)) => Ok([dense, nf4]),
        (Err(error), _) | (_, Err(error)) => Err(error.to_string()),
    }
}

/// Records the comparison of a device with the CPU; an error if it fails.
fn compare(name: DeviceName, cpu: &Reference, checked: &mut Checked) -> Result<(), String> {
    let device = name.open().map_err(|error| error.to_string())?;
    checked.hardware = automodel::hardware_name(&device);
    checked.kernels = self_test::run(&device);
    // Burn panics where kernels fail.
    let here = catch_unwind(AssertUnwindSafe(|| logits(&device)));
    let here = here.unwrap_or_else(|_| Err("the demo's logits could not be computed".to_owned()));
    let failed = checked.kernels.iter().filter(|check| check.fails()).count();
    if failed > 0 {
        return Err(format!("{failed} of {} kernels of 4-bit weights fail, see the list", checked.kernels.len()));
    }
    let here = here?;
    let cpu = cpu
        .as_ref()
        .map_err(|problem| format!("there is no reference to compare with, because the CPU fails: {problem}"))?;
    let errors = [greatest_difference(&here[0], &cpu[0]), greatest_difference(&here[1], &cpu[1])];
    (checked.dense_error, checked.nf4_error) = (Some(errors[0]), Some(errors[1]));
    // Written so that NaN fails.
    if errors.iter().all(|error| *error <= TOLERANCE) {
        return Ok(());
    }
    Err(format!(
        "its logits differ from the CPU's by {:.1e}, in NF4 by {:.1e}: update its driver, and report it if that does not help",
        errors[0], errors[1]
    ))
}

/// Instruction sets of this processor that the kernels use.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_those_of_the_question() {
        let demo = AutoModelForCausalLM::from_pretrained(automodel::DEMO).load().unwrap();
        assert_eq!(demo.tokenizer().unwrap().encode(QUESTION, true).unwrap(), TOKENS);
    }
}
