//! Reading tokenizers from directories.

use crate::support::{byte_level, special, word_level};
use automodel_generation::{ChatMessage, ChatOptions, GenerationError, TextTokenizer};
use serde_json::json;
use std::fs;
use tempfile::TempDir;

fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    directory
}

fn read(files: &[(&str, &str)]) -> Result<TextTokenizer, GenerationError> {
    TextTokenizer::from_dir(directory(files).path())
}

#[test]
fn encodes_and_decodes() {
    // Padding and truncation in the file are for training: transformers switches them off too.
    let mut file = byte_level();
    file["truncation"] = json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
    file["padding"] = json!({"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
        "pad_type_id": 0, "pad_token": "!"});
    let tokenizer = read(&[("tokenizer.json", &file.to_string())]).unwrap();
    assert_eq!(tokenizer.encode("a€", true).unwrap(), [256, 0x61, 0xe2, 0x82, 0xac]);
    assert_eq!(tokenizer.encode("<s>a", false).unwrap(), [256, 0x61]);
    assert_eq!(tokenizer.decode(&[256, 0x61, 9999, 257], true).unwrap(), "a");
    assert_eq!(tokenizer.decode(&[256, 0x61, 257], false).unwrap(), "<s>a</s>");
    assert_eq!((tokenizer.token_id("</s>"), tokenizer.token_id("none")), (Some(257), None));
    assert_eq!((tokenizer.token(257).as_deref(), tokenizer.token(258)), (Some("</s>"), None));
    assert_eq!(tokenizer.vocab_size(), 258);
}

#[test]
fn special_tokens_come_as_strings_or_objects() {
    let words = word_level(&["<unk>", "<s>", "</s>", "one"]).to_string();
    let config = json!({"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": true}, "pad_token": null,
        "additional_special_tokens": ["<tool>"], "chat_template": "{{ bos_token }}{{ messages[0].content }}{{ pad_token }}"});
    let tokenizer = read(&[("tokenizer.json", &words), ("tokenizer_config.json", &config.to_string())]).unwrap();
    let tokens: Vec<_> = tokenizer.special_tokens().iter().collect();
    assert_eq!(tokens, [("bos_token", "<s>"), ("eos_token", "</s>")]);
    assert!(tokenizer.is_special("<s>") && tokenizer.is_special("<tool>") && !tokenizer.is_special("one"));
    // In the vocabulary already: it keeps its id. Not there: it gets the next one.
    assert_eq!(tokenizer.encode("<s>one</s><tool>", false).unwrap(), [1, 3, 2, 4]);
    assert_eq!(tokenizer.decode(&[1, 3, 2], true).unwrap(), "one");
    let chat = tokenizer.render_chat(&[ChatMessage::user("hi")], &ChatOptions::default()).unwrap();
    assert_eq!(chat, "<s>hi");
}

#[test]
fn the_older_special_tokens_map_is_read_without_a_newer_setting() {
    let words = word_level(&["<unk>", "<s>", "</s>", "one"]).to_string();
    let map = r#"{"bos_token": {"content": "<s>"}, "eos_token": "</s>"}"#;
    let old = read(&[("tokenizer.json", &words), ("special_tokens_map.json", map)]).unwrap();
    assert_eq!(old.special_tokens().get("bos_token"), Some("<s>"));
    let decoder = json!({"added_tokens_decoder": {"1": special(1, "<s>")}, "bos_token": "</s>"}).to_string();
    let files = [("tokenizer.json", &*words), ("special_tokens_map.json", map), ("tokenizer_config.json", &decoder)];
    assert_eq!(read(&files).unwrap().special_tokens().get("bos_token"), Some("</s>"));
}

