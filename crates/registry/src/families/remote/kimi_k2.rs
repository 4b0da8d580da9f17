//! Kimi K2: its config is DeepSeek-V3's, key by key.

use super::super::deepseek::deepseek_v3;
use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "kimi_k2",
    architectures: &["DeepseekV3ForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &["ep_size"],
    layout: DEEPSEEK_MOE_LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("num_key_value_heads", Null),
        ("norm_topk_prob", Bool(true)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(4096)),
        ("rms_norm_eps", Float(1e-06)),
        ("tie_word_embeddings", Bool(false)),
        ("rope_interleave", Bool(true)),
        ("attention_bias", Bool(false)),
        ("scoring_func", Str("sigmoid")),
        ("topk_method", Str("noaux_tc")),
        ("moe_layer_freq", Int(1)),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    for (key, known) in [("scoring_func", "sigmoid"), ("topk_method", "noaux_tc")] {
        if config.str(key)? != known {
            return Err(config.unsupported(key, format!("the published checkpoints have {known}")));
        }
    }
    if config.usize("moe_layer_freq")? != 1 {
        return Err(config.unsupported("moe_layer_freq", "the published checkpoints have 1"));
    }
    deepseek_v3::lower(config)
}
