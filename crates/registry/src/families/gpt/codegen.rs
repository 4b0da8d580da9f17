//! CodeGen: GPT-J with queries, values and keys in one projection, cut for four accelerators.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "codegen",
    architectures: &["CodeGenForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &["scale_attn_weights"],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(50_400)),
        ("max_position_embeddings", Int(2048)),
        ("hidden_size", Int(4096)),
        ("num_hidden_layers", Int(28)),
        ("num_attention_heads", Int(16)),
        ("rotary_dim", Int(64)),
        ("n_inner", Null),
        ("activation_function", Str("gelu_new")),
        ("layer_norm_epsilon", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
    ],
    aliases: super::ALIASES,
};

/// Slices of the packed projection: the accelerators of the training, `mp_num` in `CodeGenAttention`.
const SLICES: usize = 4;

const LAYOUT: Layout = Layout {
    rules: &[
        Rule::Pack {
            parts: &["self_attn.q_proj", "self_attn.v_proj", "self_attn.k_proj"],
            into: "attn.qkv_proj",
            order: PackOrder::Slices(SLICES),
        },
        Rule::Rename("self_attn.o_proj", "attn.out_proj"),
        Rule::Rename("mlp.up_proj", "mlp.fc_in"),
        Rule::Rename("mlp.down_proj", "mlp.fc_out"),
        Rule::Rename("model.embed_tokens", "transformer.wte"),
        Rule::Rename("model.layers.", "transformer.h."),
        Rule::Rename("model.norm.", "transformer.ln_f."),
        Rule::Rename("input_layernorm", "ln_1"),
    ],
    prefixes: &[("transformer.", "")],
    ignored: &[
        ("*h.*.attn.causal_mask", "the causal mask, which is computed"),
        ("*h.*.attn.masked_bias", "the mask's value, which is a constant"),
    ],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let template = super::gptj(config)?;
    let heads = template.attention.num_attention_heads;
    if !heads.is_multiple_of(SLICES) {
        return Err(config.inconsistent(format!(
            "num_attention_heads is {heads}, but the packed projection has {SLICES} slices of whole heads: give a multiple"
        )));
    }
    template.build_uniform()
}
