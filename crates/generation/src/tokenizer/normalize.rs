//! Normalizers, step by step with bounded output.

use super::growth::{Growth, STEPS_LIMIT, TOKEN_LIMIT, TooMuch, allowed};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::sync::{Mutex, PoisonError};
use tokenizers::pattern::Pattern;
use tokenizers::utils::SysRegex;
use tokenizers::{NormalizedString, Normalizer, NormalizerWrapper};

/// Bytes of text that are normalised at once to measure the output.
const BLOCK: usize = 1024;

/// One normalizer that is not a sequence.
#[derive(Clone, Debug)]
pub(super) struct NormalizerStep {
    run: NormalizerWrapper,
    growth: Growth,
    measure: Measure,
}

/// How to measure the output of a step before it runs.
#[derive(Clone, Debug)]
enum Measure {
    /// By its maximum.
    Worst,
    /// By running it on one block after the other: the output for a character hardly depends on the others.
    InBlocks,
    /// By counting matches.
    Matches(Replacement),
}

/// A replacement, in a normalizer or a decoder.
#[derive(Clone, Debug)]
pub(super) struct Replacement {
    pattern: ReplacedPattern,
    content: usize,
}

#[derive(Clone, Debug)]
enum ReplacedPattern {
    Literal(String),
    Regex(String),
}

impl Replacement {
    /// From a `Replace` as it is saved.
    pub(super) fn new(saved: &Value) -> Option<Self> {
        let content = saved.get("content")?.as_str()?.len();
        let pattern = saved.get("pattern")?;
        let text = |kind: &str| pattern.get(kind).and_then(Value::as_str).map(str::to_owned);
        let pattern =
            text("String").map(ReplacedPattern::Literal).or_else(|| text("Regex").map(ReplacedPattern::Regex))?;
        Some(Self { pattern, content })
    }

    pub(super) fn growth(&self) -> Growth {
        match &self.pattern {
            ReplacedPattern::Literal(text) => Growth::of_replacement(text.len(), self.content),
            // It may match the empty string everywhere.
            ReplacedPattern::Regex(_) => Growth::of_replacement(0, self.content),
        }
    }

    /// Bytes that it makes of `text`.
    pub(super) fn measure(&self, text: &str) -> tokenizers::Result<usize> {
        let (count, replaced) = match &self.pattern {
            ReplacedPattern::Literal(pattern) => {
                let count = text.matches(pattern.as_str()).count();
                (count, count * pattern.len())
            }
            ReplacedPattern::Regex(pattern) => {
                let regex = SysRegex::new(pattern)?;
                let matches = (&regex).find_matches(text)?;
                let lengths = matches.iter().filter(|(_, is_match)| *is_match).map(|((start, end), _)| end - start);
                (lengths.clone().count(), lengths.sum())
            }
        };
        Ok(count.saturating_mul(self.content).saturating_add(text.len() - replaced))
    }
}

impl NormalizerStep {
    /// The steps of a normalizer in their order.
    pub(super) fn all(normalizer: Option<&NormalizerWrapper>) -> tokenizers::Result<Vec<Self>> {
        let mut pending: Vec<&NormalizerWrapper> = normalizer.into_iter().collect();
        let mut steps = Vec::new();
        while let Some(next) = pending.pop() {
            match next {
                NormalizerWrapper::Sequence(sequence) => pending.extend(sequence.as_ref().iter().rev()),
                step => steps.push(Self::new(step)?),
            }
            if steps.len() + pending.len() > STEPS_LIMIT {
                return Err(format!("its normalizer has more than {STEPS_LIMIT} steps").into());
            }
        }
        Ok(steps)
    }

