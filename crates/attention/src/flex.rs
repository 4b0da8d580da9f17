//! Tiles of queries and keys with an online softmax, on Burn's CPU backend.
//!
//! The arithmetic of [`tiled`](crate::tiled), cut so that the scores of a tile stay in the processor's cache: one task
//! for each row, key-value head and tile of queries, run in parallel. Products are Burn's; keys and values are read
//! through their strides, so the view of a cache or a transposed projection is not copied. The few rows of a decoding
//! step use this crate's own [products]. Sizes of tiles are the fastest of those tried (64 to 512 rows, 16 to 128
//! thousand scores) at 32 heads over 4 and 16 over 16, `head_dim` 64, 1024 positions.

use crate::attention::{AttentionParams, Sizes};
use crate::host::{self, Rows4};
use crate::mask::CallMask;
use crate::products::{self, Rows};
use crate::{Alibi, softmax};
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{DType, FloatDType, Shape, Tensor, TensorData};
use burn_flex::{Flex, FlexTensor, Layout};
use rayon::prelude::*;
use std::ops::Range;

/// Approximate rows (queries of all heads of a group) of one tile.
const TILE_ROWS: usize = 256;
/// Maximum of scores of one tile: 256 KiB.
const TILE_SCORES: usize = 64 * 1024;
/// Maximum of keys of one tile.
const TILE_KEYS: usize = 1024;
/// Rows up to which the products of this crate are used.
const FEW_ROWS: usize = 16;
/// Products below this many multiplications run on the calling thread in Burn.
const SERIAL_PRODUCT: usize = 6_000_000;
/// Multiplications below which tasks are not worth distributing.
const SERIAL_CALL: usize = 256 * 1024;

/// Attention on Flex; `None` if the tensors are not plain float32, float16 or bfloat16 tensors of that backend.
pub(crate) fn attention(
    q: &Tensor<4>,
    k: &Tensor<4>,
    v: &Tensor<4>,
    sinks: Option<&Tensor<1>>,
    params: &AttentionParams,
    mask: &CallMask<'_>,
    sizes: &Sizes,
) -> Option<Tensor<4>> {
    let dtype = q.dtype();
    if dtype == DType::F64 {
        return None;
    }
    let q = primitive(q)?;
    let sinks = match sinks {
        Some(sinks) => Some(primitive(&sinks.clone().cast(DType::F32))?.to_contiguous()),
        None => None,
    };
    let q = host::with_whole_rows(to_f32(q));
    let call = Call {
        q: Rows4::of(&q)?,
        k: primitive(k)?,
        v: primitive(v)?,
        sinks: sinks.as_ref().and_then(|sinks| sinks.as_slice::<f32>()),
        slopes: params.alibi.map_or_else(Vec::new, |_| Alibi::slopes(sizes.heads)),
        params,
        mask,
        sizes,
    };
    let output = host::flex_tensor(call.run(), [sizes.batch, sizes.queries, sizes.heads, sizes.value_dim]);
    Some(output.cast(dtype).swap_dims(1, 2))
}

fn primitive<const D: usize>(tensor: &Tensor<D>) -> Option<FlexTensor> {
    tensor.clone().try_into_primitive::<Flex>().ok()
}

fn to_f32(tensor: FlexTensor) -> FlexTensor {
    if tensor.dtype() == DType::F32 { tensor } else { Flex::float_cast(tensor, FloatDType::F32) }
}

struct Call<'a> {
    /// `[batch, heads, queries, head_dim]`
    q: Rows4<'a>,
    k: FlexTensor,
    v: FlexTensor,
    sinks: Option<&'a [f32]>,
    /// Of the linear biases, if there are any.
    slopes: Vec<f32>,
    params: &'a AttentionParams,
    mask: &'a CallMask<'a>,
    sizes: &'a Sizes,
}

/// One row, key-value head and tile of queries.
struct Task {
    row: usize,
    kv_head: usize,
    queries: Range<usize>,
}

