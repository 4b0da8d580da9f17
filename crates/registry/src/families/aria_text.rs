//! The text model of Aria: the best logits weighted by a softmax over them, experts stored transposed in two tensors, shared ones.

use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "aria_text",
    architectures: &["AriaTextForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(32_000)),
        ("hidden_size", Int(4096)),
        ("intermediate_size", Int(4096)),
        ("num_hidden_layers", Int(32)),
        ("num_attention_heads", Int(32)),
        ("num_key_value_heads", Null),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(2048)),
        ("rms_norm_eps", Float(1e-06)),
        ("tie_word_embeddings", Bool(false)),
        ("attention_bias", Bool(false)),
        ("mlp_bias", Bool(false)),
        ("head_dim", Null),
        ("moe_num_experts", Int(8)),
        ("moe_topk", Int(2)),
        ("moe_num_shared_experts", Int(2)),
    ],
    aliases: &[],
};

const LAYOUT: Layout = Layout {
    rules: &[
        PACKED_EXPERTS,
        Rule::Transpose(".experts."),
        STACKED_EXPERTS,
        Rule::Rename("mlp.experts.gate_up_proj", "mlp.experts.fc1.weight"),
        Rule::Rename("mlp.experts.down_proj", "mlp.experts.fc2.weight"),
        Rule::Rename("mlp.shared_expert.", "mlp.shared_experts."),
        Rule::Rename("mlp.gate.", "mlp.router."),
    ],
    module_rules: &[
        PACKED_EXPERTS,
        Rule::Transpose(".experts."),
        STACKED_EXPERTS,
        Rule::Rename("mlp.shared_expert.", "mlp.shared_experts."),
        Rule::Rename("mlp.gate.", "mlp.router."),
    ],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::llama(config)?;
    template.attention.bias = attention_bias(config)?;
    let activation = crate::template::activation(config, "hidden_act")?;
    let intermediate_size = config.usize("intermediate_size")?;
    let shared = MlpSpec { bias: config.bool("mlp_bias")?, ..MlpSpec::new(intermediate_size, activation) };
    template.mlp = FeedForward::Moe(MoeSpec {
        num_experts: config.usize("moe_num_experts")?,
        num_experts_per_tok: config.usize("moe_topk")?,
        // `hidden_act` is that of the shared experts.
        expert: MlpSpec::new(intermediate_size, Activation::Silu),
        router: RouterSpec::new(RouterScore::TopkSoftmax),
        shared_expert: Some(shared_experts(config, &shared, config.usize("moe_num_shared_experts")?)?),
    });
    template.build_uniform()
}
