//! InternLM3: Llama by other names of its biases.

use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "internlm3",
    architectures: &["InternLM3ForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: Layout::LLAMA,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(128_512)),
        ("hidden_size", Int(4096)),
        ("intermediate_size", Int(10_240)),
        ("num_hidden_layers", Int(48)),
        ("num_attention_heads", Int(32)),
        ("num_key_value_heads", Int(2)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(32_768)),
        ("rms_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("head_dim", Int(128)),
        ("attention_bias", Bool(false)),
        ("mlp_bias", Bool(false)),
    ],
    aliases: &[("qkv_bias", "attention_bias"), ("bias", "mlp_bias")],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::llama(config)?;
    template.attention.bias = attention_bias(config)?;
    // Its own code has one flag for q, k and v and one for the others; transformers takes Llama's class, and only configs that it fits.
    if config.bool("attention_bias")? != config.bool("mlp_bias")? {
        return Err(config.inconsistent("`qkv_bias` and `bias` differ, which transformers does not compute".to_owned()));
    }
    template.with_mlp_bias(config, "mlp_bias")?.build_uniform()
}
