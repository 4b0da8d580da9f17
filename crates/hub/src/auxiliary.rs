//! The auxiliary files of a checkpoint, beside its weights: which are downloaded with them, and which are copied with new weights.

/// Names of auxiliary files, config.json included, as in transformers 5.23: `utils/__init__.py`, and
/// `VOCAB_FILES_NAMES` of the tokenizers of language models.
pub(crate) const SMALL: [&str; 25] = [
    "added_tokens.json",
    "audio_tokenizer_config.json",
    "bpe.codes",
    "chat_template.json",
    "chat_template.jinja",
    "config.json",
    "dict.txt",
    "generation_config.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "quantize_config.json",
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "special_tokens_map.json",
    "spiece.model",
    "spm.model",
    "tekken.json",
    "tiktoken.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "video_preprocessor_config.json",
    "vocab.json",
    "vocab.txt",
];
/// Folder of further templates.
const TEMPLATES: &str = "additional_chat_templates/";
/// Files that describe how the weights are stored; code that writes weights also writes these.
const OF_WEIGHTS: [&str; 2] = ["config.json", "quantize_config.json"];

/// Whether a file of a checkpoint, `name` with `/` between its parts, is downloaded with the weights. Code is not: transformers itself
/// has the code of the families here.
pub(crate) fn is_auxiliary(name: &str) -> bool {
    let template = name.strip_prefix(TEMPLATES).unwrap_or(name);
    let by_ending = template.ends_with(".jinja") || (name.ends_with(".tiktoken") && name == template);
    SMALL.contains(&name) || (by_ending && !template.contains('/'))
}

/// Whether the file is copied when the weights are replaced.
pub(crate) fn is_copied(name: &str) -> bool {
    is_auxiliary(name) && !OF_WEIGHTS.contains(&name)
}

/// The folders of such files, as prefixes of their names.
pub(crate) const FOLDERS: [&str; 2] = ["", TEMPLATES];

#[cfg(test)]
mod tests {
    use super::is_copied;

    #[test]
    fn every_file_that_transformers_writes_is_decided() {
        // `utils/__init__.py` and `VOCAB_FILES_NAMES` of transformers 5.23; mistral-common's and Qwen's vocabularies.
        let go = "tokenizer.json tokenizer_config.json special_tokens_map.json added_tokens.json vocab.json merges.txt vocab.txt \
                  tokenizer.model sentencepiece.bpe.model sentencepiece.model spiece.model spm.model tiktoken.model tekken.json \
                  bpe.codes dict.txt qwen.tiktoken generation_config.json chat_template.jinja chat_template.json \
                  additional_chat_templates/tool_use.jinja preprocessor_config.json processor_config.json \
                  video_preprocessor_config.json audio_tokenizer_config.json";
        for name in go.split_whitespace() {
            assert!(is_copied(name), "{name}");
        }
        // Files that are rewritten, weights, code, files of translation and of training, and similar names.
        let stay = "config.json quantize_config.json model.safetensors model.safetensors.index.json pytorch_model.bin \
                    adapter_config.json adapter_model.safetensors modeling_phi3.py tokenization_qwen.py source.spm target.spm \
                    vocab-src.json vocab-tgt.json modelcard.json README.md trainer_state.json training_args.bin optimizer.pt \
                    scheduler.pt additional_chat_templates/a/b.jinja additional_chat_templates/x.tiktoken \
                    additional_chat_templates/tokenizer.json other/chat_template.jinja original/tokenizer.model";
        for name in stay.split_whitespace() {
            assert!(!is_copied(name), "{name}");
        }
    }
}
