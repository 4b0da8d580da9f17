//! One input through one target, and what it may cost.

use std::fmt;

use crate::{Target, allocator};

/// Memory at the peak of a run, beyond what was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Bytes that were allocated at once; 0 unless [`Counting`](crate::Counting) is the allocator.
    pub peak: usize,
    /// Bytes that an input of this length may need.
    pub allowed: usize,
}

/// More memory than the target's bound allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excess {
    usage: Usage,
    input: usize,
}

impl fmt::Display for Excess {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Usage { peak, allowed }, input) = (self.usage, self.input);
        write!(formatter, "{peak} bytes allocated for an input of {input} bytes, which may take {allowed}")
    }
}

/// Runs `input` through `target`. Panics pass through.
///
/// # Errors
/// [`Excess`] if it took more memory than the target allows.
pub fn check(target: &Target, input: &[u8]) -> Result<Usage, Excess> {
    let before = allocator::begin();
    (target.run)(input);
    let usage = Usage { peak: allocator::highest().saturating_sub(before), allowed: target.allowed(input.len()) };
    if usage.peak > usage.allowed { Err(Excess { usage, input: input.len() }) } else { Ok(usage) }
}
