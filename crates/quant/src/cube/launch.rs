//! From tensors to launched kernels.

use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_elem_type;
use burn::tensor::{DType, Shape};
use burn_cubecl::{CubeBackend, kernel::into_contiguous, tensor::CubeTensor};
use cubecl::{calculate_cube_count_elemwise, client::Client, ir::features::Plane, prelude::*};

use super::kernels::{self, CODES, Decoder, MatvecPlan, NESTED_HEAD, QuantizePlan, RowUnits, ScalePlan, TABLE_COPIES};
use crate::table16::{Layout4bit, NESTED_BLOCKSIZE, Scales};

/// Units of a cube, where a row of the weight does not need more.
const UNITS: usize = 128;
/// Words of codes that a unit quantises, for one table of its cube: as many as leave the device enough cubes.
const QUANTIZED_WORDS: [usize; 2] = [4, 32];
/// Cubes that a large GPU runs concurrently while it quantises.
const QUANTIZING_CUBES: usize = 1024;
/// Units of a plane where the device does not say.
const USUAL_PLANE: usize = 32;
/// Planes that a large GPU runs concurrently: with fewer rows each is split among several planes.
const PLANES_IN_FLIGHT: usize = 4096;
/// Planes that share a row at most.
const MAX_PLANES_PER_ROW: usize = 8;

/// A 4-bit weight on a device: its codes are whole words, the last one padded.
pub(crate) struct Weight {
    packed: CubeTensor,
    absmax: CubeTensor,
    /// The codes of nested scales.
    absmax_codes: Option<CubeTensor>,
    layout: Layout4bit,
}

impl Weight {
    /// `None` where the kernels do not serve: activations of another float type, codes that are not padded to words as `QuantLinear`
    /// pads them, more elements than 32 bits count.
    pub fn new(
        packed: &CubeTensor,
        scales: &Scales<CubeBackend>,
        layout: Layout4bit,
        activations: DType,
    ) -> Option<Self> {
        let elements = layout.shape[0].checked_mul(layout.shape[1])?;
        let blocks = layout.blocksize.blocks(elements);
        let has_bytes =
            |codes: &CubeTensor, bytes: usize| codes.dtype == DType::U8 && codes.shape().num_elements() >= bytes;
        let has_floats =
            |floats: &CubeTensor, count: usize| floats.dtype == DType::F32 && floats.shape().num_elements() == count;
        let has_scales = match &scales.codes {
            None => has_floats(&scales.absmax, blocks),
            Some(codes) => {
                has_floats(&scales.absmax, NESTED_HEAD + blocks.div_ceil(NESTED_BLOCKSIZE))
                    && has_bytes(codes, blocks.next_multiple_of(4))
            }
        };
        let counted = u32::try_from(elements).is_ok();
        let has_codes = has_bytes(packed, elements.div_ceil(CODES) * 4);
        let known = matches!(activations, DType::F32 | DType::F16 | DType::BF16);
        (counted && has_codes && has_scales && known).then(|| Self {
            packed: into_contiguous(packed.clone()),
            absmax: into_contiguous(scales.absmax.clone()),
            absmax_codes: scales.codes.clone().map(into_contiguous),
            layout,
        })
    }

    pub fn client(&self) -> &Client {
        &self.packed.client
    }

