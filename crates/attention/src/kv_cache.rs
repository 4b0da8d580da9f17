//! The KV cache of one layer.

mod buffer;

use crate::AttentionError;
use buffer::Buffer;
use burn::tensor::Tensor;

/// The KV cache of one layer: keys `[batch, kv_heads, positions, head_dim]`, values `[batch, kv_heads, positions,
/// value_dim]`.
///
/// - [`growing`](Self::growing) keeps every position; its buffer doubles when full.
/// - [`preallocated`](Self::preallocated) keeps every position up to a capacity, in one buffer.
/// - [`rolling`](Self::rolling) keeps the past positions that a sliding or chunked mask can still attend to.
/// - [`none`](Self::none) keeps nothing: for attention whose sequences come in one call.
///
/// The first three write new positions in place and hand out views of their buffer, so a decode step does not copy past
/// positions. A view that outlives the next `append` stays valid, but makes that call copy the buffer: drop it first.
///
/// ```
/// use automodel_attention::KvCache;
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::flex();
/// let tokens = |n| Tensor::<4>::ones([1, 2, n, 4], &device);
/// let mut cache = KvCache::rolling(3);
///
/// let keys = cache.append(tokens(5), tokens(5))?; // a prompt longer than the window: all its keys
/// assert_eq!((keys.k.dims()[2], keys.key_start), (5, 0));
/// drop(keys);
///
/// let keys = cache.append(tokens(1), tokens(1))?; // the last two and the new one
/// assert_eq!((keys.k.dims()[2], keys.key_start), (3, 3));
/// assert_eq!(cache.length(), 6);
/// # Ok::<(), automodel_attention::AttentionError>(())
/// ```
#[derive(Clone, Debug)]
pub struct KvCache {
    kind: Kind,
    buffer: Option<Buffer>,
    /// Positions appended since the start.
    length: usize,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Growing,
    Preallocated { capacity: usize },
    Rolling { past: usize },
    None,
}

/// Minimum of spare positions in a new buffer.
const MIN_ROOM: usize = 16;

/// Positions for which a cache has room that keeps the last `past` of them: a quarter comes on top, so that old positions are moved once
/// in many steps.
///
/// ```
/// assert_eq!(automodel_attention::rolling_capacity(4096), 5120);
/// assert_eq!(automodel_attention::rolling_capacity(4), 20);
/// ```
pub fn rolling_capacity(past: usize) -> usize {
    past.saturating_add((past / 4).max(MIN_ROOM))
}

/// Keys and values for one call of [`attention()`](crate::attention()): cached ones followed by the new ones.
#[derive(Clone, Debug)]
pub struct KeysAndValues {
    /// `[batch, kv_heads, keys, head_dim]`
    pub k: Tensor<4>,
    /// `[batch, kv_heads, keys, value_dim]`
    pub v: Tensor<4>,
    /// Absolute index of the first key, for [`Positions::key_start`](crate::Positions::key_start).
    pub key_start: usize,
}

impl KvCache {
    /// Keeps every position, without a limit.
    pub fn growing() -> Self {
        Self::of(Kind::Growing)
    }

    /// Keeps every position in a buffer for `capacity` positions, allocated by the first
    /// [`append`](Self::append).
    pub fn preallocated(capacity: usize) -> Self {
        Self::of(Kind::Preallocated { capacity })
    }

    /// Keeps the last `window - 1` positions between calls: those that the next query of a sliding mask of `window`, or of a
    /// chunked mask with chunks of `window` positions, can still attend to.
    ///
    /// The buffer is a quarter larger than the window, so that old positions are moved once in many steps.
    pub fn rolling(window: usize) -> Self {
        Self::of(Kind::Rolling { past: window.saturating_sub(1) })
    }

    /// Keeps nothing: each call's queries see the keys of that call alone.
    ///
    /// ```
    /// use automodel_attention::KvCache;
    /// use burn::tensor::{Device, Tensor};
    ///
    /// let tokens = || Tensor::<4>::ones([1, 2, 5, 4], &Device::flex());
    /// let mut cache = KvCache::none();
    /// assert_eq!(cache.append(tokens(), tokens())?.k.dims()[2], 5);
    /// assert_eq!(cache.bytes(), 0);
    /// # Ok::<(), automodel_attention::AttentionError>(())
    /// ```
    pub fn none() -> Self {
        Self::of(Kind::None)
    }

    fn of(kind: Kind) -> Self {
        Self { kind, buffer: None, length: 0 }
    }

