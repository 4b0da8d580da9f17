//! Decoding one token of each sequence over buffers of fixed addresses, captured once as a graph and replayed.
//!
//! A pass over one token is some hundred kernel launches, and the host takes longer to launch them than the device to run them. Where
//! a device can capture them as a graph (CUDA graphs), one call replays them all.

use crate::pass::Pass;
use crate::{DecodeCache, Decoder, MixerState, ModelError};
use automodel_attention::step::{StaticKvCache, StepPosition, StepRope};
use automodel_attention::{Rope, RopeScaling, SdpaBackend};
use burn::tensor::{Device, Graph, Int, Tensor, capture};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// Positions that a cache has room for beyond those it holds, at least; it doubles up to [`MOST_ROOM`] more.
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
    states: Vec<MixerState>,
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
    /// fails: a caller that captures must have the device for itself. Without, each step is launched.
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
        let limit = limit.min(decoder.model.most_positions());
        let supported = decoder.supports_steps(&device, tokens.dims()[0], length..limit);
        if !supported || length == 0 || length >= limit {
            return Ok(None);
        }
        let capacity = capacity_for(length + 1, limit);
        let Some(states) = fixed_states(cache, capacity)? else { return Ok(None) };
        let at = StepPosition::new(length, cache.padding(), &device);
        let state = State { decoder: decoder.clone(), tokens, at, ropes: Vec::new(), states };
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

    /// Cosines and sines of all positions up to the capacity.
    fn make_room(&mut self) -> Result<(), ModelError> {
        let mut state = lock(&self.state);
        let known = state.ropes.len() == state.decoder.model.ropes().len();
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
        for (layer, state) in lock(&self.state).states.iter_mut().enumerate() {
            if let MixerState::FixedAttention(cache) = state {
                let grown = cache.grown(self.length, self.capacity);
                **cache = grown.map_err(|source| ModelError::Attention { layer, source: Box::new(source) })?;
            }
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
        let Self { decoder, tokens, at, ropes, states } = self;
        // Clamps the sentinel of a sampler that found no token: the logits of that row are ignored.
        let tokens = tokens.clone().clamp_min(0);
        let embedded = decoder.model.embed_step(tokens, at);
        let hidden = decoder.model.run_layers(embedded, states, &Pass::Step { at, ropes })?;
        Ok(decoder.logits(hidden))
    }
}

/// Room for `needed` positions and some more, within the limit.
fn capacity_for(needed: usize, limit: usize) -> usize {
    needed.saturating_add(needed.clamp(LEAST_ROOM, MOST_ROOM)).next_multiple_of(LEAST_ROOM).min(limit).max(needed)
}

/// Copies of the states in buffers of fixed capacity; `None` if one has no such form.
fn fixed_states(cache: &DecodeCache, capacity: usize) -> Result<Option<Vec<MixerState>>, ModelError> {
    let mut states = Vec::with_capacity(cache.states.len());
    for (layer, state) in cache.states.iter().enumerate() {
        let MixerState::Attention(kept) = state else { return Ok(None) };
        let fixed = StaticKvCache::of(kept, capacity);
        let fixed = fixed.map_err(|source| ModelError::Attention { layer, source: Box::new(source) })?;
        let Some(fixed) = fixed else { return Ok(None) };
        states.push(MixerState::FixedAttention(Box::new(fixed)));
    }
    Ok(Some(states))
}

impl Decoder {
    /// Whether every layer supports steps of `tokens` sequences on the device, attention is the efficient one, and no rotary embedding
    /// changes while the length of the sequence is within `lengths`.
    fn supports_steps(&self, device: &Device, tokens: usize, lengths: Range<usize>) -> bool {
        let is_fixed = |rope: &Rope| match &rope.config().scaling {
            RopeScaling::Dynamic { original_max_position_embeddings: original, .. } => lengths.end <= *original,
            RopeScaling::LongRope { original_max_position_embeddings: original, .. } => {
                lengths.end <= *original || lengths.start >= *original
            }
            _ => true,
        };
        self.model.embeds_steps()
            && self.model.options().attention == SdpaBackend::EfficientAttention
            && self.model.ropes().iter().all(is_fixed)
            && self.model.layers.iter().all(|layer| layer.supports_steps(device, tokens))
    }

    /// Angles of all positions below the capacity.
    fn step_ropes(&self, capacity: usize, device: &Device) -> Result<Vec<StepRope>, ModelError> {
        let positions = [(0..capacity).collect::<Vec<_>>()];
        let tables = self.model.ropes().iter().map(|rope| rope.tables(&positions, capacity, device));
        let tables = tables.collect::<Result<Vec<_>, _>>();
        let tables = tables.map_err(|source| ModelError::Attention { layer: 0, source: Box::new(source) })?;
        Ok(tables.iter().map(StepRope::new).collect())
    }
}
