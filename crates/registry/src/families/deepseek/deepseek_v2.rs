//! DeepSeek-V2 and V2-Lite: latent attention, experts scored by a softmax.

use super::super::prelude::*;
use super::{LATENT_KEYS, build_latent, latent_attention};

pub static FAMILY: Family = Family {
    model_type: "deepseek_v2",
    architectures: &["DeepseekV2ForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    // Of the code that came with the checkpoint, but for `norm_topk_prob`, which the class has and its router does not read.
    ignored_keys: &["ep_size", "moe_layer_freq", "norm_topk_prob", "scoring_func"],
    layout: Layout { keep_float32: &[], ..DEEPSEEK_MOE_LAYOUT },
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(102_400)),
        ("hidden_size", Int(4096)),
        ("intermediate_size", Int(11_008)),
        ("num_hidden_layers", Int(32)),
        ("num_attention_heads", Int(32)),
        ("num_key_value_heads", Null),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(2048)),
        ("rms_norm_eps", Float(1e-06)),
        ("tie_word_embeddings", Bool(false)),
        ("attention_bias", Bool(false)),
        ("mlp_bias", Bool(false)),
        ("first_k_dense_replace", Int(0)),
        ("kv_lora_rank", Int(512)),
        ("q_lora_rank", Int(1536)),
        ("n_group", Null),
        ("n_routed_experts", Int(64)),
        ("n_shared_experts", Int(2)),
        ("qk_nope_head_dim", Int(128)),
        ("qk_rope_head_dim", Int(64)),
        ("routed_scaling_factor", Float(1.0)),
        ("topk_group", Null),
        ("topk_method", Str("greedy")),
        ("v_head_dim", Int(128)),
        ("num_experts_per_tok", Null),
        ("moe_intermediate_size", Int(1407)),
    ],
    aliases: &[("num_experts", "n_routed_experts")],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let template = Template::read(config, &LATENT_KEYS)?.with_mlp_bias(config, "mlp_bias")?;
    let attention = latent_attention(config, RopePairing::Interleaved, config.usize("v_head_dim")?)?;
    let dense = config.count("first_k_dense_replace")?;
    build_latent(template, &attention, &moe(config)?, |index| index < dense)
}

fn moe(config: &FamilyConfig<'_>) -> Result<MoeSpec, RegistryError> {
    let mut moe = softmax_moe(config, "n_routed_experts", config.usize("moe_intermediate_size")?, false)?;
    moe.router.scale = Some(config.f64("routed_scaling_factor")?);
    moe.router.logits_in_float32 = true;
    let groups = (config.usize_or_null("n_group")?, config.usize_or_null("topk_group")?);
    moe.router.groups = match (config.str("topk_method")?, groups) {
        ("greedy", _) => None,
        ("group_limited_greedy", (Some(count), Some(chosen))) => {
            Some(ExpertGroups { count, chosen, score: GroupScore::Best })
        }
        ("group_limited_greedy", _) => {
            let problem = "topk_method is group_limited_greedy, but n_group or topk_group is null: give both";
            return Err(config.inconsistent(problem.to_owned()));
        }
        _ => return Err(config.unsupported("topk_method", "the class has greedy and group_limited_greedy")),
    };
    let mut shared = shared_experts(config, &moe.expert, config.usize("n_shared_experts")?)?;
    shared.mlp.bias = config.bool("mlp_bias")?;
    moe.shared_expert = Some(shared);
    Ok(moe)
}
