//! One buffer of keys and one of values, written in place.

use crate::AttentionError;
use crate::sdpa::is_cpu;
use burn::tensor::{DType, Device, Tensor};
use std::ops::Range;

/// Buffers `[batch, kv_heads, capacity, width]` of which the positions `kept` are in use.
#[derive(Clone, Debug)]
pub(super) struct Buffer {
    k: Tensor<4>,
    v: Tensor<4>,
    kept: Range<usize>,
}

/// Number of positions of keys and values, after a check that they match.
pub(super) fn check_pair(k: &Tensor<4>, v: &Tensor<4>) -> Result<usize, AttentionError> {
    let [batch, kv_heads, added, _] = k.dims();
    let [_, _, _, value_dim] = v.dims();
    if k.dims().contains(&0) {
        let expected = "[batch, kv_heads, positions, head_dim], all at least 1".to_owned();
        return Err(AttentionError::CacheShape { tensor: "keys", expected, found: k.dims().to_vec() });
    }
    if v.dims() != [batch, kv_heads, added, value_dim] || value_dim == 0 {
        let expected = format!("[{batch}, {kv_heads}, {added}, value_dim]");
        return Err(AttentionError::CacheShape { tensor: "values", expected, found: v.dims().to_vec() });
    }
    if (k.dtype(), k.device()) != (v.dtype(), v.device()) {
        return Err(AttentionError::CacheKind { tensor: "values", expected: kind(k), found: kind(v) });
    }
    Ok(added)
}

fn kind(tensor: &Tensor<4>) -> String {
    format!("{:?} on {:?}", tensor.dtype(), tensor.device())
}

impl Buffer {
    /// Empty buffers for `capacity` positions, with the shapes, dtype and device of `k` and `v`.
    pub(super) fn new(k: &Tensor<4>, v: &Tensor<4>, capacity: usize) -> Result<Self, AttentionError> {
        let allocate = |like: &Tensor<4>| -> Result<Tensor<4>, AttentionError> {
            let [batch, kv_heads, _, width] = like.dims();
            let shape = [batch, kv_heads, capacity, width];
            check_allocation(shape, like.dtype(), &like.device())?;
            Ok(Tensor::zeros(shape, (&like.device(), like.dtype())))
        };
        Ok(Self { k: allocate(k)?, v: allocate(v)?, kept: 0..0 })
    }

    /// Checks that new keys and values have the shape, dtype and device of the cached ones.
    pub(super) fn check_continues(&self, k: &Tensor<4>, v: &Tensor<4>) -> Result<(), AttentionError> {
        for (tensor, kept, new) in [("keys", &self.k, k), ("values", &self.v, v)] {
            let [batch, kv_heads, _, width] = kept.dims();
            let [new_batch, new_heads, _, new_width] = new.dims();
            if [batch, kv_heads, width] != [new_batch, new_heads, new_width] {
                let expected = format!("[{batch}, {kv_heads}, positions, {width}]");
                return Err(AttentionError::CacheShape { tensor, expected, found: new.dims().to_vec() });
            }
            if (kept.dtype(), kept.device()) != (new.dtype(), new.device()) {
                return Err(AttentionError::CacheKind { tensor, expected: kind(kept), found: kind(new) });
            }
        }
        Ok(())
    }

    /// Capacity in positions.
    pub(super) fn capacity(&self) -> usize {
        let [_, _, capacity, _] = self.k.dims();
        capacity
    }

    /// Positions in use.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether `added` positions fit after the ones in use.
    pub(super) fn has_room(&self, added: usize) -> bool {
        self.capacity() - self.kept.end >= added
    }

    /// Bytes of both buffers.
    pub(super) fn bytes(&self) -> usize {
        [&self.k, &self.v].iter().map(|buffer| buffer.shape().num_elements() * buffer.dtype().size()).sum()
    }

    /// Removes all but the last `past` positions.
    pub(super) fn forget(&mut self, past: usize) {
        self.kept.start = self.kept.end - self.kept.len().min(past);
        if self.kept.is_empty() {
            self.kept = 0..0;
        }
    }

    /// Writes after the positions in use; there must be room. In place unless a view of the buffer is alive: this
    /// takes the buffers by value because Flex writes in place only through the sole handle.
    pub(super) fn write(self, k: Tensor<4>, v: Tensor<4>) -> Self {
        let [_, _, added, _] = k.dims();
        let end = self.kept.end + added;
        let place = |buffer: Tensor<4>, new: Tensor<4>| {
            let [batch, kv_heads, _, width] = buffer.dims();
            buffer.slice_assign([0..batch, 0..kv_heads, self.kept.end..end, 0..width], new)
        };
        Self { k: place(self.k, k), v: place(self.v, v), kept: self.kept.start..end }
    }

    /// New buffers for `capacity` positions that begin with those in use.
    pub(super) fn reallocated(&self, capacity: usize) -> Result<Self, AttentionError> {
        let buffer = Self::new(&self.k, &self.v, capacity)?;
        if self.len() == 0 {
            return Ok(buffer);
        }
        let (k, v) = self.views();
        Ok(buffer.write(k, v))
    }

    /// Views of the keys and values in use.
    pub(super) fn views(&self) -> (Tensor<4>, Tensor<4>) {
        let view = |buffer: &Tensor<4>| buffer.clone().narrow(2, self.kept.start, self.kept.len());
        (view(&self.k), view(&self.v))
    }
}

/// Returns an error for a size that overflows, or that the CPU's allocator refuses, which would otherwise abort the process.
fn check_allocation(shape: [usize; 4], dtype: DType, device: &Device) -> Result<(), AttentionError> {
    let bytes = shape.iter().try_fold(dtype.size(), |size, &dim| size.checked_mul(dim));
    let refused = match bytes {
        Some(bytes) if isize::try_from(bytes).is_err() => true,
        Some(bytes) => is_cpu(device) && Vec::<u8>::new().try_reserve_exact(bytes).is_err(),
        None => true,
    };
    if refused { Err(AttentionError::CacheAllocation { shape }) } else { Ok(()) }
}
