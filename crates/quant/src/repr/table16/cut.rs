//! Parts of weights, and scales that parts of one weight share.
//!
//! bitsandbytes quantises the modules of transformers, so a fused projection as a whole: blocks are those of the fused tensor, and so
//! are the scales of scales.

use std::ops::Range;

use bytes::Bytes;

use super::{Absmax, NestedAbsmax, Quantized4bit, Table16, nested::NESTED_BLOCKSIZE};
use crate::{Cut, QuantError};

impl Table16 {
    /// The scheme of a part: 8-bit scales are kept if they lie together and begin with a scale of their own.
    pub(super) fn of_blocks(self, blocks: &[Range<usize>]) -> Self {
        let keeps_nested = matches!(blocks, [run] if run.start.is_multiple_of(NESTED_BLOCKSIZE));
        self.with_double_quant(self.double_quant && keeps_nested)
    }
}

/// The part of a weight, its codes shared if they lie together and `share` is set; nothing is decoded but scales of scales that cannot
/// be kept.
pub(crate) fn part(
    weight: &Quantized4bit,
    cut: &Cut,
    shape: [usize; 2],
    share: bool,
) -> Result<Quantized4bit, QuantError> {
    let bytes = |run: &Range<usize>| run.start / 2..run.end.div_ceil(2);
    let packed = match cut.runs() {
        [run] if share => weight.packed().slice(bytes(run)),
        runs => Bytes::from(runs.iter().map(|run| &weight.packed()[bytes(run)]).collect::<Vec<_>>().concat()),
    };
    let keeps_nested = cut.scheme().table16().is_some_and(|scheme| scheme.double_quant);
    let absmax = scales_of(weight.absmax(), &cut.units(), keeps_nested);
    Quantized4bit::from_parts(weight.quant_type(), weight.blocksize(), shape, weight.dtype(), packed, absmax)
}

/// The scales of some blocks of a weight: in 8 bits if `nested` and the weight's are, otherwise in float32.
pub(crate) fn scales_of(weight: &Absmax, blocks: &[Range<usize>], nested: bool) -> Absmax {
    let plain = |scales: &[f32]| Absmax::Plain(blocks.iter().flat_map(|run| &scales[run.clone()]).copied().collect());
    match (weight, blocks) {
        (Absmax::Nested(scales), [run]) if nested => Absmax::Nested(nested_scales_of(scales, run)),
        (Absmax::Nested(scales), _) => plain(&scales.dequantize()),
        (Absmax::Plain(scales), _) => plain(scales),
    }
}

/// 8-bit scales of some blocks, the first of which begins with a scale of its own.
fn nested_scales_of(nested: &NestedAbsmax, blocks: &Range<usize>) -> NestedAbsmax {
    let scales = blocks.start / NESTED_BLOCKSIZE..blocks.end.div_ceil(NESTED_BLOCKSIZE);
    NestedAbsmax {
        codes: nested.codes[blocks.clone()].to_vec(),
        absmax: nested.absmax[scales].to_vec(),
        offset: nested.offset,
    }
}

/// The scales of a whole weight, put together from those of its parts.
#[derive(Debug)]
pub(crate) struct JointScales(Vec<f32>);

impl JointScales {
    pub fn new(blocks: usize) -> Self {
        Self(vec![0.0; blocks])
    }

    /// Puts the scales of a part, as many as its blocks, in their places.
    ///
    /// # Errors
    /// [`QuantError::LengthMismatch`] if they do not fit.
    pub fn put(&mut self, blocks: &[Range<usize>], scales: &[f32]) -> Result<(), QuantError> {
        let expected: usize = blocks.iter().map(ExactSizeIterator::len).sum();
        let is_within = blocks.iter().all(|run| run.end <= self.0.len());
        if expected != scales.len() || !is_within {
            return Err(QuantError::LengthMismatch { part: "absmax", expected, found: scales.len() });
        }
        let mut rest = scales;
        for run in blocks {
            let (scales, others) = rest.split_at(run.len());
            self.0[run.clone()].copy_from_slice(scales);
            rest = others;
        }
        Ok(())
    }

    /// Double quantisation of all of them.
    pub fn nested(&self) -> Absmax {
        Absmax::Nested(NestedAbsmax::quantize(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table16::QuantType;

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
        assert!(joint.put(&parts[0], &scales[..7]).is_err());
        let Absmax::Nested(nested) = &whole else { panic!() };
        let Absmax::Nested(part) = scales_of(&whole, &parts[0], true) else { panic!() };
        assert_eq!((part.codes.as_slice(), part.absmax.as_slice()), (&nested.codes[256..], &nested.absmax[1..]));
        let decoded = nested.dequantize();
        assert_eq!(scales_of(&whole, &parts[2], false), Absmax::Plain(decoded[100..200].to_vec()));
        let scheme = Table16::new(QuantType::Nf4).with_double_quant(true);
        assert_eq!([0, 1, 2].map(|part| scheme.of_blocks(&parts[part]).double_quant), [true, false, false]);
    }
}
