//! Hostile tokenizers.

use crate::support::{byte_level, special, tokenizer, word_level};
use automodel_generation::{GenerationError, TextTokenizer};
use serde_json::{Value, json};
use std::fs;

fn replace(pattern: &str, content: &str) -> Value {
    json!({"type": "Replace", "pattern": {"String": pattern}, "content": content})
}

fn regex(pattern: &str, content: &str) -> Value {
    json!({"type": "Replace", "pattern": {"Regex": pattern}, "content": content})
}

fn chain(step: &Value, times: usize) -> Vec<Value> {
    vec![step.clone(); times]
}

fn normalizers(steps: Vec<Value>) -> Value {
    json!({"type": "Sequence", "normalizers": steps})
}

fn pre_tokenizers(steps: Vec<Value>) -> Value {
    json!({"type": "Sequence", "pretokenizers": steps})
}

/// Nests `inner` in sequences of one step.
fn nested(inner: Value, levels: usize) -> Value {
    (0..levels).fold(inner, |inner, _| normalizers(vec![inner]))
}

fn byte_level_step() -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": false})
}

/// A directory whose tokenizer.json is that of `byte_level` with `key` set.
fn with(key: &str, value: Value) -> Value {
    let mut file = byte_level();
    file[key] = value;
    file
}

fn load(file: &Value) -> Result<TextTokenizer, GenerationError> {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("tokenizer.json"), file.to_string()).unwrap();
    TextTokenizer::from_dir(directory.path())
}

fn causes(error: &GenerationError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

#[test]
fn chains_of_steps_are_stopped_before_they_make_too_much() {
    let ten = replace("1", "1111111111");
    let dangerous = [
        ("replacements", with("normalizer", normalizers(chain(&ten, 12)))),
        ("nested replacements", with("normalizer", nested(normalizers(chain(&ten, 12)), 40))),
        ("a replacement of nothing", with("normalizer", normalizers(chain(&regex("", "ab"), 30)))),
        ("replacements of any letter", with("normalizer", normalizers(chain(&regex(".", "ab"), 40)))),
        ("one long replacement", with("normalizer", replace("1", &"x".repeat(1 << 20)))),
        (
            "prefixes",
            with("normalizer", normalizers(chain(&json!({"type": "Prepend", "prepend": "1".repeat(1 << 17)}), 9))),
        ),
        ("byte-level normalizers", with("normalizer", normalizers(chain(&json!({"type": "ByteLevel"}), 60)))),
        ("byte-level pre-tokenizers", with("pre_tokenizer", pre_tokenizers(chain(&byte_level_step(), 60)))),
        (
            "both",
            json!({"version": "1.0", "normalizer": normalizers(chain(&ten, 2)), "model": byte_level()["model"],
                "pre_tokenizer": pre_tokenizers(chain(&byte_level_step(), 40))}),
        ),
    ];
    for (name, file) in dangerous {
        let tokenizer = load(&file).unwrap_or_else(|error| panic!("{name}: {}", causes(&error)));
        let error = tokenizer.encode("1\u{e9}", true).unwrap_err();
        assert!(causes(&error).contains("3 bytes of text would become more than"), "{name}: {}", causes(&error));
    }
    // The same steps where they do little: a text that they do not apply to, and few of them.
    let tokenizer = load(&with("normalizer", normalizers(chain(&ten, 12)))).unwrap();
    assert_eq!(tokenizer.encode("ab", false).unwrap(), [0x61, 0x62]);
    let tokenizer = load(&with("normalizer", normalizers(chain(&ten, 3)))).unwrap();
    assert_eq!(tokenizer.encode("1", false).unwrap().len(), 1000);
}

#[test]
fn decoders_are_stopped_too() {
    for step in [replace("a", "aaaaaaaaaa"), regex("", "ab"), json!({"type": "BPEDecoder", "suffix": ""})] {
        let file = with("decoder", json!({"type": "Sequence", "decoders": chain(&step, 60)}));
        let error = load(&file).unwrap().decode(&[0x61; 2], true).unwrap_err();
        assert!(causes(&error).contains("of text would become more than"), "{}", causes(&error));
    }
    // A token as long as a book, many times.
    let file = word_level(&["<unk>", &"a".repeat(1 << 20)]);
    let error = load(&file).unwrap().decode(&[1; 50], true).unwrap_err();
    assert!(causes(&error).contains("bytes of text"), "{}", causes(&error));
}

#[test]
fn steps_that_exceed_the_limit_for_any_text_are_refused_at_once() {
    let piece = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    let token = json!({"SpecialToken": {"id": "<s>", "type_id": 0}});
    let template = |single: Vec<Value>, ids: Vec<u32>| {
        let words: Vec<&str> = ids.iter().map(|_| "<s>").collect();
        json!({"type": "TemplateProcessing", "single": single, "pair": [piece("A"), piece("B")],
            "special_tokens": {"<s>": {"id": "<s>", "ids": ids, "tokens": words}}})
    };
    let mut unknown = word_level(&["<unk>"]);
    unknown["model"]["unk_token"] = json!("x".repeat(5000));
    let trivial = json!({"type": "Strip", "strip_left": true, "strip_right": true});
    for (name, file) in [
        ("copies", with("post_processor", template(chain(&piece("A"), 50), vec![256]))),
        ("added tokens", with("post_processor", template(chain(&token, 3000), vec![256]))),
        ("added tokens of a token", with("post_processor", template(chain(&token, 30), vec![256; 300]))),
        ("steps", with("normalizer", normalizers(chain(&trivial, 300)))),
        ("unknown token", unknown),
    ] {
        let error = load(&file).err().unwrap_or_else(|| panic!("{name} are accepted"));
        assert!(causes(&error).contains("more than"), "{name}: {}", causes(&error));
    }
    let wrapped = json!({"type": "Sequence", "processors": chain(&template(chain(&piece("A"), 2), vec![256]), 9)});
    assert!(load(&with("post_processor", wrapped)).is_err());
    // Added tokens are normalised while the file is read.
    let mut file = with("normalizer", normalizers(chain(&replace("1", "1111111111"), 12)));
    let mut added = special(256, "1");
    added["normalized"] = json!(true);
    file["added_tokens"] = json!([added]);
    let error = load(&file).unwrap_err();
    assert!(causes(&error).contains("of text would become more than"), "{}", causes(&error));
}

#[test]
fn measured_steps_give_the_same_result_as_unmeasured_ones() {
    // NFKC, sentencepiece's spaces and byte-level characters together are measured; each alone is not.
    let steps = [
        ("normalizer", json!({"type": "NFKC"})),
        ("pre_tokenizer", json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true})),
    ];
    let mut file = byte_level();
    for (key, step) in steps {
        file[key] = step;
    }
    file["pre_tokenizer"] = pre_tokenizers(vec![file["pre_tokenizer"].clone(), byte_level_step()]);
    let watched = tokenizer(&file);
    let library = tokenizers::Tokenizer::from_bytes(file.to_string()).unwrap();
    for text in ["", "a", "  two  words<s> \u{fdfa}\u{fdfa}", "é ﬁ</s></s>x", &"\u{fdfa}".repeat(3000)] {
        for special in [true, false] {
            let ids = library.encode_fast(text, special).unwrap().get_ids().to_vec();
            assert_eq!(watched.encode(text, special).unwrap(), ids, "{}", text.chars().take(20).collect::<String>());
        }
    }
    let decoder = json!({"type": "Sequence", "decoders": [replace("a", "aaaaaaaaaa"), replace("a", "bbbbbbbbbb"),
        {"type": "WordPiece", "prefix": "##", "cleanup": true}, {"type": "Fuse"}]});
    let file = with("decoder", decoder);
    let library = tokenizers::Tokenizer::from_bytes(file.to_string()).unwrap();
    let ids = [0x61, 256, 0x7a, 0x61];
    for skip in [true, false] {
        assert_eq!(tokenizer(&file).decode(&ids, skip).unwrap(), library.decode(&ids, skip).unwrap());
    }
}

