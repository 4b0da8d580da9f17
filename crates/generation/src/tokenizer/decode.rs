//! Decoders, step by step with bounded output.

use super::growth::{Growth, STEPS_LIMIT, TooMuch, allowed};
use super::normalize::Replacement;
use tokenizers::{Decoder, DecoderWrapper};

/// One decoder that is not a sequence. Its text counts one byte more for each token, because some decoders put a space before each.
#[derive(Clone, Debug)]
pub(super) struct DecoderStep {
    run: DecoderWrapper,
    growth: Growth,
    /// Measures the output of a replacement, which is usually below the maximum.
    replacement: Option<Replacement>,
}

impl DecoderStep {
    /// The steps of a decoder in their order.
    pub(super) fn all(decoder: Option<&DecoderWrapper>) -> tokenizers::Result<Vec<Self>> {
        let mut pending: Vec<&DecoderWrapper> = decoder.into_iter().collect();
        let mut steps = Vec::new();
        while let Some(next) = pending.pop() {
            match next {
                DecoderWrapper::Sequence(sequence) => pending.extend(sequence.get_decoders().iter().rev()),
                step => steps.push(Self::new(step)?),
            }
            if steps.len() + pending.len() > STEPS_LIMIT {
                return Err(format!("its decoder has more than {STEPS_LIMIT} steps").into());
            }
        }
        Ok(steps)
    }

    fn new(step: &DecoderWrapper) -> tokenizers::Result<Self> {
        let replacement = match step {
            DecoderWrapper::Replace(replace) => Replacement::new(&serde_json::to_value(replace)?),
            _ => None,
        };
        let growth = match (step, &replacement) {
            (_, Some(replacement)) => replacement.growth(),
            // An invalid byte becomes U+FFFD, which has three bytes.
            (DecoderWrapper::ByteLevel(_), _) => Growth::by(3),
            // A space for each token, or between all characters if the replaced string is empty.
            (DecoderWrapper::WordPiece(_) | DecoderWrapper::BPE(_) | DecoderWrapper::CTC(_), _) => Growth::by(2),
            _ => Growth::NONE,
        };
        Ok(Self { run: step.clone(), growth, replacement })
    }

    /// The maximum output of all steps.
    pub(super) fn growth(steps: &[Self]) -> Growth {
        steps.iter().fold(Growth::NONE, |growth, step| growth.then(step.growth))
    }

    /// The text of `tokens`.
    pub(super) fn run_all(steps: &[Self], mut tokens: Vec<String>) -> tokenizers::Result<String> {
        let bytes = size(&tokens);
        for step in steps {
            if step.growth != Growth::NONE && step.measure(&tokens)? > allowed(bytes) {
                return Err(TooMuch { bytes }.into());
            }
            tokens = step.run.decode_chain(tokens)?;
        }
        Ok(tokens.concat())
    }

    fn measure(&self, tokens: &[String]) -> tokenizers::Result<usize> {
        match &self.replacement {
            Some(replacement) => {
                let mut made = tokens.len();
                for token in tokens {
                    made = made.saturating_add(replacement.measure(token)?);
                }
                Ok(made)
            }
            None => Ok(self.growth.of(size(tokens))),
        }
    }
}

fn size(tokens: &[String]) -> usize {
    tokens.iter().map(|token| token.len().saturating_add(1)).fold(0, usize::saturating_add)
}
