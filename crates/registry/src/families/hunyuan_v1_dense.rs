//! Tencent HunYuan: Llama with norms on heads after the rotation, whose base may be stretched.

use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "hunyuan_v1_dense",
    architectures: &["HunYuanDenseV1ForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: IGNORED,
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(290_943)),
        ("hidden_size", Int(4096)),
        ("intermediate_size", Int(11_008)),
        ("num_hidden_layers", Int(32)),
        ("num_attention_heads", Int(32)),
        ("num_key_value_heads", Null),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(2048)),
        ("rms_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("head_dim", Null),
        ("attention_bias", Bool(false)),
    ],
    aliases: &[],
};

// `eod_token_id` is a special token. The others are left from the training code, which has shared layers, pictures and classification
// too; the class has no such keys, and always has norms on queries and keys.
const IGNORED: &[&str] = &[
    "add_classification_head",
    "attention_head_dim",
    "cla_share_factor",
    "class_num",
    "dense_list",
    "eod_token_id",
    "im_end_id",
    "im_newline_id",
    "im_start_id",
    "mask_init_id",
    "mlp_bias",
    "norm_type",
    "org_vocab_size",
    "pad_id",
    "pool_type",
    "text_end_id",
    "text_start_id",
    "use_cla",
    "use_qk_norm",
    "use_rotary_pos_emb",
];

const LAYOUT: Layout = Layout {
    rules: &[
        Rule::Rename("self_attn.q_norm", "self_attn.query_layernorm"),
        Rule::Rename("self_attn.k_norm", "self_attn.key_layernorm"),
    ],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::read(config, &Keys::LLAMA)?.with_qk_norm(QkNormExtent::Head);
    let options = RopeOptions { extra_keys: &[FIXED_NTK_ALPHA], ..RopeOptions::default() };
    let rope = RopeByLayerType::read_whole(config, &options, template.attention.head_dim, RopePairing::HalfSplit)?;
    template.attention.rope = Some(rope.uniform()?.clone());
    if let Some(qk_norm) = &mut template.attention.qk_norm {
        qk_norm.after_rope = true;
    }
    template.attention.bias = attention_bias(config)?;
    template.build_uniform()
}
