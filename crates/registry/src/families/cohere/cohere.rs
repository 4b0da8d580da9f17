//! Command R: parallel branches off one layer norm, interleaved rotation, scaled logits.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "cohere",
    architectures: &["CohereForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &["model_max_length"],
    layout: Layout::LLAMA,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(256_000)),
        ("hidden_size", Int(8192)),
        ("intermediate_size", Int(22_528)),
        ("num_hidden_layers", Int(40)),
        ("num_attention_heads", Int(64)),
        ("num_key_value_heads", Null),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(8192)),
        ("layer_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(true)),
        ("logit_scale", Float(0.0625)),
        ("attention_bias", Bool(false)),
        ("use_qk_norm", Bool(false)),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let defaults = RopeDefaults { theta: 500_000.0, ..RopeDefaults::default() };
    let keys = Keys { norm_eps: "layer_norm_eps", ..Keys::LLAMA };
    let mut template = Template::read(config, &keys)?.with_cohere_head_and_norms(config)?.with_rope(
        config,
        defaults,
        RopePairing::Interleaved,
    )?;
    if config.bool("use_qk_norm")? {
        template = template.with_qk_norm(QkNormExtent::HeadOwnWeight);
    }
    template.build_uniform()
}