impl Call<'_> {
    /// Output `[batch, queries, heads, value_dim]`.
    fn run(&self) -> Vec<f32> {
        let Sizes { batch, heads, kv_heads, queries, keys, head_dim, value_dim } = *self.sizes;
        let block = (TILE_ROWS / self.sizes.group()).clamp(1, queries);
        let blocks = queries.div_ceil(block);
        let mut tasks = Vec::with_capacity(batch * kv_heads * blocks);
        for row in 0..batch {
            for kv_head in 0..kv_heads {
                let starts = (0..queries).step_by(block);
                let of_block = |start| Task { row, kv_head, queries: start..(start + block).min(queries) };
                tasks.extend(starts.map(|start| (of_block(start), Vec::with_capacity(block))));
            }
        }

        // Each task gets the slices of the output that it writes: for each query the heads of its group side by side.
        let mut output = vec![0.0; batch * queries * heads * value_dim];
        for (index, part) in output.chunks_exact_mut(self.sizes.group() * value_dim).enumerate() {
            let (position, kv_head) = (index / kv_heads, index % kv_heads);
            let (row, query) = (position / queries, position % queries);
            tasks[(row * kv_heads + kv_head) * blocks + query / block].1.push(part);
        }
        let work = (batch * heads * queries).saturating_mul(keys).saturating_mul(head_dim);
        if work < SERIAL_CALL {
            tasks.iter_mut().for_each(|(task, output)| self.attend(task, output));
        } else {
            tasks.par_iter_mut().with_max_len(1).for_each(|(task, output)| self.attend(task, output));
        }
        output
    }

    /// Writes the output of one task: for each of its queries `[group, value_dim]`.
    fn attend(&self, task: &Task, output: &mut [&mut [f32]]) {
        let Sizes { head_dim, value_dim, .. } = *self.sizes;
        let height = task.queries.len();
        let rows = self.sizes.group() * height;
        let queries = self.scaled_queries(task);
        let mut state = self.start(task, rows);

        let seen = self.mask.union(task.row..task.row + 1, task.queries.clone());
        let widest = head_dim.max(value_dim);
        let tile = (TILE_SCORES / rows).min(SERIAL_PRODUCT / (rows * widest)).clamp(16, TILE_KEYS);
        for start in seen.clone().step_by(tile) {
            let keys = start..(start + tile).min(seen.end);
            let k = tile_of(&self.k, task, &keys);
            let v = tile_of(&self.v, task, &keys);
            let few = rows <= FEW_ROWS;
            match (rows_of(&k).filter(|_| few), rows_of(&v).filter(|_| few)) {
                (Some(k), Some(v)) => {
                    let mut scores = vec![0.0; rows * keys.len()];
                    products::scores(queries.storage(), k, &mut scores);
                    self.exponentiate(&mut scores, task, &keys, &mut state);
                    state.correct(value_dim);
                    products::add_weighted(&scores, v, &mut state.output);
                }
                _ => {
                    let transposed = k.layout().transpose(0, 1);
                    let mut scores = Flex::float_matmul(queries.clone(), k.with_layout(transposed));
                    self.exponentiate(scores.storage_mut(), task, &keys, &mut state);
                    let added = Flex::float_matmul(scores, v);
                    state.correct(value_dim);
                    state.add(added.storage());
                }
            }
        }
        state.finish(value_dim, output);
    }

    /// Turns the scores `[group * queries, keys]` of a tile into weights relative to each row's new maximum.
    fn exponentiate(&self, scores: &mut [f32], task: &Task, keys: &Range<usize>, state: &mut OnlineSoftmax) {
        let height = task.queries.len();
        let visible: Vec<Range<usize>> = task
            .queries
            .clone()
            .map(|query| {
                let seen = self.mask.visible(task.row, query);
                let local = |key: usize| key.clamp(keys.start, keys.end) - keys.start;
                local(seen.start)..local(seen.end)
            })
            .collect();
        for (index, row) in scores.chunks_exact_mut(keys.len()).enumerate() {
            let seen = visible[index % height].clone();
            row[..seen.start].fill(0.0);
            row[seen.end..].fill(0.0);
            let first = keys.start + seen.start;
            let row = &mut row[seen];
            if row.is_empty() {
                state.correction[index] = 1.0;
                continue;
            }
            if let Some(cap) = self.params.softcap {
                softmax::cap(row, cap as f32);
            }
            if let Some(alibi) = &self.params.alibi {
                let slope = self.slopes[task.kv_head * self.sizes.group() + index / height];
                let positions = self.mask.key_position(task.row, first)..;
                row.iter_mut().zip(positions).for_each(|(score, position)| *score += alibi.bias(slope, position));
            }
            let old = state.max[index];
            let max = softmax::max(row).max(old);
            let sum = softmax::exp_sum(row, max);
            let correction = if old == f32::NEG_INFINITY { 0.0 } else { (old - max).exp() };
            state.max[index] = max;
            state.sum[index] = state.sum[index] * correction + sum;
            state.correction[index] = correction;
        }
    }

    /// Queries `[group * queries, head_dim]` times the scale, over the soft-cap if there is one.
    fn scaled_queries(&self, task: &Task) -> FlexTensor {
        let (group, head_dim) = (self.sizes.group(), self.sizes.head_dim);
        let scale = (self.params.scale / self.params.softcap.unwrap_or(1.0)) as f32;
        let mut scaled = Vec::with_capacity(group * task.queries.len() * head_dim);
        for head in task.kv_head * group..(task.kv_head + 1) * group {
            for query in task.queries.clone() {
                scaled.extend(self.q.row([task.row, head, query]).iter().map(|x| x * scale));
            }
        }
        FlexTensor::from_data(TensorData::new(scaled, [group * task.queries.len(), head_dim]))
    }

    /// An online softmax without keys: empty, or with the sinks.
    fn start(&self, task: &Task, rows: usize) -> OnlineSoftmax {
        let height = task.queries.len();
        let (max, sum) = match self.sinks {
            None => (vec![f32::NEG_INFINITY; rows], vec![0.0; rows]),
            Some(sinks) => {
                let first = task.kv_head * self.sizes.group();
                ((0..rows).map(|row| sinks[first + row / height]).collect(), vec![1.0; rows])
            }
        };
        OnlineSoftmax { max, sum, correction: vec![1.0; rows], output: vec![0.0; rows * self.sizes.value_dim] }
    }
}

