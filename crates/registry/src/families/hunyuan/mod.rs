//! Tencent's HunYuan models: norms on heads after the rotation, whose base may be stretched.

pub mod hunyuan_v1_dense;
pub mod hunyuan_v1_moe;

use super::prelude::*;

/// `eod_token_id` is a special token. The others are left from the training code, which has shared layers, pictures and classification
/// too; the classes have no such keys, and always have norms on queries and keys.
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

/// Names of the norms of queries and keys.
const LAYOUT: Layout = Layout {
    rules: &[
        Rule::Rename("self_attn.q_norm", "self_attn.query_layernorm"),
        Rule::Rename("self_attn.k_norm", "self_attn.key_layernorm"),
    ],
    ..Layout::LLAMA
};

impl Template {
    /// What HunYuan's models share.
    pub(super) fn hunyuan(config: &FamilyConfig<'_>) -> Result<Self, RegistryError> {
        let mut template = Self::read(config, &Keys::LLAMA)?.with_qk_norm(QkNormExtent::Head);
        let options = RopeOptions { extra_keys: &[FIXED_NTK_ALPHA], ..RopeOptions::default() };
        let rope = RopeByLayerType::read_whole(config, &options, template.attention.head_dim, RopePairing::HalfSplit)?;
        template.attention.rope = Some(rope.uniform()?.clone());
        if let Some(qk_norm) = &mut template.attention.qk_norm {
            qk_norm.after_rope = true;
        }
        template.attention.bias = attention_bias(config)?;
        Ok(template)
    }
}
