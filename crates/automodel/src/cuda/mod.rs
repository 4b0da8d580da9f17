//! What of CUDA is on this machine, and what is missing.
//!
//! A build with the feature `cuda` is linked to nothing of CUDA: at run time it looks for NVIDIA's driver (libcuda), for the compiler
//! of kernels (NVRTC, libnvrtc) and for the headers that kernels include. Whatever is missing is named here, and the CPU works
//! without any of it.

#[cfg(feature = "cuda")]
mod probe;
mod problems;

#[cfg(feature = "cuda")]
use burn::tensor::{Device, DeviceType};
use serde::{Serialize, Serializer};
use std::fmt;
use std::path::PathBuf;

/// What of CUDA is on this machine.
///
/// ```
/// if let Some(facts) = automodel::cuda::CudaFacts::gather() {
///     for gpu in &facts.devices {
///         println!("{} with {:?} bytes of memory", gpu.name, gpu.total_bytes);
///     }
///     for problem in facts.problems() {
///         println!("{}: {}", problem.what, problem.advice);
///     }
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CudaFacts {
    /// The CUDA whose driver and compiler this build expects.
    pub built_for: CudaVersion,
    /// NVIDIA's driver. Its version is the newest CUDA that it runs.
    pub driver: CudaLibrary,
    /// NVRTC, which compiles kernels.
    pub nvrtc: CudaLibrary,
    /// The headers that kernels include.
    pub headers: CudaHeaders,
    /// The GPUs that the driver lists, in its order.
    pub devices: Vec<CudaGpu>,
    /// `CUDA_VISIBLE_DEVICES`, which hides all other GPUs, if it is set.
    pub visible_devices: Option<String>,
}

/// A library that is loaded at run time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CudaLibrary {
    /// Whether the system's loader found it.
    pub found: bool,
    /// The file that was loaded, where the system tells.
    pub file: Option<PathBuf>,
    /// What it says about itself.
    pub version: Option<CudaVersion>,
    /// What it answered instead of doing what it should.
    pub problem: Option<String>,
}

/// Where kernels find headers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CudaHeaders {
    /// `$CUDA_PATH/include` if that is set, otherwise `include` of `/usr/local/cuda` or `/opt/cuda`, or `/usr/include` where there is
    /// `/usr/bin/nvcc`; `None` if there is none of these.
    pub folder: Option<PathBuf>,
    /// Headers that kernels in half precision include and that are not in the folder.
    pub missing: Vec<String>,
}

/// A GPU as its driver describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CudaGpu {
    /// Its number: N of `cuda:N`.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// What it can do, by NVIDIA's count: 8.0 and later have bfloat16.
    pub compute_capability: Option<CudaVersion>,
    /// All its memory, in bytes.
    pub total_bytes: Option<u64>,
    /// What no program holds now, in bytes.
    pub free_bytes: Option<u64>,
    /// What it answered instead of saying so.
    pub problem: Option<String>,
}

/// A version of CUDA, or a compute capability: `13.0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CudaVersion {
    /// Before the point.
    pub major: u32,
    /// After the point.
    pub minor: u32,
}

/// Something that is missing or does not fit, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CudaProblem {
    /// What it prevents.
    pub effect: CudaEffect,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub advice: String,
}

/// What a problem prevents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CudaEffect {
    /// No GPU was found.
    NoDevice,
    /// No kernel can be compiled.
    NoKernels,
    /// Some kernels may not compile, or not run.
    SomeKernels,
}

impl CudaFacts {
    /// Looks at the machine; `None` in builds without the feature `cuda`. Loads the libraries that it finds. To ask how much memory is
    /// free a GPU has to be opened, which takes a moment each.
    pub fn gather() -> Option<Self> {
        #[cfg(feature = "cuda")]
        return Some(probe::gather());
        #[cfg(not(feature = "cuda"))]
        None
    }

    /// What compiles kernels, alone: nothing is known of the driver.
    pub(crate) fn of_compiler() -> Option<Self> {
        #[cfg(feature = "cuda")]
        return Some(probe::compiler());
        #[cfg(not(feature = "cuda"))]
        None
    }
}

/// Whether the driver can be asked for its GPUs.
#[cfg(feature = "cuda")]
pub(crate) fn has_driver() -> bool {
    probe::has_driver()
}

/// All memory and free memory of a device, in bytes, if it is a GPU of the driver's.
#[cfg(feature = "cuda")]
pub(crate) fn memory_of(device: &Device) -> Option<(u64, u64)> {
    if !has_driver() {
        return None;
    }
    let device = device.clone().inner();
    let index = crate::device::devices(DeviceType::Cuda).into_iter().position(|known| known == device)?;
    let gpu = probe::gpu(index)?;
    Some((gpu.total_bytes?, gpu.free_bytes?))
}

impl fmt::Display for CudaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Serialize for CudaVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_there_is_of_cuda_it_is_told_without_a_panic() {
        let facts = CudaFacts::gather();
        assert_eq!(facts.is_some(), cfg!(feature = "cuda"));
        let Some(facts) = facts else { return };
        assert!(facts.built_for.major >= 12, "{facts:?}");
        assert_eq!(facts.driver.found, facts.driver.version.is_some() || facts.driver.problem.is_some(), "{facts:?}");
        assert!(facts.devices.is_empty() || facts.driver.found, "{facts:?}");
        assert_eq!(facts.devices.is_empty(), facts.problems().iter().any(|p| p.effect == CudaEffect::NoDevice));
        assert!(serde_json::to_value(&facts).unwrap()["built_for"].is_string());
    }
}