#[test]
fn chat_templates_are_found_where_checkpoints_keep_them() {
    let words = word_level(&["<unk>"]).to_string();
    let named =
        json!({"chat_template": [{"name": "default", "template": "list"}, {"name": "tool_use", "template": "tools"}]});
    let named = named.to_string();
    let render = |files: &[(&str, &str)], options: &ChatOptions| {
        let files = [files, &[("tokenizer.json", words.as_str())]].concat();
        read(&files).unwrap().render_chat(&[ChatMessage::user("x")], options)
    };
    let plain = ChatOptions::default();
    let tools = ChatOptions { tools: Some(vec![json!({})]), ..ChatOptions::default() };
    let config = ("tokenizer_config.json", named.as_str());
    assert_eq!(render(&[config], &plain).unwrap(), "list");
    assert_eq!(render(&[config], &tools).unwrap(), "tools");
    let file = ("chat_template.jinja", "file");
    assert_eq!(render(&[config, file], &tools).unwrap(), "file");
    let more = ("additional_chat_templates/tool_use.jinja", "more");
    assert_eq!(render(&[config, file, more], &tools).unwrap(), "more");
    let processor = ("chat_template.json", r#"{"chat_template": "processor"}"#);
    assert_eq!(render(&[processor], &plain).unwrap(), "processor");

    let error = render(&[("additional_chat_templates/rag.jinja", "rag")], &plain).unwrap_err();
    assert!(error.to_string().contains("it has rag"), "{error}");
}

#[test]
fn other_vocabularies_are_errors_that_say_how_to_convert() {
    for found in
        ["tokenizer.model", "tekken.json", "tiktoken.model", "spiece.model", "vocab.json", "vocab.txt", "merges.txt"]
    {
        let error = read(&[(found, "")]).unwrap_err();
        assert!(matches!(error, GenerationError::UnconvertedTokenizer { .. }));
        for part in [found, "save_pretrained", "AutoTokenizer"] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
    assert!(matches!(read(&[]), Err(GenerationError::MissingTokenizerFile { .. })));
}

#[test]
fn damaged_files_are_errors_that_name_them() {
    let words = word_level(&["<unk>"]).to_string();
    let deep = "[".repeat(100_000);
    let no_template = [0xff, 0xfe];
    for (name, content) in [
        ("tokenizer.json", "{"),
        ("tokenizer.json", "{}"),
        ("tokenizer.json", r#"{"model": {"type": "WordPiece", "vocab": {}}}"#),
        ("tokenizer.json", &words[..words.len() / 2]),
        ("tokenizer_config.json", "[]"),
        ("tokenizer_config.json", &deep),
        ("special_tokens_map.json", "nothing"),
    ] {
        let mut files = vec![("tokenizer.json", words.as_str())];
        files.push((name, content));
        let error = read(&files).unwrap_err();
        assert!(matches!(error, GenerationError::MalformedFile { .. }), "{name}: {error:?}");
        assert!(error.to_string().contains(name), "{error}");
    }
    let template = directory(&[("tokenizer.json", &words)]);
    fs::write(template.path().join("chat_template.jinja"), no_template).unwrap();
    assert!(matches!(TextTokenizer::from_dir(template.path()), Err(GenerationError::MalformedFile { .. })));
    let large = directory(&[("tokenizer.json", &words)]);
    fs::File::create(large.path().join("tokenizer_config.json")).unwrap().set_len(1 << 40).unwrap();
    assert!(matches!(TextTokenizer::from_dir(large.path()), Err(GenerationError::FileTooLarge { .. })));
}

#[test]
fn inconsistent_vocabularies_do_not_panic() {
    // Merges of tokens that do not exist, and an unknown token that is not there.
    let mut file = byte_level();
    file["model"]["merges"] = json!([["q", "zz"]]);
    assert!(matches!(read(&[("tokenizer.json", &file.to_string())]), Err(GenerationError::MalformedFile { .. })));
    let mut file = word_level(&["<unk>"]);
    file["model"]["unk_token"] = json!("absent");
    let tokenizer = read(&[("tokenizer.json", &file.to_string())]).unwrap();
    assert!(matches!(tokenizer.encode("some words", true), Err(GenerationError::Tokenizer { .. })));
}

#[test]
fn json_is_read_as_python_reads_it() {
    let words = word_level(&["<unk>", "<s>", "one"]).to_string();
    // Python writes infinity so, and some editors a byte order mark.
    let config = "\u{feff}{\"model_max_length\": Infinity, \"a\": [NaN, -Infinity], \"bos_token\": \"<s>\"}";
    let saved = words.replacen("\"truncation\":null", "\"truncation\":{\"max_length\":Infinity}", 1);
    assert_ne!(saved, words);
    let files =
        [("tokenizer.json", &*saved), ("tokenizer_config.json", config), ("special_tokens_map.json", "{\"x\": NaN}")];
    let tokenizer = read(&files).unwrap();
    assert_eq!(tokenizer.special_tokens().get("bos_token"), Some("<s>"));
    assert_eq!(tokenizer.encode("<s>one", false).unwrap(), [1, 2]);
}

#[test]
fn a_class_that_is_not_imitated_gives_a_warning() {
    let words = word_level(&["<unk>", "one"]).to_string();
    let warned = |class: &str| {
        let config = json!({ "tokenizer_class": class }).to_string();
        read(&[("tokenizer.json", &words), ("tokenizer_config.json", &config)]).unwrap().warnings().join("")
    };
    assert!(warned("BertTokenizerFast").contains("BertTokenizer"));
    assert_eq!(warned("PreTrainedTokenizerFast") + &warned("SomebodysTokenizer"), "");
}
