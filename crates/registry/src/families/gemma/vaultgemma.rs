//! VaultGemma: Gemma 2 with norms before the branches alone.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "vaultgemma",
    architectures: &["VaultGemmaForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &["hidden_act"],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(256_000)),
        ("hidden_size", Int(2304)),
        ("intermediate_size", Int(9216)),
        ("num_hidden_layers", Int(26)),
        ("num_attention_heads", Int(8)),
        ("num_key_value_heads", Int(4)),
        ("max_position_embeddings", Int(8192)),
        ("rms_norm_eps", Float(1e-06)),
        ("tie_word_embeddings", Bool(true)),
        ("head_dim", Int(256)),
        ("attention_bias", Bool(false)),
        ("query_pre_attn_scalar", Int(256)),
        ("sliding_window", Int(4096)),
        ("layer_types", Null),
        ("final_logit_softcapping", Float(30.0)),
        ("attn_logit_softcapping", Float(50.0)),
        ("hidden_activation", Str("gelu_pytorch_tanh")),
    ],
    aliases: &[],
};

const LAYOUT: Layout =
    Layout { rules: &[Rule::Rename("post_attention_layernorm", "pre_feedforward_layernorm")], ..Layout::LLAMA };

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::gemma2(config)?.with_rope(config, RopeDefaults::default(), RopePairing::HalfSplit)?;
    template.layer = LayerSpec::pre;
    let window = config.usize_or_null("sliding_window")?;
    let alternate = |index: usize| if index.is_multiple_of(2) { "sliding_attention" } else { "full_attention" };
    let types = layer_types(config, template.num_hidden_layers, alternate)?;
    template.build(|index, layer| {
        layer.attention.mask = mask_of(config, &types[index], window)?;
        Ok(())
    })
}
