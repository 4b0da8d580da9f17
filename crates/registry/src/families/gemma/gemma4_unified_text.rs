//! The text model of Gemma 4 without encoders: neither embeddings for each layer nor experts.

use super::super::prelude::*;
use super::gemma4;

pub static FAMILY: Family = Family {
    model_type: "gemma4_unified_text",
    architectures: &["Gemma4UnifiedForCausalLM"],
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
        ("max_position_embeddings", Int(262_144)),
        ("rms_norm_eps", Float(1e-06)),
        ("tie_word_embeddings", Bool(true)),
        ("attention_bias", Bool(false)),
        ("sliding_window", Int(1024)),
        ("layer_types", Null),
        ("final_logit_softcapping", Null),
        ("use_bidirectional_attention", Str("vision")),
        ("attention_k_eq_v", Bool(false)),
        ("num_kv_shared_layers", Int(0)),
        ("use_double_wide_mlp", Bool(false)),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let template = gemma4::template(config)?;
    let attentions = gemma4::Attentions::read(config, &template)?;
    template.build_layers(|index, template| {
        let mut parts = LayerParts { attention: template.attention.clone(), mlp: template.mlp.clone() };
        attentions.change(index, &mut parts);
        let layer = template.layer(Mixer::Attention(parts.attention), parts.mlp);
        Ok(LayerSpec { scalar: true, ..layer })
    })
}
