//! The decode loop over a model that follows a rule.

use crate::support::{RuleModel, byte_level, tokenizer};
use automodel_config::GenerationConfig;
use automodel_generation::{FinishReason, GenerationError, GenerationOptions, GenerationReport, Generator, Prompt};
use std::ops::ControlFlow;

fn silent() -> impl FnMut(automodel_generation::GenerationEvent<'_>) -> ControlFlow<()> {
    |_| ControlFlow::Continue(())
}

fn options(max_new_tokens: usize) -> GenerationOptions {
    GenerationOptions {
        max_new_tokens: Some(max_new_tokens),
        add_special_tokens: false,
        ..GenerationOptions::default()
    }
}

fn ending() -> GenerationConfig {
    GenerationConfig { eos_token_id: vec![250, 257], ..GenerationConfig::default() }
}

/// Runs `prompts` over the alphabet model and checks that the events tell what the report tells.
fn run(model: &RuleModel, prompts: &[&str], options: &GenerationOptions) -> Result<GenerationReport, GenerationError> {
    let tokenizer = tokenizer(&byte_level());
    let generator = Generator::new(model).with_tokenizer(&tokenizer).with_generation_config(ending());
    let prompts: Vec<Prompt> = prompts.iter().map(|&text| text.into()).collect();
    let mut heard = vec![(Vec::new(), String::new(), None); prompts.len()];
    let report = generator.generate(&prompts, options, &mut |event| {
        let (tokens, text, finish_reason) = &mut heard[event.row];
        assert_eq!(*finish_reason, None, "row {} has an event after its end", event.row);
        tokens.push(event.token);
        text.push_str(event.text);
        *finish_reason = event.finish_reason;
        ControlFlow::Continue(())
    })?;
    let told = report.texts.iter().map(|text| (text.token_ids.clone(), text.text.clone(), Some(text.finish_reason)));
    assert_eq!(heard, told.collect::<Vec<_>>());
    Ok(report)
}

#[test]
fn rows_of_a_batch_end_on_their_own() {
    let model = RuleModel::alphabet();
    let report = run(&model, &["x", "abc", "mnop"], &options(4)).unwrap();
    let texts: Vec<_> =
        report.texts.iter().map(|text| (text.text.as_str(), text.finish_reason, text.prompt_tokens)).collect();
    let expected = [
        ("yz", FinishReason::Eos, 1),
        ("defg", FinishReason::MaxNewTokens, 3),
        ("qrst", FinishReason::MaxNewTokens, 4),
    ];
    assert_eq!(texts, expected);
    assert_eq!(report.texts[0].token_ids, [u32::from(b'y'), u32::from(b'z'), 257]);
    let timings = report.timings;
    assert_eq!((timings.prompt_tokens, timings.decoded_tokens), (8, 3 + 4 + 4 - 3));
    assert!(timings.first_token_seconds >= timings.prefill_seconds && timings.decode_tokens_per_second().is_some());

    let batches = model.batches.lock().unwrap();
    let lengths: Vec<usize> = batches.iter().map(|batch| batch.length()).collect();
    assert_eq!(lengths, [4, 1, 1, 1], "the last tokens are not run");
    assert_eq!(batches[0].padding(), [3, 1, 0]);
    // The first row has ended: it is fed padding.
    assert_eq!(batches[3].ids()[0], 0);
}

