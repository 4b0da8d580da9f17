//! From facts to what is wrong and what to do.

use super::{CudaEffect, CudaFacts, CudaProblem};

/// What the loader looks for.
const DRIVER: &str = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };

impl CudaFacts {
    /// Everything that is missing or does not fit, what prevents most first.
    pub fn problems(&self) -> Vec<CudaProblem> {
        let mut problems: Vec<_> = self.driver_problem().into_iter().collect();
        problems.extend(self.compiler_problems());
        problems.extend(self.doubts());
        problems
    }

    /// Why there is no GPU.
    pub(crate) fn driver_problem(&self) -> Option<CudaProblem> {
        if !self.devices.is_empty() {
            return None;
        }
        let hidden = self.visible_devices.as_ref().map(|devices| {
            format!(
                "CUDA_VISIBLE_DEVICES is {devices:?}, which hides all other GPUs: unset it, or name one that is there"
            )
        });
        let (what, advice) = match (self.driver.found, &self.driver.problem) {
            (false, _) => (
                format!("NVIDIA's driver was not found ({DRIVER})"),
                format!("install it, or put the folder of {DRIVER} on LD_LIBRARY_PATH"),
            ),
            (true, Some(problem)) => (
                format!("NVIDIA's driver ({DRIVER}) does not start: {problem}"),
                hidden.unwrap_or_else(|| {
                    "`nvidia-smi` must list the GPU; a container has to be started with it (`--gpus all`)".to_owned()
                }),
            ),
            (true, None) => (
                format!("NVIDIA's driver ({DRIVER}) lists no GPU"),
                hidden.unwrap_or_else(|| "`nvidia-smi` must list one".to_owned()),
            ),
        };
        Some(CudaProblem { effect: CudaEffect::NoDevice, what, advice })
    }

    /// Why no kernel can be compiled.
    pub(crate) fn compiler_problems(&self) -> Vec<CudaProblem> {
        let mut problems = Vec::new();
        let problem = |what: String, advice: String| CudaProblem { effect: CudaEffect::NoKernels, what, advice };
        let major = self.built_for.major;
        if !self.nvrtc.found {
            problems.push(problem(
                format!("the compiler of kernels, NVRTC, was not found ({})", self.nvrtc_name()),
                format!(
                    "install that of CUDA {major}, which is part of its toolkit, or put the folder of libnvrtc on \
                     LD_LIBRARY_PATH"
                ),
            ));
        } else if let Some(answer) = &self.nvrtc.problem {
            problems.push(problem(
                format!("the compiler of kernels, NVRTC, does not start: {answer}"),
                format!("install the libnvrtc of CUDA {major}"),
            ));
        }
        if self.headers.folder.is_none() {
            problems.push(problem(
                "CUDA's headers were not found (CUDA_PATH is not set, and there is no /usr/local/cuda)".to_owned(),
                format!(
                    "install the toolkit of CUDA {major} in /usr/local/cuda, or set CUDA_PATH to the folder that has \
                     include/cuda_fp16.h"
                ),
            ));
        }
        problems
    }

    /// What may be the reason if kernels fail.
    fn doubts(&self) -> Vec<CudaProblem> {
        let mut problems = Vec::new();
        let mut doubt = |what: String, advice: String| {
            problems.push(CudaProblem { effect: CudaEffect::SomeKernels, what, advice });
        };
        if let Some(folder) = self.headers.folder.as_ref().filter(|_| !self.headers.missing.is_empty()) {
            let (folder, missing) = (folder.display(), self.headers.missing.join(", "));
            doubt(
                format!("{folder} has no {missing}"),
                "set CUDA_PATH to the folder whose include/ has them, or install CUDA's headers there".to_owned(),
            );
        }
        let versions = (self.driver.version, self.nvrtc.version);
        if let (Some(driver), Some(nvrtc)) = versions
            && nvrtc > driver
        {
            doubt(
                format!("NVRTC is of CUDA {nvrtc}, and the driver runs what CUDA {driver} and older compiled"),
                format!("update the driver, or take the libnvrtc of CUDA {driver}"),
            );
        } else if let Some(driver) = self.driver.version.filter(|driver| *driver < self.built_for) {
            doubt(
                format!("the driver is of CUDA {driver}, and this build expects {} or newer", self.built_for),
                "update the driver".to_owned(),
            );
        }
        problems
    }

