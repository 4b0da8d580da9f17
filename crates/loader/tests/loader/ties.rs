//! Parameters that share storage.

use crate::common::{bf16s, checkpoint, counting, f32s, load, message, options, plain_map, values};
use automodel_loader::{CheckpointFiles, LoadError, LoadPlan, TieDecision, TieOutcome};
use automodel_registry::weights::{Tie, WeightMap};

const HEAD: &str = "lm_head.weight";
const EMBED: &str = "model.embed_tokens.weight";

fn map(requested: bool) -> WeightMap {
    let mut map = plain_map(&[(EMBED, &[4, 2]), (HEAD, &[4, 2])]);
    map.ties.push(Tie { parameter: HEAD.into(), to: EMBED.into(), requested });
    map
}

#[test]
fn the_head_follows_the_embedding() {
    let directory = checkpoint(&[f32s(EMBED, &[4, 2], &counting(8))]);
    let (parameters, report) = load(directory.path(), &map(true), &options()).unwrap();
    assert_eq!(values(&parameters, HEAD), counting(8));
    assert_eq!(report.tied[0].outcome, TieOutcome::Shared);
    assert_eq!(parameters.tied(), [(HEAD.to_owned(), EMBED.to_owned())]);
    assert_eq!(report.mapped_bytes + report.copied_bytes, 32, "one storage for both");
}

#[test]
fn the_embedding_follows_if_only_the_head_is_there() {
    let directory = checkpoint(&[bf16s(HEAD, &[4, 2], &counting(8))]);
    let (parameters, report) = load(directory.path(), &map(true), &options()).unwrap();
    assert_eq!(values(&parameters, EMBED), counting(8));
    assert_eq!((report.tied[0].parameter.as_str(), report.tied[0].to.as_str()), (EMBED, HEAD));
    let files = CheckpointFiles::open(directory.path()).unwrap();
    let plan = LoadPlan::new(&files, &map(true), &options()).unwrap();
    assert_eq!(plan.rows[0].tied_to(), Some(HEAD));
    assert_eq!(plan.rows[0].parameter(), EMBED, "module order is kept");
}

#[test]
fn equal_copies_are_tied_and_different_ones_are_not() {
    let equal = checkpoint(&[f32s(EMBED, &[4, 2], &counting(8)), f32s(HEAD, &[4, 2], &counting(8))]);
    let files = CheckpointFiles::open(equal.path()).unwrap();
    let plan = LoadPlan::new(&files, &map(true), &options()).unwrap();
    assert_eq!(plan.ties[0].decision, TieDecision::ToCompare);
    let (parameters, report) = load(equal.path(), &map(true), &options()).unwrap();
    assert_eq!(report.tied[0].outcome, TieOutcome::EqualAndShared);
    assert_eq!((parameters.tied().len(), report.warnings.len()), (1, 0));
    assert_eq!(values(&parameters, HEAD), counting(8));

    let mut other = counting(8);
    other[7] = -1.0;
    let different = checkpoint(&[f32s(EMBED, &[4, 2], &counting(8)), f32s(HEAD, &[4, 2], &other)]);
    let (parameters, report) = load(different.path(), &map(true), &options()).unwrap();
    assert_eq!(report.tied[0].outcome, TieOutcome::DifferentAndApart);
    assert!(report.warnings[0].contains("they are not tied"), "{:?}", report.warnings);
    assert!(parameters.tied().is_empty());
    assert_eq!((values(&parameters, HEAD), values(&parameters, EMBED)), (other, counting(8)));
}

#[test]
fn copies_of_different_dtype_are_set_apart_before_anything_is_read() {
    let directory = checkpoint(&[f32s(EMBED, &[4, 2], &counting(8)), bf16s(HEAD, &[4, 2], &counting(8))]);
    let files = CheckpointFiles::open(directory.path()).unwrap();
    let plan = LoadPlan::new(&files, &map(true), &options()).unwrap();
    assert_eq!(plan.ties[0].decision, TieDecision::Apart);
    let (parameters, report) = load(directory.path(), &map(true), &options()).unwrap();
    assert!(parameters.tied().is_empty());
    assert_eq!(report.tied[0].outcome, TieOutcome::DifferentAndApart);
}

#[test]
fn nothing_is_tied_that_the_config_does_not_tie() {
    let both = checkpoint(&[f32s(EMBED, &[4, 2], &counting(8)), f32s(HEAD, &[4, 2], &counting(8))]);
    let (parameters, report) = load(both.path(), &map(false), &options()).unwrap();
    assert!(parameters.tied().is_empty() && report.tied.is_empty());

    let one = checkpoint(&[f32s(EMBED, &[4, 2], &counting(8))]);
    let error = load(one.path(), &map(false), &options()).unwrap_err();
    assert!(message(&error).contains("`lm_head.weight` (the checkpoint has no head"), "{error}");
    assert!(message(&error).contains("embedding model"), "{error}");
}

#[test]
fn a_reward_model_is_called_one() {
    let reward = checkpoint(&[f32s(EMBED, &[4, 2], &counting(8)), f32s("score.weight", &[1, 2], &counting(2))]);
    let said = message(&load(reward.path(), &map(false), &options()).unwrap_err());
    assert!(said.contains("`score.weight`") && said.contains("reward model"), "{said}");
    assert!(!said.contains("tie"), "{said}");
}

#[test]
fn without_either_the_embedding_is_missing() {
    let directory = checkpoint(&[f32s("other", &[1], &[0.0])]);
    let error = load(directory.path(), &map(true), &options()).unwrap_err();
    let LoadError::Mismatch { problems, .. } = error else { panic!("{error:?}") };
    assert_eq!(problems.missing.len(), 1);
    assert_eq!(problems.missing[0].tensor, EMBED);
    assert!(problems.missing[0].note.as_ref().unwrap().contains(HEAD));
}
