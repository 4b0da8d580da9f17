//! A byte-level tokenizer: one token for each byte, and three special ones. Tokens above those have no text.

use serde_json::{Map, Value, json};

/// Special tokens; their ids follow those of the bytes.
const SPECIAL: [&str; 3] = ["<s>", "</s>", "<pad>"];
/// Number of tokens with a text.
pub const VOCAB_SIZE: u64 = 256 + SPECIAL.len() as u64;

/// tokenizer.json. The id of a byte is its value.
pub fn tokenizer() -> Value {
    let vocab: Map<String, Value> =
        (0..=u8::MAX).zip(alphabet()).map(|(byte, character)| (character.to_string(), json!(byte))).collect();
    let special: Vec<Value> = SPECIAL.iter().zip(256..).map(|(content, id)| added_token(content, id)).collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": special,
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": vocab,
            "merges": [],
        },
    })
}

/// tokenizer_config.json.
pub fn tokenizer_config() -> Value {
    let [bos, eos, pad] = SPECIAL;
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": bos,
        "eos_token": eos,
        "pad_token": pad,
        "clean_up_tokenization_spaces": false,
    })
}

fn added_token(content: &str, id: u32) -> Value {
    json!({
        "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        "special": true,
    })
}

/// The printable character that stands for each byte in a byte-level vocabulary: printable Latin-1 for itself, the others
/// from U+0100 on. Source: `bytes_to_unicode` in `transformers/models/gpt2/tokenization_gpt2.py`.
fn alphabet() -> impl Iterator<Item = char> {
    let mut others = '\u{100}'..;
    (0..=u8::MAX).map(move |byte| match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        _ => others.next().unwrap_or(char::REPLACEMENT_CHARACTER),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_character() {
        let alphabet: Vec<char> = alphabet().collect();
        assert_eq!(alphabet[usize::from(b' ')], 'Ġ');
        assert_eq!(alphabet[usize::from(b'\n')], 'Ċ');
        assert_eq!(alphabet[usize::from(b'A')], 'A');
        let vocab = tokenizer()["model"]["vocab"].as_object().unwrap().len() as u64;
        assert_eq!(vocab + SPECIAL.len() as u64, VOCAB_SIZE);
    }
}
