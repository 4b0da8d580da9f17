//! Attention of one decode step: one new token of each sequence over a static KV cache.
//!
//! Everything that changes between steps, including the position, is in device memory, so a step can be captured once (a CUDA graph)
//! and replayed. GPUs support this in builds with their feature; [`supports`] says whether a device does.

mod kernels;
mod launch;
mod ops;

use crate::{AttentionError, AttentionMask, AttentionParams, KvCache, RopePairing, RopeTables};
use burn::backend::{Dispatch, DispatchDevice};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use ops::StepOps;

/// Keys of a chunk, and units of the cube that processes it.
const UNITS: usize = 128;
/// Maximum of float32 query elements in the shared memory of a cube.
const MAX_QUERIES: usize = 4096;

/// Compile-time parameters of the rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RotatePlan {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Pairs that are rotated; 0 for none.
    pub rotary_half: usize,
    pub interleaved: bool,
}

/// Compile-time parameters of attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AttendPlan {
    pub kv_heads: usize,
    /// Query heads that share a key-value head.
    pub group: usize,
    pub head_dim: usize,
    pub scale: Float,
    pub softcap: Option<Float>,
    pub window: Option<usize>,
    pub sinks: bool,
    pub units: usize,
}

/// A float32 by its bits, so that plans can be compared and hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Float(u32);

impl Float {
    fn new(value: f64) -> Self {
        Self((value as f32).to_bits())
    }

    pub(crate) fn get(self) -> f32 {
        f32::from_bits(self.0)
    }
}

/// Sizes of a layer's heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepHeads {
    /// Query heads.
    pub heads: usize,
    /// Key-value heads, which divide them.
    pub kv_heads: usize,
    /// Width of a head of queries, keys and values.
    pub head_dim: usize,
}

/// Whether a device supports captured attention for a layer.
pub fn supports(device: &Device, heads: StepHeads, mask: &AttentionMask) -> bool {
    let is_gpu = matches!(device.clone().inner().as_dispatch(), DispatchDevice::Cube(_));
    let StepHeads { heads, kv_heads, head_dim } = heads;
    let has_room = kv_heads > 0 && heads.is_multiple_of(kv_heads) && {
        let group = heads / kv_heads;
        group <= UNITS / 4 && group * head_dim <= MAX_QUERIES
    };
    is_gpu && has_room && matches!(mask, AttentionMask::Full | AttentionMask::Sliding { .. })
}

/// The position of the new tokens, in device memory.
#[derive(Clone, Debug)]
pub struct StepPosition {
    /// Int32 `[1]`: absolute index of the new tokens, padding included.
    pub position: Tensor<1, Int>,
    /// Int32 `[batch]`: left padding of each sequence.
    pub padding: Tensor<1, Int>,
}

impl StepPosition {
    /// The position after `length` earlier ones, with the left padding of each sequence.
    pub fn new(length: usize, padding: &[usize], device: &Device) -> Self {
        let ints = |values: Vec<i32>| {
            let count = values.len();
            Tensor::from_data(TensorData::new(values, [count]), (device, DType::I32))
        };
        Self { position: ints(vec![length as i32]), padding: ints(padding.iter().map(|&n| n as i32).collect()) }
    }

    /// Sets the position after `length` earlier ones, in the same memory.
    pub fn set(&mut self, length: usize) {
        let position = <Dispatch as StepOps>::set_position(self.position.clone().into_dispatch(), length as u32);
        self.position = Tensor::from_dispatch(position);
    }
}

/// Cosines and sines of all positions, in the layout of the kernels.
#[derive(Clone, Debug)]
pub struct StepRope {
    /// `[positions * half]`
    cos: Tensor<1>,
    sin: Tensor<1>,
    positions: usize,
    half: usize,
    pairing: RopePairing,
}

impl StepRope {
    /// From tables with a single row, whose positions count from 0.
    pub fn new(tables: &RopeTables) -> Self {
        let [_, _, positions, half] = tables.cos().dims();
        let flat = |table: Tensor<4>| table.narrow(0, 0, 1).reshape([positions * half]);
        Self { cos: flat(tables.cos()), sin: flat(tables.sin()), positions, half, pairing: tables.pairing() }
    }