    fn new(step: &NormalizerWrapper) -> tokenizers::Result<Self> {
        let (growth, measure) = match step {
            NormalizerWrapper::Replace(replace) => {
                let replacement =
                    Replacement::new(&serde_json::to_value(replace)?).ok_or("a Replace has no pattern")?;
                (replacement.growth(), Measure::Matches(replacement))
            }
            NormalizerWrapper::Prepend(prepend) => {
                (Growth { factor: 1, constant: prepend.prepend.len() }, Measure::Worst)
            }
            NormalizerWrapper::Precompiled(map) => {
                let longest = longest_replacement(&serde_json::to_value(map)?).ok_or("its character map is damaged")?;
                if longest > TOKEN_LIMIT {
                    return Err(format!("its character map replaces a letter by more than {TOKEN_LIMIT} bytes").into());
                }
                (Growth::by(longest.max(1)), Measure::InBlocks)
            }
            // The longest expansions of Unicode: U+1D160 becomes three characters of its size, U+FDFA eighteen of two bytes.
            NormalizerWrapper::NFC(_) | NormalizerWrapper::NFD(_) => (Growth::by(3), Measure::InBlocks),
            NormalizerWrapper::NFKC(_) | NormalizerWrapper::NFKD(_) => (Growth::by(12), Measure::InBlocks),
            NormalizerWrapper::BertNormalizer(_) => (Growth::by(12), Measure::InBlocks),
            NormalizerWrapper::Lowercase(_) | NormalizerWrapper::ByteLevel(_) => (Growth::by(2), Measure::InBlocks),
            NormalizerWrapper::StripNormalizer(_)
            | NormalizerWrapper::StripAccents(_)
            | NormalizerWrapper::Nmt(_)
            | NormalizerWrapper::Sequence(_) => (Growth::NONE, Measure::Worst),
        };
        Ok(Self { run: step.clone(), growth, measure })
    }

    /// The maximum output of all steps.
    pub(super) fn growth(steps: &[Self]) -> Growth {
        steps.iter().fold(Growth::NONE, |growth, step| growth.then(step.growth))
    }

    /// Whether the step makes no more than `left` bytes of `text`.
    fn fits(&self, text: &str, left: usize) -> tokenizers::Result<bool> {
        let worst = self.growth.of(text.len());
        Ok(worst <= left
            || match &self.measure {
                Measure::Worst => false,
                Measure::Matches(replacement) => replacement.measure(text)? <= left,
                Measure::InBlocks => self.in_blocks(text, left)? <= left,
            })
    }

    /// Bytes that the step makes of `text`, block by block; counting stops once they exceed `left`.
    fn in_blocks(&self, text: &str, left: usize) -> tokenizers::Result<usize> {
        let (mut rest, mut made) = (text, 0usize);
        while !rest.is_empty() && made <= left {
            let (block, behind) = rest.split_at(rest.floor_char_boundary(BLOCK));
            let mut block = NormalizedString::from(block);
            self.run.normalize(&mut block)?;
            made = made.saturating_add(block.get().len());
            rest = behind;
        }
        Ok(made)
    }
}

/// Normalises the pieces of one text within the allowance of the whole.
#[derive(Debug)]
pub(super) struct BoundedNormalizer<'s> {
    steps: &'s [NormalizerStep],
    bytes: usize,
    /// Remaining allowance in bytes; `None` once it was exceeded.
    left: Mutex<Option<usize>>,
}

impl<'s> BoundedNormalizer<'s> {
    /// For a text of `bytes`.
    pub(super) fn new(steps: &'s [NormalizerStep], bytes: usize) -> Self {
        Self { steps, bytes, left: Mutex::new(Some(allowed(bytes))) }
    }

    /// An error if a piece was not normalised: the library discards the errors of a normalizer.
    pub(super) fn finish(self) -> Result<(), TooMuch> {
        let left = self.left.into_inner().unwrap_or_else(PoisonError::into_inner);
        left.map(|_| ()).ok_or(TooMuch { bytes: self.bytes })
    }
}

impl Normalizer for BoundedNormalizer<'_> {
    fn normalize(&self, text: &mut NormalizedString) -> tokenizers::Result<()> {
        let mut state = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        for step in self.steps {
            let left = state.ok_or(TooMuch { bytes: self.bytes })?;
            if !step.fits(text.get(), left)? {
                *state = None;
                return Err(TooMuch { bytes: self.bytes }.into());
            }
            step.run.normalize(text)?;
        }
        *state = state.map(|left| left.saturating_sub(text.get().len()));
        Ok(())
    }
}

/// The longest replacement in a character map of sentencepiece: the length of a trie, the trie, and the replacements, each ended by
/// a zero.
fn longest_replacement(saved: &Value) -> Option<usize> {
    let map = STANDARD.decode(saved.get("precompiled_charsmap")?.as_str()?).ok()?;
    let (length, rest) = map.split_first_chunk::<4>()?;
    let texts = rest.get(usize::try_from(u32::from_le_bytes(*length)).ok()?..)?;
    texts.split(|byte| *byte == 0).map(<[u8]>::len).max()
}
