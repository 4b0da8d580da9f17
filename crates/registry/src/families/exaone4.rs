//! EXAONE 4: norms after each branch and on heads; full layers do not rotate where others have a window.

use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "exaone4",
    architectures: &["Exaone4ForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: Layout::LLAMA,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(102_400)),
        ("hidden_size", Int(4096)),
        ("intermediate_size", Int(16_384)),
        ("num_hidden_layers", Int(32)),
        ("num_attention_heads", Int(32)),
        ("num_key_value_heads", Int(32)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(2048)),
        ("rms_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("head_dim", Null),
        ("sliding_window", Int(4096)),
        ("sliding_window_pattern", Int(4)),
        ("layer_types", Null),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::llama(config)?.with_qk_norm(QkNormExtent::Head);
    template.layer = LayerSpec::post;
    let window = config.usize_or_null("sliding_window")?;
    let pattern = SlidingPattern::read(config, window.is_some())?;
    let types = layer_types(config, template.num_hidden_layers, |index| pattern.layer_type(index))?;
    template.build(|index, layer| {
        let attention = &mut layer.attention;
        attention.mask = mask_of(config, &types[index], window)?;
        if window.is_some() && attention.mask == AttentionMask::Full {
            attention.rope = None;
        }
        Ok(())
    })
}

/// Which layers have a window if `layer_types` does not say: every n-th has none, or a word of `L` and `G` repeats.
enum SlidingPattern {
    Never,
    EveryNth(usize),
    Word(Vec<u8>),
}

impl SlidingPattern {
    fn read(config: &FamilyConfig<'_>, windowed: bool) -> Result<Self, RegistryError> {
        let value = config.value("sliding_window_pattern");
        let word = value.as_ref().and_then(|value| value.as_str()).map(|word| word.as_bytes().to_vec());
        Ok(match word {
            _ if !windowed => Self::Never,
            Some(word) if !word.is_empty() && word.iter().all(|letter| b"LG".contains(letter)) => Self::Word(word),
            Some(_) => {
                let reason = "a word of L (window) and G (no window), or a number, is expected";
                return Err(config.unsupported("sliding_window_pattern", reason));
            }
            None => Self::EveryNth(sliding_window_pattern(config, 4)?),
        })
    }

    fn layer_type(&self, index: usize) -> &'static str {
        let sliding = match self {
            Self::Never => false,
            Self::EveryNth(n) => !(index + 1).is_multiple_of(*n),
            Self::Word(word) => word[index % word.len()] == b'L',
        };
        if sliding { "sliding_attention" } else { "full_attention" }
    }
}
