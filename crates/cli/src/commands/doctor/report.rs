//! The doctor's report and its text form.

use super::{ANSWER, QUESTION};
use crate::{output, units::bytes, wrap};
use automodel::DeviceMemory;
use automodel::cuda::{CudaFacts, CudaGpu, CudaLibrary, CudaProblem};
use automodel::quant::self_test::{KernelCheck, Outcome};
use serde::Serialize;

/// Maximum columns of a line, unless a word is longer.
const COLUMNS: usize = 100;
/// Maximum lines of a compiler's output; JSON has all of it.
const COMPILER_LINES: usize = 5;
/// Maximum characters of such a line.
const LINE: usize = 1000;

/// The report.
#[derive(Serialize)]
pub struct Report {
    pub version: &'static str,
    /// Devices that this build supports.
    pub built: Vec<&'static str>,
    pub processor: Processor,
    /// `None` in builds without CUDA, and if another device was requested.
    pub cuda: Option<Cuda>,
    pub devices: Vec<Checked>,
}

#[derive(Serialize)]
pub struct Processor {
    pub threads: usize,
    /// Instruction sets that kernels use.
    pub instructions: Vec<&'static str>,
    pub memory: Option<DeviceMemory>,
}

/// The CUDA components, and their problems.
#[derive(Serialize)]
pub struct Cuda {
    #[serde(flatten)]
    pub facts: CudaFacts,
    pub problems: Vec<CudaProblem>,
}

/// One device and its check.
#[derive(Default, Serialize)]
pub struct Checked {
    pub device: String,
    /// Name of the hardware.
    pub hardware: Option<String>,
    pub works: bool,
    /// The problem, and what to do.
    pub problem: Option<String>,
    /// Maximum difference from the CPU's logits, relative to the largest logit.
    pub dense_error: Option<f32>,
    /// The same with weights in NF4.
    pub nf4_error: Option<f32>,
    /// The kernels of 4-bit weights; empty for the CPU, which its answer tests.
    pub kernels: Vec<KernelCheck>,
}

impl Report {
    pub fn as_text(&self) -> String {
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
        let mut text = output::table(&rows(facts), &[]);
        if let Some(cuda) = &self.cuda {
            text.push('\n');
            text.push_str(&cuda.as_text(&self.devices));
        }
        for (place, checked) in self.devices.iter().enumerate() {
            // Empty lines separate lists, but not single lines.
            let is_list = place == 0 || !checked.kernels.is_empty() || !self.devices[place - 1].kernels.is_empty();
            text.push_str(if is_list { "\n" } else { "" });
            text.push_str(&checked.as_text());
        }
        text
    }
}

impl Cuda {
    /// Facts, and the problems that no device reports.
    fn as_text(&self, devices: &[Checked]) -> String {
        let facts = &self.facts;
        let headers = match &facts.headers.folder {
            None => "not found".to_owned(),
            Some(folder) if facts.headers.missing.is_empty() => folder.display().to_string(),
            Some(folder) => format!("{} without {}", folder.display(), facts.headers.missing.join(", ")),
        };
        let gpus = facts.devices.iter().map(|gpu| (format!("cuda:{}", gpu.index), gpu_as_text(gpu)));
        let lines = [
            ("driver".to_owned(), library_as_text(&facts.driver)),
            ("NVRTC".to_owned(), library_as_text(&facts.nvrtc)),
            ("headers".to_owned(), headers),
        ];
        let mut text = format!("CUDA (this build expects {})\n", facts.built_for);
        for line in output::table(&rows(lines.into_iter().chain(gpus)), &[]).lines() {
            push_paragraph(&mut text, &format!("  {line}"), 11);
        }
        let is_told = |problem: &CudaProblem| {
            let mut told = devices.iter().filter_map(|checked| checked.problem.as_ref());
            told.any(|told| told.contains(&problem.what))
        };
        for problem in self.problems.iter().filter(|problem| !is_told(problem)) {
            push_paragraph(&mut text, &format!("  - {}: {}", problem.what, problem.advice), 4);
        }
        text
    }
}

