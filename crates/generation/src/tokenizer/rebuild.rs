//! The transformers classes that rebuild their tokenizer from a vocabulary.
//!
//! Each uses the vocabulary, the merges and the post-processor of `tokenizer.json`, and nothing else of it: normalizer,
//! pre-tokenizer, decoder and the options of the model are those of the class (`tokenization_<model>.py` of transformers
//! 5.23), with some settings of `tokenizer_config.json`.

use super::class::Rebuilt;
use super::saved::{Saved, Vocabulary};
use super::settings::{Settings, TokenValue};
use serde_json::{Value, json};
use tokenizers::models::bpe::BPE;
use tokenizers::{ModelWrapper, PostProcessorWrapper, Tokenizer};

const GPT2_TOKENS: &[(&str, &str)] =
    &[("unk_token", "<|endoftext|>"), ("bos_token", "<|endoftext|>"), ("eos_token", "<|endoftext|>")];
const LLAMA_TOKENS: &[(&str, &str)] = &[("unk_token", "<unk>"), ("bos_token", "<s>"), ("eos_token", "</s>")];
const QWEN_TOKENS: &[(&str, &str)] =
    &[("unk_token", "<|endoftext|>"), ("eos_token", "<|endoftext|>"), ("pad_token", "<|endoftext|>")];
/// Code Llama's infilling tokens with their roles.
const FILLING_TOKENS: [(&str, &str); 5] = [
    ("prefix_token", "▁<PRE>"),
    ("middle_token", "▁<MID>"),
    ("suffix_token", "▁<SUF>"),
    ("eot_token", "▁<EOT>"),
    ("fill_token", "<FILL_ME>"),
];

const QWEN2_SPLIT: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN3_5_SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Sets the roles that the files leave open, as the class does.
pub(super) fn set_defaults(class: Rebuilt, settings: &mut Settings) {
    let tokens = match class {
        Rebuilt::CodeGen | Rebuilt::Gpt2 => GPT2_TOKENS,
        Rebuilt::CodeLlama | Rebuilt::Llama => LLAMA_TOKENS,
        Rebuilt::Qwen2 | Rebuilt::Qwen3_5 => QWEN_TOKENS,
        Rebuilt::GptNeoX => &[GPT2_TOKENS[0], GPT2_TOKENS[1], GPT2_TOKENS[2], ("pad_token", "<|padding|>")],
        Rebuilt::Gemma => &[
            ("unk_token", "<unk>"),
            ("bos_token", "<bos>"),
            ("eos_token", "<eos>"),
            ("pad_token", "<pad>"),
            ("mask_token", "<mask>"),
        ],
        Rebuilt::Cohere => &[
            ("unk_token", "<UNK>"),
            ("bos_token", "<BOS_TOKEN>"),
            ("eos_token", "<|END_OF_TURN_TOKEN|>"),
            ("pad_token", "<PAD>"),
            ("cls_token", "<CLS>"),
            ("sep_token", "<SEP>"),
            ("mask_token", "<MASK_TOKEN>"),
        ],
    };
    tokens.iter().for_each(|(role, token)| settings.set_default(role, token));
    if class == Rebuilt::CodeLlama {
        settings.set_default_extra(FILLING_TOKENS.iter().map(|(_, token)| TokenValue::Plain((*token).to_owned())));
        FILLING_TOKENS.iter().for_each(|(role, token)| settings.set_default(role, token));
    }
}

/// The tokenizer of the class, without added tokens. `settings` have the defaults of the class already.
pub(super) fn rebuild(class: Rebuilt, saved: Saved<Vocabulary>, settings: &Settings) -> tokenizers::Result<Tokenizer> {
    let (vocab, merges) = saved.model.into_parts()?;
    // Byte-level vocabularies have no unknown characters: each byte is a token.
    let is_sentencepiece = matches!(class, Rebuilt::CodeLlama | Rebuilt::Gemma | Rebuilt::Llama);
    let mut model =
        BPE::builder().vocab_and_merges(vocab, merges).fuse_unk(is_sentencepiece).byte_fallback(is_sentencepiece);
    if matches!(class, Rebuilt::CodeLlama | Rebuilt::Gemma) {
        // Python writes this for a token that was set to null.
        let unknown = settings.named().into_iter().find(|(role, _)| role == "unk_token");
        model = model.unk_token(unknown.map_or_else(|| "None".to_owned(), |(_, token)| token.into_content()));
    }
    let mut tokenizer = Tokenizer::new(ModelWrapper::BPE(model.build()?));
    if let Some(normalizer) = normalizer(class) {
        tokenizer.with_normalizer(Some(serde_json::from_value::<tokenizers::NormalizerWrapper>(normalizer)?))?;
    }
    let pre_tokenizer: tokenizers::PreTokenizerWrapper = serde_json::from_value(pre_tokenizer(class, settings))?;
    tokenizer.with_pre_tokenizer(Some(pre_tokenizer));
    let decoder: tokenizers::DecoderWrapper = serde_json::from_value(decoder(class, settings))?;
    tokenizer.with_decoder(Some(decoder));
    if class != Rebuilt::GptNeoX {
        // GPT-NeoX's class makes one of the flags `add_bos_token` and `add_eos_token`, which are not read beside a tokenizer.json.
        tokenizer.with_post_processor(saved.post_processor);
    }
    Ok(tokenizer)
}

