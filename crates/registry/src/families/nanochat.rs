//! nanochat: norms without weights, on embedded tokens too, rotation in the other direction with norms of queries and keys after it,
//! capped logits.

use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "nanochat",
    architectures: &["NanoChatForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(50_304)),
        ("hidden_size", Int(768)),
        ("intermediate_size", Int(8192)),
        ("num_hidden_layers", Int(12)),
        ("num_attention_heads", Int(6)),
        ("num_key_value_heads", Null),
        ("max_position_embeddings", Int(2048)),
        ("hidden_act", Str("relu2")),
        ("rms_norm_eps", Float(1e-06)),
        ("final_logit_softcapping", Float(15.0)),
        ("attention_bias", Bool(false)),
        ("tie_word_embeddings", Bool(false)),
    ],
    aliases: &[],
};

const LAYOUT: Layout = Layout {
    rules: &[Rule::Rename("mlp.up_proj", "mlp.fc1"), Rule::Rename("mlp.down_proj", "mlp.fc2")],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::read(config, &Keys::LLAMA)?
        .with_rope(config, RopeDefaults::default(), RopePairing::HalfSplitSwapped)?
        .with_plain_mlp(false);
    template.norm.kind = NormKind::RmsWithoutWeight;
    template.embedding.norm = Some(template.norm);
    template.attention.bias = attention_bias(config)?;
    template.attention.qk_norm = Some(QkNorm { norm: template.norm, extent: QkNormExtent::Head, after_rope: true });
    template.head.logit_softcap = config.f64_or_null("final_logit_softcapping")?;
    template.build_uniform()
}