    /// What to do if kernels fail, as far as the facts tell.
    pub(crate) fn repair(&self) -> String {
        let problems = self.compiler_problems().into_iter().chain(self.doubts());
        let known: Vec<_> = problems.map(|CudaProblem { what, advice, .. }| format!("{what}: {advice}")).collect();
        if !known.is_empty() {
            return known.join("; ");
        }
        let version = self.nvrtc.version.map(|version| format!(" {version}")).unwrap_or_default();
        let file = self.nvrtc.file.as_ref().map(|file| format!(" ({})", file.display())).unwrap_or_default();
        let folder = self.headers.folder.as_ref().map(|folder| folder.display().to_string()).unwrap_or_default();
        format!(
            "check that libnvrtc{version}{file} and the headers in {folder} are of the same CUDA; update the driver"
        )
    }

    fn nvrtc_name(&self) -> String {
        let major = self.built_for.major;
        if cfg!(windows) { format!("nvrtc64_{major}0_0.dll") } else { format!("libnvrtc.so.{major} or libnvrtc.so") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::{CudaGpu, CudaHeaders, CudaLibrary, CudaVersion};

    fn version(major: u32, minor: u32) -> CudaVersion {
        CudaVersion { major, minor }
    }

    fn library(major: u32, minor: u32) -> CudaLibrary {
        CudaLibrary { found: true, version: Some(version(major, minor)), ..Default::default() }
    }

    fn complete() -> CudaFacts {
        CudaFacts {
            built_for: version(13, 0),
            driver: library(13, 0),
            nvrtc: library(13, 0),
            headers: CudaHeaders { folder: Some("/usr/local/cuda/include".into()), missing: Vec::new() },
            devices: vec![CudaGpu::default()],
            visible_devices: None,
        }
    }

    /// The problems of complete facts after a change, as effects and text.
    fn problems(change: impl FnOnce(&mut CudaFacts)) -> (Vec<CudaEffect>, String) {
        let mut facts = complete();
        change(&mut facts);
        let found = facts.problems();
        let text = found.iter().map(|problem| format!("{}: {}", problem.what, problem.advice)).collect::<Vec<_>>();
        (found.iter().map(|problem| problem.effect).collect(), text.join("\n"))
    }

    #[test]
    fn what_is_complete_has_no_problem() {
        assert_eq!(complete().problems(), []);
        assert!(complete().repair().contains("libnvrtc 13.0"), "{}", complete().repair());
    }

    #[test]
    fn what_is_missing_is_named() {
        type Change = fn(&mut CudaFacts);
        let cases: [(Change, CudaEffect, &str); 5] = [
            (|facts| facts.nvrtc = Default::default(), CudaEffect::NoKernels, "libnvrtc"),
            (|facts| facts.headers = Default::default(), CudaEffect::NoKernels, "/usr/local/cuda"),
            (|facts| facts.headers.missing = vec!["mma.h".into()], CudaEffect::SomeKernels, "include has no mma.h"),
            (|facts| facts.nvrtc = library(13, 1), CudaEffect::SomeKernels, "libnvrtc of CUDA 13.0"),
            (
                |facts| (facts.driver, facts.nvrtc) = (library(12, 8), library(12, 8)),
                CudaEffect::SomeKernels,
                "of CUDA 12.8",
            ),
        ];
        for (change, effect, part) in cases {
            let (effects, text) = problems(change);
            assert_eq!(effects, [effect], "{text}");
            assert!(text.contains(part), "{part:?} in {text}");
            let mut facts = complete();
            change(&mut facts);
            assert!(facts.repair().contains(part), "{}", facts.repair());
        }
    }

    #[test]
    fn without_a_gpu_the_driver_is_asked_why() {
        let (effects, text) = problems(|facts| (facts.driver, facts.devices) = Default::default());
        assert!(effects == [CudaEffect::NoDevice] && text.contains(DRIVER), "{text}");

        let failed = |visible: Option<&str>| {
            problems(|facts| {
                facts.devices.clear();
                facts.driver.problem = Some("CUDA_ERROR_NO_DEVICE".to_owned());
                facts.visible_devices = visible.map(str::to_owned);
            })
        };
        let (_, text) = failed(None);
        assert!(text.contains("CUDA_ERROR_NO_DEVICE") && text.contains("nvidia-smi"), "{text}");
        let (_, text) = failed(Some("7"));
        assert!(text.contains("CUDA_VISIBLE_DEVICES is \"7\"") && !text.contains("nvidia-smi"), "{text}");
    }

    #[test]
    fn nothing_at_all_is_three_problems() {
        let facts = CudaFacts { built_for: version(13, 0), ..Default::default() };
        let effects: Vec<_> = facts.problems().iter().map(|problem| problem.effect).collect();
        assert_eq!(effects, [CudaEffect::NoDevice, CudaEffect::NoKernels, CudaEffect::NoKernels]);
    }
}
