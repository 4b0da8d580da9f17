//! Devices by name, opened with a check that they compute.

use crate::cuda::CudaFacts;
use burn::tensor::{Device, Tensor};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// A device by name: `cpu`, `cuda`, `cuda:1` or `wgpu`.
///
/// ```
/// use automodel::DeviceName;
///
/// let name: DeviceName = "CUDA:1".parse()?;
/// assert_eq!(name, DeviceName::Cuda(1));
/// assert!(DeviceName::Cpu.open().is_ok());
/// # Ok::<(), automodel::DeviceError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviceName {
    /// The CPU.
    #[default]
    Cpu,
    /// The NVIDIA GPU of this number. The feature `cuda` is needed.
    Cuda(usize),
    /// The GPU that wgpu takes, or a software Vulkan driver. The feature `wgpu` is needed.
    Wgpu,
}

/// Why a device cannot be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// A name that is none.
    #[error("`{name}` is no device: choose cpu, cuda, cuda:N or wgpu")]
    Unknown {
        /// What was given.
        name: String,
    },
    /// A device that this build knows nothing of.
    #[error("this build of automodel has no device `{name}`: build it with `--features {feature}`, or take cpu")]
    NotBuilt {
        /// The device.
        name: DeviceName,
        /// The feature that is missing.
        feature: &'static str,
    },
    /// No such device on this machine.
    #[error("there is no device `{name}` here: {found}; {advice}")]
    Absent {
        /// The device.
        name: DeviceName,
        /// What there is.
        found: String,
        /// What to do.
        advice: String,
    },
    /// A device that does not compute.
    #[error("the device `{name}` does not compute: {reason}; {advice}")]
    Broken {
        /// The device.
        name: DeviceName,
        /// What came of one plus one.
        reason: String,
        /// What to do.
        advice: String,
    },
}

impl DeviceName {
    /// The names of devices that this build knows.
    pub fn built() -> Vec<&'static str> {
        let mut names = vec!["cpu"];
        if cfg!(feature = "cuda") {
            names.push("cuda[:N]");
        }
        if cfg!(feature = "wgpu") {
            names.push("wgpu");
        }
        names
    }

    /// Whether this build has the feature that the device needs.
    pub fn is_built(self) -> bool {
        match self {
            Self::Cpu => true,
            Self::Cuda(_) => cfg!(feature = "cuda"),
            Self::Wgpu => cfg!(feature = "wgpu"),
        }
    }

    /// The device, after it has computed one plus one.
    ///
    /// Without that check a GPU whose kernels cannot be compiled would hand back memory that nothing was written to.
    ///
    /// # Errors
    /// [`DeviceError::NotBuilt`] if this build lacks the feature, [`DeviceError::Absent`] if the machine has no such device,
    /// [`DeviceError::Broken`] if it does not compute.
    pub fn open(self) -> Result<Device, DeviceError> {
        let device = self.find()?;
        self.can_compile()?;
        if self != Self::Cpu {
            one_plus_one(&device).map_err(|reason| DeviceError::Broken {
                name: self,
                reason,
                advice: self.repair(),
            })?;
        }
        Ok(device)
    }

    fn find(self) -> Result<Device, DeviceError> {
        match self {
            Self::Cpu => Ok(Device::flex()),
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => {
                let devices =
                    if crate::cuda::has_driver() { devices(burn::tensor::DeviceType::Cuda) } else { Vec::new() };
                self.choose(devices, index)
            }
            #[cfg(feature = "wgpu")]
            Self::Wgpu => self.choose(devices(burn::tensor::DeviceType::Wgpu), 0),
            #[cfg(not(feature = "cuda"))]
            Self::Cuda(_) => Err(DeviceError::NotBuilt { name: self, feature: "cuda" }),
            #[cfg(not(feature = "wgpu"))]
            Self::Wgpu => Err(DeviceError::NotBuilt { name: self, feature: "wgpu" }),
        }
    }

    /// The device of that number among those of its kind.
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    fn choose(self, mut devices: Vec<Device>, index: usize) -> Result<Device, DeviceError> {
        if index < devices.len() {
            return Ok(devices.swap_remove(index));
        }
        let (found, advice) = match devices.len() {
            0 => self.why_none(),
            1 => ("the only one of its kind has the number 0".to_owned(), "choose that one".to_owned()),
            count => {
                (format!("those of its kind have the numbers 0 to {}", count - 1), "choose one of those".to_owned())
            }
        };
        Err(DeviceError::Absent { name: self, found, advice })
    }

    /// Why there is no device of the kind, and what to do.
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    fn why_none(self) -> (String, String) {
        let (found, advice) = match self {
            Self::Cuda(_) => match CudaFacts::gather().and_then(|facts| facts.driver_problem()) {
                Some(problem) => (problem.what, problem.advice),
                None => ("the driver lists GPUs that could not be opened".to_owned(), "update the driver".to_owned()),
            },
            _ => (
                "none of its kind was found".to_owned(),
                "install a Vulkan driver and its loader, libvulkan.so.1".to_owned(),
            ),
        };
        (found, format!("{advice}; or take cpu"))
    }

    /// Where kernels cannot be compiled, the first launch would panic on a thread of the device.
    fn can_compile(self) -> Result<(), DeviceError> {
        let Self::Cuda(_) = self else { return Ok(()) };
        let problems = CudaFacts::of_compiler().map(|facts| facts.compiler_problems()).unwrap_or_default();
        if problems.is_empty() {
            return Ok(());
        }
        let (reasons, advice): (Vec<_>, Vec<_>) =
            problems.into_iter().map(|problem| (problem.what, problem.advice)).unzip();
        let advice = format!("{}; or take cpu", advice.join("; "));
        Err(DeviceError::Broken { name: self, reason: reasons.join(", and "), advice })
    }

    fn repair(self) -> String {
        let facts = if matches!(self, Self::Cuda(_)) { CudaFacts::gather() } else { None };
        facts.map_or_else(|| "check its driver, or take cpu".to_owned(), |facts| facts.repair() + ", or take cpu")
    }
}

