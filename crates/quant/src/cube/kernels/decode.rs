//! Codes to floats.

use cubecl::prelude::*;

use super::{CODES, Decoder, ScalePlan, TABLE_COPIES, Table, scale_of, shared_table, shift_of};

/// One word of codes for each unit, rounded to `F`.
#[cube(launch_unchecked)]
pub(in super::super) fn dequantize<F: Float, V: Size>(
    packed: &[u32],
    absmax: &[Vector<f32, Const<1>>],
    absmax_codes: &[u32],
    out: &mut [Vector<F, V>],
    words: u32,
    #[comptime] decoder: Decoder,
    #[comptime] scales: ScalePlan,
    #[define(F)] _dtype: ElemType,
) {
    let values_of_codes = shared_table(comptime!(Table::Values(decoder)));
    let copy = UNIT_POS as usize % TABLE_COPIES;
    let at = ABSOLUTE_POS;
    if at < words as usize {
        let word = packed[at];
        let scale = scale_of(absmax, absmax_codes, at * CODES, scales);
        let width = V::value().comptime();
        let parts = comptime!(CODES / width);
        #[unroll]
        for part in 0..parts {
            let mut values = Vector::<F, V>::new(F::new(0.0));
            #[unroll]
            for i in 0..width {
                let code = (word >> comptime!(shift_of(part * width + i))) & 15u32;
                values.insert(i, F::cast_from(values_of_codes[code as usize * TABLE_COPIES + copy] * scale));
            }
            out[at * parts + part] = values;
        }
    }
}
