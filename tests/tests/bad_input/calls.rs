//! Invalid calls of a valid model.

use crate::support::{assert_says, checkpoint, copy_of, edit_json, load, message};
use automodel::generation::{GenerationOptions, Prompt};
use automodel::{AutoModel, AutoModelForCausalLM, Dtype};
use std::fs;
use std::ops::ControlFlow;

fn fixture(name: &str) -> AutoModel {
    load(&checkpoint(name)).unwrap()
}

/// The message with which `prompts` are refused.
#[track_caller]
fn refusal(model: &AutoModel, prompts: &[Prompt], options: &GenerationOptions) -> String {
    let outcome = model.generate(prompts, options, &mut |_| panic!("a token was generated before the check"));
    message(&outcome.unwrap_err())
}

fn new_tokens(max_new_tokens: usize) -> GenerationOptions {
    GenerationOptions { max_new_tokens: Some(max_new_tokens), ..GenerationOptions::default() }
}

#[test]
fn tokens_outside_the_vocabulary() {
    let model = fixture("llama");
    let said = message(&model.logits(&[1, 96]).unwrap_err());
    assert_says(&said, &["token 96 at position 1", "vocabulary of 96", "use the tokenizer of this checkpoint"]);
    let said = refusal(&model, &[vec![1].into(), vec![1, 2, u32::MAX].into()], &GenerationOptions::default());
    assert_says(&said, &[&format!("token {} at position 2 of prompt 1", u32::MAX), "vocabulary of 96", "tokenizer"]);
}

#[test]
fn no_tokens() {
    let model = fixture("llama");
    assert_says(&message(&model.logits(&[]).unwrap_err()), &["no tokens", "at least one"]);
    let options = GenerationOptions::default();
    assert_says(&refusal(&model, &[vec![1].into(), vec![].into()], &options), &["prompt 1 has no tokens"]);
    assert_says(&refusal(&model, &[], &options), &["prompt"]);
}

