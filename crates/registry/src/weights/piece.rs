//! Parts of checkpoint tensors as strided views: no operation moves data, so a piece can be read straight out of a mapped
//! file and, when saving, written back through the same view.

use serde::Serialize;
use thiserror::Error;

/// One part of a parameter: a checkpoint tensor seen through operations.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SourcePiece {
    /// Name of the tensor in the checkpoint.
    pub tensor: String,
    /// Shape that the tensor must have.
    pub tensor_shape: Vec<usize>,
    /// Applied in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ops: Vec<ViewOp>,
}

/// An operation on a strided view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum ViewOp {
    /// Swap two axes.
    Transpose(usize, usize),
    /// Split one axis into several (`[heads * 3 * dim]` -> `[heads, 3, dim]`).
    SplitAxis {
        /// The axis.
        axis: usize,
        /// Sizes whose product is the axis' size.
        sizes: Vec<usize>,
    },
    /// Keep `length` entries of an axis from `start`.
    Narrow {
        /// The axis.
        axis: usize,
        /// First entry.
        start: usize,
        /// Number of entries.
        length: usize,
    },
    /// Keep one entry of an axis and drop the axis.
    Select {
        /// The axis.
        axis: usize,
        /// The entry.
        index: usize,
    },
}

/// Where the elements of a piece are in its tensor, in elements. Read in row-major order of `shape` they fill the
/// parameter; axes merge freely there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StridedView {
    /// First element.
    pub offset: usize,
    /// Entries per axis.
    pub shape: Vec<usize>,
    /// Elements between neighbours per axis.
    pub strides: Vec<usize>,
}

/// An operation that does not fit the tensor it is applied to.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("operation {op:?} does not fit shape {shape:?} of tensor `{tensor}`: correct the weight map of this family")]
pub struct ViewError {
    /// The tensor.
    pub tensor: String,
    /// The operation.
    pub op: ViewOp,
    /// The shape it met.
    pub shape: Vec<usize>,
}

impl ViewOp {
    /// Whether it changes the order of axes.
    pub fn transposes(&self) -> bool {
        matches!(self, Self::Transpose(..))
    }
}

impl SourcePiece {
    /// A whole tensor as it is.
    pub fn whole(tensor: impl Into<String>, shape: &[usize]) -> Self {
        Self { tensor: tensor.into(), tensor_shape: shape.to_vec(), ops: Vec::new() }
    }

    /// A tensor of shape `shape` seen through `ops`.
    pub fn view(tensor: impl Into<String>, shape: &[usize], ops: Vec<ViewOp>) -> Self {
        Self { tensor: tensor.into(), tensor_shape: shape.to_vec(), ops }
    }

    /// Number of elements of this piece.
    pub fn numel(&self) -> Result<usize, ViewError> {
        Ok(self.strided()?.numel())
    }

    /// Where the elements are.
    pub fn strided(&self) -> Result<StridedView, ViewError> {
        self.ops.iter().try_fold(StridedView::contiguous(&self.tensor_shape), |view, op| {
            let shape = view.shape.clone();
            view.apply(op).ok_or_else(|| ViewError { tensor: self.tensor.clone(), op: op.clone(), shape })
        })
    }
}

impl StridedView {
    /// All elements of a row-major tensor.
    pub fn contiguous(shape: &[usize]) -> Self {
        Self { offset: 0, shape: shape.to_vec(), strides: row_major_strides(shape) }
    }

    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.shape.iter().fold(1, |product: usize, &size| product.saturating_mul(size))
    }

    /// If the elements lie one after another: the range they occupy.
    pub fn contiguous_range(&self) -> Option<std::ops::Range<usize>> {
        let mut expected = 1;
        for (&size, &stride) in self.shape.iter().zip(&self.strides).rev() {
            if size != 1 && stride != expected {
                return None;
            }
            expected *= size;
        }
        Some(self.offset..self.offset + self.numel())
    }

    fn apply(mut self, op: &ViewOp) -> Option<Self> {
        match op {
            ViewOp::Transpose(a, b) => {
                let axes = self.shape.len();
                (*a < axes && *b < axes).then_some(())?;
                self.shape.swap(*a, *b);
                self.strides.swap(*a, *b);
            }
            ViewOp::SplitAxis { axis, sizes } => {
                let (size, stride) = (*self.shape.get(*axis)?, *self.strides.get(*axis)?);
                let product = sizes.iter().try_fold(1_usize, |product, &part| product.checked_mul(part));
                (product == Some(size)).then_some(())?;
                let inner = row_major_strides(sizes).into_iter().map(|s| s * stride);
                self.strides.splice(axis..=axis, inner);
                self.shape.splice(axis..=axis, sizes.iter().copied());
            }
            ViewOp::Narrow { axis, start, length } => {
                let size = *self.shape.get(*axis)?;
                (start.checked_add(*length)? <= size).then_some(())?;
                self.offset += start * self.strides[*axis];
                self.shape[*axis] = *length;
            }
            ViewOp::Select { axis, index } => {
                (*index < *self.shape.get(*axis)?).then_some(())?;
                self.offset += index * self.strides[*axis];
                self.shape.remove(*axis);
                self.strides.remove(*axis);
            }
        }
        Some(self)
    }
}

fn row_major_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1_usize; shape.len()];
    for axis in (0..shape.len().saturating_sub(1)).rev() {
        strides[axis] = strides[axis + 1].saturating_mul(shape[axis + 1]);
    }
    strides
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(piece: &SourcePiece) -> Vec<usize> {
        let view = piece.strided().unwrap();
        let mut out = vec![view.offset];
        for (&size, &stride) in view.shape.iter().zip(&view.strides) {
            out = out.iter().flat_map(|&at| (0..size).map(move |i| at + i * stride)).collect();
        }
        out
    }

    #[test]
    fn transposed_columns_of_a_fused_conv1d() {
        // [in = 2, out = 6], columns 2..4 transposed to [2, 2].
        let piece = SourcePiece::view(
            "c_attn.weight",
            &[2, 6],
            vec![ViewOp::Narrow { axis: 1, start: 2, length: 2 }, ViewOp::Transpose(0, 1)],
        );
        assert_eq!(read(&piece), [2, 8, 3, 9]);
        assert_eq!(piece.strided().unwrap().contiguous_range(), None);
    }

    #[test]
    fn keys_of_a_head_major_fused_projection() {
        // [heads = 2, 3, dim = 2] rows of width 1; index 1 of axis 1.
        let piece = SourcePiece::view(
            "query_key_value.bias",
            &[12],
            vec![ViewOp::SplitAxis { axis: 0, sizes: vec![2, 3, 2] }, ViewOp::Select { axis: 1, index: 1 }],
        );
        assert_eq!(read(&piece), [2, 3, 8, 9]);
    }

    #[test]
    fn rows_are_a_range() {
        let piece =
            SourcePiece::view("qkv_proj.weight", &[6, 4], vec![ViewOp::Narrow { axis: 0, start: 2, length: 2 }]);
        assert_eq!(piece.strided().unwrap().contiguous_range(), Some(8..16));
    }

    #[test]
    fn an_operation_that_does_not_fit_is_named() {
        let piece = SourcePiece::view("w", &[6], vec![ViewOp::SplitAxis { axis: 0, sizes: vec![4, 2] }]);
        assert!(piece.strided().unwrap_err().to_string().contains("`w`"));
        let far = SourcePiece::view("w", &[6], vec![ViewOp::Narrow { axis: 0, start: usize::MAX, length: 2 }]);
        assert!(far.strided().is_err());
    }
}