/// The last step, after all tokens were added: Code Llama's class adds the first token of its settings, if any, regardless of the
/// file.
pub(super) fn finish(class: Rebuilt, tokenizer: &mut Tokenizer, settings: &Settings) -> tokenizers::Result<()> {
    if class == Rebuilt::CodeLlama {
        let first = settings.named().into_iter().find(|(role, _)| role == "bos_token");
        let template = first.map(|(_, first)| beginning_with(first.content(), tokenizer)).transpose()?;
        tokenizer.with_post_processor(template);
    }
    Ok(())
}

/// A post-processor that puts `first` before a text.
fn beginning_with(first: &str, tokenizer: &Tokenizer) -> tokenizers::Result<PostProcessorWrapper> {
    let id = tokenizer.token_to_id(first).ok_or("its first token has no id")?;
    let sequence = |id: &str, type_id: u32| json!({"Sequence": {"id": id, "type_id": type_id}});
    let token = |type_id: u32| json!({"SpecialToken": {"id": first, "type_id": type_id}});
    let mut special_tokens = serde_json::Map::new();
    special_tokens.insert(first.to_owned(), json!({"id": first, "ids": [id], "tokens": [first]}));
    Ok(serde_json::from_value(json!({
        "type": "TemplateProcessing",
        "single": [token(0), sequence("A", 0)],
        "pair": [token(0), sequence("A", 0), token(1), sequence("B", 1)],
        "special_tokens": special_tokens,
    }))?)
}

fn normalizer(class: Rebuilt) -> Option<Value> {
    match class {
        Rebuilt::CodeGen | Rebuilt::CodeLlama | Rebuilt::Gpt2 | Rebuilt::Llama => None,
        Rebuilt::Cohere | Rebuilt::GptNeoX | Rebuilt::Qwen2 | Rebuilt::Qwen3_5 => Some(json!({"type": "NFC"})),
        Rebuilt::Gemma => Some(json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})),
    }
}

fn pre_tokenizer(class: Rebuilt, settings: &Settings) -> Value {
    let prefix = adds_prefix_space(class, settings);
    let byte_level = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": use_regex});
    let metaspace =
        |scheme: &str| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false});
    let split = |pattern: Value, behavior: &str| json!({"type": "Split", "pattern": pattern, "behavior": behavior, "invert": false});
    let sequence = |steps: [Value; 2]| json!({"type": "Sequence", "pretokenizers": steps});
    match class {
        Rebuilt::CodeGen | Rebuilt::Gpt2 | Rebuilt::GptNeoX => byte_level(true),
        Rebuilt::Cohere => sequence([json!({"type": "Digits", "individual_digits": true}), byte_level(true)]),
        Rebuilt::Qwen2 => sequence([split(json!({"Regex": QWEN2_SPLIT}), "Isolated"), byte_level(false)]),
        Rebuilt::Qwen3_5 => sequence([split(json!({"Regex": QWEN3_5_SPLIT}), "Isolated"), byte_level(false)]),
        Rebuilt::Gemma => split(json!({"String": " "}), "MergedWithPrevious"),
        Rebuilt::CodeLlama => metaspace(if prefix { "first" } else { "never" }),
        // Before `legacy` was set to false, every piece between special tokens got its space.
        Rebuilt::Llama if prefix && settings.is_set("legacy") => metaspace("always"),
        Rebuilt::Llama => metaspace(if prefix { "first" } else { "never" }),
    }
}

fn decoder(class: Rebuilt, settings: &Settings) -> Value {
    let mut steps = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    match class {
        Rebuilt::CodeLlama | Rebuilt::Llama | Rebuilt::Gemma => {
            let strips = match class {
                Rebuilt::CodeLlama => true,
                Rebuilt::Llama => adds_prefix_space(class, settings),
                _ => false,
            };
            if strips {
                steps.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
            }
            json!({"type": "Sequence", "decoders": steps})
        }
        _ => json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
    }
}

fn adds_prefix_space(class: Rebuilt, settings: &Settings) -> bool {
    match settings.get("add_prefix_space") {
        None => matches!(class, Rebuilt::CodeLlama | Rebuilt::Llama),
        Some(_) => settings.is_set("add_prefix_space"),
    }
}
