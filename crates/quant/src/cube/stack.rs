//! Stacks of weights on GPUs.

use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_elem_type;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{DType, Shape};
use burn_cubecl::{CubeBackend, kernel::into_contiguous, tensor::CubeTensor};
use cubecl::{calculate_cube_count_elemwise, prelude::*};

use super::kernels::{self, CODES, ChosenPlan, Decoder, DensePlan, MatvecPlan, ScalePlan};
use super::launch::{empty, row_units, vector_size};
use crate::{
    stack::{StackEncoding, StackOps, StackPlan},
    table16::Table16,
};

/// Largest load of the kernels, in bytes.
const VECTOR: usize = 16;

impl StackOps for CubeBackend {
    fn stack_room(like: FloatTensor<Self>, bytes: usize) -> IntTensor<Self> {
        let client = like.client.clone();
        let handle = client.memory_persistent_allocation((), |()| client.empty(bytes));
        CubeTensor::new_contiguous(client, like.device.clone(), Shape::from([bytes]), handle, DType::U8)
    }

    fn stack_ints(stack: IntTensor<Self>, part: IntTensor<Self>, at: usize) -> IntTensor<Self> {
        copy(part, &stack, at);
        stack
    }

    fn stack_floats(stack: IntTensor<Self>, part: FloatTensor<Self>, at: usize) -> IntTensor<Self> {
        copy(part, &stack, at);
        stack
    }

    fn part_of_ints(stack: IntTensor<Self>, at: usize, bytes: usize) -> IntTensor<Self> {
        part_of(stack, at, Shape::from([bytes]), DType::U8)
    }

    fn part_of_floats(stack: IntTensor<Self>, at: usize, shape: [usize; 2], dtype: DType) -> FloatTensor<Self> {
        part_of(stack, at, Shape::from(shape), dtype)
    }

    fn stack_product(
        x: FloatTensor<Self>,
        weights: IntTensor<Self>,
        absmax: IntTensor<Self>,
        absmax_codes: IntTensor<Self>,
        chosen: IntTensor<Self>,
        factors: FloatTensor<Self>,
        plan: StackPlan,
    ) -> FloatTensor<Self> {
        let product =
            Product::new(into_contiguous(x), weights, into_contiguous(chosen), into_contiguous(factors), plan);
        match plan.encoding {
            StackEncoding::Dense(dtype) => product.dense(dtype),
            StackEncoding::Table16(scheme) => product.quantized(scheme, absmax, absmax_codes),
        }
    }
}

/// What the parts of a stack begin at multiples of, in bytes.
pub(crate) fn alignment(device: &cubecl::device::Device) -> usize {
    (device.client().properties().memory.alignment as usize).max(VECTOR)
}

/// Copies a tensor of whole words to a byte of the stack.
fn copy(part: CubeTensor, stack: &CubeTensor, at: usize) {
    let part = into_contiguous(part);
    let client = stack.client.clone();
    let bytes = part.shape().num_elements() * part.dtype.size();
    let room = stack.shape().num_elements();
    assert!(
        bytes.is_multiple_of(4) && at.is_multiple_of(4) && at.checked_add(bytes).is_some_and(|end| end <= room),
        "{bytes} bytes to {at} of {room}"
    );
    let (words, dim) = (bytes / 4, CubeDim::new_1d(128));
    // SAFETY: the assertion checks the words of the part and their place in the stack.
    unsafe {
        kernels::copy_words::launch_unchecked(
            &client,
            calculate_cube_count_elemwise(&client, words, dim),
            dim,
            BufferArg::from_raw_parts(part.handle.clone(), words),
            BufferArg::from_raw_parts(stack.handle.clone(), room / 4),
            words as u32,
            (at / 4) as u32,
        );
    }
}

/// A tensor in the memory of the stack.
fn part_of(stack: CubeTensor, at: usize, shape: Shape, dtype: DType) -> CubeTensor {
    let room = stack.shape().num_elements();
    let end = at.checked_add(shape.num_elements() * dtype.size()).filter(|end| *end <= room);
    let end = end.unwrap_or_else(|| panic!("{shape:?} at byte {at} of {room}"));
    let handle = stack.handle.clone().offset_start(at as u64).offset_end((room - end) as u64);
    CubeTensor::new_contiguous(stack.client, stack.device, shape, handle, dtype)
}

/// Rows of activations with the weights chosen for them.
struct Product {
    x: CubeTensor,
    weights: CubeTensor,
    chosen: CubeTensor,
    factors: CubeTensor,
    plan: StackPlan,
    /// Rows of the result.
    targets: usize,
    out: CubeTensor,
}

