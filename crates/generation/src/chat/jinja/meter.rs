//! The limits of a template: steps, memory and time.

use super::error::{Cause, Error, Result};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// Bytes that cost one step.
const BYTES_PER_STEP: u64 = 64;
/// Steps between two readings of the clock.
const STEPS_PER_LOOK: u64 = 1024;

/// Counts what a template has used. Code that walks over values or makes new ones is charged first, so nothing larger than the
/// remaining budget is ever made: neither memory nor time can be exhausted before it is noticed.
///
/// Freed memory is not credited: the total that a template allocates is bounded.
pub(super) struct Meter {
    /// In bytes.
    left: Cell<u64>,
    /// The clock is read when less than this is left.
    next_look: Cell<u64>,
    deadline: Option<Instant>,
}

impl Meter {
    pub(super) fn new(steps: u64, time: Duration) -> Self {
        let left = steps.saturating_mul(BYTES_PER_STEP);
        // A deadline beyond the range of the clock is none.
        let deadline = Instant::now().checked_add(time);
        Self { left: Cell::new(left), next_look: Cell::new(left), deadline }
    }

    /// Charges for looking at `count` values.
    pub(super) fn steps(&self, count: usize) -> Result<()> {
        self.charge((count as u64).saturating_mul(BYTES_PER_STEP))
    }

    /// Charges for making or reading `count` bytes.
    pub(super) fn bytes(&self, count: usize) -> Result<()> {
        self.charge(count as u64)
    }

    /// Charges for a list of `count` values.
    pub(super) fn slots(&self, count: usize) -> Result<()> {
        self.bytes(count.saturating_mul(size_of::<super::Value>()))
    }

    fn charge(&self, bytes: u64) -> Result<()> {
        let Some(left) = self.left.get().checked_sub(bytes) else {
            // The meter stays exhausted, so that catching the failure does not help.
            self.left.set(0);
            return Err(Cause::Steps.into());
        };
        self.left.set(left);
        if left < self.next_look.get() {
            self.next_look.set(left.saturating_sub(STEPS_PER_LOOK * BYTES_PER_STEP));
            if self.deadline.is_some_and(|deadline| Instant::now() > deadline) {
                return Err(Error::from(Cause::Deadline));
            }
        }
        Ok(())
    }
}

/// A string that is charged while it grows.
pub(super) struct MeteredString<'m> {
    text: String,
    meter: &'m Meter,
}

impl<'m> MeteredString<'m> {
    pub(super) fn new(meter: &'m Meter) -> Self {
        Self { text: String::new(), meter }
    }

    pub(super) fn push(&mut self, piece: &str) -> Result<()> {
        self.meter.bytes(piece.len())?;
        self.text.push_str(piece);
        Ok(())
    }

    pub(super) fn push_char(&mut self, character: char) -> Result<()> {
        self.push(character.encode_utf8(&mut [0; 4]))
    }

    /// `piece`, `count` times.
    pub(super) fn repeat(&mut self, piece: &str, count: usize) -> Result<()> {
        self.meter.bytes(piece.len().saturating_mul(count))?;
        for _ in 0..count {
            self.text.push_str(piece);
        }
        Ok(())
    }

    pub(super) fn finish(self) -> String {
        self.text
    }
}
