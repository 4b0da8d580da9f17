//! The operations as a backend extension.

use burn::backend::{
    Backend, backend_extension,
    tensor::{FloatTensor, IntTensor},
};

use super::{AttendPlan, RotatePlan};

/// Kernels of a decode step.
#[allow(clippy::too_many_arguments, reason = "fusion takes tensors one by one")]
#[backend_extension(Cube: cfg(feature = "cube"), Fusion: cfg(feature = "cube"))]
pub(crate) trait StepOps: Backend {
    /// Writes the position in place and returns it.
    #[fusion(meta = |position, _value| position.clone())]
    fn set_position(position: IntTensor<Self>, value: u32) -> IntTensor<Self>;

    /// The rotated queries, and the caches with the new keys and values written in place.
    #[fusion(meta = |q, _k, _v, _cos, _sin, _position, _padding, k_cache, v_cache, _capacity, _plan| (q.clone(), k_cache.clone(), v_cache.clone()))]
    fn rotate_and_append(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        position: IntTensor<Self>,
        padding: IntTensor<Self>,
        k_cache: FloatTensor<Self>,
        v_cache: FloatTensor<Self>,
        capacity: usize,
        plan: RotatePlan,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// Attention of queries `[batch, heads * head_dim]` over the caches up to the position.
    #[fusion(meta = |q, _k_cache, _v_cache, _sinks, _position, _padding, _capacity, _plan| q.clone())]
    fn attend_to_cache(
        q: FloatTensor<Self>,
        k_cache: FloatTensor<Self>,
        v_cache: FloatTensor<Self>,
        sinks: FloatTensor<Self>,
        position: IntTensor<Self>,
        padding: IntTensor<Self>,
        capacity: usize,
        plan: AttendPlan,
    ) -> FloatTensor<Self>;
}
