//! Decoding one token of each sequence over buffers that stay where they are, recorded once and replayed.
//!
//! A pass over one token is some hundred launches, and the host takes longer to ask for them than the device to run them. Where a
//! device can record launches, one call replays them all.

use crate::{DecodeCache, Decoder, FeedForward, LayerState, MixerModule, ModelError};
use automodel_attention::step::{StaticKvCache, StepPosition, StepRope};
use automodel_attention::{Rope, RopeScaling, SdpaBackend};
use burn::tensor::{Device, Graph, Int, Tensor, capture};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// Positions that a cache has room for beyond those it holds, at least; as many again as it holds, up to [`MOST_ROOM`].
const LEAST_ROOM: usize = 256;
const MOST_ROOM: usize = 4096;

/// Steps of one token a sequence: the tokens are read from, and the position kept in, the memory of the device.
pub struct CapturedDecode {
    state: Arc<Mutex<State>>,
    /// Whether steps may be recorded.
    record: bool,
    recorded: Option<Recorded>,
    /// Whose stream of the device the recording was made on.
    thread: ThreadId,
    length: usize,
    capacity: usize,
    /// Most positions that will be asked for.
    limit: usize,
}

type Logits = Result<Tensor<3>, ModelError>;
type Recorded = Graph<Logits, Box<dyn FnMut() -> Logits + Send>>;

/// What a step reads and changes.
struct State {
    decoder: Decoder,
    tokens: Tensor<1, Int>,
    at: StepPosition,
    ropes: Vec<StepRope>,
    caches: Vec<StaticKvCache>,
}

impl std::fmt::Debug for CapturedDecode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CapturedDecode")
            .field("length", &self.length)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

impl CapturedDecode {
    /// Continues after what `cache` holds, up to `limit` positions in all; `None` where the model, its device or the cache has no
    /// such steps. `tokens` is int32 `[batch]`: what each step reads from it, someone else has written to its memory.
    ///
    /// With `record` a step is recorded once, and again when the buffers grow. Meanwhile other work of the process on that device
    /// fails: whoever asks for it has the device for itself. Without, each step is launched.
    ///
    /// # Errors
    /// [`ModelError::Attention`] if a cache does not fit its layer.
    pub fn new(
        decoder: &Decoder,
        cache: &DecodeCache,
        limit: usize,
        tokens: Tensor<1, Int>,
        record: bool,
    ) -> Result<Option<Self>, ModelError> {
        let device = tokens.device();
        let length = cache.length();
        let limit = limit.min(decoder.most_positions());
        let has_steps = decoder.has_steps(&device, tokens.dims()[0], length..limit);
        if !has_steps || length == 0 || length >= limit {
            return Ok(None);
        }
        let capacity = capacity_for(length + 1, limit);
        let Some(caches) = fixed_caches(cache, capacity)? else { return Ok(None) };
        let at = StepPosition::new(length, cache.padding(), &device);
        let state = State { decoder: decoder.clone(), tokens, at, ropes: Vec::new(), caches };
        let (state, thread) = (Arc::new(Mutex::new(state)), thread::current().id());
        Ok(Some(Self { state, record, recorded: None, thread, length, capacity, limit }))
    }

    /// Positions so far.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Whether the device replays a recording, rather than being asked for each launch.
    pub fn is_recorded(&self) -> bool {
        self.recorded.as_ref().is_some_and(Graph::is_hardware)
    }

    /// Logits `[batch, 1, vocab_size]` in float32 for the tokens that are in the buffer now. The tensor is written to by the next
    /// step.
    ///
    /// # Errors
    /// As [`CausalLm::forward`](crate::CausalLm::forward); [`ModelError::TooManyPositions`] beyond the limit.
    pub fn run(&mut self) -> Result<Tensor<3>, ModelError> {
        if self.length >= self.limit {
            return Err(ModelError::TooManyPositions { length: self.length + 1, limit: self.limit });
        }
        if self.length >= self.capacity {
            self.grow()?;
        }
        if self.thread != thread::current().id() {
            self.recorded = None;
            self.thread = thread::current().id();
        }
        self.make_room()?;
        lock(&self.state).at.set(self.length);
        self.length += 1;
        if !self.record {
            return lock(&self.state).forward();
        }
        let recorded = self.recorded.get_or_insert_with(|| record(&self.state));
        // SAFETY: the closure of the recording owns all that its launches read and write: the decoder's parameters, the tokens, the
        // caches, and, as the recording's output, the logits. The recording was made on the stream of this thread, on which the
        // position was written just now, and nothing else writes to these buffers.
        match unsafe { recorded.replay() } {
            Ok(logits) => Ok(logits.clone()),
            // What cannot be computed now could not be computed when it was recorded.
            Err(_) => lock(&self.state).forward(),
        }
    }