#[test]
fn a_prompt_longer_than_the_positions() {
    let model = fixture("llama");
    let said = refusal(&model, &[vec![1].into(), vec![1; 129].into()], &GenerationOptions::default());
    assert_says(&said, &["prompt 1 has 129 tokens", "128 positions", "shorten it", "allow_long_sequences"]);
    let said = refusal(&model, &[vec![1; 120].into()], &new_tokens(9));
    assert_says(&said, &["prompt 0 has 120 tokens", "9 new ones", "128 positions"]);
    // Just enough room.
    let report = model.generate(&[vec![1; 120].into()], &new_tokens(8), &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(report.texts[0].token_ids.len() <= 8);
}

#[test]
fn a_sequence_longer_than_learned_positions() {
    let model = fixture("gpt2");
    let positions = model.model().max_position_embeddings().unwrap();
    let said = message(&model.logits(&vec![1; positions + 1]).unwrap_err());
    let tokens = format!("{} tokens", positions + 1);
    assert_says(&said, &[&tokens, &format!("{positions} positions"), "learned", "shorten it"]);
    // Where positions are learned, no option helps.
    let options = GenerationOptions { allow_long_sequences: true, ..new_tokens(2) };
    let outcome = model.generate(&[vec![1; positions].into()], &options, &mut |_| ControlFlow::Continue(()));
    assert_says(&message(&outcome.unwrap_err()), &[&format!("position {positions}"), "learned"]);
}

#[test]
fn text_without_a_tokenizer() {
    let model = fixture("llama");
    let said = message(&model.generate_text("hello").unwrap_err());
    assert_says(&said, &["no `tokenizer.json`", "token ids"]);
    let said = message(&model.chat_prompt(&[], &Default::default()).unwrap_err());
    assert_says(&said, &["no `tokenizer.json`", "token ids"]);
}

#[test]
fn text_with_a_vocabulary_in_another_format() {
    for found in ["vocab.json", "tekken.json", "tiktoken.model", "tokenizer.model", "spiece.model"] {
        let directory = copy_of("llama");
        fs::write(directory.path().join(found), "{}").unwrap();
        let model = load(directory.path()).unwrap();
        let said = message(&model.generate_text("hello").unwrap_err());
        assert_says(&said, &[&format!("`{found}`"), "no `tokenizer.json`", "save_pretrained"]);
        // Token ids need none.
        assert!(model.generate(&[vec![1].into()], &new_tokens(1), &mut |_| ControlFlow::Continue(())).is_ok());
    }
}

#[test]
fn settings_of_the_checkpoint_that_make_no_sense() {
    let directory = copy_of("llama");
    let file = directory.path().join("generation_config.json");
    let generate = |settings: &str, options: GenerationOptions| {
        fs::write(&file, settings).unwrap();
        let model = load(directory.path()).unwrap();
        model.generate(&[vec![1].into()], &options, &mut |_| ControlFlow::Continue(()))
    };
    let settings = r#"{"top_k": -1, "temperature": Infinity, "top_p": "most"}"#;
    assert!(generate(settings, new_tokens(1)).is_ok());
    let sampled = GenerationOptions { do_sample: Some(true), ..new_tokens(1) };
    let said = message(&generate(settings, sampled).unwrap_err());
    assert_says(&said, &["`temperature` is inf", "generation_config.json", "correct it"]);
    let said = message(&generate(r#"{"eos_token_id": "</s>"}"#, new_tokens(1)).unwrap_err());
    assert_says(&said, &["`eos_token_id`", "generation_config.json"]);
    let said = message(&generate("{}", GenerationOptions { top_p: Some(0.5), ..new_tokens(1) }).unwrap_err());
    assert_says(&said, &["`top_p` = 0.5", "no effect", "do_sample"]);
}

#[test]
fn a_config_without_a_generation_config_says_how_to_generate() {
    let directory = copy_of("llama");
    let new = || {
        let model = load(directory.path()).unwrap();
        let report =
            model.generate(&[vec![1, 5].into()], &GenerationOptions::default(), &mut |_| ControlFlow::Continue(()));
        report.unwrap().texts[0].token_ids.len()
    };
    edit_json(directory.path(), "config.json", |config| config["max_length"] = 9.into());
    fs::write(directory.path().join("generation_config.json"), "{}").unwrap();
    assert_eq!(new(), 20, "a generation config has the only word");
    fs::remove_file(directory.path().join("generation_config.json")).unwrap();
    edit_json(directory.path(), "config.json", |config| config["eos_token_id"] = serde_json::Value::Null);
    assert_eq!(new(), 7);
}

#[test]
fn options_out_of_range() {
    let model = fixture("llama");
    assert_says(&refusal(&model, &[vec![1].into()], &new_tokens(0)), &["max_new_tokens", "at least 1"]);
    let negative = GenerationOptions { do_sample: Some(true), temperature: Some(-1.0), ..GenerationOptions::default() };
    assert_says(&refusal(&model, &[vec![1].into()], &negative), &["temperature", "-1"]);
}

#[test]
fn attention_that_does_not_exist() {
    let path = checkpoint("llama");
    let with = |method: &str| {
        let model = AutoModelForCausalLM::from_pretrained(path.to_str().unwrap()).attention([method]);
        message(&model.load().unwrap_err())
    };
    assert_says(&with("flash"), &["`flash`", "flash_attention, efficient_attention, math"]);
    assert_says(&with("cudnn_attention"), &["cudnn_attention", "math"]);
}

#[test]
fn a_dtype_that_does_not_exist() {
    let said = message(&"float8".parse::<Dtype>().unwrap_err());
    assert_says(&said, &["`float8`", "float32, float16 or bfloat16"]);
}

#[test]
fn a_directory_that_does_not_exist() {
    let path = checkpoint("lama");
    let said = message(&load(&path).unwrap_err());
    assert_says(&said, &[path.to_str().unwrap(), "does not exist", "similar names", "llama"]);
}