#[test]
fn chunks_of_the_prompt_change_nothing() {
    let prompts = ["opqrs", "e", "abcdefghi"];
    let whole = run(&RuleModel::alphabet(), &prompts, &options(3)).unwrap();
    let chunked = |model: &RuleModel, prefill_chunk| {
        let report = run(model, &prompts, &GenerationOptions { prefill_chunk, ..options(3) }).unwrap();
        assert_eq!(report.texts, whole.texts);
        model.batches.lock().unwrap().iter().map(|batch| batch.length()).collect::<Vec<_>>()
    };
    let expected = [
        (1, vec![1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
        (3, vec![3, 3, 3, 1, 1]),
        (7, vec![7, 2, 1, 1]),
        (9, vec![9, 1, 1]),
        (100, vec![9, 1, 1]),
        (usize::MAX, vec![9, 1, 1]),
    ];
    for (chunk, lengths) in expected {
        assert_eq!(chunked(&RuleModel::alphabet(), Some(chunk)), lengths);
        let cannot = RuleModel { takes_parts: false, ..RuleModel::alphabet() };
        assert_eq!(chunked(&cannot, Some(chunk)), [9, 1, 1], "a model without support for chunks gets none");
    }
    assert_eq!(chunked(&RuleModel::alphabet(), None), [9, 1, 1]);
    let none = GenerationOptions { prefill_chunk: Some(0), ..options(3) };
    let error = run(&RuleModel::alphabet(), &prompts, &none).unwrap_err();
    assert!(matches!(error, GenerationError::InvalidOption { option: "prefill_chunk", .. }), "{error}");
}

#[test]
fn long_prompts_are_prefilled_in_chunks_by_default() {
    let model = RuleModel::alphabet();
    let prompt = "a".repeat(GenerationOptions::PREFILL_CHUNK + 1);
    run(&model, &[&prompt], &options(1)).unwrap();
    let lengths: Vec<usize> = model.batches.lock().unwrap().iter().map(|batch| batch.length()).collect();
    assert_eq!(lengths, [GenerationOptions::PREFILL_CHUNK, 1]);
}

#[test]
fn stop_strings_span_tokens_and_are_cut() {
    let stop = |stops: &[&str]| GenerationOptions {
        stop_strings: Some(stops.iter().map(|&stop| stop.to_owned()).collect()),
        ..options(9)
    };
    let report = run(&RuleModel::alphabet(), &["a", "f"], &stop(&["de", "ij", "ijz"])).unwrap();
    let texts: Vec<_> = report.texts.iter().map(|text| (text.text.as_str(), text.finish_reason)).collect();
    assert_eq!(texts, [("bc", FinishReason::StopString), ("gh", FinishReason::StopString)]);
    assert_eq!(report.texts[0].token_ids, [98, 99, 100, 101], "the tokens of the stop string are among them");
    // Text that was held back for a possible stop string is not lost.
    let report = run(&RuleModel::alphabet(), &["w"], &stop(&["yzz"])).unwrap();
    assert_eq!((report.texts[0].text.as_str(), report.texts[0].finish_reason), ("xyz", FinishReason::Eos));
    let empty = run(&RuleModel::alphabet(), &["w"], &stop(&[""])).unwrap_err();
    assert!(matches!(empty, GenerationError::InvalidOption { option: "stop_strings", .. }));
}

#[test]
fn stop_strings_are_found_among_all_tokens_and_from_the_prompt_on() {
    // "ab", <end>, "cd", </s>; <end> is special and not part of the text.
    let model = RuleModel::new(260, |seen, logits| {
        let said = [97, 98, 258, 99, 100, 257, 97];
        logits[said[(seen.len() - 1).min(6)] as usize] = 1.0;
    });
    let mut file = byte_level();
    file["added_tokens"].as_array_mut().unwrap().push(crate::support::special(258, "<end>"));
    let tokenizer = tokenizer(&file);
    let generate = |stops: &[&str], prompt: u32, options: GenerationOptions| {
        let stop_strings = Some(stops.iter().map(|&stop| stop.to_owned()).collect());
        let options = GenerationOptions { stop_strings, ..options };
        let generator = Generator::new(&model).with_tokenizer(&tokenizer).with_generation_config(ending());
        let mut streamed = String::new();
        let report = generator.generate(&[vec![prompt].into()], &options, &mut |event| {
            streamed += event.text;
            ControlFlow::Continue(())
        });
        let text = report.unwrap().texts.remove(0);
        assert_eq!(text.text, streamed);
        (text.text, text.token_ids.len(), text.finish_reason)
    };
    let stopped = |text: &str, tokens: usize| (text.to_owned(), tokens, FinishReason::StopString);
    let ended = |text: &str, tokens: usize| (text.to_owned(), tokens, FinishReason::Eos);
    assert_eq!(generate(&["<end>"], 120, options(9)), stopped("ab", 3));
    assert_eq!(generate(&["b<end>c"], 120, options(9)), stopped("a", 4));
    assert_eq!(generate(&["b<end>cd"], 120, options(9)), stopped("a", 5));
    assert_eq!(generate(&["d</s>"], 120, options(9)), stopped("abc", 6));
    assert_eq!(generate(&["</s>"], 120, options(9)), ended("abcd", 6));
    assert_eq!(generate(&["b<end>x", "<endx"], 120, options(9)), ended("abcd", 6));
    let kept = GenerationOptions { skip_special_tokens: false, ..options(9) };
    assert_eq!(generate(&["<end>c"], 120, kept.clone()), stopped("ab", 4));
    assert_eq!(generate(&["nd>"], 120, kept), stopped("ab<e", 3));
    // A part of a special token's name, and the prompt's last letter; a string that the prompt has already counts for nothing.
    assert_eq!(generate(&["nd>c"], 120, options(9)), stopped("ab", 4));
    assert_eq!(generate(&["xab"], 120, options(9)), stopped("", 2));
    assert_eq!(generate(&["xa"], 120, options(9)), stopped("", 1));
    assert_eq!(generate(&["x"], 120, options(9)), ended("abcd", 6));
    assert_eq!(generate(&["xaz", "x"], 120, options(9)), ended("abcd", 6));
}

#[test]
fn the_end_of_a_text_can_be_chosen() {
    let model = RuleModel::alphabet();
    let own = GenerationOptions { eos_token_ids: Some(vec![u32::from(b'd')]), ..options(9) };
    assert_eq!(run(&model, &["a"], &own).unwrap().texts[0].text, "bc");
    let kept = GenerationOptions { skip_special_tokens: false, ..options(9) };
    assert_eq!(run(&model, &["y"], &kept).unwrap().texts[0].text, "z</s>");
    // After `</s>` the alphabet model would continue with token 258, which it does not have.
    let wrapping = RuleModel::new(258, |seen, logits| logits[(*seen.last().unwrap() as usize + 160) % 258] = 1.0);
    let ignored = GenerationOptions { ignore_eos: true, ..options(3) };
    let report = run(&wrapping, &["a"], &ignored).unwrap();
    assert_eq!(
        (report.texts[0].token_ids.as_slice(), report.texts[0].finish_reason),
        ([257, 159, 61].as_slice(), FinishReason::MaxNewTokens)
    );
}

#[test]
fn characters_across_tokens_arrive_whole() {
    // Says "é€" byte by byte and then breaks off within the next character.
    let model = RuleModel::new(258, |seen, logits| logits["é€é".as_bytes()[seen.len() - 1] as usize] = 1.0);
    let report = run(&model, &["a"], &options(6)).unwrap();
    assert_eq!(report.texts[0].text, "é€\u{fffd}");
}

#[test]
fn the_caller_can_cancel() {
    let model = RuleModel::alphabet();
    let tokenizer = tokenizer(&byte_level());
    let generator = Generator::new(&model).with_tokenizer(&tokenizer);
    let mut heard = 0;
    let report = generator
        .generate(&["a".into(), "k".into()], &options(9), &mut |_| {
            heard += 1;
            if heard == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    let texts: Vec<_> = report.texts.iter().map(|text| (text.text.as_str(), text.finish_reason)).collect();
    assert_eq!(texts, [("bc", FinishReason::Cancelled), ("l", FinishReason::Cancelled)]);
    assert_eq!(heard, 3);
}

#[test]
fn rows_are_sampled_alike_in_any_batch_and_chunk() {
    let rule = |seen: &[u32], logits: &mut [f32]| {
        for (token, logit) in logits.iter_mut().enumerate() {
            *logit = ((token * 7 + seen.len() * 13) % 11) as f32 / 3.0;
        }
    };
    let sampled = GenerationOptions { do_sample: Some(true), seed: Some(11), ..options(12) };
    let alone = run(&RuleModel::new(258, rule), &["abc"], &sampled).unwrap();
    let together = run(&RuleModel::new(258, rule), &["abc", "zy"], &sampled).unwrap();
    assert_eq!(alone.texts[0], together.texts[0]);
    assert_eq!(run(&RuleModel::new(258, rule), &["abc"], &sampled).unwrap().texts, alone.texts);
    let open = GenerationOptions { seed: None, ..sampled.clone() };
    let drawn = run(&RuleModel::new(258, rule), &["abc"], &open).unwrap();
    let again = GenerationOptions { seed: Some(drawn.seed), ..sampled };
    assert_eq!(run(&RuleModel::new(258, rule), &["abc"], &again).unwrap().texts, drawn.texts);
}

#[test]
fn the_prompt_counts_for_the_repetition_penalty() {
    let model = RuleModel::new(258, |_, logits| (logits[97], logits[98], logits[99]) = (3.0, 2.5, 2.0));
    let penalised = GenerationOptions { repetition_penalty: Some(2.0), ..options(3) };
    assert_eq!(run(&model, &["a"], &penalised).unwrap().texts[0].text, "bca");
}

#[test]
fn works_without_a_tokenizer() {
    let model = RuleModel::alphabet();
    let generator = Generator::new(&model);
    let tokens = |options: &GenerationOptions| generator.generate(&[vec![97].into()], options, &mut silent());
    let report = tokens(&options(2)).unwrap();
    assert_eq!((report.texts[0].token_ids.as_slice(), report.texts[0].text.as_str()), ([98, 99].as_slice(), ""));
    let text = generator.generate(&["a".into()], &options(2), &mut silent()).unwrap_err();
    assert!(matches!(text, GenerationError::MissingTokenizer { .. }), "{text}");
    let stop = GenerationOptions { stop_strings: Some(vec!["x".to_owned()]), ..options(2) };
    assert!(matches!(tokens(&stop), Err(GenerationError::MissingTokenizer { .. })));
}

#[test]
fn bad_prompts_are_refused_before_anything_runs() {
    let mut model = RuleModel::alphabet();
    model.max_position_embeddings = Some(8);
    let generator = Generator::new(&model);
    let generate = |prompts: &[Prompt], options: &GenerationOptions| {
        generator.generate(prompts, options, &mut silent()).unwrap_err()
    };
    assert!(matches!(generate(&[], &options(1)), GenerationError::NoPrompts));
    let empty = generate(&[vec![1].into(), vec![].into()], &options(1));
    assert!(matches!(empty, GenerationError::EmptyPrompt { row: 1 }));
    let outside = generate(&[vec![1, 258].into()], &options(1));
    assert!(matches!(outside, GenerationError::TokenOutOfVocabulary { token: 258, position: 1, vocab_size: 258, .. }));
    let long = generate(&[vec![1].into(), vec![1; 6].into()], &options(3));
    let numbers = GenerationError::SequenceTooLong { row: 1, prompt_tokens: 6, max_new_tokens: 3, limit: 8 };
    assert_eq!(long.to_string(), numbers.to_string());
    let sampling = GenerationOptions { top_p: Some(f64::NAN), ..options(1) };
    assert!(matches!(generate(&[vec![1].into()], &sampling), GenerationError::InvalidOption { option: "top_p", .. }));
    assert!(model.batches.lock().unwrap().is_empty());

    let allowed = GenerationOptions { allow_long_sequences: true, ignore_eos: true, ..options(3) };
    assert!(generator.generate(&[vec![1; 6].into()], &allowed, &mut silent()).is_ok());
}

#[test]
fn the_cache_is_sized_on_demand() {
    let model = RuleModel::alphabet();
    let run = |options: &GenerationOptions| {
        Generator::new(&model).generate(&[vec![97; 5].into()], options, &mut silent()).unwrap()
    };
    run(&options(2));
    run(&GenerationOptions { preallocate_cache: true, ..options(2) });
    assert_eq!(*model.capacities.lock().unwrap(), [None, Some(7)]);
}

#[test]
fn damaged_logits_are_an_error() {
    let model = RuleModel::new(258, |_, logits| logits[7] = f32::NAN);
    let error = Generator::new(&model).generate(&[vec![1].into()], &options(1), &mut silent()).unwrap_err();
    assert!(matches!(error, GenerationError::NonFiniteLogits { token: 7, .. }), "{error}");
}
