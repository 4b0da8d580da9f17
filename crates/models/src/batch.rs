//! Token ids of several sequences, padded on the left to one length.

use crate::ModelError;
use burn::tensor::{Int, Tensor};
use std::ops::Range;

/// Token ids `[batch, length]`, checked against the vocabulary and padded on the left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenBatch {
    ids: Vec<u32>,
    padding: Vec<usize>,
    length: usize,
}

impl TokenBatch {
    /// Pads `rows` on the left to the longest.
    ///
    /// # Errors
    /// [`ModelError::EmptyBatch`] without rows or with an empty row; [`ModelError::TokenOutOfVocabulary`].
    pub fn new<R: AsRef<[u32]>>(rows: &[R], vocab_size: usize) -> Result<Self, ModelError> {
        Self::columns(rows, 0..usize::MAX, vocab_size)
    }

    /// The positions `columns` of the batch that [`new`](Self::new) makes of `rows`, for prompts that are run in several
    /// passes. The part that begins at 0 carries the padding of the whole, which may be more than its own length; the others
    /// carry none, because the cache remembers it.
    ///
    /// ```
    /// use automodel_models::TokenBatch;
    ///
    /// let prompts = [vec![5, 6, 7, 8], vec![9]];
    /// let first = TokenBatch::columns(&prompts, 0..2, 10)?;
    /// assert_eq!((first.ids(), first.padding()), ([5, 6, 0, 0].as_slice(), [0, 3].as_slice()));
    /// let second = TokenBatch::columns(&prompts, 2..4, 10)?;
    /// assert_eq!((second.ids(), second.padding()), ([7, 8, 0, 9].as_slice(), [0, 0].as_slice()));
    /// # Ok::<(), automodel_models::ModelError>(())
    /// ```
    ///
    /// # Errors
    /// As [`new`](Self::new); [`ModelError::EmptyBatch`] also where `columns` holds no position of the batch.
    pub fn columns<R: AsRef<[u32]>>(rows: &[R], columns: Range<usize>, vocab_size: usize) -> Result<Self, ModelError> {
        let longest = rows.iter().map(|row| row.as_ref().len()).max().unwrap_or(0);
        let (start, end) = (columns.start, columns.end.min(longest));
        let length = end.saturating_sub(start);
        if length == 0 {
            return Err(ModelError::EmptyBatch { row: 0 });
        }
        let mut ids = Vec::with_capacity(rows.len().saturating_mul(length));
        let mut padding = Vec::with_capacity(rows.len());
        for (index, row) in rows.iter().enumerate() {
            let row = row.as_ref();
            if row.is_empty() {
                return Err(ModelError::EmptyBatch { row: index });
            }
            let before = longest - row.len();
            let first = start.saturating_sub(before);
            let part = row.get(first..end.saturating_sub(before)).unwrap_or_default();
            if let Some((position, &token)) = part.iter().enumerate().find(|&(_, &id)| id as usize >= vocab_size) {
                let position = first + position;
                return Err(ModelError::TokenOutOfVocabulary { token, row: index, position, vocab_size });
            }
            padding.push(if start == 0 { before } else { 0 });
            ids.extend(std::iter::repeat_n(0, length - part.len()).chain(part.iter().copied()));
        }
        Ok(Self { ids, padding, length })
    }

    /// Checks that an embedding of `vocab_size` rows has one for each token.
    pub(crate) fn check_vocabulary(&self, vocab_size: usize) -> Result<(), ModelError> {
        let outside = self.ids.iter().enumerate().find(|&(_, &id)| id as usize >= vocab_size);
        let Some((place, &token)) = outside else { return Ok(()) };
        let (row, position) = (place / self.length, place % self.length);
        Err(ModelError::TokenOutOfVocabulary { token, row, position, vocab_size })
    }

    /// One token a row, with ids `[batch]` that are read back from their device.
    ///
    /// ```
    /// use automodel_models::TokenBatch;
    /// use burn::tensor::{Device, Int, Tensor};
    ///
    /// let chosen = Tensor::<1, Int>::from_ints([3, 8], &Device::flex());
    /// assert_eq!(TokenBatch::read(chosen, 10)?, TokenBatch::new(&[[3], [8]], 10)?);
    /// # Ok::<(), automodel_models::ModelError>(())
    /// ```
    ///
    /// # Errors
    /// As [`new`](Self::new); [`ModelError::UnreadableTokens`] if the device fails.
    pub fn read(tokens: Tensor<1, Int>, vocab_size: usize) -> Result<Self, ModelError> {
        let data =
            tokens.try_into_data().map_err(|source| ModelError::UnreadableTokens { source: Box::new(source) })?;
        // Negative ids are outside every vocabulary.
        let rows: Vec<[u32; 1]> = data.iter::<i64>().map(|id| [u32::try_from(id).unwrap_or(u32::MAX)]).collect();
        Self::new(&rows, vocab_size)
    }

    /// Number of sequences.
    pub fn batch_size(&self) -> usize {
        self.padding.len()
    }

    /// Number of positions, padding included.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Row-major ids; padding is 0.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Padded positions at the start of each row: more than [`length`](Self::length) where this is the first part of longer
    /// prompts. A cache remembers those of its first batch; later batches (one token a row while decoding) carry none.
    pub fn padding(&self) -> &[usize] {
        &self.padding
    }
}
