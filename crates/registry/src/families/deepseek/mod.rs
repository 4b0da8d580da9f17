//! DeepSeek's models and what others took from them: latent attention, mixtures with shared experts.

pub mod deepseek_v2;
pub mod deepseek_v3;
pub mod deepseek_v32;
#[cfg(test)]
mod tests;

use super::prelude::*;
use automodel_config::{ModelRope, RopeType};

/// Llama's names where the heads have widths of their own.
pub(super) const LATENT_KEYS: Keys =
    Keys { num_key_value_heads: None, head_dim: Some("qk_rope_head_dim"), ..Keys::LLAMA };

/// How rope parameters are read: `mscale_all_dim` changes the scale of the scores too.
pub(super) const LATENT_ROPE: RopeOptions = RopeOptions {
    defaults: RopeDefaults { theta: 10_000.0, partial_rotary_factor: 1.0 },
    type_aliases: &[],
    extra_keys: &["mscale_all_dim"],
    theta_key: "rope_theta",
    partial_rotary_factor_key: "partial_rotary_factor",
};

/// DeepSeek's latent attention, whose rotated part is turned whole.
pub(super) fn latent_attention(
    config: &FamilyConfig<'_>,
    pairing: RopePairing,
    v_head_dim: usize,
) -> Result<MlaSpec, RegistryError> {
    let width = config.usize("qk_rope_head_dim")?;
    // What the class concludes, and writes.
    config.must_agree("head_dim", width, "qk_rope_head_dim")?;
    let rope = RopeByLayerType::read_whole(config, &LATENT_ROPE, width, pairing)?.uniform()?.clone();
    latent_attention_with(config, rope, v_head_dim)
}

/// [`latent_attention`] with this rotary embedding.
pub(super) fn latent_attention_with(
    config: &FamilyConfig<'_>,
    rope: RopeSpec,
    v_head_dim: usize,
) -> Result<MlaSpec, RegistryError> {
    let heads = config.usize("num_attention_heads")?;
    let key_value_heads = config.usize_or_null("num_key_value_heads")?.unwrap_or(heads);
    if key_value_heads != heads {
        return Err(config.inconsistent(format!(
            "num_key_value_heads is {key_value_heads}, but latents have keys and values of all {heads} heads: make it \
             num_attention_heads"
        )));
    }
    let mut spec = MlaSpec {
        num_attention_heads: heads,
        q_lora_rank: config.usize_or_null("q_lora_rank")?,
        kv_lora_rank: config.usize("kv_lora_rank")?,
        qk_nope_head_dim: config.usize("qk_nope_head_dim")?,
        qk_rope_head_dim: config.usize("qk_rope_head_dim")?,
        v_head_dim,
        // The class gives no epsilon to these norms.
        norm: NormSpec { kind: NormKind::Rms, eps: 1e-6 },
        bias: config.bool("attention_bias")?,
        scale: 1.0,
        latent_scale: None,
        mask: AttentionMask::Full,
        rope: Some(rope),
        indexer: None,
        query_temperature: None,
    };
    config.must_agree("qk_head_dim", spec.qk_head_dim(), "qk_nope_head_dim and qk_rope_head_dim")?;
    spec.scale = (spec.qk_head_dim() as f64).powf(-0.5) * yarn_scale(config)?;
    Ok(spec)
}

/// DeepSeek-V3.2's attention: latents, and an indexer in every layer, whose elements pair as `pairing` says.
pub(super) fn indexed_attention(
    config: &FamilyConfig<'_>,
    layers: usize,
    pairing: RopePairing,
) -> Result<MlaSpec, RegistryError> {
    config.usize("q_lora_rank")?;
    let mut attention = latent_attention(config, RopePairing::Interleaved, config.usize("v_head_dim")?)?;
    let types = layer_types(config, layers, |_| "indexed_attention")?;
    if types.iter().any(|name| name != "indexed_attention") {
        return Err(config.unsupported("layer_types", "all layers of this family are indexed_attention"));
    }
    attention.indexer = Some(IndexerSpec {
        num_heads: config.usize("index_n_heads")?,
        head_dim: config.usize("index_head_dim")?,
        top_k: config.usize("index_topk")?,
        norm: NormSpec { kind: NormKind::LayerNorm { bias: true }, eps: 1e-6 },
        rope: attention.rope.clone().map(|rope| RopeSpec { pairing, ..rope }),
    });
    Ok(attention)
}

/// `mscale^2` of `yarn_apply_mscale`: rope parameters of any type but the default one, with `mscale_all_dim`, scale the scores.
fn yarn_scale(config: &FamilyConfig<'_>) -> Result<f64, RegistryError> {
    let ModelRope::Uniform(parameters) = config.rope_parameters_with(&LATENT_ROPE)? else { return Ok(1.0) };
    let Some(mscale) = parameters.extra.get("mscale_all_dim").and_then(serde_json::Value::as_f64) else {
        return Ok(1.0);
    };
    let factor = match parameters.rope_type {
        RopeType::Linear { factor }
        | RopeType::Dynamic { factor, .. }
        | RopeType::Yarn { factor, .. }
        | RopeType::LongRope { factor, .. }
        | RopeType::Llama3 { factor, .. }
        | RopeType::Proportional { factor } => factor,
        _ => 1.0,
    };
    let mscale = if factor > 1.0 { 0.1 * mscale * factor.ln() + 1.0 } else { 1.0 };
    Ok(mscale * mscale)
}

/// How the rotated elements pair: side by side where `rope_interleave` is set.
pub(super) fn pairing(config: &FamilyConfig<'_>) -> Result<RopePairing, RegistryError> {
    let interleaved = config.bool_or_null("rope_interleave")?.unwrap_or(false);
    Ok(if interleaved { RopePairing::Interleaved } else { RopePairing::HalfSplit })
}

/// Layers of this attention, with the mixture where they are not dense.
pub(super) fn build_latent(
    template: Template,
    attention: &MlaSpec,
    moe: &MoeSpec,
    is_dense: impl Fn(usize) -> bool,
) -> Result<ModelSpec, RegistryError> {
    template.build_layers(|index, template| {
        let feed = if is_dense(index) { template.mlp.clone() } else { FeedForward::Moe(moe.clone()) };
        Ok(template.layer(Mixer::Mla(attention.clone()), feed))
    })
}
