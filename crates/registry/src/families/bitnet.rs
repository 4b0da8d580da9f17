//! BitNet with ordinary weights: Llama with norms before the last projection of each branch, and a gate of squared ReLU.

use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "bitnet",
    architectures: &["BitNetForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: Layout::LLAMA,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(128_256)),
        ("hidden_size", Int(2560)),
        ("intermediate_size", Int(6912)),
        ("num_hidden_layers", Int(30)),
        ("num_attention_heads", Int(20)),
        ("num_key_value_heads", Int(5)),
        ("hidden_act", Str("relu2")),
        ("max_position_embeddings", Int(2048)),
        ("rms_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("head_dim", Null),
        ("attention_bias", Bool(false)),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let defaults = RopeDefaults { theta: 500_000.0, ..RopeDefaults::default() };
    let mut template = Template::read(config, &Keys::LLAMA)?.with_rope(config, defaults, RopePairing::HalfSplit)?;
    let attention = &mut template.attention;
    // The norm on the result of the heads is as wide as the residual stream, whatever the heads are.
    if attention.num_attention_heads.checked_mul(attention.head_dim) != Some(template.hidden_size) {
        let problem = format!(
            "{} heads of {} (head_dim) are not hidden_size {} together: remove head_dim",
            attention.num_attention_heads, attention.head_dim, template.hidden_size
        );
        return Err(config.inconsistent(problem));
    }
    attention.bias = attention_bias(config)?;
    attention.sub_norm = Some(template.norm);
    let norm = template.norm;
    if let Some(mlp) = template.dense_mlp() {
        mlp.sub_norm = Some(norm);
    }
    template.build_uniform()
}
