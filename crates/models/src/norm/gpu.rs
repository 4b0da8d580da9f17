//! Norms on GPUs, in one launch. Burn's reduction gives a row to few units: it took 93 µs for 4096 numbers on an H200.

use super::{NormKind, NormSpec, is_centred};
use burn::backend::{
    Backend, Dispatch, DispatchDevice, TensorMetadata, backend_extension, cubecl::dtype_to_elem_type,
    tensor::FloatTensor,
};
use burn::tensor::{DType, Tensor};
use burn_cubecl::{CubeBackend, kernel::into_contiguous, tensor::CubeTensor};
use cubecl::prelude::*;

/// Units that share a row at most, and at least.
const MOST_UNITS: usize = 512;
const LEAST_UNITS: usize = 32;

/// What a norm does to each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NormPlan {
    /// The bits of what is added to the mean square.
    eps: u32,
    /// Whether the mean is subtracted first.
    centred: bool,
    /// Whether the normalised number is rounded to the activations' dtype before the product with the weight.
    rounds_first: bool,
    /// Whether the factors are `1 + weight`.
    one_offset: bool,
    /// Whether the factors are rounded to the activations' dtype.
    rounds_factors: bool,
    has_weight: bool,
    has_bias: bool,
    /// Units that share a row: a power of two. Set for a device and a width.
    units: usize,
}

impl NormPlan {
    fn eps(&self) -> f32 {
        f32::from_bits(self.eps)
    }
}

/// Norms of the last axis on backends with a kernel for it.
#[backend_extension(Cube: cfg(feature = "cube"), Fusion: cfg(feature = "cube"))]
pub(crate) trait NormOps: Backend {
    /// `x` normalised, in its dtype. What the plan has no use for is any tensor of the dtype that a weight would have.
    #[fusion(meta = |x, _weight, _bias, _plan| x.clone())]
    fn normalize_rows(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        plan: NormPlan,
    ) -> FloatTensor<Self>;
}

/// `x` with its last axis normalised, or `x` itself where there is no kernel: on other devices, for other dtypes, and where gradients
/// are tracked. The axes of `weight` and `bias` are the last axes of `x`.
#[allow(clippy::result_large_err, reason = "the error is the argument, returned")]
pub(super) fn normalized<const D: usize, const W: usize>(
    spec: &NormSpec,
    x: Tensor<D>,
    weight: Option<Tensor<W>>,
    bias: Option<Tensor<W>>,
) -> Result<Tensor<D>, Tensor<D>> {
    let supports = |dtype: DType| matches!(dtype, DType::F32 | DType::F16 | DType::BF16);
    let fits = |parameter: &Option<Tensor<W>>| {
        parameter.as_ref().is_none_or(|parameter| supports(parameter.dtype()) && x.dims().ends_with(&parameter.dims()))
    };
    let has_elements = x.dims().iter().all(|&size| size > 0);
    let is_gpu = matches!(x.device().as_dispatch(), DispatchDevice::Cube(_));
    if !is_gpu || !has_elements || !supports(x.dtype()) || !fits(&weight) || !fits(&bias) {
        return Err(x);
    }
    // A bias without a weight, or of another dtype, is nothing that a model has.
    if bias.is_some() && bias.as_ref().map(Tensor::dtype) != weight.as_ref().map(Tensor::dtype) {
        return Err(x);
    }
    let plan = NormPlan {
        eps: (spec.eps as f32).to_bits(),
        centred: is_centred(spec.kind),
        rounds_first: spec.kind == NormKind::Rms,
        one_offset: spec.kind.adds_one(),
        rounds_factors: spec.kind.rounds_factors(),
        has_weight: weight.is_some(),
        has_bias: bias.is_some(),
        units: 0,
    };
    let x = x.into_dispatch();
    let weight = weight.map_or_else(|| x.clone(), Tensor::into_dispatch);
    let bias = bias.map_or_else(|| weight.clone(), Tensor::into_dispatch);
    Ok(Tensor::from_dispatch(<Dispatch as NormOps>::normalize_rows(x, weight, bias, plan)))
}

