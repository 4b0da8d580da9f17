//! Baichuan 7B: Llama with queries, keys and values in one projection.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "baichuan",
    architectures: &["BaiChuanForCausalLM", "BaichuanForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[("hidden_act", Str("silu")), ("rms_norm_eps", Float(1e-06)), ("tie_word_embeddings", Bool(false))],
    aliases: &[],
};

const LAYOUT: Layout = Layout { rules: &[packed_qkv("self_attn.W_pack", PackOrder::Rows)], ..Layout::LLAMA };

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    // The second generation, which alone has this key, scales the rows of its output head to length one.
    if config.value("z_loss_weight").is_some() {
        return Err(config.unsupported("z_loss_weight", "the normalised output head of Baichuan 2 is not implemented"));
    }
    // Only the code of the 7B models reads this key, and rotates; that of the 13B models adds linear biases to scores.
    if config.usize_or_null("max_position_embeddings")?.is_none() {
        let reason = "configs without `max_position_embeddings` are those of Baichuan 13B, whose positions are biases of the \
                      attention scores (ALiBi), which are not implemented";
        return Err(config.unsupported("model_max_length", reason));
    }
    let keys = Keys { num_key_value_heads: None, head_dim: None, ..Keys::LLAMA };
    let mut template = Template::read(config, &keys)?;
    template.attention.rope = Some(RopeSpec {
        theta: 10_000.0,
        rotary_dim: template.attention.head_dim,
        pairing: RopePairing::HalfSplit,
        scaling: RopeScaling::Default,
    });
    template.build_uniform()
}
