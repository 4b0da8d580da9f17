//! Products with weights of a table.

use std::ops::Range;

use super::{
    Blocks, Layout4bit, QuantType, Quantized4bit, check_length,
    cpu::{self, Prepared},
    elements_of,
};
use crate::{
    Element, Precision, QuantError,
    cpu::{Isa, MAX_ROWS, Row},
    product::Matrix,
};

/// The 4-bit weight of a product, borrowed: `[out, in]` with scales in single precision.
#[derive(Clone, Copy)]
pub struct Matrix4bit<'a> {
    blocks: Blocks<'a>,
    rows: usize,
    columns: usize,
}

impl<'a> Matrix4bit<'a> {
    /// A weight with its scales, which [`Quantized4bit::scales`] gives.
    ///
    /// # Errors
    /// [`QuantError::LengthMismatch`] if there is not one scale for each block.
    pub fn new(weight: &'a Quantized4bit, scales: &'a [f32]) -> Result<Self, QuantError> {
        Self::from_parts(weight.layout(), weight.packed(), scales)
    }

    /// A weight from borrowed parts: `packed` has a byte for each two elements, `scales` a number for each block.
    ///
    /// # Errors
    /// [`QuantError::InvalidShape`] or [`QuantError::LengthMismatch`].
    pub fn from_parts(layout: Layout4bit, packed: &'a [u8], scales: &'a [f32]) -> Result<Self, QuantError> {
        let Layout4bit { quant_type, blocksize, shape } = layout;
        let elements = elements_of(shape)?;
        check_length("packed weight", elements.div_ceil(2), packed.len())?;
        check_length("absmax", blocksize.blocks(elements), scales.len())?;
        let blocks = Blocks { quant_type, blocksize: blocksize.get(), packed, scales, isa: Isa::detect() };
        Ok(Self { blocks, rows: shape[0], columns: shape[1] })
    }

    /// Decodes whole rows, row-major, rounded to `T`.
    ///
    /// # Errors
    /// [`QuantError::LengthMismatch`] if `rows` are not within the weight or `out` is not their size.
    pub fn dequantize_rows<T: Element>(&self, rows: Range<usize>, out: &mut [T]) -> Result<(), QuantError> {
        check_length("rows of the weight", rows.end.clamp(rows.start, self.rows.max(rows.start)), rows.end)?;
        check_length("dequantised rows", rows.len() * self.columns, out.len())?;
        self.blocks.dequantize(rows.start * self.columns..rows.end * self.columns, out);
        Ok(())
    }

    #[cfg(test)]
    fn on(mut self, isa: Isa) -> Self {
        self.blocks.isa = isa;
        self
    }

    fn row(&self, row: usize) -> Row<'a> {
        let (start, end) = (row * self.columns, (row + 1) * self.columns);
        let blocksize = self.blocks.blocksize;
        let first = start / blocksize;
        Row {
            codes: &self.blocks.packed[start / 2..end / 2],
            scales: &self.blocks.scales[first..end.div_ceil(blocksize)],
            head: (first + 1) * blocksize - start,
            blocksize,
        }
    }

    fn quant_type(&self) -> QuantType {
        self.blocks.quant_type
    }
}

#[allow(private_interfaces, reason = "sealed")]
impl Matrix for Matrix4bit<'_> {
    fn shape(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    fn row_bytes(&self) -> usize {
        self.columns.div_ceil(2)
    }

    fn isa(&self) -> Isa {
        self.blocks.isa
    }

    fn decode(&self, range: Range<usize>, out: &mut [f32]) {
        self.blocks.dequantize_here(range, out);
    }

    type Prepared = Prepared;

    /// A row that does not begin and end with a chunk is decoded to a buffer first.
    fn prepare(&self, x: &[f32], precision: Precision) -> Option<Vec<Prepared>> {
        let precision = if x.len() <= cpu::FIXED_ROWS * self.columns { precision } else { Precision::Exact };
        let prepare = |rows| cpu::prepare(self.isa(), precision, rows, self.columns);
        let are_chunks = self.blocks.rows_are_chunks(self.columns);
        are_chunks.then(|| x.chunks(MAX_ROWS * self.columns).map(prepare).collect())
    }

    fn dot(&self, row: usize, x: &Prepared, out: &mut [f32]) {
        cpu::dot(self.isa(), self.quant_type(), &self.row(row), x, out);
    }
}

#[cfg(test)]
#[path = "matrix_tests.rs"]
mod tests;
