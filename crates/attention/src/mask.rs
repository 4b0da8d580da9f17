//! Causal masks: which keys a query attends to.

use crate::AttentionError;
use burn::tensor::{Device, Tensor, TensorData};
use std::ops::Range;

/// Which keys a query sees; all but [`Bidirectional`](Self::Bidirectional) are causal: a query at position `i` never sees a key at
/// `j > i`. Padding is seen by none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttentionMask {
    /// All earlier positions and the query's own.
    Full,
    /// The last `window` positions, the query's own included: `i - window < j <= i`
    /// (`sliding_window_overlay` of transformers).
    Sliding {
        /// Number of positions, at least 1.
        window: usize,
    },
    /// Earlier positions in the query's own chunk; chunks are counted from the first position that is not padding
    /// (`chunked_overlay` of transformers).
    Chunked {
        /// Number of positions, at least 1.
        size: usize,
    },
    /// Every position of the call, earlier and later ones: encoders, whose sequences come in one call
    /// (`bidirectional_mask_function` of transformers).
    Bidirectional,
}

impl AttentionMask {
    /// The absolute positions that a query at absolute position `query` sees in a row with `padding` positions of
    /// left padding. Always one range, which may go beyond the last key; empty for a query that is padding itself.
    ///
    /// ```
    /// use automodel_attention::AttentionMask;
    /// assert_eq!(AttentionMask::Sliding { window: 3 }.visible_keys(10, 0), 8..11);
    /// assert_eq!(AttentionMask::Chunked { size: 4 }.visible_keys(10, 1), 9..11);
    /// assert!(AttentionMask::Full.visible_keys(1, 2).is_empty());
    /// assert!(AttentionMask::Bidirectional.visible_keys(2, 1).contains(&9));
    /// ```
    pub fn visible_keys(&self, query: usize, padding: usize) -> Range<usize> {
        if query < padding {
            return padding..padding;
        }
        let end = query.saturating_add(1);
        match *self {
            Self::Full => padding..end,
            Self::Sliding { window } => end.saturating_sub(window).max(padding)..end,
            Self::Chunked { size } => query - (query - padding) % size.max(1)..end,
            Self::Bidirectional => padding..usize::MAX,
        }
    }

    /// Number of past positions that a KV cache has to keep for this mask: `None` for all of them.
    ///
    /// `Some(n)` is the argument of [`KvCache::rolling`](crate::KvCache::rolling).
    pub fn window(&self) -> Option<usize> {
        match *self {
            Self::Full | Self::Bidirectional => None,
            Self::Sliding { window } => Some(window),
            Self::Chunked { size } => Some(size),
        }
    }

    pub(crate) fn validate(&self) -> Result<(), AttentionError> {
        match self {
            Self::Sliding { window: 0 } => Err(zero("window of the sliding mask")),
            Self::Chunked { size: 0 } => Err(zero("size of the chunked mask")),
            _ => Ok(()),
        }
    }
}

fn zero(name: &'static str) -> AttentionError {
    AttentionError::Parameter { name, value: "0".to_owned(), expected: "at least 1" }
}

/// The positions of the queries and keys of one call in their sequences.
///
/// Absolute indices count every position of the padded batch from 0; they are equal for all rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Positions {
    /// Absolute index of the first query.
    pub query_start: usize,
    /// Absolute index of the first key: above 0 with a rolling cache.
    pub key_start: usize,
    /// Left padding of each row, in positions; empty if no row is padded. Positions below it are masked; chunks and
    /// rotary positions count from it. A query that is padding gives zeros.
    pub padding: Vec<usize>,
}

impl Positions {
    /// Left padding of a row.
    pub fn row_padding(&self, row: usize) -> usize {
        self.padding.get(row).copied().unwrap_or(0)
    }

    /// Rotary positions of `length` queries: one list for each padded row, or a single one for all rows without
    /// padding. They count from the padding; padding itself is at 0.
    ///
    /// ```
    /// use automodel_attention::Positions;
    /// let positions = Positions { query_start: 0, key_start: 0, padding: vec![0, 2] };
    /// assert_eq!(positions.rotary(4), [[0, 1, 2, 3], [0, 0, 0, 1]]);
    /// ```
    pub fn rotary(&self, length: usize) -> Vec<Vec<usize>> {
        let row =
            |padding: usize| (0..length).map(|i| self.query_start.saturating_add(i).saturating_sub(padding)).collect();
        if self.has_padding() { self.padding.iter().map(|&padding| row(padding)).collect() } else { vec![row(0)] }
    }