impl Checked {
    fn as_text(&self) -> String {
        let mut text = match (&self.problem, self.dense_error) {
            (Some(_), _) => format!("{}: does not work\n", self.device),
            (None, None) => format!("{}: works ({QUESTION}{ANSWER})\n", self.device),
            (None, Some(_)) => format!("{}: works\n", self.device),
        };
        if let Some(problem) = &self.problem {
            push_compiler_text(&mut text, problem, 2);
        }
        if let Some(hardware) = &self.hardware {
            push_paragraph(&mut text, &format!("  hardware  {hardware}"), 12);
        }
        if let (Some(dense), Some(nf4)) = (self.dense_error, self.nf4_error) {
            let line = format!("  logits    of the demo differ from the CPU's by {dense:.1e}, in NF4 by {nf4:.1e}");
            push_paragraph(&mut text, &line, 12);
        }
        if !self.kernels.is_empty() {
            text.push_str(
                "  kernels of 4-bit weights, compared with the CPU (differences relative to the largest value)\n",
            );
        }
        for check in &self.kernels {
            let found = match &check.outcome {
                Outcome::Works { difference: 0.0 } => "works, no difference".to_owned(),
                Outcome::Works { difference } => format!("works, differs by {difference:.1e}"),
                Outcome::Skipped { reason } => format!("not run: {reason}"),
                Outcome::Fails { .. } => "FAILS".to_owned(),
                // Outcomes of later versions.
                other => format!("{other:?}"),
            };
            text.push_str(&format!("    {:<18}  {:<8}  {found}\n", check.kernel, check.dtype.name()));
            if let Outcome::Fails { problem } = &check.outcome {
                push_compiler_text(&mut text, problem, 6);
            }
        }
        text
    }
}

fn library_as_text(library: &CudaLibrary) -> String {
    let version = library.version.map(|version| version.to_string());
    let file = library.file.as_ref().map(|file| file.display().to_string());
    let problem = library.problem.as_ref().map(|problem| format!("does not start: {problem}"));
    let parts: Vec<_> = [version, file, problem].into_iter().flatten().collect();
    match library.found {
        false => "not found".to_owned(),
        true if parts.is_empty() => "found".to_owned(),
        true => parts.join(", "),
    }
}

