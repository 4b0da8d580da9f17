//! A tensor that several parameters fill, until it is complete.

use crate::strided::Walk;
use burn::tensor::FloatDType;

/// A tensor in memory and which of its elements have been filled.
pub(super) struct Pending {
    pub dtype: FloatDType,
    pub bytes: Vec<u8>,
    pub covered: u64,
    /// How many pieces came so far.
    pub pieces: usize,
    filled: Vec<u64>,
}

/// Two parameters want different values in one place.
pub(super) struct Conflict;

impl Pending {
    pub fn new(dtype: FloatDType, elements: usize, size: usize) -> Self {
        Self { dtype, bytes: vec![0; elements * size], covered: 0, pieces: 0, filled: vec![0; elements.div_ceil(64)] }
    }

    /// Puts `values`, elements of `size` bytes in the order of `walk`, in their places. Filling a place twice with the same
    /// bits is allowed.
    pub fn scatter(&mut self, walk: &Walk, values: &[u8], size: usize) -> Result<(), Conflict> {
        self.pieces += 1;
        let mut rest = values;
        walk.runs().try_for_each(|run| {
            let (values, behind) = rest.split_at_checked(run.len() * size).ok_or(Conflict)?;
            rest = behind;
            self.put(run.start, values, size)
        })
    }

    fn put(&mut self, first: usize, run: &[u8], size: usize) -> Result<(), Conflict> {
        let length = run.len() / size;
        for element in first..first + length {
            let (word, bit) = (element / 64, 1u64 << (element % 64));
            let place = element * size..(element + 1) * size;
            let value = &run[(element - first) * size..(element - first + 1) * size];
            if self.filled[word] & bit == 0 {
                self.filled[word] |= bit;
                self.covered += 1;
                self.bytes[place].copy_from_slice(value);
            } else if self.bytes[place] != *value {
                return Err(Conflict);
            }
        }
        Ok(())
    }
}
