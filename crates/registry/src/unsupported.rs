//! Model types that are not supported: what they compute that nothing here does, and what may be a misspelling.
//!
//! Names that look alike say little of mathematics (`minimax` and `ministral`), so nothing is suggested because of them but
//! where a slip of the keyboard explains the difference.

/// What is missing, and the model types of transformers that need it.
const MISSING: &[(&str, &[&str])] = &[
    ("its compressed attention is not implemented", &["deepseek_v4"]),
    (
        "its linear attention layers are not implemented",
        &[
            "qwen3_next",
            "qwen3_5_text",
            "qwen3_5_moe_text",
            "qwen3_5",
            "qwen3_5_moe",
            "olmo_hybrid",
            "kimi_linear",
            "minimax",
            "rwkv",
            "recurrent_gemma",
            "xlstm",
        ],
    ),
    (
        "its state-space layers are not implemented",
        &[
            "mamba",
            "mamba2",
            "falcon_mamba",
            "falcon_h1",
            "jamba",
            "bamba",
            "zamba",
            "zamba2",
            "granitemoehybrid",
            "nemotron_h",
        ],
    ),
    ("its convolution layers are not implemented", &["lfm2_moe", "lfm3"]),
    (
        "its embeddings for each layer, and keys and values that layers share, are not implemented",
        &["gemma3n", "gemma3n_text", "gemma4", "gemma4_text"],
    ),
    ("the difference of two attentions is not implemented", &["diffllama"]),
    ("its masks that depend on the values are not implemented", &["doge"]),
    ("its mixtures of attention heads are not implemented", &["jetmoe"]),
    ("its factors on the residual stream, and biases of the gates of its attention, are not implemented", &["beam"]),
    (
        "it is an encoder, or has one, and no decoder by itself",
        &[
            "albert",
            "bart",
            "bert",
            "camembert",
            "deberta",
            "deberta-v2",
            "distilbert",
            "electra",
            "mbart",
            "modernbert",
            "mpnet",
            "mt5",
            "nomic_bert",
            "roberta",
            "t5",
            "whisper",
            "xlm-roberta",
        ],
    ),
    (
        "it is a larger model, and its config has no `text_config` with the text model",
        &["llama4", "llava", "llava_next", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "mllama", "paligemma", "chameleon"],
    ),
];

/// What `model_type` computes that nothing here does, if that is known.
pub(crate) fn missing(model_type: &str) -> Option<&'static str> {
    MISSING.iter().find(|(_, names)| names.contains(&model_type)).map(|(reason, _)| *reason)
}

/// Known model types of which `model_type` may be a misspelling: a slip or two in the letters, none in a number, since
/// another number is another model.
pub(crate) fn misspelt<'a>(model_type: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    const LONGEST: usize = 64;
    if missing(model_type).is_some() || model_type.len() > LONGEST {
        return Vec::new();
    }
    let lower = model_type.to_lowercase();
    let digits = |name: &str| name.chars().filter(char::is_ascii_digit).collect::<String>();
    let slips = |name: &str| if name.len() < 8 { 1 } else { 2 };
    let is_near = |name: &&str| {
        digits(name) == digits(&lower) && strsim::osa_distance(name, &lower) <= slips(name) && name.len() > 3
    };
    let mut near: Vec<String> = known.filter(is_near).map(str::to_owned).collect();
    near.sort();
    near.dedup();
    near
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 8] = ["gemma2", "gpt_neox", "llama", "ministral", "mistral", "olmoe", "phi", "qwen3"];

    fn of(name: &str) -> Vec<String> {
        misspelt(name, KNOWN.into_iter())
    }

    #[test]
    fn slips_of_the_keyboard_are_recognised() {
        assert_eq!(of("lama"), ["llama"]);
        assert_eq!(of("Llama"), ["llama"]);
        assert_eq!(of("qewn3"), ["qwen3"]);
        assert_eq!(of("mistarl"), ["mistral"]);
        assert_eq!(of("gpt-neox"), ["gpt_neox"]);
    }

    #[test]
    fn other_models_are_not_misspellings() {
        for name in ["minimax", "gemma4", "qwen33", "qwen4", "flex_olmo", "llava", "phimoe", "mistral4", "x"] {
            assert_eq!(of(name), [""; 0], "{name}");
        }
        assert_eq!(of(&"llama".repeat(1000)), [""; 0]);
    }

    #[test]
    fn what_is_missing_is_said_once() {
        let mut names: Vec<&str> = MISSING.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(missing("deepseek_v4").is_some_and(|reason| reason.contains("compressed")));
        assert!(missing("llama").is_none());
    }
}
