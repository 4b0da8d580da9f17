//! What the caches of a model will occupy.

use automodel_attention::rolling_capacity;
use automodel_loader::{DtypePolicy, LoadPlan};
use automodel_registry::spec::{CacheSpec, ModelSpec};
use automodel_registry::weights::ParameterRole;
use burn::tensor::{DType, Device, FloatDType};

/// Bytes of the caches of one sequence of `positions`, in buffers made for that many.
pub(crate) fn cache_bytes(spec: &ModelSpec, plan: &LoadPlan, positions: usize) -> u64 {
    sum(spec, plan, |cache| cache.elements(positions, rolling_capacity))
}

/// Bytes of each further position, beyond any window.
pub(crate) fn cache_bytes_per_token(spec: &ModelSpec, plan: &LoadPlan) -> u64 {
    sum(spec, plan, |cache| cache.elements_per_token())
}

fn sum(spec: &ModelSpec, plan: &LoadPlan, elements: impl Fn(CacheSpec) -> u64) -> u64 {
    let mixers = spec.backbone.layers.iter().flat_map(|layer| layer.mixers());
    let caches = mixers.map(|mixer| mixer.cache(spec.backbone.hidden_size));
    caches.map(elements).fold(0, u64::saturating_add).saturating_mul(activation_bytes(plan))
}

/// Bytes of one activation. Where the dtype is left to the device, the CPU computes in float32; else the residual stream has
/// the dtype of the token embedding.
fn activation_bytes(plan: &LoadPlan) -> u64 {
    let embedding = plan.rows.iter().find(|row| row.role() == ParameterRole::Embedding);
    let dtype = match embedding {
        Some(row) if plan.dtype != DtypePolicy::Auto || plan.device != Device::flex() => row.target(),
        _ => FloatDType::F32,
    };
    DType::from(dtype).size() as u64
}