    pub fn layout(&self) -> Layout4bit {
        self.layout
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
        let out = empty(self.packed.clone(), self.layout.shape, words * CODES, dtype);
        let dim = CubeDim::new_1d(UNITS.min(most_units(&client)) as u32);
        // SAFETY: each unit below `words` reads that word, the scale of its block, which `new` checked to be there, and writes the
        // eight elements that the word stands for.
        unsafe {
            kernels::dequantize::launch_unchecked(
                &client,
                calculate_cube_count_elemwise(&client, words, dim),
                dim,
                width,
                self.codes(),
                self.absmax(),
                self.absmax_codes(),
                out.clone().into_buffer_arg(),
                words as u32,
                self.decoder(),
                self.scale_plan(),
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
        let out = empty(self.packed.clone(), [rows, out_features], rows * out_features, dtype);
        let words_at_once = vector_size(&client, DType::U32);
        // A vector of words is within one block, as 32 is the least block.
        let words_at_once =
            [4, 2, 1].into_iter().find(|n| *n <= words_at_once && in_features.is_multiple_of(CODES * n));
        let words_at_once = words_at_once.unwrap_or(1);
        let units = row_units(&client, out_features, in_features / (CODES * words_at_once));
        let plan = MatvecPlan { decoder: self.decoder(), rows, scales: self.scale_plan(), units };
        let cubes = out_features.div_ceil(units.rows());
        // SAFETY: as `Weight::new` and the assertion above checked, there are `out_features` rows of whole vectors of words with
        // their scales, and `rows` rows of activations; units beyond the last row read and write nothing.
        unsafe {
            kernels::matvec::launch_unchecked(
                &client,
                cube_count(cubes),
                CubeDim::new_1d(units.of_cube as u32),
                words_at_once,
                vector_size(&client, dtype),
                x.into_buffer_arg(),
                self.codes(),
                self.absmax(),
                self.absmax_codes(),
                out.clone().into_buffer_arg(),
                in_features as u32,
                out_features as u32,
                plan,
                dtype_to_elem_type(dtype),
            );
        }
        out
    }

    pub fn decoder(&self) -> Decoder {
        Decoder::Table(self.layout.quant_type)
    }

    pub fn scale_plan(&self) -> ScalePlan {
        ScalePlan { blocksize: self.layout.blocksize.get(), nested: self.absmax_codes.is_some() }
    }

    /// The codes of nested scales as words; what kernels for plain scales are given instead is not read.
    pub fn absmax_codes(&self) -> BufferArg {
        let codes = self.absmax_codes.as_ref().unwrap_or(&self.packed);
        // SAFETY: all of the tensor's bytes, as far as they are whole words.
        unsafe { BufferArg::from_raw_parts(codes.handle.clone(), codes.shape().num_elements() / 4) }
    }

    /// The packed codes as words.
    pub fn codes(&self) -> BufferArg {
        // SAFETY: `new` checked that there are four bytes for each word.
        unsafe { BufferArg::from_raw_parts(self.packed.handle.clone(), self.words()) }
    }

    /// The scales of blocks, or what nested ones are decoded with.
    pub fn absmax(&self) -> BufferArg {
        self.absmax.clone().into_buffer_arg()
    }
}

/// Units for each of `rows` rows of `vectors` vectors: enough to fill the device, but none without work.
pub(super) fn row_units(client: &Client, rows: usize, vectors: usize) -> RowUnits {
    let plane = plane_size(client);
    let width = plane.unwrap_or(USUAL_PLANE);
    let most = most_units(client).max(width);
    let wanted = (PLANES_IN_FLIGHT / rows.max(1)).clamp(1, MAX_PLANES_PER_ROW);
    let useful = vectors.div_ceil(width).max(1);
    let mut per_row = width * wanted.min(useful).next_power_of_two();
    while per_row > most {
        per_row /= 2;
    }
    RowUnits { per_row, of_cube: per_row.max(UNITS.min(most) / per_row * per_row), plane }
}

/// Units of a plane, if all planes have the same number and their units can exchange values.
fn plane_size(client: &Client) -> Option<usize> {
    let hardware = &client.properties().hardware;
    let exchanges = client.features().plane.contains(Plane::Ops) && hardware.plane_size_min == hardware.plane_size_max;
    exchanges.then_some(hardware.plane_size_max as usize)
}

/// Units that a cube may have: at least as many as fill the table of codes.
fn most_units(client: &Client) -> usize {
    (client.properties().hardware.max_units_per_cube as usize).max(TABLE_COPIES)
}

/// Elements of one load of a unit: at most those of a word of codes.
pub(super) fn vector_size(client: &Client, dtype: DType) -> usize {
    client.io_optimized_vector_sizes(dtype.size()).filter(|size| CODES.is_multiple_of(*size)).max().unwrap_or(1)
}

/// A number of cubes within the limit of one axis that every device has.
pub(super) fn cube_count(cubes: usize) -> CubeCount {
    const AXIS: usize = 1 << 15;
    if cubes <= AXIS {
        return CubeCount::new_1d(cubes as u32);
    }
    CubeCount::new_2d(AXIS as u32, cubes.div_ceil(AXIS) as u32)
}

/// An uninitialised tensor of `elements` elements.
pub(super) fn empty(like: CubeTensor, shape: [usize; 2], elements: usize, dtype: DType) -> CubeTensor {
    let handle = like.client.empty(elements * dtype.size());
    CubeTensor::new_contiguous(like.client, like.device, Shape::from(shape), handle, dtype)
}

/// Room for the codes and scales of a weight, which lives as long as the model: pools for short-lived tensors would round it up.
pub(super) fn room(like: &CubeTensor, layout: Layout4bit) -> (CubeTensor, CubeTensor) {
    let client = like.client.clone();
    let blocks = layout.blocks();
    let create = |elements: usize, dtype: DType| {
        let handle = client.memory_persistent_allocation((), |()| client.empty(elements * dtype.size()));
        CubeTensor::new_contiguous(client.clone(), like.device.clone(), Shape::from([elements]), handle, dtype)
    };
    (create(layout.padded_bytes(), DType::U8), create(blocks, DType::F32))
}

/// Quantises values that begin at the element `at`, the first of a block, into codes and scales of a whole weight.
pub(super) fn quantize(values: CubeTensor, packed: &CubeTensor, absmax: &CubeTensor, at: usize, layout: Layout4bit) {
    let client = packed.client.clone();
    let (elements, dtype, blocksize) = (values.shape().num_elements(), values.dtype, layout.blocksize.get());
    let plan = quantize_plan(&client, layout, elements);
    let end = at.checked_add(elements).filter(|end| *end <= layout.shape[0] * layout.shape[1]);
    assert!(
        end.is_some() && at.is_multiple_of(blocksize) && u32::try_from(elements + plan.of_cube() * CODES * 2).is_ok(),
        "{elements} at {at} of {layout:?}"
    );
    assert!(packed.shape().num_elements() == layout.padded_bytes(), "codes for {layout:?}");
    assert!(absmax.shape().num_elements() == layout.blocks());
    let width = client.io_optimized_vector_sizes(dtype.size());
    let width = width.filter(|size| CODES.is_multiple_of(*size) && elements.is_multiple_of(*size)).max().unwrap_or(1);
    let words = elements.div_ceil(CODES);
    // SAFETY: as the assertions say, codes and scales of the window are within those of the weight, and units beyond the window
    // read and write nothing.
    unsafe {
        kernels::quantize::launch_unchecked(
            &client,
            cube_count(words.div_ceil(plan.of_cube())),
            CubeDim::new_1d(plan.units as u32),
            width,
            into_contiguous(values).into_buffer_arg(),
            BufferArg::from_raw_parts(packed.handle.clone(), layout.padded_bytes() / 4),
            absmax.clone().into_buffer_arg(),
            elements as u32,
            (at / CODES) as u32,
            (at / blocksize) as u32,
            plan,
            dtype_to_elem_type(dtype),
        );
    }
}

/// Whether a cube of the device holds the units of a block.
pub(super) fn quantizes(client: &Client, blocksize: usize) -> bool {
    blocksize / CODES <= most_units(client)
}

fn quantize_plan(client: &Client, layout: Layout4bit, elements: usize) -> QuantizePlan {
    let blocksize = layout.blocksize.get();
    let units_per_block = blocksize / CODES;
    let units = units_per_block.max(2 * UNITS.min(most_units(client) / 2));
    let [least, most] = QUANTIZED_WORDS;
    QuantizePlan {
        quant_type: layout.quant_type,
        units_per_block,
        units,
        words: (elements / (CODES * units * QUANTIZING_CUBES)).next_power_of_two().clamp(least, most),
        is_short: !elements.is_multiple_of(blocksize),
        shuffles: plane_size(client).is_some_and(|plane| units_per_block <= plane),
    }
}
