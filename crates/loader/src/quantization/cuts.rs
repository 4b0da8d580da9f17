//! Tensors that are quantised as one although several parameters are parts of them.
//!
//! bitsandbytes quantises the modules of transformers, so a fused projection as a whole: elements share scales with their
//! neighbours in the fused tensor. A part can be used quantised if it can be cut out between elements that share something.

use crate::strided::Walk;
use automodel_quant::{Cut, CutError, Scheme};
use automodel_registry::weights::{SourcePiece, ViewOp};

/// Why a tensor cannot be quantised as one.
pub(crate) const SPLIT: &str = "a parameter that is a part of it begins or ends within a block";
pub(crate) const GAPS: &str = "not all of it is read";
pub(crate) const UNCLEAR: &str = "it is used both transposed and as stored";
pub(crate) const JOINED: &str = "it is joined with other tensors into one parameter";
pub(crate) const NO_MATRIX: &str = "it is not the matrix of a linear module";

/// Whether operations see a matrix transposed; `None` if that is not all they do to its axes.
pub(crate) fn orientation(ops: &[ViewOp]) -> Option<bool> {
    let transposes = |op: &ViewOp| matches!(op, ViewOp::Transpose(..));
    match ops {
        [ViewOp::Transpose(0, 1) | ViewOp::Transpose(1, 0), rest @ ..] if !rest.iter().any(transposes) => Some(true),
        ops if !ops.iter().any(transposes) => Some(false),
        _ => None,
    }
}

/// The elements of a piece in its tensor as that is quantised: `[out, in]`.
pub(crate) struct QuantizedPlace {
    pub walk: Walk,
    pub shape: [usize; 2],
}

impl QuantizedPlace {
    /// `None` if the tensor is not a matrix, or is seen through operations that do not keep its rows together.
    pub fn of(piece: &SourcePiece) -> Option<Self> {
        let [rows, columns] = piece.tensor_shape[..] else { return None };
        let (shape, ops) = match orientation(&piece.ops)? {
            true => ([columns, rows], &piece.ops[1..]),
            false => ([rows, columns], &piece.ops[..]),
        };
        let walk = Walk::new(&SourcePiece::view("", &shape, ops.to_vec()).strided().ok()?);
        Some(Self { walk, shape })
    }

    /// Whether the piece is the whole tensor.
    pub fn is_whole(&self) -> bool {
        self.walk.contiguous() == Some(0..self.shape[0].saturating_mul(self.shape[1]))
    }

    /// The piece as a part of the tensor, which is quantised in `scheme`.
    pub fn cut(&self, scheme: Scheme) -> Result<Cut, CutError> {
        Cut::new(scheme, self.shape, self.walk.runs())
    }
}

/// Whether parameters can be used quantised as parts of one tensor: together they are all of it, and each can be cut out.
///
/// # Errors
/// Why not.
pub(crate) fn check_parts(parts: &[SourcePiece], scheme: Scheme) -> Result<(), &'static str> {
    let mut cuts: Vec<Cut> = Vec::with_capacity(parts.len());
    for part in parts {
        if part.tensor_shape.len() != 2 {
            return Err(NO_MATRIX);
        }
        let place = QuantizedPlace::of(part).ok_or(UNCLEAR)?;
        let other_shape = cuts.first().is_some_and(|first| first.shape() != place.shape);
        if other_shape || orientation(&part.ops) != orientation(&parts[0].ops) {
            return Err(UNCLEAR);
        }
        cuts.push(place.cut(scheme).ok().filter(Cut::ends_with_unit).ok_or(SPLIT)?);
    }
    if Cut::cover(&cuts) { Ok(()) } else { Err(GAPS) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use automodel_quant::table16::Blocksize;

    fn blocks_of(size: usize) -> Scheme {
        Scheme::nf4().with_blocksize(Blocksize::new(size).unwrap())
    }

    fn rows(shape: [usize; 2], start: usize, length: usize) -> SourcePiece {
        SourcePiece::view("w", &shape, vec![ViewOp::Narrow { axis: 0, start, length }])
    }

    fn check(parts: &[SourcePiece]) -> Result<(), &'static str> {
        check_parts(parts, blocks_of(32))
    }

    #[test]
    fn parts_must_be_whole_blocks_and_all_of_them() {
        // Two rows are three blocks.
        let shape = [6, 48];
        assert_eq!(check(&[rows(shape, 0, 2), rows(shape, 2, 4)]), Ok(()));
        assert_eq!(check(&[rows(shape, 2, 4), rows(shape, 0, 4)]), Ok(()), "in any order, some twice");
        assert_eq!(check(&[rows(shape, 0, 3), rows(shape, 3, 3)]), Err(SPLIT));
        assert_eq!(check(&[rows(shape, 0, 2), rows(shape, 4, 2)]), Err(GAPS));
        assert_eq!(check(&[rows(shape, 0, 4)]), Err(GAPS));
        // The last block is short: only its end may be within a block.
        let shape = [5, 48];
        assert_eq!(check(&[rows(shape, 0, 2), rows(shape, 2, 3)]), Ok(()));
        let heads = |index| {
            let ops = vec![ViewOp::SplitAxis { axis: 0, sizes: vec![2, 2, 2] }, ViewOp::Select { axis: 1, index }];
            SourcePiece::view("w", &[8, 48], ops)
        };
        assert_eq!(check(&[heads(0), heads(1)]), Ok(()));
        assert_eq!(check_parts(&[heads(0), heads(1)], blocks_of(64)), Err(SPLIT));
        assert_eq!(check(&[SourcePiece::whole("w", &[2, 2, 32])]), Err(NO_MATRIX));
    }

    #[test]
    fn transposed_parts_are_rows_of_what_is_quantised() {
        let part = |start| {
            let ops = vec![ViewOp::Transpose(0, 1), ViewOp::Narrow { axis: 0, start, length: 2 }];
            SourcePiece::view("w", &[48, 4], ops)
        };
        assert_eq!(check(&[part(0), part(2)]), Ok(()));
        assert_eq!(check(&[SourcePiece::whole("w", &[4, 4]), part(0)]), Err(UNCLEAR));
        let late = vec![ViewOp::Narrow { axis: 1, start: 0, length: 2 }, ViewOp::Transpose(0, 1)];
        assert_eq!(check(&[SourcePiece::view("w", &[48, 4], late)]), Err(UNCLEAR));
    }
}