    pub(crate) fn has_padding(&self) -> bool {
        self.padding.iter().any(|&padding| padding > 0)
    }

    /// Checks against a batch and its lengths.
    pub(crate) fn validate(&self, batch: usize, queries: usize, keys: usize) -> Result<(), AttentionError> {
        if !self.padding.is_empty() && self.padding.len() != batch {
            return Err(AttentionError::PaddingRows { rows: self.padding.len(), batch });
        }
        for (start, length) in [(self.query_start, queries), (self.key_start, keys)] {
            if start.checked_add(length).is_none() {
                return Err(AttentionError::PositionOverflow { start, length });
            }
        }
        Ok(())
    }
}

/// A mask over the queries and keys of one call, in indices of that call.
pub(crate) struct CallMask<'a> {
    pub(crate) mask: AttentionMask,
    pub(crate) positions: &'a Positions,
    /// Number of keys.
    pub(crate) keys: usize,
}

/// Added to masked scores. Finite, so that a row without visible keys does not give NaN; so low that `exp` is 0 beside
/// any score.
const MASKED: f32 = -1e30;

impl CallMask<'_> {
    /// Keys of the call that query `query` of the call sees in row `row`.
    pub(crate) fn visible(&self, row: usize, query: usize) -> Range<usize> {
        let query = self.positions.query_start + query;
        let seen = self.mask.visible_keys(query, self.positions.row_padding(row));
        let local = |key: usize| key.saturating_sub(self.positions.key_start).min(self.keys);
        local(seen.start)..local(seen.end)
    }

    /// Position of key `key` of the call in its sequence, counted from the padding of row `row`.
    pub(crate) fn key_position(&self, row: usize, key: usize) -> usize {
        (self.positions.key_start + key).saturating_sub(self.positions.row_padding(row))
    }

    /// Number of distinct masks in the batch: 1 if no row is padded.
    pub(crate) fn rows(&self) -> usize {
        if self.positions.has_padding() { self.positions.padding.len() } else { 1 }
    }

    /// The smallest range that contains every key visible to `queries` in any row.
    pub(crate) fn union(&self, rows: Range<usize>, queries: Range<usize>) -> Range<usize> {
        let mut union: Option<Range<usize>> = None;
        for row in rows {
            for query in queries.clone() {
                let seen = self.visible(row, query);
                if seen.is_empty() {
                    continue;
                }
                union = Some(match union {
                    None => seen,
                    Some(known) => known.start.min(seen.start)..known.end.max(seen.end),
                });
            }
        }
        union.unwrap_or(0..0)
    }

    /// `[rows, 1, queries, keys]`: 0 where a key is visible, [`MASKED`] elsewhere; `None` if all are visible.
    pub(crate) fn bias(&self, queries: Range<usize>, keys: Range<usize>, device: &Device) -> Option<Tensor<4>> {
        let rows = self.rows();
        let (height, width) = (queries.len(), keys.len());
        let mut hidden = false;
        let mut values = Vec::new();
        for row in 0..rows {
            for query in queries.clone() {
                let seen = self.visible(row, query);
                let start = seen.start.clamp(keys.start, keys.end) - keys.start;
                let end = (seen.end.clamp(keys.start, keys.end) - keys.start).max(start);
                hidden |= start > 0 || end < width;
                values.extend(std::iter::repeat_n(MASKED, start));
                values.extend(std::iter::repeat_n(0.0, end - start));
                values.extend(std::iter::repeat_n(MASKED, width - end));
            }
        }
        hidden.then(|| Tensor::from_data(TensorData::new(values, [rows, 1, height, width]), device))
    }

    /// `[rows, 1, queries, 1]`: 1 for a query with a visible key, 0 for one without; `None` if all have one.
    pub(crate) fn has_visible_key(&self, queries: Range<usize>, device: &Device) -> Option<Tensor<4>> {
        let rows = self.rows();
        let height = queries.len();
        let sees = |row, query| if self.visible(row, query).is_empty() { 0.0_f32 } else { 1.0 };
        let values: Vec<f32> = (0..rows).flat_map(|row| queries.clone().map(move |query| sees(row, query))).collect();
        values.contains(&0.0).then(|| Tensor::from_data(TensorData::new(values, [rows, 1, height, 1]), device))
    }
}
