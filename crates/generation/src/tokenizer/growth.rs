//! Bounds on the text that the steps of a tokenizer make.
//!
//! A `tokenizer.json` is a program: a chain of twelve replacements of one character by ten makes a terabyte of one character. So
//! each step has a maximum, and a chain that could exceed the limit is run step by step, each step measured before it runs.

use std::fmt;

/// Maximum of output bytes for one input byte. NFKC makes 11 of one in the worst case, byte-level characters 2 of each of those.
const FACTOR: usize = 32;
/// Bytes that are allowed in any case.
const ALLOWANCE: usize = 64 << 10;
/// Maximum of steps of a chain; those in use have about ten.
pub(super) const STEPS_LIMIT: usize = 256;
/// Maximum of bytes of the unknown token, and of a string that a step adds by itself. Those in use are short words.
pub(super) const TOKEN_LIMIT: usize = 1024;

/// The maximum output of a step for `n` bytes: `factor * n + constant`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Growth {
    pub factor: usize,
    pub constant: usize,
}

impl Growth {
    /// A step whose output is not longer than its input.
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

    /// Maximum of output bytes for `bytes`.
    pub(super) fn of(self, bytes: usize) -> usize {
        self.factor.saturating_mul(bytes).saturating_add(self.constant)
    }

    /// Whether the output is always within the allowance, even if the text is cut into pieces of one byte.
    pub(super) fn is_small(self) -> bool {
        self.factor.saturating_add(self.constant) <= FACTOR
    }
}

/// Allowed output bytes for `bytes`.
pub(super) fn allowed(bytes: usize) -> usize {
    bytes.saturating_mul(FACTOR).saturating_add(ALLOWANCE)
}

/// A step whose output would exceed the allowance.
#[derive(Debug)]
pub(super) struct TooMuch {
    pub bytes: usize,
}

impl fmt::Display for TooMuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{1} bytes of text would become more than {0} bytes: do you trust this tokenizer?",
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
