//! MiniCPM3: DeepSeek-V2's attention in a dense model, with factors on embedding, branches and logits.

use super::deepseek::{LATENT_KEYS, latent_attention};
use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "minicpm3",
    architectures: &["MiniCPM3ForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: Layout::LLAMA,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(73_448)),
        ("hidden_size", Int(2560)),
        ("intermediate_size", Int(6400)),
        ("num_hidden_layers", Int(62)),
        ("num_attention_heads", Int(40)),
        ("num_key_value_heads", Int(40)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(32_768)),
        ("rms_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(true)),
        ("attention_bias", Bool(false)),
        ("mlp_bias", Bool(false)),
        ("kv_lora_rank", Int(256)),
        ("q_lora_rank", Int(768)),
        ("qk_nope_head_dim", Int(64)),
        ("qk_rope_head_dim", Int(32)),
        ("v_head_dim", Null),
        ("scale_emb", Int(12)),
        ("scale_depth", Float(1.4)),
        ("dim_model_base", Int(256)),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::read(config, &LATENT_KEYS)?.with_mlp_bias(config, "mlp_bias")?;
    let heads = config.usize("num_attention_heads")?;
    let v_head_dim = config.usize_or_null("v_head_dim")?.unwrap_or(template.hidden_size / heads);
    let attention = latent_attention(config, RopePairing::HalfSplit, v_head_dim)?;
    template.embedding.scale = Some(config.f64("scale_emb")?);
    let depth = config.f64_or_null("scale_depth")?;
    template.residual_scale = depth.map(|scale| scale / (template.num_hidden_layers as f64).sqrt());
    let base = config.usize_or_null("dim_model_base")?;
    template.head.logit_scale = base.map(|base| base as f64 / template.hidden_size as f64);
    template.build_mixer(Mixer::Mla(attention))
}
