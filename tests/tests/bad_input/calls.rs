//! Calls that ask a sound model for what it cannot do.

use crate::support::{assert_says, checkpoint, load, message};
use automodel::generation::{GenerationOptions, Prompt};
use automodel::{AutoModel, AutoModelForCausalLM, Dtype};
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
    assert_says(&said, &["needs a tokenizer", "token ids"]);
    assert_says(
        &message(&model.chat_prompt(&[], &Default::default()).unwrap_err()),
        &["no tokenizer", "tokenizer.json"],
    );
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
