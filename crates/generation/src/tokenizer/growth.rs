//! How much text the steps of a tokenizer may make of a text.
//!
//! A `tokenizer.json` is a program: a chain of twelve replacements, each of one letter by ten, makes a terabyte of a letter.
//! So each step says how much it makes at most, and where a chain of them could make too much, it is run step by step, and
//! each step is measured before it runs.

use std::fmt;

/// Most bytes of text that are made of one byte of text. NFKC makes 11 of one in the worst case, byte-level letters 2 of
/// each of those.
const FACTOR: usize = 32;
/// Bytes that are allowed in any case.
const ALLOWANCE: usize = 64 << 10;
/// Most steps of a chain; those in use have some ten.
pub(super) const STEPS_LIMIT: usize = 256;
/// Most bytes of a token that stands for what no other token does, or that a step adds by itself. Those in use are short words.
pub(super) const TOKEN_LIMIT: usize = 1024;

/// What a step makes of `n` bytes at most: `factor * n + constant`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Growth {
    pub factor: usize,
    pub constant: usize,
}

impl Growth {
    /// A step that makes no more text than it takes.
    pub(super) const NONE: Self = Self::by(1);

    pub(super) const fn by(factor: usize) -> Self {
        Self { factor, constant: 0 }
    }

    /// A step that puts `content` bytes in the place of `pattern` bytes, or between any two where `pattern` is 0.
    pub(super) fn of_replacement(pattern: usize, content: usize) -> Self {
        match pattern {
            0 => Self { factor: content.saturating_add(1), constant: content },
            _ => Self::by(content.div_ceil(pattern).max(1)),
        }
    }

    /// This step and then another one.
    pub(super) fn then(self, next: Self) -> Self {
        Self { factor: self.factor.saturating_mul(next.factor), constant: next.of(self.constant) }
    }

    /// Bytes that are made of `bytes` at most.
    pub(super) fn of(self, bytes: usize) -> usize {
        self.factor.saturating_mul(bytes).saturating_add(self.constant)
    }

    /// Whether the allowance always suffices, also for a text that is cut into pieces of one byte.
    pub(super) fn is_small(self) -> bool {
        self.factor.saturating_add(self.constant) <= FACTOR
    }
}

/// Bytes that may be made of `bytes`.
pub(super) fn allowed(bytes: usize) -> usize {
    bytes.saturating_mul(FACTOR).saturating_add(ALLOWANCE)
}

/// A step that would make too much.
#[derive(Debug)]
pub(super) struct TooMuch {
    pub bytes: usize,
}

impl fmt::Display for TooMuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "more than {} bytes of text would be made of {} bytes: do you trust this tokenizer?",
            allowed(self.bytes),
            self.bytes
        )
    }
}

impl std::error::Error for TooMuch {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_multiply() {
        let ten = Growth::of_replacement(1, 10);
        assert_eq!(ten.then(ten).of(7), 700);
        let prefixed = Growth { factor: 1, constant: 3 }.then(Growth::by(3));
        assert_eq!(prefixed.of(5), 24);
        assert!(prefixed.is_small() && !ten.then(ten).is_small());
        assert_eq!(Growth::of_replacement(0, 2).of(3), 3 + 4 * 2);
        let endless = (0..100).fold(Growth::NONE, |growth, _| growth.then(ten));
        assert_eq!(endless.of(1), usize::MAX);
    }
}
