//! The checkpoint that comes with the crate keeps the promises of its README.

use automodel::generation::{GenerationOptions, Prompt};
use automodel::loader::QuantizationConfig;
use automodel::{AutoModel, AutoModelForCausalLM, DEMO};
use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

/// Prompts per batch. Those of one batch are of equal length, so that no position is wasted on padding.
const BATCH: usize = 250;

#[test]
fn the_first_thing_a_newcomer_tries() {
    let model = AutoModelForCausalLM::from_pretrained(DEMO).load().unwrap();
    assert_eq!(model.generate_text("27+48=").unwrap(), "75");
}

#[test]
fn held_out_sums_are_right() {
    let (right, total) = right_of_total(&AutoModelForCausalLM::from_pretrained(DEMO).load().unwrap());
    assert!(right * 100 >= total * 99, "{right} of {total} sums are right");
}

#[test]
fn held_out_sums_are_right_in_4_bits() {
    for config in [QuantizationConfig::nf4(), QuantizationConfig::nf4().with_double_quant(true)] {
        let (right, total) =
            right_of_total(&AutoModelForCausalLM::from_pretrained(DEMO).quantize(config.clone()).load().unwrap());
        assert!(right * 100 >= total * 98, "{right} of {total} sums are right with {config:?}");
    }
}

/// How many of the sums that were held out of the training are right, and how many there are.
fn right_of_total(model: &AutoModel) -> (usize, usize) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/automodel/demo");
    let lines = fs::read_to_string(directory.join("held_out.txt")).unwrap();
    let mut by_length: BTreeMap<usize, Vec<(&str, &str)>> = BTreeMap::new();
    for line in lines.lines() {
        let end = line.find('=').unwrap() + 1;
        let (question, answer) = line.split_at(end);
        assert_eq!(sum(question), answer, "the file itself is wrong");
        by_length.entry(end).or_default().push((question, answer));
    }
    let total: usize = by_length.values().map(Vec::len).sum();
    assert_eq!(total, 1500);
    let mut right = 0;
    for sums in by_length.values().flat_map(|sums| sums.chunks(BATCH)) {
        let prompts: Vec<Prompt> = sums.iter().map(|&(question, _)| question.into()).collect();
        let report =
            model.generate(&prompts, &GenerationOptions::default(), &mut |_| ControlFlow::Continue(())).unwrap();
        right += report.texts.iter().zip(sums).filter(|(text, (_, answer))| text.text == *answer).count();
    }
    (right, total)
}

fn sum(question: &str) -> String {
    let (a, b) = question.trim_end_matches('=').split_once('+').unwrap();
    (a.parse::<u32>().unwrap() + b.parse::<u32>().unwrap()).to_string()
}
