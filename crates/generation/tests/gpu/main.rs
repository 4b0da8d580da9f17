//! Sampling on GPUs compared with the CPU, on whatever device a build with `cuda` or `wgpu` finds; a software Vulkan driver is
//! enough.

mod generator;
mod rules;
mod sampler;

use automodel_test_support::first_gpu;
use burn::tensor::Device;

/// The first GPU, or a software Vulkan driver.
fn device() -> Option<Device> {
    first_gpu!("no token was chosen on one")
}