impl NormOps for CubeBackend {
    fn normalize_rows(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        plan: NormPlan,
    ) -> FloatTensor<Self> {
        let (x, weight, bias) = (into_contiguous(x), into_contiguous(weight), into_contiguous(bias));
        let numbers = |tensor: &CubeTensor| tensor.shape().num_elements();
        let width = x.shape()[x.shape().num_dims() - 1];
        let rows = numbers(&x) / width;
        let weight_rows = if plan.has_weight { numbers(&weight) / width } else { 1 };
        assert!(
            rows.is_multiple_of(weight_rows) && u32::try_from(numbers(&x)).is_ok(),
            "{rows} rows of {width} numbers"
        );
        assert!(!plan.has_bias || numbers(&bias) == numbers(&weight), "a bias for each weight");
        let client = x.client.clone();
        let sizes = |tensor: &CubeTensor| client.io_optimized_vector_sizes(tensor.dtype.size()).max().unwrap_or(1);
        let most = sizes(&x).min(sizes(&weight));
        let vector = [8, 4, 2, 1].into_iter().find(|size| *size <= most && width.is_multiple_of(*size)).unwrap_or(1);
        let most = (client.properties().hardware.max_units_per_cube as usize).clamp(1, MOST_UNITS);
        let units = (width / vector).next_power_of_two().max(LEAST_UNITS);
        let plan = NormPlan { units: if units <= most { units } else { 1 << most.ilog2() }, ..plan };
        let out = {
            let handle = client.empty(numbers(&x) * x.dtype.size());
            CubeTensor::new_contiguous(client.clone(), x.device.clone(), x.shape(), handle, x.dtype)
        };
        let (dtype, weight_dtype) = (dtype_to_elem_type(x.dtype), dtype_to_elem_type(weight.dtype));
        // SAFETY: there are `rows` rows of `width` numbers in `x` and in `out`, and as the assertions say whole rows of weights and
        // biases; cubes beyond the last row do nothing.
        unsafe {
            normalize::launch_unchecked(
                &client,
                cube_count(rows),
                CubeDim::new_1d(plan.units as u32),
                vector,
                x.into_buffer_arg(),
                weight.into_buffer_arg(),
                bias.into_buffer_arg(),
                out.clone().into_buffer_arg(),
                rows as u32,
                width as u32,
                weight_rows as u32,
                plan,
                dtype,
                weight_dtype,
            );
        }
        out
    }
}

/// A number of cubes within the limit of one axis that every device has.
fn cube_count(cubes: usize) -> CubeCount {
    const AXIS: usize = 1 << 15;
    if cubes <= AXIS {
        return CubeCount::new_1d(cubes as u32);
    }
    CubeCount::new_2d(AXIS as u32, cubes.div_ceil(AXIS) as u32)
}

/// A row for each cube. Statistics are in float32.
#[cube(launch_unchecked)]
fn normalize<F: Float, P: Float, V: Size>(
    x: &[Vector<F, V>],
    weight: &[Vector<P, V>],
    bias: &[Vector<P, V>],
    out: &mut [Vector<F, V>],
    rows: u32,
    width: u32,
    weight_rows: u32,
    #[comptime] plan: NormPlan,
    #[define(F)] _dtype: ElemType,
    #[define(P)] _parameter_dtype: ElemType,
) {
    let row = CUBE_POS;
    if row < rows as usize {
        let size = V::value().comptime();
        let vectors = width as usize / size;
        let start = row * vectors;
        let start_of_weight = row % weight_rows as usize * vectors;
        let mut shared = Shared::<[f32]>::new_slice(plan.units);

        let mut mean = 0.0f32;
        if comptime!(plan.centred) {
            let mut sum = 0.0f32;
            let mut at = UNIT_POS as usize;
            while at < vectors {
                let values = x[start + at];
                #[unroll]
                for i in 0..size {
                    sum += f32::cast_from(values.extract(i));
                }
                at += plan.units;
            }
            mean = add_units(sum, &mut shared, plan) / f32::cast_from(width);
        }
        let mut sum = 0.0f32;
        let mut at = UNIT_POS as usize;
        while at < vectors {
            let values = x[start + at];
            #[unroll]
            for i in 0..size {
                let value = f32::cast_from(values.extract(i)) - mean;
                sum += value * value;
            }
            at += plan.units;
        }
        let mean_square = add_units(sum, &mut shared, plan) / f32::cast_from(width);
        let factor = 1.0f32 / (mean_square + comptime!(plan.eps())).sqrt();

        let mut at = UNIT_POS as usize;
        while at < vectors {
            let values = x[start + at];
            let mut results = Vector::<F, V>::new(F::new(0.0));
            #[unroll]
            for i in 0..size {
                let mut value = (f32::cast_from(values.extract(i)) - mean) * factor;
                if comptime!(plan.has_weight) {
                    let mut scale = f32::cast_from(weight[start_of_weight + at].extract(i));
                    if comptime!(plan.one_offset) {
                        scale += 1.0f32;
                    }
                    if comptime!(plan.rounds_factors) {
                        scale = f32::cast_from(F::cast_from(scale));
                    }
                    if comptime!(plan.rounds_first) {
                        value = f32::cast_from(F::cast_from(value));
                    }
                    value *= scale;
                }
                if comptime!(plan.has_bias) {
                    value += f32::cast_from(bias[start_of_weight + at].extract(i));
                }
                results.insert(i, F::cast_from(value));
            }
            out[start + at] = results;
            at += plan.units;
        }
    }
}

/// The sum over the units of a cube, for each of them.
#[cube]
fn add_units(value: f32, shared: &mut Shared<[f32]>, #[comptime] plan: NormPlan) -> f32 {
    let unit = UNIT_POS as usize;
    // What is there may be read still.
    sync_cube();
    shared[unit] = value;
    sync_cube();
    #[unroll]
    for step in 0..comptime!(plan.units.ilog2()) {
        let span = comptime!(plan.units >> (step + 1));
        if unit < span {
            let other = shared[unit + span];
            shared[unit] += other;
        }
        sync_cube();
    }
    shared[0]
}
