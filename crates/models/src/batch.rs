//! Token ids of several sequences, padded on the left to one length.

use crate::ModelError;

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
        let length = rows.iter().map(|row| row.as_ref().len()).max().unwrap_or(0);
        let mut ids = Vec::with_capacity(rows.len().saturating_mul(length));
        let mut padding = Vec::with_capacity(rows.len());
        for (index, row) in rows.iter().enumerate() {
            let row = row.as_ref();
            if row.is_empty() {
                return Err(ModelError::EmptyBatch { row: index });
            }
            if let Some((position, &token)) = row.iter().enumerate().find(|&(_, &id)| id as usize >= vocab_size) {
                return Err(ModelError::TokenOutOfVocabulary { token, row: index, position, vocab_size });
            }
            padding.push(length - row.len());
            ids.extend(std::iter::repeat_n(0, length - row.len()).chain(row.iter().copied()));
        }
        if rows.is_empty() {
            return Err(ModelError::EmptyBatch { row: 0 });
        }
        Ok(Self { ids, padding, length })
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

    /// Padded positions at the start of each row. A cache remembers those of its first batch; later batches (one
    /// token a row while decoding) carry none.
    pub fn padding(&self) -> &[usize] {
        &self.padding
    }
}
