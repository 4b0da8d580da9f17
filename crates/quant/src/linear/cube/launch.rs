//! From tensors to launched kernels.

use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_elem_type;
use burn::tensor::{DType, Shape};
use burn_cubecl::tensor::CubeTensor;
use cubecl::{calculate_cube_count_elemwise, client::Client, ir::features::Plane, prelude::*};

use super::kernels::{self, CODES, MatvecPlan};
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
    /// # Panics
    /// If there are fewer codes or scales than the layout says: kernels would read beyond them.
    pub fn new(packed: CubeTensor, absmax: CubeTensor, layout: Layout4bit) -> Self {
        let elements = layout.shape[0] * layout.shape[1];
        assert_eq!((packed.dtype, absmax.dtype), (DType::U8, DType::F32), "dtypes of codes and scales");
        assert!(packed.shape().num_elements() >= elements.div_ceil(CODES) * 4, "bytes of codes of {layout:?}");
        assert_eq!(absmax.shape().num_elements(), layout.blocksize.blocks(elements), "scales of {layout:?}");
        Self { packed, absmax, layout }
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
        let dim = CubeDim::new(&client, words);
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
                self.table(&client),
                out.clone().into_buffer_arg(),
                words as u32,
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
                self.table(&client),
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
        let most = (hardware.max_units_per_cube as usize).max(width);
        let wanted = (PLANES_IN_FLIGHT / self.layout.shape[0].max(1)).clamp(1, MAX_PLANES_PER_ROW);
        let useful = vectors.div_ceil(width).max(1);
        let mut units_per_row = width * wanted.min(useful).next_power_of_two();
        while units_per_row > most {
            units_per_row /= 2;
        }
        let units = units_per_row.max(UNITS.min(most) / units_per_row * units_per_row);
        MatvecPlan { rows, blocksize: self.layout.blocksize.get(), units_per_row, units, plane }
    }

    /// The packed codes as words.
    fn codes(&self, words: usize) -> BufferArg {
        // SAFETY: `new` checked that there are four bytes for each word.
        unsafe { BufferArg::from_raw_parts(self.packed.handle.clone(), words) }
    }

    fn table(&self, client: &Client) -> BufferArg {
        let table = self.layout.quant_type.decode_table();
        // SAFETY: the buffer was made from as many numbers.
        unsafe { BufferArg::from_raw_parts(client.create_from_slice(f32::as_bytes(table)), table.len()) }
    }
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
