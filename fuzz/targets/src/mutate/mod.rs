//! Inputs made from other inputs by plain mutation: no coverage is measured, so the seeds must reach far by themselves.

mod bytes;
mod json;
mod random;

pub use random::Random;

use crate::{Files, Target};
use json::{Json, Vocabulary};

/// Longer inputs are cut.
const LONGEST: usize = 64 << 10;
/// Most mutations of one input.
const MUTATIONS: usize = 5;

/// Makes inputs of a target from its seeds.
#[derive(Debug)]
pub struct Mutator {
    seeds: Vec<Files>,
    vocabulary: Vocabulary,
    words: &'static [&'static str],
}

impl Mutator {
    /// A mutator of these seeds. There must be one at least.
    pub fn new(target: &Target, seeds: &[Vec<u8>]) -> Self {
        let seeds: Vec<Files> = seeds.iter().map(|seed| Files::split(seed)).collect();
        let mut vocabulary = Vocabulary::default();
        for (_, contents) in seeds.iter().flat_map(|files| &files.entries) {
            if let Some(json) = Json::parse(contents) {
                vocabulary.learn(&json);
            }
        }
        Self { seeds, vocabulary, words: target.words }
    }

    /// The input with this number, which is the same for the same seed and the same seeds.
    pub fn input(&self, seed: u64, number: u64) -> Vec<u8> {
        let mut random = Random::new(seed, number);
        let Some(files) = random.choose(&self.seeds) else { return Vec::new() };
        let mut files = files.clone();
        for _ in 0..=random.below(MUTATIONS) {
            self.mutate(&mut files, &mut random);
        }
        let mut input = files.joined();
        input.truncate(LONGEST);
        input
    }

    fn mutate(&self, files: &mut Files, random: &mut Random) {
        if random.chance(12) {
            return self.rearrange(files, random);
        }
        let index = random.below(files.entries.len());
        let Some((_, contents)) = files.entries.get_mut(index) else { return };
        match Json::parse(contents) {
            // Most mutations leave JSON whole, so that they reach the code behind the parser.
            Some(mut json) if !random.chance(8) => {
                json.mutate(&self.vocabulary, random);
                *contents = json.text();
            }
            _ => {
                let other = random.choose(&self.seeds).and_then(|files| random.choose(&files.entries));
                bytes::mutate(contents, self.words, other.map_or(&[], |(_, contents)| contents), random);
            }
        }
    }

    /// Whole files go, come twice or come from another seed.
    fn rearrange(&self, files: &mut Files, random: &mut Random) {
        let index = random.below(files.entries.len());
        match random.below(3) {
            0 if files.entries.len() > 1 => drop(files.entries.remove(index)),
            1 => {
                let other = random.choose(&self.seeds).and_then(|files| random.choose(&files.entries));
                files.entries.extend(other.cloned());
            }
            _ => {
                let other = random.choose(&self.seeds).and_then(|files| random.choose(&files.entries));
                if let (Some((_, contents)), Some((_, others))) = (files.entries.get_mut(index), other) {
                    contents.clone_from(others);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::named;

    fn mutator() -> Mutator {
        let seeds = [&br#"{"a": [1, 2, {"b": "c"}]}"#[..], b"=== template\n{{ x }}\n=== given\n{\"messages\": []}"];
        Mutator::new(named("template").unwrap(), &seeds.map(<[u8]>::to_vec))
    }

    #[test]
    fn inputs_depend_on_seed_and_number_alone() {
        let (one, two) = (mutator(), mutator());
        for number in 0..500 {
            assert_eq!(one.input(7, number), two.input(7, number));
        }
        let differing =
            |a: u64, b: u64| (0..500).filter(|&number| one.input(a, number) != one.input(b, number)).count();
        assert!(differing(7, 8) > 400);
    }

    #[test]
    fn mutations_of_json_are_mostly_json() {
        let json = br#"{"a": [1, 2, {"b": "c"}], "d": null}"#.to_vec();
        let mutator = Mutator::new(named("config").unwrap(), &[json]);
        let inputs: Vec<Vec<u8>> = (0..1000).map(|number| mutator.input(1, number)).collect();
        let parsed = inputs.iter().filter(|input| serde_json::from_slice::<serde_json::Value>(input).is_ok()).count();
        assert!((300..950).contains(&parsed), "{parsed} of 1000");
        let distinct: std::collections::HashSet<&Vec<u8>> = inputs.iter().collect();
        assert!(distinct.len() > 700, "{} of 1000 differ", distinct.len());
    }
}
