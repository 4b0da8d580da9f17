//! Tensors that are quantised as one although several parameters are parts of them.
//!
//! bitsandbytes quantises the modules of transformers, so a fused projection as a whole: blocks are those of the fused tensor,
//! and so are the scales of scales. A part can be used in 4 bits if its blocks are blocks of the whole.

use crate::{Encoding, strided::Walk};
use automodel_quant::{Absmax, Blocksize, NestedAbsmax};
use automodel_registry::weights::{SourcePiece, ViewOp};
use std::ops::Range;

/// Why a tensor cannot be quantised as one.
pub(crate) const SPLIT: &str = "what is read of it by itself is no whole blocks";
pub(crate) const GAPS: &str = "not all of it is read";
pub(crate) const UNCLEAR: &str = "it is used transposed and as it is";
pub(crate) const JOINED: &str = "it is joined with other tensors to one parameter";
pub(crate) const NO_MATRIX: &str = "it is no matrix of a linear module";

/// Whether operations see a matrix transposed; `None` if that is not all they do to its axes.
pub(crate) fn orientation(ops: &[ViewOp]) -> Option<bool> {
    let transposes = |op: &ViewOp| matches!(op, ViewOp::Transpose(..));
    match ops {
        [ViewOp::Transpose(0, 1) | ViewOp::Transpose(1, 0), rest @ ..] if !rest.iter().any(transposes) => Some(true),
        ops if !ops.iter().any(transposes) => Some(false),
        _ => None,
    }
}

/// The elements of a piece in its tensor as bitsandbytes quantises that: `[out, in]`.
pub(crate) struct QuantizedPlace {
    pub walk: Walk,
    pub shape: [usize; 2],
}

impl QuantizedPlace {
    /// `None` if the tensor is no matrix, or is seen through operations that do not keep its rows together.
    pub fn of(piece: &SourcePiece) -> Option<Self> {
        let [rows, columns] = piece.tensor_shape[..] else { return None };
        let (shape, ops) = match orientation(&piece.ops)? {
            true => ([columns, rows], &piece.ops[1..]),
            false => ([rows, columns], &piece.ops[..]),
        };
        let walk = Walk::new(&SourcePiece::view("", &shape, ops.to_vec()).strided().ok()?);
        Some(Self { walk, shape })
    }

    /// Number of elements of the whole tensor.
    pub fn elements(&self) -> usize {
        self.shape[0].saturating_mul(self.shape[1])
    }

    /// Whether the piece is the whole tensor.
    pub fn is_whole(&self) -> bool {
        self.walk.contiguous() == Some(0..self.elements())
    }

    /// The blocks of the tensor that the piece is, in its order; `None` if it is no whole blocks.
    pub fn blocks(&self, blocksize: Blocksize) -> Option<Vec<Range<usize>>> {
        let begins = |element: usize| Encoding::begins_block(blocksize, element);
        let (mut runs, mut whole_so_far) = (Vec::<Range<usize>>::new(), true);
        let walked = self.walk.for_each_run(&mut |start, length| {
            let end = start.checked_add(length).filter(|end| *end <= self.elements()).ok_or(())?;
            if !whole_so_far || length == 0 || !begins(start) || !(begins(end) || end == self.elements()) {
                return Err(());
            }
            // Behind the last block of the tensor, which may be short, nothing can follow.
            whole_so_far = begins(end);
            let blocks = start / blocksize.get()..blocksize.blocks(end);
            match runs.last_mut() {
                Some(last) if last.end == blocks.start => last.end = blocks.end,
                _ => runs.push(blocks),
            }
            Ok(())
        });
        walked.ok().map(|()| runs)
    }
}

/// Whether parameters can be used in 4 bits as parts of one quantised tensor: together they are all of its blocks.
///
/// # Errors
/// Why not.
pub(crate) fn check_parts(parts: &[SourcePiece], blocksize: Blocksize) -> Result<(), &'static str> {
    let mut blocks = Vec::new();
    let mut shape = None;
    for part in parts {
        if part.tensor_shape.len() != 2 {
            return Err(NO_MATRIX);
        }
        let place = QuantizedPlace::of(part).ok_or(UNCLEAR)?;
        if *shape.get_or_insert(place.shape) != place.shape || orientation(&part.ops) != orientation(&parts[0].ops) {
            return Err(UNCLEAR);
        }
        blocks.extend(place.blocks(blocksize).ok_or(SPLIT)?);
    }
    blocks.sort_by_key(|run| run.start);
    let read = blocks.iter().fold(0, |end, run| if run.start <= end { run.end.max(end) } else { end });
    let [rows, columns] = shape.unwrap_or_default();
    if read == blocksize.blocks(rows.saturating_mul(columns)) { Ok(()) } else { Err(GAPS) }
}

