//! GPT-Neo: learned positions, scores that are not scaled, layers with and without a window.

use super::super::prelude::*;
use serde_json::Value;

pub static FAMILY: Family = Family {
    model_type: "gpt_neo",
    architectures: &["GPTNeoForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(50_257)),
        ("max_position_embeddings", Int(2048)),
        ("hidden_size", Int(2048)),
        ("num_hidden_layers", Int(24)),
        ("attention_types", Null),
        ("num_attention_heads", Int(16)),
        ("intermediate_size", Null),
        ("window_size", Int(256)),
        ("activation_function", Str("gelu_new")),
        ("layer_norm_epsilon", Float(1e-05)),
        ("tie_word_embeddings", Bool(true)),
    ],
    aliases: &[("num_heads", "num_attention_heads"), ("num_layers", "num_hidden_layers")],
};

const LAYOUT: Layout = Layout {
    rules: &[
        Rule::Rename("self_attn.o_proj", "attn.attention.out_proj"),
        Rule::Rename("self_attn", "attn.attention"),
        Rule::Rename("mlp.up_proj", "mlp.c_fc"),
        Rule::Rename("mlp.down_proj", "mlp.c_proj"),
        Rule::Rename("model.embed_tokens", "transformer.wte"),
        Rule::Rename("model.embed_positions", "transformer.wpe"),
        Rule::Rename("model.layers.", "transformer.h."),
        Rule::Rename("model.norm.", "transformer.ln_f."),
        Rule::Rename("input_layernorm", "ln_1"),
        Rule::Rename("post_attention_layernorm", "ln_2"),
    ],
    prefixes: &[("transformer.", "")],
    ignored: &[
        ("*h.*.attn.attention.bias", "the mask, which is computed"),
        ("*h.*.attn.attention.masked_bias", "the mask's value, which is a constant"),
    ],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = super::read(config, "intermediate_size")?.with_learned_positions(config, 0)?;
    template.attention.bias.o = true;
    template.attention.scale = 1.0;
    let window = config.usize("window_size")?;
    let kinds = attention_layers(config, template.num_hidden_layers)?;
    template.build(|index, layer| {
        layer.attention.mask = match kinds[index].as_str() {
            "global" => AttentionMask::Full,
            "local" => AttentionMask::Sliding { window },
            _ => return Err(config.unsupported("attention_types", "this family has global and local layers")),
        };
        Ok(())
    })
}

/// The kind of each layer: `attention_layers` where the file has it, which the class prefers; otherwise `attention_types`, a list
/// of kinds with the number of times that they are repeated, by default `[[["global", "local"], 12]]`.
fn attention_layers(config: &FamilyConfig<'_>, layers: usize) -> Result<Vec<String>, RegistryError> {
    let types = config.value("attention_types");
    let kinds = match (config.list_str_or_null("attention_layers")?, types) {
        (Some(kinds), _) => kinds,
        (None, None | Some(Value::Null)) => ["global", "local"].repeat(12).into_iter().map(str::to_owned).collect(),
        (None, Some(types)) => expanded(types, layers).ok_or_else(|| {
            config.unsupported(
                "attention_types",
                "it must be a list of pairs: a list of kinds, and a number of repetitions",
            )
        })?,
    };
    if kinds.len() == layers {
        return Ok(kinds);
    }
    Err(config.inconsistent(format!(
        "attention_types gives {} layers a kind of attention, but num_layers is {layers}: correct one of them",
        kinds.len()
    )))
}

/// `attention_types` as one kind for each layer, up to one more than `layers`; `None` if it is not in that form.
fn expanded(types: &Value, layers: usize) -> Option<Vec<String>> {
    let mut kinds = Vec::new();
    for pair in types.as_array()? {
        let [names, times] = pair.as_array()?.as_slice() else { return None };
        let names: Vec<&str> = names.as_array()?.iter().map(Value::as_str).collect::<Option<_>>()?;
        let times = usize::try_from(times.as_u64()?).ok()?;
        let room = layers.saturating_add(1).saturating_sub(kinds.len());
        // Not `repeat`: a file may give any number.
        let repeated = names.iter().cycle().take(names.len().saturating_mul(times).min(room));
        kinds.extend(repeated.map(|&name| name.to_owned()));
    }
    Some(kinds)
}