#[test]
fn a_hundred_thousand_added_tokens_are_added_once() {
    // Comparing each with each took minutes.
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("tokenizer.json"), byte_level().to_string()).unwrap();
    let names: Vec<String> = (0..100_000).map(|index| format!("<t{index}>")).collect();
    let roles: serde_json::Map<String, Value> =
        (0..50_000).map(|index| (format!("r{index}_token"), json!(format!("<r{index}>")))).collect();
    let mut config = roles;
    config.insert("extra_special_tokens".to_owned(), json!(names));
    fs::write(directory.path().join("tokenizer_config.json"), Value::Object(config).to_string()).unwrap();
    let tokenizer = TextTokenizer::from_dir(directory.path()).unwrap();
    assert_eq!(tokenizer.vocab_size(), 258 + 150_000);
    assert_eq!(tokenizer.encode("<t99999>", false).unwrap(), [258 + 149_999]);
}

#[test]
#[cfg(unix)]
fn pipes_and_folders_in_the_place_of_files_are_errors() {
    for name in
        ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "config.json"]
    {
        for kind in ["mkfifo", "mkdir"] {
            let directory = tempfile::tempdir().unwrap();
            if name != "tokenizer.json" {
                fs::write(directory.path().join("tokenizer.json"), byte_level().to_string()).unwrap();
            }
            let path = directory.path().join(name);
            assert!(std::process::Command::new(kind).arg(&path).status().unwrap().success());
            let error = TextTokenizer::from_dir(directory.path()).unwrap_err();
            assert!(
                matches!(&error, GenerationError::UnreadableFile { path: named, .. } if *named == path),
                "{error:?}"
            );
        }
    }
}