    /// Angles for all positions that there is room for.
    fn make_room(&mut self) -> Result<(), ModelError> {
        let mut state = lock(&self.state);
        let known = state.ropes.len() == state.decoder.ropes().len();
        if !known || state.ropes.iter().any(|rope| rope.positions() < self.capacity) {
            let device = state.tokens.device();
            state.ropes = state.decoder.step_ropes(self.capacity, &device)?;
        }
        Ok(())
    }

    /// Larger buffers, for which a new recording has to be made.
    fn grow(&mut self) -> Result<(), ModelError> {
        self.recorded = None;
        self.capacity = capacity_for(self.length + 1, self.limit);
        for (layer, cache) in lock(&self.state).caches.iter_mut().enumerate() {
            let grown = cache.grown(self.length, self.capacity);
            *cache = grown.map_err(|source| ModelError::Attention { layer, source: Box::new(source) })?;
        }
        Ok(())
    }
}

/// Runs a step some times and records it once.
fn record(state: &Arc<Mutex<State>>) -> Recorded {
    let device = lock(state).tokens.device();
    let state = Arc::clone(state);
    let step: Box<dyn FnMut() -> Logits + Send> = Box::new(move || lock(&state).forward());
    capture(&device, step)
}

/// A panic in the middle of a step leaves nothing that the next step builds on.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn forward(&mut self) -> Logits {
        let Self { decoder, tokens, at, ropes, caches } = self;
        // Where a sampler found no token, its row goes on with any.
        let tokens = tokens.clone().clamp_min(0);
        let mut x = decoder.embed_step(tokens, at);
        for (index, (layer, cache)) in decoder.model.layers.iter().zip(caches).enumerate() {
            let rope = layer.rope().and_then(|rope| ropes.get(rope));
            x = layer.run(x, &mut |attention, x| {
                attention
                    .step(x, rope, cache, at)
                    .map_err(|source| ModelError::Attention { layer: index, source: Box::new(source) })
            })?;
        }
        Ok(decoder.logits(decoder.model.norm.forward(x)))
    }
}

/// Room for `needed` positions and some more, within the limit.
fn capacity_for(needed: usize, limit: usize) -> usize {
    needed.saturating_add(needed.clamp(LEAST_ROOM, MOST_ROOM)).next_multiple_of(LEAST_ROOM).min(limit).max(needed)
}

fn fixed_caches(cache: &DecodeCache, capacity: usize) -> Result<Option<Vec<StaticKvCache>>, ModelError> {
    let mut caches = Vec::with_capacity(cache.layers.len());
    for (layer, state) in cache.layers.iter().enumerate() {
        let LayerState::Attention(kept) = state else { return Ok(None) };
        let fixed = StaticKvCache::of(kept, capacity);
        let fixed = fixed.map_err(|source| ModelError::Attention { layer, source: Box::new(source) })?;
        let Some(fixed) = fixed else { return Ok(None) };
        caches.push(fixed);
    }
    Ok(Some(caches))
}

impl Decoder {
    /// Whether every layer has steps of so many tokens on the device, whose attention is the efficient one: none reads anything back,
    /// no angle changes with the length of the sequence while it is within `lengths`.
    fn has_steps(&self, device: &Device, tokens: usize, lengths: Range<usize>) -> bool {
        let is_fixed = |rope: &Rope| match &rope.config().scaling {
            RopeScaling::Dynamic { original_max_position_embeddings: original, .. } => lengths.end <= *original,
            RopeScaling::LongRope { original_max_position_embeddings: original, .. } => {
                lengths.end <= *original || lengths.start >= *original
            }
            _ => true,
        };
        self.attention_backend() == SdpaBackend::EfficientAttention
            && self.ropes().iter().all(is_fixed)
            && self.model.layers.iter().all(|layer| {
                let MixerModule::Attention(attention) = &layer.self_attn;
                let is_routed_there = match &layer.mlp {
                    FeedForward::Moe(moe) => moe.routes_on_device(tokens),
                    FeedForward::Gated(_) | FeedForward::Plain(_) => true,
                };
                attention.has_steps(device) && is_routed_there
            })
    }

    /// Angles of all positions below the capacity.
    fn step_ropes(&self, capacity: usize, device: &Device) -> Result<Vec<StepRope>, ModelError> {
        let positions = [(0..capacity).collect::<Vec<_>>()];
        let tables = self.ropes().iter().map(|rope| rope.tables(&positions, capacity, device));
        let tables = tables.collect::<Result<Vec<_>, _>>();
        let tables = tables.map_err(|source| ModelError::Attention { layer: 0, source: Box::new(source) })?;
        Ok(tables.iter().map(StepRope::new).collect())
    }
}
