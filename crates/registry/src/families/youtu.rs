//! Youtu-LLM: DeepSeek-V3's attention in a dense model.

use super::deepseek::{LATENT_KEYS, latent_attention, pairing};
use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "youtu",
    architectures: &["YoutuForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &["embedding_initializer_range"],
    layout: Layout::LLAMA,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(128_256)),
        ("hidden_size", Int(2048)),
        ("intermediate_size", Int(6144)),
        ("num_hidden_layers", Int(32)),
        ("num_attention_heads", Int(16)),
        ("num_key_value_heads", Int(16)),
        ("kv_lora_rank", Int(512)),
        ("q_lora_rank", Int(1536)),
        ("qk_rope_head_dim", Int(64)),
        ("v_head_dim", Int(128)),
        ("qk_nope_head_dim", Int(128)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(131_072)),
        ("rms_norm_eps", Float(1e-06)),
        ("tie_word_embeddings", Bool(true)),
        ("rope_interleave", Bool(true)),
        ("attention_bias", Bool(false)),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let attention = latent_attention(config, pairing(config)?, config.usize("v_head_dim")?)?;
    Template::read(config, &LATENT_KEYS)?.build_mixer(Mixer::Mla(attention))
}