    /// Number of positions in the tables.
    pub fn positions(&self) -> usize {
        self.positions
    }
}

/// The KV cache of one layer in buffers of a fixed capacity that are never reallocated, as captured decode needs it.
#[derive(Clone, Debug)]
pub struct StaticKvCache {
    /// `[batch * kv_heads * capacity * head_dim]`: one axis, because backends may pad more.
    k: Tensor<1>,
    v: Tensor<1>,
    /// `[batch, kv_heads, capacity, head_dim]`
    shape: [usize; 4],
}

impl StaticKvCache {
    /// A copy of `cache` with a capacity of `capacity` positions; `None` for an empty cache, whose sizes are unknown.
    ///
    /// # Errors
    /// [`AttentionError::CacheCapacity`] if `cache` is longer, [`AttentionError::CacheShape`] if values are not as wide as keys,
    /// [`AttentionError::CacheAllocation`] for more elements than 32 bits can index.
    pub fn of(cache: &KvCache, capacity: usize) -> Result<Option<Self>, AttentionError> {
        let length = cache.length();
        if length > capacity {
            return Err(AttentionError::CacheCapacity { capacity, length, added: 0 });
        }
        let Some((k, v)) = cache.kept() else { return Ok(None) };
        if k.dims() != v.dims() {
            let (expected, found) = (format!("{:?} like keys", k.dims()), v.dims().to_vec());
            return Err(AttentionError::CacheShape { tensor: "values", expected, found });
        }
        Self::filled(k, v, length, capacity).map(Some)
    }

    /// A copy of the first `length` positions with a capacity of `capacity`.
    ///
    /// # Errors
    /// [`AttentionError::CacheAllocation`] for more elements than 32 bits can index.
    pub fn grown(&self, length: usize, capacity: usize) -> Result<Self, AttentionError> {
        let kept = |buffer: &Tensor<1>| buffer.clone().reshape(self.shape).narrow(2, 0, length);
        Self::filled(kept(&self.k), kept(&self.v), length, capacity)
    }

    /// Capacity in positions.
    pub fn capacity(&self) -> usize {
        self.shape[2]
    }

    /// Bytes of both buffers.
    pub fn bytes(&self) -> usize {
        2 * self.shape.iter().product::<usize>() * self.k.dtype().size()
    }

    /// New buffers whose positions up to `length` end with `k` and `v`; earlier ones are zeros.
    fn filled(k: Tensor<4>, v: Tensor<4>, length: usize, capacity: usize) -> Result<Self, AttentionError> {
        let [batch, kv_heads, count, width] = k.dims();
        let shape = [batch, kv_heads, capacity, width];
        let elements = shape.iter().try_fold(1usize, |elements, &dim| elements.checked_mul(dim));
        // Kernels index with 32 bits.
        let elements = elements.filter(|&elements| u32::try_from(elements).is_ok());
        let elements = elements.ok_or(AttentionError::CacheAllocation { shape })?;
        let place = |kept: Tensor<4>| {
            let buffer = Tensor::<4>::zeros(shape, (&kept.device(), kept.dtype()));
            let buffer = buffer.slice_assign([0..batch, 0..kv_heads, length - count..length, 0..width], kept);
            buffer.reshape([elements])
        };
        Ok(Self { k: place(k), v: place(v), shape })
    }

