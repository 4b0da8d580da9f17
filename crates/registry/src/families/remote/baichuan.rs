//! Baichuan and Baichuan 2, 7B: Llama with queries, keys and values in one projection; the second with a normalised output head.

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

const VOCABULARY_OF_THE_SECOND: usize = 125_696;

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    // Of the training; but the second generation alone has the key, and divides the rows of its output head by their lengths.
    let is_second = config.value("z_loss_weight").is_some();
    if !is_second && config.usize("vocab_size")? == VOCABULARY_OF_THE_SECOND {
        let reason = "it is that of Baichuan 2, whose configs have `z_loss_weight`: whether the output head is normalised is not certain";
        return Err(config.unsupported("vocab_size", reason));
    }
    // Only the code of the 7B models reads this key, and rotates; that of the 13B models adds linear biases to scores.
    if config.usize_or_null("max_position_embeddings")?.is_none() {
        let reason = "configs without `max_position_embeddings` are those of Baichuan 13B, whose positions are biases of the \
                      attention scores (ALiBi), which are not implemented";
        return Err(config.unsupported("model_max_length", reason));
    }
    let keys = Keys { num_key_value_heads: None, head_dim: None, ..Keys::LLAMA };
    let mut template = Template::read(config, &keys)?;
    template.head.unit_rows = is_second;
    template.attention.rope = Some(RopeSpec {
        theta: 10_000.0,
        rotary_dim: template.attention.head_dim,
        pairing: RopePairing::HalfSplit,
        scaling: RopeScaling::Default,
    });
    template.build_uniform()
}
