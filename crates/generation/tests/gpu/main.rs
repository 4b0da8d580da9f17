//! Sampling on GPUs compared with the CPU, on whatever device a build with `cuda` or `wgpu` finds; a software Vulkan driver is
//! enough.

mod generator;
mod rules;
mod sampler;

use burn::tensor::{Device, DeviceType};

/// The first GPU, or a software Vulkan driver.
fn device() -> Option<Device> {
    let kinds = [
        #[cfg(feature = "cuda")]
        DeviceType::Cuda,
        #[cfg(feature = "wgpu")]
        DeviceType::Wgpu,
    ];
    let found = kinds.into_iter().find_map(|kind| Device::enumerate(kind).into_iter().next());
    if found.is_none() {
        eprintln!("SKIPPED: no GPU and no software Vulkan driver, so no token was chosen on one");
    }
    found
}
