//! The choice of tokens on GPUs against that on the CPU, on whatever device a build with `cuda` or `wgpu` finds; a software Vulkan
//! driver will do.

mod generator;
mod rules;
mod sampler;

use automodel_test_support::first_gpu;
use burn::tensor::Device;

/// The first GPU, a software driver included.
fn device() -> Option<Device> {
    first_gpu!("no token was chosen on one")
}