impl Product {
    fn new(x: CubeTensor, weights: CubeTensor, chosen: CubeTensor, factors: CubeTensor, plan: StackPlan) -> Self {
        let [rows, choices] = [chosen.shape()[0], chosen.shape()[1]];
        let [out_features, in_features] = plan.shape;
        let (of_x, targets) = if plan.sums { (rows * choices, rows) } else { (rows, rows * choices) };
        assert!(x.shape() == Shape::from([of_x, in_features]) && choices == plan.choices, "{plan:?}");
        assert!(!plan.sums || factors.shape() == chosen.shape());
        let width = plan.parts * out_features;
        let out = empty(x.clone(), [targets, width], targets * width, x.dtype);
        Self { x, weights, chosen, factors, plan, targets, out }
    }

    fn chosen_plan(&self) -> ChosenPlan {
        let StackPlan { choices, parts, sums, .. } = self.plan;
        ChosenPlan { choices, parts, sums }
    }

    /// All rows of a choice's weights, for all choices.
    fn rows(&self) -> usize {
        self.plan.parts * self.plan.shape[0]
    }

    fn cube_count(&self, rows_of_cube: usize) -> CubeCount {
        CubeCount::new_2d(self.rows().div_ceil(rows_of_cube) as u32, self.targets as u32)
    }

    fn dense(self, dtype: DType) -> CubeTensor {
        let client = self.x.client.clone();
        let [out_features, in_features] = self.plan.shape;
        let width = vector_size(&client, self.x.dtype).min(vector_size(&client, dtype));
        let fits = |size: &usize| *size <= width && in_features.is_multiple_of(*size) && size * dtype.size() <= VECTOR;
        let width = [8, 4, 2, 1].into_iter().find(fits).unwrap_or(1);
        let vectors = in_features / width * self.chosen_plan().slots();
        let units = row_units(&client, self.rows() * self.targets, vectors);
        let plan = DensePlan { rows: 1, together: 1, units };
        let elements = self.weights.shape().num_elements() / dtype.size();
        // SAFETY: the stack has `count * parts` weights at the plan's distance, of which a choice is one, and `new` checked that there
        // are activations, and factors if they are read, for all choices; units beyond the last row read and write nothing.
        unsafe {
            kernels::few_rows_chosen::launch_unchecked(
                &client,
                self.cube_count(units.rows()),
                CubeDim::new_1d(units.of_cube as u32),
                width,
                self.x.clone().into_buffer_arg(),
                BufferArg::from_raw_parts(self.weights.handle.clone(), elements),
                self.chosen.clone().into_buffer_arg(),
                self.factors.clone().into_buffer_arg(),
                self.out.clone().into_buffer_arg(),
                in_features as u32,
                out_features as u32,
                (self.plan.distances[0] / dtype.size() / width) as u32,
                self.plan.count as u32,
                plan,
                self.chosen_plan(),
                dtype_to_elem_type(self.x.dtype),
                dtype_to_elem_type(dtype),
            );
        }
        self.out
    }

    fn quantized(self, scheme: Table16, absmax: CubeTensor, absmax_codes: CubeTensor) -> CubeTensor {
        let client = self.x.client.clone();
        let [out_features, in_features] = self.plan.shape;
        let most = vector_size(&client, DType::U32);
        let fits = |words: &usize| *words <= most && in_features.is_multiple_of(CODES * words);
        let words_at_once = [4, 2, 1].into_iter().find(fits).unwrap_or(1);
        let vectors = in_features / (CODES * words_at_once) * self.chosen_plan().slots();
        let units = row_units(&client, self.rows() * self.targets, vectors);
        let scales = ScalePlan { blocksize: scheme.blocksize.get(), nested: scheme.double_quant };
        let plan = MatvecPlan { decoder: Decoder::Table(scheme.quant_type), rows: 1, scales, units };
        let [distance, absmax_distance, codes_distance] = self.plan.distances;
        // SAFETY: all bytes of a stack, as far as they are whole words.
        let words = |memory: &CubeTensor| unsafe {
            BufferArg::from_raw_parts(memory.handle.clone(), memory.shape().num_elements() / 4)
        };
        // SAFETY: as for dense weights; the scales of the stack are at the plan's distances too.
        unsafe {
            kernels::matvec_chosen::launch_unchecked(
                &client,
                self.cube_count(units.rows()),
                CubeDim::new_1d(units.of_cube as u32),
                words_at_once,
                vector_size(&client, self.x.dtype),
                self.x.clone().into_buffer_arg(),
                words(&self.weights),
                words(&absmax),
                words(&absmax_codes),
                self.chosen.clone().into_buffer_arg(),
                self.factors.clone().into_buffer_arg(),
                self.out.clone().into_buffer_arg(),
                in_features as u32,
                out_features as u32,
                (distance / 4 / words_at_once) as u32,
                (absmax_distance / 4) as u32,
                (codes_distance / 4) as u32,
                self.plan.count as u32,
                plan,
                self.chosen_plan(),
                dtype_to_elem_type(self.x.dtype),
            );
        }
        self.out
    }
}