fn gpu_as_text(gpu: &CudaGpu) -> String {
    let capability = gpu.compute_capability.map(|capability| format!("compute capability {capability}"));
    let memory = match (gpu.free_bytes, gpu.total_bytes) {
        (Some(free), Some(total)) => Some(format!("{} of {} free", bytes(free), bytes(total))),
        (None, Some(total)) => Some(bytes(total)),
        _ => None,
    };
    let problem = gpu.problem.as_ref().map(|problem| format!("cannot be asked further: {problem}"));
    let name = Some(gpu.name.clone());
    [name, capability, memory, problem].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn rows<N: Into<String>>(facts: impl IntoIterator<Item = (N, String)>) -> Vec<Vec<String>> {
    facts.into_iter().map(|(name, value)| vec![name.into(), value]).collect()
}

fn push_paragraph(text: &mut String, paragraph: &str, indent: usize) {
    text.push_str(&wrap::paragraph(paragraph, COLUMNS, indent));
    text.push('\n');
}

/// The beginning of a compiler's output, which may include a whole kernel.
fn push_compiler_text(text: &mut String, said: &str, indent: usize) {
    // CubeCL appends the source of the kernel.
    let said = said.split("[Source]").next().unwrap_or_default();
    let mut lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    for line in lines.by_ref().take(COMPILER_LINES) {
        push_paragraph(text, &format!("{:indent$}{}", "", output::shorten(line, LINE)), indent);
    }
    if lines.next().is_some() {
        text.push_str(&format!("{:indent$}… all of it with --json\n", ""));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use automodel::cuda::{CudaFacts, CudaVersion};
    use automodel::quant::WeightDtype::{BFloat16, Float32};
    use automodel::quant::self_test::Kernel;

    fn report(cuda: Option<Cuda>, devices: Vec<Checked>) -> String {
        let processor = Processor { threads: 16, instructions: vec!["avx2", "fma"], memory: None };
        let text = Report { version: "0.1.0", built: vec!["cpu", "cuda[:N]"], processor, cuda, devices }.as_text();
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS && line == line.trim_end()), "{text}");
        text
    }

    fn cpu() -> Checked {
        Checked { device: "cpu".to_owned(), works: true, ..Default::default() }
    }

    fn facts() -> CudaFacts {
        let mut facts = CudaFacts::default();
        let version = Some(CudaVersion { major: 13, minor: 0 });
        facts.built_for = CudaVersion { major: 13, minor: 0 };
        (facts.driver.found, facts.driver.version) = (true, version);
        facts.driver.file = Some("/usr/lib/libcuda.so.1".into());
        (facts.nvrtc.found, facts.nvrtc.version) = (true, version);
        facts.headers.folder = Some("/usr/local/cuda/include".into());
        let mut gpu = CudaGpu::default();
        gpu.name = "NVIDIA H200".to_owned();
        gpu.compute_capability = Some(CudaVersion { major: 9, minor: 0 });
        (gpu.total_bytes, gpu.free_bytes) = (Some(140 << 30), Some(139 << 30));
        facts.devices = vec![gpu];
        facts
    }

    #[test]
    fn a_build_without_gpus_reports_the_cpu_alone() {
        let text = report(None, vec![cpu()]);
        assert!(text.starts_with("version    0.1.0\nbuilt for  cpu, cuda[:N]\nthreads    16\n"), "{text}");
        assert!(text.ends_with("memory     not known\n\ncpu: works (27+48=75)\n"), "{text}");
    }

    #[test]
    fn working_devices_are_reported_kernel_by_kernel() {
        let kernels = vec![
            KernelCheck::new(Kernel::Quantize, Float32, Outcome::Works { difference: 0.0 }),
            KernelCheck::new(Kernel::ManyRows, BFloat16, Outcome::Works { difference: 1.5e-3 }),
            KernelCheck::new(Kernel::FewRows, BFloat16, Outcome::Skipped { reason: "no bfloat16".to_owned() }),
        ];
        let gpu = Checked {
            device: "cuda:0".to_owned(),
            hardware: Some("NVIDIA H200".to_owned()),
            works: true,
            dense_error: Some(3e-4),
            nf4_error: Some(4e-4),
            kernels,
            ..Default::default()
        };
        let text = report(Some(Cuda::new(facts())), vec![cpu(), gpu]);
        let expected = "
CUDA (this build expects 13.0)
  driver   13.0, /usr/lib/libcuda.so.1
  NVRTC    13.0
  headers  /usr/local/cuda/include
  cuda:0   NVIDIA H200, compute capability 9.0, 139.0 GiB of 140.0 GiB free

cpu: works (27+48=75)

cuda:0: works
  hardware  NVIDIA H200
  logits    of the demo differ from the CPU's by 3.0e-4, in NF4 by 4.0e-4
  kernels of 4-bit weights, compared with the CPU (differences relative to the largest value)
    quantise            float32   works, no difference
    product, many rows  bfloat16  works, differs by 1.5e-3
    product, few rows   bfloat16  not run: no bfloat16
";
        assert_eq!(text.split_once("memory     not known\n").unwrap().1, expected);
    }

    #[test]
    fn missing_components_are_reported_once() {
        let mut facts = CudaFacts::default();
        facts.built_for = CudaVersion { major: 13, minor: 0 };
        let cuda = Cuda::new(facts);
        let [driver, nvrtc, headers] = &cuda.problems[..] else { panic!("{:?}", cuda.problems) };
        let problem = Some(format!("there is no device `cuda:0` here: {}; {}", driver.what, driver.advice));
        let parts = [driver, nvrtc, headers].map(|problem| problem.what.clone());
        let broken = Checked { device: "cuda:0".to_owned(), problem, ..Default::default() };
        let text = report(Some(cuda), vec![cpu(), broken]);
        assert!(text.contains("  driver   not found\n  NVRTC    not found\n  headers  not found\n"), "{text}");
        assert!(text.contains("\ncpu: works (27+48=75)\ncuda:0: does not work\n  there is no device"), "{text}");
        // Lines may break within a text.
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in parts {
            assert_eq!(words.matches(&part).count(), 1, "{part:?} in {text}");
        }
    }

    #[test]
    fn a_compiler_is_quoted_in_part() {
        let log = (0..9).map(|line| format!("    line {line}\n")).collect::<String>();
        let problem = format!("nf4: [Compilation Error]\n{log}\n[Source]\nextern void kernel();");
        let kernels = vec![KernelCheck::new(Kernel::Dequantize, Float32, Outcome::Fails { problem })];
        let problem = Some(format!("no {}", "word ".repeat(60).trim()));
        let text = report(None, vec![Checked { device: "wgpu".to_owned(), problem, kernels, ..Default::default() }]);
        let (_, kernels) = text.split_once("dequantise").unwrap();
        assert!(
            text.contains("\nwgpu: does not work\n  no word") && kernels.starts_with("          float32   FAILS\n"),
            "{text}"
        );
        assert!(kernels.contains("      line 3\n      … all of it with --json\n"), "{text}");
        assert!(!text.contains("line 4") && !text.contains("extern"), "{text}");
    }

    #[test]
    fn partial_facts_are_reported() {
        let mut facts = facts();
        facts.driver.problem = Some("CUDA_ERROR_NO_DEVICE (no CUDA-capable device is detected)".to_owned());
        facts.headers.missing = vec!["cuda_fp16.h".to_owned()];
        (facts.nvrtc.found, facts.nvrtc.version) = (true, None);
        facts.devices[0].free_bytes = None;
        facts.devices[0].problem = Some("CUDA_ERROR_UNKNOWN".to_owned());
        let text = report(Some(Cuda::new(facts)), vec![cpu()]);
        assert!(text.contains("libcuda.so.1, does not start: CUDA_ERROR_NO_DEVICE (no"), "{text}");
        assert!(text.contains("  NVRTC    found\n"), "{text}");
        assert!(text.contains("  headers  /usr/local/cuda/include without cuda_fp16.h\n"), "{text}");
        assert!(text.contains("140.0 GiB, cannot be asked further:\n           CUDA_ERROR_UNKNOWN\n"), "{text}");
        assert!(text.contains("\n  - /usr/local/cuda/include has no cuda_fp16.h: set CUDA_PATH"), "{text}");
    }
}
