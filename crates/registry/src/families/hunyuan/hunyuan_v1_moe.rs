//! Hunyuan-A13B: routed experts by a normalised softmax, and a shared expert of the same width.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "hunyuan_v1_moe",
    architectures: &["HunYuanMoEV1ForCausalLM"],
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
        ("num_experts", Int(1)),
        ("moe_topk", Int(1)),
    ],
    aliases: &[("num_experts_per_tok", "moe_topk"), ("num_local_experts", "num_experts")],
};

// Those of the dense models, and more of the training code; the class has no such keys. It has one shared expert, as wide as the others.
const IGNORED: &[&str] = &[
    "add_classification_head",
    "attention_head_dim",
    "cla_share_factor",
    "class_num",
    "dense_list",
    "eod_token_id",
    "group_limited_greedy",
    "im_end_id",
    "im_newline_id",
    "im_start_id",
    "kv_lora_rank",
    "mask_init_id",
    "mlp_bias",
    "moe_drop_tokens",
    "moe_intermediate_size",
    "moe_layer_num_skipped",
    "moe_random_routing_dropped_token",
    "n_group",
    "norm_topk_prob",
    "norm_type",
    "num_shared_expert",
    "org_vocab_size",
    "pad_id",
    "pool_type",
    "position_embedding_xdrope",
    "q_lora_rank",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "routed_scaling_factor",
    "text_end_id",
    "text_start_id",
    "topk_group",
    "use_cla",
    "use_mixed_mlp_moe",
    "use_mla",
    "use_qk_norm",
    "use_rotary_pos_emb",
    "v_head_dim",
];

const LAYOUT: Layout = Layout {
    rules: &[
        Rule::Rename("self_attn.q_norm", "self_attn.query_layernorm"),
        Rule::Rename("self_attn.k_norm", "self_attn.key_layernorm"),
        Rule::Rename("mlp.gate.", "mlp.gate.wg."),
        Rule::Rename("mlp.shared_expert.", "mlp.shared_mlp."),
    ],
    module_rules: &[
        Rule::Rename("self_attn.q_norm", "self_attn.query_layernorm"),
        Rule::Rename("self_attn.k_norm", "self_attn.key_layernorm"),
        Rule::Rename("mlp.gate.", "mlp.gate.wg."),
        Rule::Rename("mlp.shared_expert.", "mlp.shared_mlp."),
        PACKED_EXPERTS,
        STACKED_EXPERTS,
    ],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let template = Template::hunyuan(config)?;
    let intermediate_size = config.usize("intermediate_size")?;
    let chosen = Chosen::read(config, template.num_hidden_layers)?;
    let activation = crate::template::activation(config, "hidden_act")?;
    let expert = MlpSpec::new(intermediate_size, activation);
    let num_experts = config.usize("num_experts")?;
    let router = RouterSpec { normalize: Normalize::Sum, ..RouterSpec::new(RouterScore::Softmax) };
    template.build(|index, layer| {
        layer.mlp = FeedForward::Moe(MoeSpec {
            num_experts,
            num_experts_per_tok: chosen.of(index),
            expert: expert.clone(),
            router: router.clone(),
            shared_expert: Some(SharedExpert { mlp: expert.clone(), gate: false }),
        });
        Ok(())
    })
}

/// How many experts a token is sent to: one number, or one for each layer.
enum Chosen {
    Always(usize),
    ByLayer(Vec<usize>),
}

impl Chosen {
    fn read(config: &FamilyConfig<'_>, layers: usize) -> Result<Self, RegistryError> {
        if !config.value("moe_topk").is_some_and(serde_json::Value::is_array) {
            return Ok(Self::Always(config.usize("moe_topk")?));
        }
        let by_layer = config.list_usize("moe_topk")?;
        if by_layer.len() < layers {
            let problem = format!("moe_topk has {} numbers for {layers} layers: give one for each", by_layer.len());
            return Err(config.inconsistent(problem));
        }
        Ok(Self::ByLayer(by_layer))
    }

    fn of(&self, layer: usize) -> usize {
        match self {
            Self::Always(chosen) => *chosen,
            Self::ByLayer(by_layer) => by_layer.get(layer).copied().unwrap_or(0),
        }
    }
}
