//! Gemma 4, the text model: embeddings for each layer in the small models, a dense MLP beside experts in the large one.

use super::super::prelude::*;
use super::gemma4;

pub static FAMILY: Family = Family {
    model_type: "gemma4_text",
    architectures: &["Gemma4ForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: gemma4::LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(262_144)),
        ("hidden_size", Int(2304)),
        ("intermediate_size", Int(9216)),
        ("num_hidden_layers", Int(30)),
        ("num_attention_heads", Int(8)),
        ("num_key_value_heads", Int(4)),
        ("head_dim", Int(256)),
        ("hidden_activation", Str("gelu_pytorch_tanh")),
        ("max_position_embeddings", Int(131_072)),
        ("rms_norm_eps", Float(1e-06)),
        ("tie_word_embeddings", Bool(true)),
        ("attention_bias", Bool(false)),
        ("sliding_window", Int(512)),
        ("layer_types", Null),
        ("final_logit_softcapping", Null),
        ("use_bidirectional_attention", Null),
        ("vocab_size_per_layer_input", Int(262_144)),
        ("hidden_size_per_layer_input", Int(256)),
        ("attention_k_eq_v", Bool(false)),
        ("num_kv_shared_layers", Int(0)),
        ("enable_moe_block", Bool(false)),
        ("use_double_wide_mlp", Bool(false)),
        ("num_experts", Null),
        ("top_k_experts", Null),
        ("moe_intermediate_size", Null),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = gemma4::template(config)?;
    let attentions = gemma4::Attentions::read(config, &template)?;
    let width = config.count_or_null("hidden_size_per_layer_input")?.filter(|&width| width > 0);
    let vocab_size = config.usize("vocab_size_per_layer_input")?;
    let activation = template.dense_mlp().map_or(Activation::GeluTanh, |mlp| mlp.activation);
    template.embedding.by_layer = width.map(|width| LayerEmbeddings { vocab_size, width, norm: template.norm });
    let mixture = mixture(config, &template)?;
    template.build_layers(|index, template| {
        let mut parts = LayerParts { attention: template.attention.clone(), mlp: template.mlp.clone() };
        attentions.change(index, &mut parts);
        let dense = match parts.mlp {
            FeedForward::Gated(ref mlp) => mlp.clone(),
            FeedForward::Plain(_) | FeedForward::Moe(_) => return Err(config.inconsistent("an MLP".to_owned())),
        };
        let mut layer = template.layer(Mixer::Attention(parts.attention), parts.mlp);
        if let (Some(moe), Some(feed)) = (&mixture, layer.branches.last_mut()) {
            let shared = SharedExpert { mlp: dense, gate: false, norms: Some(template.norm) };
            feed.pre = None;
            feed.operation = Operation::Feed(FeedForward::Moe(MoeSpec { shared_expert: Some(shared), ..moe.clone() }));
        }
        if let Some(width) = width {
            let embedding = Operation::LayerEmbedding(LayerEmbeddingSpec { width, activation });
            let branch = Branch::new("per_layer_input", embedding);
            layer.branches.push(branch.with_post("post_per_layer_input_norm", template.norm));
        }
        layer.scalar = true;
        Ok(layer)
    })
}

/// The experts beside the dense MLP, if there are any.
fn mixture(config: &FamilyConfig<'_>, template: &Template) -> Result<Option<MoeSpec>, RegistryError> {
    let keys = ["num_experts", "top_k_experts", "moe_intermediate_size"];
    if !config.bool("enable_moe_block")? {
        keys.iter().for_each(|key| config.resolved().mark_read(key));
        return Ok(None);
    }
    let [num_experts, num_experts_per_tok, intermediate_size] = keys;
    let activation = crate::template::activation(config, "hidden_activation")?;
    let router = RouterSpec {
        normalize: Normalize::Sum,
        input_norm: Some(NormSpec { kind: NormKind::Rms, eps: template.norm.eps }),
        input_scale: Some((template.hidden_size as f64).powf(-0.5)),
        expert_scales: true,
        ..RouterSpec::new(RouterScore::Softmax)
    };
    Ok(Some(MoeSpec {
        num_experts: config.usize(num_experts)?,
        num_experts_per_tok: config.usize(num_experts_per_tok)?,
        expert: MlpSpec::new(config.usize(intermediate_size)?, activation),
        router,
        shared_expert: None,
    }))
}