/// Whether a part keeps 8-bit scales of its tensor: its scales lie together and begin with one of a scale's own.
pub(crate) fn keeps_nested(blocks: &[Range<usize>]) -> bool {
    matches!(blocks, [run] if Encoding::begins_nested_block(run.start))
}

/// The scales of some blocks of a tensor: in 8 bits if `nested` and the tensor's are, otherwise in float32.
pub(crate) fn scales_of(tensor: &Absmax, blocks: &[Range<usize>], nested: bool) -> Absmax {
    let plain = |scales: &[f32]| Absmax::Plain(blocks.iter().flat_map(|run| &scales[run.clone()]).copied().collect());
    match (tensor, blocks) {
        (Absmax::Nested(scales), [run]) if nested => Absmax::Nested(nested_scales_of(scales, run)),
        (Absmax::Nested(scales), _) => plain(&scales.dequantize()),
        (Absmax::Plain(scales), _) => plain(scales),
    }
}

/// 8-bit scales of some blocks, the first of which begins with a scale of its own.
fn nested_scales_of(nested: &NestedAbsmax, blocks: &Range<usize>) -> NestedAbsmax {
    let codes = nested.codes[blocks.clone()].to_vec();
    let first = Encoding::nested_block(blocks.start);
    let absmax = nested.absmax[first..Encoding::nested_block(blocks.end - 1) + 1].to_vec();
    NestedAbsmax { codes, absmax, offset: nested.offset }
}

/// The scales of a whole tensor, put together from those of its parts.
pub(crate) struct JointScales(Vec<f32>);

impl JointScales {
    pub fn new(blocks: usize) -> Self {
        Self(vec![0.0; blocks])
    }

    /// Puts the scales of a part, as many as its blocks, in their places. `None` if they do not fit.
    pub fn put(&mut self, blocks: &[Range<usize>], scales: &[f32]) -> Option<()> {
        let mut rest = scales;
        for run in blocks {
            let (scales, behind) = rest.split_at_checked(run.len())?;
            self.0.get_mut(run.clone())?.copy_from_slice(scales);
            rest = behind;
        }
        rest.is_empty().then_some(())
    }

    /// Double quantisation of all of them.
    pub fn nested(&self) -> Absmax {
        Absmax::Nested(NestedAbsmax::quantize(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks_of_32() -> Blocksize {
        Blocksize::new(32).unwrap()
    }

    fn rows(shape: [usize; 2], start: usize, length: usize) -> SourcePiece {
        SourcePiece::view("w", &shape, vec![ViewOp::Narrow { axis: 0, start, length }])
    }

    fn check(parts: &[SourcePiece]) -> Result<(), &'static str> {
        check_parts(parts, blocks_of_32())
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
        assert_eq!(check_parts(&[heads(0), heads(1)], Blocksize::new(64).unwrap()), Err(SPLIT));
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

    #[test]
    fn scales_of_parts_are_those_of_the_whole() {
        let scales: Vec<f32> = (0..600).map(|at| (at as f32 * 0.37).sin() + 1.5).collect();
        let whole = Absmax::Nested(NestedAbsmax::quantize(&scales));
        let mut joint = JointScales::new(600);
        let one = |run| std::iter::once(run).collect::<Vec<Range<usize>>>();
        let parts = [one(256..600), vec![0..100, 200..256], one(100..200)];
        for part in &parts {
            let own: Vec<f32> = part.iter().flat_map(|run| &scales[run.clone()]).copied().collect();
            joint.put(part, &own).unwrap();
        }
        assert_eq!(joint.nested(), whole);
        assert_eq!(joint.put(&parts[0], &scales[..7]), None);
        let Absmax::Nested(nested) = &whole else { panic!() };
        let Absmax::Nested(part) = scales_of(&whole, &parts[0], true) else { panic!() };
        assert_eq!((part.codes.as_slice(), part.absmax.as_slice()), (&nested.codes[256..], &nested.absmax[1..]));
        let decoded = nested.dequantize();
        assert_eq!(scales_of(&whole, &parts[2], false), Absmax::Plain(decoded[100..200].to_vec()));
        assert!(keeps_nested(&parts[0]) && !keeps_nested(&parts[1]) && !keeps_nested(&parts[2]));
    }
}
