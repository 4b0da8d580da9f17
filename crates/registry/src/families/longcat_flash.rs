//! LongCat-Flash: two attentions and MLPs in a layer, a mixture that reads the input of the first MLP and is added after the second,
//! and choices of it that return their input.

use super::deepseek::{LATENT_KEYS, LATENT_ROPE, latent_attention_with};
use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "longcat_flash",
    architectures: &["LongcatFlashForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    // Of the code that came with the checkpoint: the class scales in any case, and has no other kind. It makes a bias of the router,
    // and does not use it.
    ignored_keys: &["mla_scale_kv_lora", "mla_scale_q_lora", "router_bias", "zero_expert_type"],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(131_072)),
        ("hidden_size", Int(6144)),
        ("num_layers", Int(28)),
        ("num_attention_heads", Int(64)),
        ("num_key_value_heads", Null),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(131_072)),
        ("rms_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("attention_bias", Bool(false)),
        ("ffn_hidden_size", Int(12_288)),
        ("q_lora_rank", Int(1536)),
        ("kv_lora_rank", Int(512)),
        ("qk_nope_head_dim", Int(128)),
        ("qk_rope_head_dim", Int(64)),
        ("head_dim", Int(64)),
        ("v_head_dim", Int(128)),
        ("qk_head_dim", Null),
        ("moe_topk", Int(12)),
        ("n_routed_experts", Int(512)),
        ("zero_expert_num", Int(256)),
        ("expert_ffn_hidden_size", Int(2048)),
        ("routed_scaling_factor", Float(6.0)),
    ],
    aliases: &[
        ("num_local_experts", "n_routed_experts"),
        ("num_experts_per_tok", "moe_topk"),
        ("intermediate_size", "ffn_hidden_size"),
        ("moe_intermediate_size", "expert_ffn_hidden_size"),
    ],
};

const LAYOUT: Layout = Layout {
    rules: &[
        Rule::Rename("mlp.gate.e_score_correction_bias", "mlp.router.e_score_correction_bias"),
        Rule::Rename("mlp.gate.", "mlp.router.classifier."),
    ],
    ignored: &[
        ("model.mtp.*", "layers that predict more tokens"),
        ("*.mlp.router.classifier.bias", "a bias that the router does not use"),
        // The class has rows of `gate_up_proj` for the choices that return their input too, and writes them as experts.
        ("*.mlp.experts.*.gate_proj.weight", "of a choice that returns its input"),
        ("*.mlp.experts.*.up_proj.weight", "of a choice that returns its input"),
    ],
    // Experts in two tensors have rows for the choices too.
    module_rules: &[],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let keys = Keys { num_hidden_layers: "num_layers", intermediate_size: "ffn_hidden_size", ..LATENT_KEYS };
    let template = Template::read(config, &keys)?;
    config.must_agree("num_hidden_layers", 2 * template.num_hidden_layers, "num_layers, of two attentions each,")?;
    let attention = attention(config, &template)?;
    let moe = moe(config)?;
    template.build_layers(|_, template| {
        let norm = template.norm;
        let mix = |name, pre| Branch::new(name, Operation::Mix(Mixer::Mla(attention.clone()))).with_pre(pre, norm);
        let feed = |name, pre| Branch::new(name, Operation::Feed(template.mlp.clone())).with_pre(pre, norm);
        Ok(LayerSpec::new(vec![
            mix("self_attn.0", "input_layernorm.0"),
            feed("mlps.0", "post_attention_layernorm.0"),
            mix("self_attn.1", "input_layernorm.1"),
            feed("mlps.1", "post_attention_layernorm.1"),
            Branch { input: BranchInput::SameAs(1), ..Branch::feed(FeedForward::Moe(moe.clone())) },
        ]))
    })
}

/// DeepSeek-V3's attention, with queries and latents scaled by what their ranks lack of the hidden size.
fn attention(config: &FamilyConfig<'_>, template: &Template) -> Result<MlaSpec, RegistryError> {
    let width = config.usize("qk_rope_head_dim")?;
    config.must_agree("head_dim", width, "qk_rope_head_dim")?;
    let defaults = RopeDefaults { theta: 10_000_000.0, ..LATENT_ROPE.defaults };
    let options = RopeOptions { defaults, ..LATENT_ROPE };
    let rope = RopeByLayerType::read_whole(config, &options, width, RopePairing::Interleaved)?.uniform()?.clone();
    let queries = config.usize("q_lora_rank")?;
    let mut attention = latent_attention_with(config, rope, config.usize("v_head_dim")?)?;
    let factor = |rank: usize| (template.hidden_size as f64 / rank as f64).sqrt();
    attention.scale *= factor(queries);
    attention.latent_scale = Some(factor(attention.kv_lora_rank));
    Ok(attention)
}

fn moe(config: &FamilyConfig<'_>) -> Result<MoeSpec, RegistryError> {
    let activation = crate::template::activation(config, "hidden_act")?;
    let intermediate_size = config.usize("expert_ffn_hidden_size")?;
    Ok(MoeSpec {
        num_experts: config.usize("n_routed_experts")?,
        num_experts_per_tok: config.usize("moe_topk")?,
        expert: MlpSpec::new(intermediate_size, activation),
        router: RouterSpec {
            scale: Some(config.f64("routed_scaling_factor")?),
            correction_bias: true,
            logits_in_float32: true,
            zero_experts: config.count_or_null("zero_expert_num")?.unwrap_or(0),
            ..RouterSpec::new(RouterScore::Softmax)
        },
        shared_expert: None,
    })
}
