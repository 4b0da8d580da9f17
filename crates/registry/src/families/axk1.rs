//! A.X K1: DeepSeek-V3 with a norm on the output of its mixtures.

use super::deepseek::{LATENT_KEYS, latent_attention, pairing};
use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "axk1",
    architectures: &["AXK1ForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    // Of the code that came with the checkpoint; the class has no such keys and computes what the published values say.
    ignored_keys: &["ep_size", "scoring_func", "topk_method"],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(163_840)),
        ("hidden_size", Int(7168)),
        ("intermediate_size", Int(18_432)),
        ("moe_intermediate_size", Int(2048)),
        ("num_hidden_layers", Int(61)),
        ("num_attention_heads", Int(64)),
        ("num_key_value_heads", Int(64)),
        ("n_shared_experts", Int(1)),
        ("n_routed_experts", Int(192)),
        ("routed_scaling_factor", Float(2.5)),
        ("kv_lora_rank", Int(512)),
        ("q_lora_rank", Int(1536)),
        ("qk_rope_head_dim", Int(64)),
        ("v_head_dim", Int(128)),
        ("qk_nope_head_dim", Int(128)),
        ("n_group", Int(8)),
        ("topk_group", Int(4)),
        ("num_experts_per_tok", Int(8)),
        ("norm_topk_prob", Bool(true)),
        ("mlp_layer_types", Null),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(32_768)),
        ("rms_norm_eps", Float(1e-06)),
        ("tie_word_embeddings", Bool(false)),
        ("rope_interleave", Bool(true)),
        ("attention_bias", Bool(false)),
    ],
    aliases: &[("num_local_experts", "n_routed_experts")],
};

const POST_MLP: &str = "post_mlp_layernorm";

/// The published checkpoint has norms of dense layers, which do not use them, and no corrections.
const LAYOUT: Layout = Layout {
    ignored: &[("*.post_mlp_layernorm.weight", "a norm of a dense layer, which has none")],
    zeros: &["mlp.gate.e_score_correction_bias"],
    ..DEEPSEEK_MOE_LAYOUT
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let template = Template::read(config, &LATENT_KEYS)?;
    config.usize("q_lora_rank")?;
    let attention = latent_attention(config, pairing(config)?, config.usize("v_head_dim")?)?;
    let moe = deepseek_moe(config)?;
    let dense = config.count_or_null("first_k_dense_replace")?.unwrap_or(1);
    let step = config.usize_or_null("moe_layer_freq")?.unwrap_or(1);
    let is_sparse =
        sparse_layers(config, template.num_hidden_layers, |index| index >= dense && index.is_multiple_of(step))?;
    template.build_layers(|index, template| {
        let is_dense = !is_sparse[index];
        let feed = if is_dense { template.mlp.clone() } else { FeedForward::Moe(moe.clone()) };
        let mut layer = template.layer(Mixer::Mla(attention.clone()), feed);
        if let Some(branch) = layer.branches.last_mut().filter(|_| !is_dense) {
            branch.post = Some(NamedNorm { name: POST_MLP, norm: template.norm });
        }
        Ok(layer)
    })
}