    /// Appends the keys and values of one new token of each sequence and returns the attention of its queries.
    ///
    /// - `q`: `[batch, heads * head_dim]`, `k` and `v`: `[batch, kv_heads * head_dim]`, as projections return them
    /// - `rope`: tables of all positions up to the capacity, or `None` without rotary embedding
    /// - `sinks`: `[heads]`
    ///
    /// Returns `[batch, heads * head_dim]` in the dtype of `q`. The position is not known on the host: one beyond the capacity is
    /// clamped to the last.
    ///
    /// # Errors
    /// [`AttentionError::Dtype`] if the dtypes differ, [`AttentionError::CacheShape`] if sizes do not match.
    #[allow(clippy::too_many_arguments, reason = "the inputs of attention")]
    pub fn attend(
        &mut self,
        q: Tensor<2>,
        k: Tensor<2>,
        v: Tensor<2>,
        rope: Option<&StepRope>,
        sinks: Option<Tensor<1>>,
        params: &AttentionParams,
        at: &StepPosition,
    ) -> Result<Tensor<2>, AttentionError> {
        let [_, kv_heads, _, head_dim] = self.shape;
        let heads = self.check(&q, &k, &v, rope)?;
        let (position, padding) = (at.position.clone().into_dispatch(), at.padding.clone().into_dispatch());
        let rotate = RotatePlan {
            heads,
            kv_heads,
            head_dim,
            rotary_half: rope.map_or(0, |rope| rope.half),
            interleaved: rope.is_some_and(|rope| rope.pairing == RopePairing::Interleaved),
        };
        let q = q.into_dispatch();
        // Without rotary embedding the kernel does not read the tables: any tensor will do.
        let angles = |table: fn(&StepRope) -> &Tensor<1>| match rope {
            Some(rope) => table(rope).clone().into_dispatch(),
            None => q.clone(),
        };
        let (rotated, k_cache, v_cache) = <Dispatch as StepOps>::rotate_and_append(
            q.clone(),
            k.into_dispatch(),
            v.into_dispatch(),
            angles(|rope| &rope.cos),
            angles(|rope| &rope.sin),
            position.clone(),
            padding.clone(),
            self.k.clone().into_dispatch(),
            self.v.clone().into_dispatch(),
            self.shape[2],
            rotate,
        );
        // The same buffers as results of the launch, so that readers are ordered after the write.
        self.k = Tensor::from_dispatch(k_cache.clone());
        self.v = Tensor::from_dispatch(v_cache.clone());
        let attend = AttendPlan {
            kv_heads,
            group: heads / kv_heads,
            head_dim,
            scale: Float::new(params.scale),
            softcap: params.softcap.map(Float::new),
            window: params.mask.window(),
            sinks: sinks.is_some(),
            units: UNITS,
        };
        let sinks = match sinks {
            Some(sinks) => sinks.cast(DType::F32).into_dispatch(),
            None => rotated.clone(),
        };
        let capacity = self.shape[2];
        let y = <Dispatch as StepOps>::attend_to_cache(
            rotated, k_cache, v_cache, sinks, position, padding, capacity, attend,
        );
        Ok(Tensor::from_dispatch(y))
    }

    /// The number of query heads, after a check of all sizes.
    fn check(
        &self,
        q: &Tensor<2>,
        k: &Tensor<2>,
        v: &Tensor<2>,
        rope: Option<&StepRope>,
    ) -> Result<usize, AttentionError> {
        let [batch, kv_heads, capacity, head_dim] = self.shape;
        let heads = q.dims()[1] / head_dim.max(1);
        let shape = |tensor, expected, found: Vec<usize>| AttentionError::CacheShape { tensor, expected, found };
        if heads == 0 || !heads.is_multiple_of(kv_heads) {
            let expected = format!("[{batch}, a multiple of {}]", kv_heads * head_dim);
            return Err(shape("queries", expected, q.dims().to_vec()));
        }
        for (tensor, found, heads) in [("queries", q, heads), ("keys", k, kv_heads), ("values", v, kv_heads)] {
            if found.dims() != [batch, heads * head_dim] {
                return Err(shape(tensor, format!("[{batch}, {}]", heads * head_dim), found.dims().to_vec()));
            }
            if found.dtype() != self.k.dtype() {
                let expected = format!("{:?} like the cache", self.k.dtype());
                return Err(AttentionError::Dtype { tensor, expected, found: found.dtype() });
            }
        }
        if let Some(rope) = rope
            && (rope.positions < capacity || 2 * rope.half > head_dim)
        {
            let expected = format!("[{capacity} or more, at most {}]", head_dim / 2);
            return Err(shape("rotary tables", expected, vec![rope.positions, rope.half]));
        }
        Ok(heads)
    }
}