/// The view `[keys, width]` of one row and head, in float32.
fn tile_of(tensor: &FlexTensor, task: &Task, keys: &Range<usize>) -> FlexTensor {
    let part = tensor.layout().narrow(0, task.row, 1).narrow(1, task.kv_head, 1).narrow(2, keys.start, keys.len());
    let shape = Shape::from([keys.len(), part.shape()[3]]);
    let layout = Layout::new(shape, part.strides()[2..].to_vec(), part.start_offset());
    to_f32(FlexTensor::from_arc(tensor.data_arc(), layout, tensor.dtype()))
}

/// The rows of a float32 matrix, if they are contiguous.
fn rows_of(matrix: &FlexTensor) -> Option<Rows<'_>> {
    let layout = matrix.layout();
    let &[stride, 1] = layout.strides() else {
        return None;
    };
    let (count, width) = (layout.shape()[0], layout.shape()[1]);
    let data = matrix.storage().get(layout.start_offset()..)?;
    Some(Rows { data, stride: usize::try_from(stride).ok()?, width, count })
}

/// An online softmax over the rows of a task.
struct OnlineSoftmax {
    max: Vec<f32>,
    sum: Vec<f32>,
    /// Factor by which the last tile rescales everything before it.
    correction: Vec<f32>,
    /// Unnormalised, `[rows, value_dim]`.
    output: Vec<f32>,
}

impl OnlineSoftmax {
    /// Rescales the output to the maximum of the last tile.
    fn correct(&mut self, value_dim: usize) {
        for (output, &correction) in self.output.chunks_exact_mut(value_dim).zip(&self.correction) {
            if correction != 1.0 {
                output.iter_mut().for_each(|x| *x *= correction);
            }
        }
    }

    fn add(&mut self, added: &[f32]) {
        self.output.iter_mut().zip(added).for_each(|(output, added)| *output += added);
    }

    /// Writes the normalised output, for each query the rows of its heads; zeros where no key is visible.
    fn finish(&self, value_dim: usize, output: &mut [&mut [f32]]) {
        let height = output.len();
        for (index, (row, &sum)) in self.output.chunks_exact(value_dim).zip(&self.sum).enumerate() {
            let (member, query) = (index / height, index % height);
            let factor = if sum == 0.0 { 0.0 } else { 1.0 / sum };
            let place = &mut output[query][member * value_dim..][..value_dim];
            place.iter_mut().zip(row).for_each(|(place, x)| *place = x * factor);
        }
    }
}
