//! The launch of the kernel.

use burn::backend::TensorMetadata;
use burn::tensor::DType;
use burn_cubecl::{kernel::into_contiguous, tensor::CubeTensor};
use cubecl::{client::Client, prelude::*};

use super::kernels::{self, ChoosePlan, SettingsLaunch};
use super::rules::{Draw, Rules};

/// Maximum of units of a cube on all devices.
const UNITS: usize = 1024;
/// Minimum of units for the kernel to be worthwhile.
const MIN_UNITS: usize = 32;
/// Maximum of rows: within every device's limit of cubes on one axis.
const MAX_ROWS: usize = 1 << 15;
/// Maximum of logits of a row, so that the sum of their weights does not overflow.
const MAX_VOCAB: usize = 1 << 22;

/// Whether the device supports the kernel.
pub(super) fn supports(device: &cubecl::device::Device, rows: usize, vocab_size: usize) -> bool {
    let client = device.client();
    rows <= MAX_ROWS && (1..=MAX_VOCAB).contains(&vocab_size) && units(&client, usize::MAX) >= MIN_UNITS
}

/// Samples a token for each row; see `ChooseOps`.
pub(super) fn choose(
    logits: CubeTensor,
    tokens: &CubeTensor,
    seen: &CubeTensor,
    uniforms: &CubeTensor,
    first_uniform: usize,
    rules: Rules,
) {
    let client = tokens.client.clone();
    let (rows, vocab) = (logits.shape()[0], logits.shape()[1]);
    let plan = plan(&client, vocab, rules);
    assert!(logits.dtype == DType::F32 && tokens.dtype == DType::I32, "{:?} {:?}", logits.dtype, tokens.dtype);
    assert!(rows <= MAX_ROWS && vocab <= MAX_VOCAB, "{rows} rows of {vocab} logits");
    assert!(tokens.shape().num_elements() == rows);
    assert!(!plan.penalised || seen.dtype == DType::I32 && seen.shape().num_elements() == rows * vocab.div_ceil(32));
    let drawn = first_uniform.checked_add(rows).is_some_and(|end| end <= uniforms.shape().num_elements());
    assert!(!plan.sampled || uniforms.dtype == DType::I32 && drawn);
    // SAFETY: the assertions above bound the logits, token, bits and random word of each row; tokens that a unit accesses are
    // below `vocab`, and what is collected stays within what `plan` has room for.
    unsafe {
        kernels::choose::launch_unchecked(
            &client,
            CubeCount::new_1d(rows as u32),
            CubeDim::new_1d(plan.units as u32),
            into_contiguous(logits).into_buffer_arg(),
            words(tokens),
            words(seen),
            words(uniforms),
            vocab as u32,
            first_uniform as u32,
            settings(rules, plan),
            plan,
        );
    }
}

/// Signed integers as words.
fn words(tensor: &CubeTensor) -> BufferArg {
    // SAFETY: both are 32 bits wide, and the tensor is one-dimensional.
    unsafe { BufferArg::from_raw_parts(tensor.handle.clone(), tensor.shape().num_elements()) }
}

fn plan(client: &Client, vocab: usize, Rules { penalty, draw }: Rules) -> ChoosePlan {
    let has = |step: fn(&Draw) -> bool| draw.as_ref().is_some_and(step);
    let units = units(client, vocab);
    let top_k = draw.and_then(|draw| draw.top_k);
    let top_p = has(|draw| draw.surplus.is_some());
    ChoosePlan {
        units,
        penalised: penalty.is_some(),
        sampled: draw.is_some(),
        top_k: top_k.is_some(),
        top_p,
        min_p: has(|draw| draw.min_p.is_some()),
        few: top_k.map_or(top_p, |top_k| top_k <= kernels::reach(units)),
    }
}

fn settings(Rules { penalty, draw }: Rules, plan: ChoosePlan) -> SettingsLaunch {
    let draw = draw.unwrap_or(Draw { temperature: 1.0, top_k: None, surplus: None, min_p: None });
    SettingsLaunch::new(
        penalty.unwrap_or(1.0),
        draw.temperature,
        draw.top_k.unwrap_or(0),
        draw.surplus.unwrap_or(0),
        draw.min_p.unwrap_or(0.0),
        draw.top_k.unwrap_or(kernels::reach(plan.units)),
    )
}

/// Units of a cube: a power of two that the device and its shared memory allow, at most the vocabulary.
fn units(client: &Client, vocab: usize) -> usize {
    let hardware = &client.properties().hardware;
    let most = UNITS.min(hardware.max_units_per_cube as usize).max(1);
    let mut units = 1 << most.ilog2();
    while units > MIN_UNITS && units / 2 >= vocab {
        units /= 2;
    }
    while units > 1 && kernels::shared_bytes(units) > hardware.max_shared_memory_size {
        units /= 2;
    }
    units
}
