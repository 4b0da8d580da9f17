//! From tensors to launched kernels.

use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_elem_type;
use burn::tensor::{DType, Shape};
use burn_cubecl::{kernel::into_contiguous, tensor::CubeTensor};
use cubecl::{calculate_cube_count_elemwise, client::Client, ir::features::Plane, prelude::*};

use super::kernels::{self, CODES, MatvecPlan, TABLE_COPIES};
use crate::Layout4bit;

/// Units of a cube, where a row of the weight does not need more.
const UNITS: usize = 128;
/// Units of a plane where the device does not say.
const USUAL_PLANE: usize = 32;
/// Planes that a large GPU can have under way at once: fewer rows than that are each split among several planes.
const PLANES_IN_FLIGHT: usize = 4096;
/// Planes that share a row at most.
const MAX_PLANES_PER_ROW: usize = 8;

/// A 4-bit weight on a device: its codes are whole words, the last one padded.
pub(super) struct Weight {
    packed: CubeTensor,
    absmax: CubeTensor,
    layout: Layout4bit,
}

impl Weight {
    /// `None` where the kernels do not serve: activations of another float type, codes that are not padded to words as `Linear4bit`
    /// pads them, more elements than 32 bits count.
    pub fn new(packed: &CubeTensor, absmax: &CubeTensor, layout: Layout4bit, activations: DType) -> Option<Self> {
        let elements = layout.shape[0].checked_mul(layout.shape[1])?;
        let counted = u32::try_from(elements).is_ok();
        let has_codes = packed.dtype == DType::U8 && packed.shape().num_elements() >= elements.div_ceil(CODES) * 4;
        let has_scales =
            absmax.dtype == DType::F32 && absmax.shape().num_elements() == layout.blocksize.blocks(elements);
        let known = matches!(activations, DType::F32 | DType::F16 | DType::BF16);
        (counted && has_codes && has_scales && known).then(|| Self {
            packed: into_contiguous(packed.clone()),
            absmax: into_contiguous(absmax.clone()),
            layout,
        })
    }

    /// Whether each row begins with a word.
    pub fn has_whole_rows(&self) -> bool {
        self.layout.shape[1].is_multiple_of(CODES)
    }

    fn words(&self) -> usize {
        (self.layout.shape[0] * self.layout.shape[1]).div_ceil(CODES)
    }

    /// The dense weight `[out, in]`, rounded to `dtype`.
    pub fn dequantize(&self, dtype: DType) -> CubeTensor {
        let client = self.packed.client.clone();
        let words = self.words();
        let width = vector_size(&client, dtype);
        // Room for all that the last word stands for.
        let out = empty(&self.packed, self.layout.shape, words * CODES, dtype);
        let dim = CubeDim::new_1d(UNITS.min(most_units(&client)) as u32);
        // SAFETY: each unit below `words` reads that word, the scale of its block, which `new` checked to be there, and writes the
        // eight elements that the word stands for.
        unsafe {
            kernels::dequantize::launch_unchecked(
                &client,
                calculate_cube_count_elemwise(&client, words, dim),
                dim,
                width,
                self.codes(words),
                self.absmax.clone().into_buffer_arg(),
                out.clone().into_buffer_arg(),
                words as u32,
                self.layout.quant_type,
                self.layout.blocksize.get(),
                dtype_to_elem_type(dtype),
            );
        }
        out
    }

    /// `x W^T` for contiguous rows of activations `[rows, in]`, `in` a multiple of eight.
    pub fn matvec(&self, x: CubeTensor) -> CubeTensor {
        let client = self.packed.client.clone();
        let ([out_features, in_features], rows) = (self.layout.shape, x.shape()[0]);
        assert_eq!(x.shape()[1], in_features, "activations for {:?}", self.layout);
        let dtype = x.dtype;
        let out = empty(&self.packed, [rows, out_features], rows * out_features, dtype);
        let words_at_once = vector_size(&client, DType::U32);
        // A vector of words is within one block, as 32 is the least block.
        let words_at_once =
            [4, 2, 1].into_iter().find(|n| *n <= words_at_once && in_features.is_multiple_of(CODES * n));
        let words_at_once = words_at_once.unwrap_or(1);
        let plan = self.plan(&client, rows, in_features / (CODES * words_at_once));
        let cubes = out_features.div_ceil(plan.units / plan.units_per_row);
        // SAFETY: as `Weight::new` and the assertion above checked, there are `out_features` rows of whole vectors of words with
        // their scales, and `rows` rows of activations; units beyond the last row read and write nothing.
        unsafe {
            kernels::matvec::launch_unchecked(
                &client,
                cube_count(cubes),
                CubeDim::new_1d(plan.units as u32),
                words_at_once,
                vector_size(&client, dtype),
                x.into_buffer_arg(),
                self.codes(self.words()),
                self.absmax.clone().into_buffer_arg(),
                out.clone().into_buffer_arg(),
                in_features as u32,
                out_features as u32,
                plan,
                dtype_to_elem_type(dtype),
            );
        }
        out
    }

    /// As many units for a row as keep the device busy, but none without work.
    fn plan(&self, client: &Client, rows: usize, vectors: usize) -> MatvecPlan {
        let hardware = &client.properties().hardware;
        let has_sums =
            client.features().plane.contains(Plane::Ops) && hardware.plane_size_min == hardware.plane_size_max;
        let plane = has_sums.then_some(hardware.plane_size_max as usize);
        let width = plane.unwrap_or(USUAL_PLANE);
        let most = most_units(client).max(width);
        let wanted = (PLANES_IN_FLIGHT / self.layout.shape[0].max(1)).clamp(1, MAX_PLANES_PER_ROW);
        let useful = vectors.div_ceil(width).max(1);
        let mut units_per_row = width * wanted.min(useful).next_power_of_two();
        while units_per_row > most {
            units_per_row /= 2;
        }
        let units = units_per_row.max(UNITS.min(most) / units_per_row * units_per_row);
        let Layout4bit { quant_type, blocksize, .. } = self.layout;
        MatvecPlan { quant_type, rows, blocksize: blocksize.get(), units_per_row, units, plane }
    }

    /// The packed codes as words.
    fn codes(&self, words: usize) -> BufferArg {
        // SAFETY: `new` checked that there are four bytes for each word.
        unsafe { BufferArg::from_raw_parts(self.packed.handle.clone(), words) }
    }
}

/// Units that a cube may have: at least as many as fill the table of codes.
fn most_units(client: &Client) -> usize {
    (client.properties().hardware.max_units_per_cube as usize).max(TABLE_COPIES)
}

/// Elements that a unit loads at once: at most a word of codes stands for.
fn vector_size(client: &Client, dtype: DType) -> usize {
    client.io_optimized_vector_sizes(dtype.size()).filter(|size| CODES.is_multiple_of(*size)).max().unwrap_or(1)
}

/// A number of cubes within the limit of one axis that every device has.
fn cube_count(cubes: usize) -> CubeCount {
    const AXIS: usize = 1 << 15;
    if cubes <= AXIS {
        return CubeCount::new_1d(cubes as u32);
    }
    CubeCount::new_2d(AXIS as u32, cubes.div_ceil(AXIS) as u32)
}

/// A tensor with room for so many elements.
fn empty(like: &CubeTensor, shape: [usize; 2], elements: usize, dtype: DType) -> CubeTensor {
    let client = like.client.clone();
    let handle = client.empty(elements * dtype.size());
    CubeTensor::new_contiguous(client, like.device.clone(), Shape::from(shape), handle, dtype)
}
