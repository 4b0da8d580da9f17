//! DBRX: fused and bounded queries, keys and values, layer norms without bias, the rows of all experts in one matrix; a config with a part
//! for attention and one for experts.

use super::prelude::*;
use serde_json::{Map, Value};

pub static FAMILY: Family = Family {
    model_type: "dbrx",
    architectures: &["DbrxForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    // Dropout, and a number that the class takes from `attn_config`.
    ignored_keys: &["emb_pdrop", "num_key_value_heads", "resid_pdrop"],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("hidden_size", Int(2048)),
        ("num_attention_heads", Int(16)),
        ("num_hidden_layers", Int(24)),
        ("max_position_embeddings", Int(2048)),
        ("vocab_size", Int(32_000)),
        ("tie_word_embeddings", Bool(false)),
    ],
    aliases: &[
        ("d_model", "hidden_size"),
        ("n_heads", "num_attention_heads"),
        ("n_layers", "num_hidden_layers"),
        ("max_seq_len", "max_position_embeddings"),
    ],
};

const RULES: &[Rule] = &[
    packed_qkv("norm_attn_norm.attn.Wqkv", PackOrder::Rows),
    Rule::Rename("self_attn.o_proj", "norm_attn_norm.attn.out_proj"),
    Rule::Rename("input_layernorm", "norm_attn_norm.norm_1"),
    Rule::Rename("post_attention_layernorm", "norm_attn_norm.norm_2"),
    Rule::Transpose(".down_proj."),
    Rule::Stack { over: "mlp.experts", into: "ffn.experts.mlp" },
    Rule::JoinedAxes("ffn.experts.mlp."),
    Rule::Rename("ffn.experts.mlp.gate_proj", "ffn.experts.mlp.w1"),
    Rule::Rename("ffn.experts.mlp.up_proj", "ffn.experts.mlp.v1"),
    Rule::Rename("ffn.experts.mlp.down_proj", "ffn.experts.mlp.w2"),
    Rule::Rename("mlp.gate.", "ffn.router.layer."),
    Rule::Rename("model.embed_tokens", "transformer.wte"),
    Rule::Rename("model.layers.", "transformer.blocks."),
    Rule::Rename("model.norm.", "transformer.norm_f."),
];

const LAYOUT: Layout = Layout { rules: RULES, module_rules: RULES, prefixes: &[("transformer.", "")], ..Layout::LLAMA };

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let keys = Keys {
        activation: None,
        intermediate_size: "hidden_size",
        num_key_value_heads: None,
        head_dim: None,
        ..Keys::LLAMA
    };
    // The class has the default epsilon of torch's LayerNorm.
    let mut template = Template::read_with_eps(config, &keys, 1e-5)?.with_rope(
        config,
        RopeDefaults::default(),
        RopePairing::HalfSplit,
    )?;
    if template.head.tied {
        return Err(config.unsupported("tie_word_embeddings", "the class has no tied head"));
    }
    template.norm.kind = NormKind::LayerNorm { bias: false };
    // `rope_theta` there has no effect: the class takes that of the model's rope parameters.
    let attention = Part::read(config, "attn_config", &["attn_pdrop", "clip_qkv", "kv_n_heads", "rope_theta"])?;
    template.attention.num_key_value_heads = attention.size("kv_n_heads", 1)?;
    template.attention.clip_qkv = attention.number_or_null("clip_qkv")?;
    template.mlp = FeedForward::Moe(moe(config)?);
    template.build_uniform()
}

fn moe(config: &FamilyConfig<'_>) -> Result<MoeSpec, RegistryError> {
    let experts = Part::read(
        config,
        "ffn_config",
        &[
            "ffn_act_fn",
            "ffn_hidden_size",
            "hidden_size",
            "moe_jitter_eps",
            "moe_loss_weight",
            "moe_normalize_expert_weights",
            "moe_num_experts",
            "moe_top_k",
        ],
    )?;
    let activation = match experts.value("ffn_act_fn").and_then(|named| named.get("name")) {
        None => Activation::Silu,
        Some(name) => crate::template::activation_named(name.as_str().unwrap_or_default())
            .ok_or_else(|| config.unsupported("ffn_config", "its activation is not supported"))?,
    };
    // The order of the norm that weights are divided by; null for none.
    let normalize = match experts.part.and_then(|part| part.get("moe_normalize_expert_weights")) {
        Some(Value::Null) => Normalize::No,
        None => Normalize::Sum,
        Some(order) if order.as_f64() == Some(1.0) => Normalize::Sum,
        Some(_) => {
            return Err(config.unsupported("ffn_config", "moe_normalize_expert_weights must be 1 or null"));
        }
    };
    Ok(MoeSpec {
        num_experts: experts.size("moe_num_experts", 4)?,
        num_experts_per_tok: experts.size("moe_top_k", 1)?,
        expert: MlpSpec::new(experts.size("ffn_hidden_size", 3584)?, activation),
        router: RouterSpec { normalize, ..RouterSpec::new(RouterScore::Softmax) },
        shared_expert: None,
    })
}

/// What transformers writes of every config, and so of these parts.
const OF_EVERY_CONFIG: &[&str] = &[
    "_name_or_path",
    "architectures",
    "chunk_size_feed_forward",
    "dtype",
    "id2label",
    "is_encoder_decoder",
    "label2id",
    "model_type",
    "output_attentions",
    "output_hidden_states",
    "problem_type",
    "return_dict",
    "torch_dtype",
];

/// An object in the config.
struct Part<'a> {
    config: FamilyConfig<'a>,
    key: &'static str,
    part: Option<&'a Map<String, Value>>,
}

impl<'a> Part<'a> {
    /// The object at `key`, which may be absent, and have `known` keys and those without effect in every config.
    fn read(config: &FamilyConfig<'a>, key: &'static str, known: &[&str]) -> Result<Self, RegistryError> {
        let part = match config.value(key) {
            None | Some(Value::Null) => None,
            Some(Value::Object(part)) => Some(part),
            Some(_) => return Err(config.unsupported(key, "it must be an object")),
        };
        for (name, value) in part.into_iter().flatten() {
            let is_harmless = automodel_config::harmless_reason(name, value).is_some();
            if ![known, OF_EVERY_CONFIG].iter().any(|keys| keys.contains(&name.as_str())) && !is_harmless {
                return Err(config.unsupported(key, format!("nothing is known of its key `{name}`")));
            }
        }
        Ok(Self { config: *config, key, part })
    }

    /// The value of a key, if it is given and not null.
    fn value(&self, key: &str) -> Option<&'a Value> {
        self.part?.get(key).filter(|value| !value.is_null())
    }

    /// A size of at least one.
    fn size(&self, key: &str, default: u32) -> Result<usize, RegistryError> {
        let size = self.value(key).map_or(Some(default), |value| u32::try_from(value.as_u64()?).ok());
        let size = size.filter(|&size| size > 0).and_then(|size| usize::try_from(size).ok());
        size.ok_or_else(|| self.config.unsupported(self.key, format!("{key} must be a size of at least one")))
    }

    fn number_or_null(&self, key: &str) -> Result<Option<f64>, RegistryError> {
        let number = |value: &Value| {
            let number = value.as_f64().filter(|number| number.is_finite());
            number.ok_or_else(|| self.config.unsupported(self.key, format!("{key} must be a number")))
        };
        self.value(key).map(number).transpose()
    }
}
