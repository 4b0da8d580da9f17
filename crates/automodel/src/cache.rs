//! What keys and values will occupy.

use automodel_attention::rolling_capacity;
use automodel_loader::{DtypePolicy, LoadPlan};
use automodel_registry::spec::{AttentionMask, AttentionSpec, Mixer, ModelSpec};
use automodel_registry::weights::ParameterRole;
use burn::tensor::{DType, Device, FloatDType};

/// Bytes of the keys and values of one sequence of `positions`, in buffers made for that many.
pub(crate) fn cache_bytes(spec: &ModelSpec, plan: &LoadPlan, positions: usize) -> u64 {
    let size = activation_bytes(plan);
    let bytes = |attention: &AttentionSpec| {
        position_bytes(attention, size).saturating_mul(kept_positions(attention.mask, positions) as u64)
    };
    sum(spec, bytes)
}

/// Bytes of each further position, beyond any window.
pub(crate) fn cache_bytes_per_token(spec: &ModelSpec, plan: &LoadPlan) -> u64 {
    let size = activation_bytes(plan);
    let bytes = |attention: &AttentionSpec| match attention.mask {
        AttentionMask::Sliding { .. } => 0,
        _ => position_bytes(attention, size),
    };
    sum(spec, bytes)
}

fn sum(spec: &ModelSpec, bytes: impl Fn(&AttentionSpec) -> u64) -> u64 {
    let layers = spec.layers.iter().map(|layer| {
        let Mixer::Attention(attention) = &layer.mixer;
        bytes(attention)
    });
    layers.fold(0, u64::saturating_add)
}

/// Positions that a layer has room for in a sequence of `positions`.
fn kept_positions(mask: AttentionMask, positions: usize) -> usize {
    match mask {
        AttentionMask::Sliding { window } if positions > window => rolling_capacity(window.saturating_sub(1)),
        _ => positions,
    }
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

/// Bytes of one position's keys and values in one layer.
fn position_bytes(attention: &AttentionSpec, size: u64) -> u64 {
    (attention.num_key_value_heads as u64).saturating_mul(attention.head_dim as u64).saturating_mul(2 * size)
}