    /// Appends the keys and values of new positions and returns all that the queries of this call need.
    ///
    /// # Errors
    /// Shapes that do not match each other or the cache, another dtype or device, a full preallocated cache, a buffer
    /// that cannot be allocated. The cache is then unchanged.
    pub fn append(&mut self, k: Tensor<4>, v: Tensor<4>) -> Result<KeysAndValues, AttentionError> {
        let added = buffer::check_pair(&k, &v)?;
        let length = self
            .length
            .checked_add(added)
            .ok_or(AttentionError::PositionOverflow { start: self.length, length: added })?;
        match &self.buffer {
            Some(buffer) if self.length > 0 => buffer.check_continues(&k, &v)?,
            // After a reset, buffers of the same shape, dtype and device are reused.
            Some(buffer) if buffer.check_continues(&k, &v).is_err() => self.buffer = None,
            _ => {}
        }
        let (k, v) = match self.kind {
            Kind::Growing => self.grow(k, v)?,
            Kind::Preallocated { capacity } if length > capacity => {
                return Err(AttentionError::CacheCapacity { capacity, length: self.length, added });
            }
            Kind::Preallocated { capacity } => self.write(k, v, capacity)?,
            Kind::Rolling { past } => self.roll(k, v, past)?,
            Kind::None => (k, v),
        };
        self.length = length;
        let [_, _, keys, _] = k.dims();
        Ok(KeysAndValues { k, v, key_start: length - keys })
    }

    /// Positions appended since the start: the absolute index of the next one. A rolling cache keeps fewer.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The cached keys and values, the last of [`length`](Self::length) positions; `None` for an empty cache.
    pub fn kept(&self) -> Option<(Tensor<4>, Tensor<4>)> {
        self.buffer.as_ref().filter(|buffer| buffer.len() > 0).map(Buffer::views)
    }

    /// Removes all positions; the next sequence may have another shape. Buffers are kept for a sequence of the same shape.
    pub fn reset(&mut self) {
        self.length = 0;
        if let Some(buffer) = &mut self.buffer {
            buffer.forget(0);
        }
    }

    /// Bytes of the buffers, spare positions included.
    pub fn bytes(&self) -> usize {
        self.buffer.as_ref().map_or(0, Buffer::bytes)
    }

    /// Writes into the buffer, or into one half as large again.
    fn grow(&mut self, k: Tensor<4>, v: Tensor<4>) -> Result<(Tensor<4>, Tensor<4>), AttentionError> {
        let [_, _, added, _] = k.dims();
        let needed = self.kept_positions().saturating_add(added);
        let capacity = needed.saturating_add((needed / 2).max(MIN_ROOM));
        self.write(k, v, capacity)
    }

    /// Writes into the buffer; if it is full, into a new one for `capacity` positions.
    fn write(&mut self, k: Tensor<4>, v: Tensor<4>, capacity: usize) -> Result<(Tensor<4>, Tensor<4>), AttentionError> {
        let [_, _, added, _] = k.dims();
        let buffer = match self.buffer.take() {
            Some(buffer) if buffer.has_room(added) => buffer,
            Some(buffer) => match buffer.reallocated(capacity) {
                Ok(moved) => moved,
                Err(error) => {
                    self.buffer = Some(buffer);
                    return Err(error);
                }
            },
            None => Buffer::new(&k, &v, capacity)?,
        };
        let buffer = buffer.write(k, v);
        let views = buffer.views();
        self.buffer = Some(buffer);
        Ok(views)
    }

    /// Writes into the buffer, whose kept positions are moved to the front when it is full. New positions that exceed
    /// it are returned beside the kept ones without passing through it.
    fn roll(&mut self, k: Tensor<4>, v: Tensor<4>, past: usize) -> Result<(Tensor<4>, Tensor<4>), AttentionError> {
        let [_, _, added, _] = k.dims();
        let needed = self.kept_positions().saturating_add(added);
        let largest = rolling_capacity(past);
        let room = self.buffer.as_ref().is_some_and(|buffer| buffer.has_room(added));
        let views = if room || needed <= largest {
            let capacity = needed.saturating_add(needed.max(MIN_ROOM)).min(largest);
            self.write(k, v, capacity)?
        } else {
            let (k, v) = match self.buffer.as_ref().filter(|buffer| buffer.len() > 0) {
                Some(buffer) => {
                    let (kept_k, kept_v) = buffer.views();
                    (Tensor::cat(vec![kept_k, k], 2), Tensor::cat(vec![kept_v, v], 2))
                }
                None => (k, v),
            };
            let mut buffer = Buffer::new(&k, &v, largest)?;
            let tail = past.min(needed);
            if tail > 0 {
                let last = |all: &Tensor<4>| all.clone().narrow(2, needed - tail, tail);
                buffer = buffer.write(last(&k), last(&v));
            }
            self.buffer = Some(buffer);
            (k, v)
        };
        if let Some(buffer) = &mut self.buffer {
            buffer.forget(past);
        }
        Ok(views)
    }

    fn kept_positions(&self) -> usize {
        self.buffer.as_ref().map_or(0, Buffer::len)
    }
}
