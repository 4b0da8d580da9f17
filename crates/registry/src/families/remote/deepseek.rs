//! The first DeepSeek mixture of experts: Llama's attention, experts chosen by softmax, shared experts.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "deepseek",
    architectures: &["DeepseekForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("num_key_value_heads", Null),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(2048)),
        ("rms_norm_eps", Float(1e-06)),
        ("tie_word_embeddings", Bool(false)),
        ("attention_bias", Bool(false)),
        ("n_shared_experts", Null),
        ("n_routed_experts", Null),
        ("num_experts_per_tok", Null),
        ("moe_layer_freq", Int(1)),
        ("first_k_dense_replace", Int(0)),
        ("norm_topk_prob", Bool(false)),
        ("scoring_func", Str("softmax")),
    ],
    aliases: &[],
};

const LAYOUT: Layout = Layout { rules: &[Rule::Rename("mlp.shared_expert.", "mlp.shared_experts.")], ..Layout::LLAMA };

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::read(config, &Keys { head_dim: None, ..Keys::LLAMA })?.with_older_rope(config)?;
    template.attention.bias = attention_bias(config)?;
    let moe = config.count_or_null("n_routed_experts")?.map(|_| moe(config)).transpose()?;
    let (dense, every) = (config.count("first_k_dense_replace")?, config.usize("moe_layer_freq")?);
    template.build(|index, layer| {
        if let Some(moe) = moe.as_ref().filter(|_| index >= dense && index.is_multiple_of(every)) {
            layer.mlp = FeedForward::Moe(moe.clone());
        }
        Ok(())
    })
}

fn moe(config: &FamilyConfig<'_>) -> Result<MoeSpec, RegistryError> {
    if config.str("scoring_func")? != "softmax" {
        return Err(config.unsupported("scoring_func", "the published checkpoints have softmax"));
    }
    let width = config.usize("moe_intermediate_size")?;
    let normalize = config.bool("norm_topk_prob")?;
    let mut moe = softmax_moe(config, "n_routed_experts", width, false)?;
    if normalize && moe.num_experts_per_tok > 1 {
        moe.router.normalize = Normalize::SumPlus(1e-20);
    }
    if let Some(count) = config.usize_or_null("n_shared_experts")? {
        moe.shared_expert = Some(shared_experts(config, &moe.expert, count)?);
    }
    Ok(moe)
}