/// The name that the hardware of a device gives itself, such as `NVIDIA H200`; `None` for the CPU.
///
/// ```
/// use automodel::{Device, hardware_name};
/// assert_eq!(hardware_name(&Device::flex()), None);
/// ```
pub fn hardware_name(device: &Device) -> Option<String> {
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    return device.identity().map(|identity| identity.name).filter(|name| !name.is_empty());
    #[cfg(not(any(feature = "cuda", feature = "wgpu")))]
    {
        let _ = device;
        None
    }
}

/// The devices of a kind. The driver may be half installed: what panics while it is looked for is not there.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub(crate) fn devices(kind: burn::tensor::DeviceType) -> Vec<Device> {
    std::panic::catch_unwind(|| Device::enumerate(kind).into_iter().collect()).unwrap_or_default()
}

/// Whether the device adds: what came of it otherwise.
fn one_plus_one(device: &Device) -> Result<(), String> {
    let device = device.clone();
    let add = move || (Tensor::<1>::from_floats([1.0, 2.0], &device) + 1.0).try_into_data();
    let data = std::thread::spawn(add).join().map_err(|panic| match panic.downcast_ref::<String>() {
        Some(text) => text.lines().next().unwrap_or_default().to_owned(),
        None => "it panicked".to_owned(),
    })?;
    let values = data.map_err(|error| error.to_string())?.convert::<f32>().try_into_vec::<f32>();
    match values {
        Ok(values) if values == [2.0, 3.0] => Ok(()),
        Ok(values) => Err(format!("for 1 + 1 and 2 + 1 it has {values:?}")),
        Err(error) => Err(format!("{error:?}")),
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Wgpu => f.write_str("wgpu"),
        }
    }
}

/// Reads a name in any case.
impl FromStr for DeviceName {
    type Err = DeviceError;

    fn from_str(name: &str) -> Result<Self, DeviceError> {
        let lower = name.to_ascii_lowercase();
        let unknown = || DeviceError::Unknown { name: name.to_owned() };
        match lower.split_once(':') {
            None if lower == "cpu" => Ok(Self::Cpu),
            None if lower == "cuda" => Ok(Self::Cuda(0)),
            None if lower == "wgpu" => Ok(Self::Wgpu),
            Some(("cuda", index)) => index.parse().map(Self::Cuda).map_err(|_| unknown()),
            _ => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_their_text() {
        for name in [DeviceName::Cpu, DeviceName::Cuda(0), DeviceName::Cuda(12), DeviceName::Wgpu] {
            assert_eq!(name.to_string().parse::<DeviceName>().unwrap(), name);
        }
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "cpu:0", "cuda:99999999999999999999"] {
            assert!(matches!(text.parse::<DeviceName>(), Err(DeviceError::Unknown { .. })), "{text}");
        }
    }

    #[test]
    fn a_device_that_is_not_there_is_an_error_with_advice() {
        assert_eq!(DeviceName::Cpu.open().unwrap(), Device::flex());
        // On any build and machine: none has this many devices.
        let error = DeviceName::Cuda(1 << 20).open().unwrap_err().to_string();
        assert!(error.contains("cuda:1048576") && error.contains("cpu") | error.contains("choose"), "{error}");
    }
}
