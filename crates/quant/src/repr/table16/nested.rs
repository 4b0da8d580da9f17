//! Double quantisation: scales as 8-bit codes with scales of their own.
//!
//! The arithmetic is that of `quantize_blockwise` of bitsandbytes 0.50 on the CPU, which looks a scaled value up in a table of
//! 65536 cells: a value next to the midpoint of two codes may therefore get the farther one, and does so here too.

use std::sync::OnceLock;

use serde::Serialize;

/// Elements of `absmax` that share one scale.
pub(crate) const NESTED_BLOCKSIZE: usize = 256;

/// Scales in 8 bits: `dynamic_map()[codes[i]] * absmax[i / 256] + offset`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NestedAbsmax {
    /// One code for each block of weights.
    pub codes: Vec<u8>,
    /// One scale for each 256 codes.
    pub absmax: Vec<f32>,
    /// The mean of the scales, which was subtracted before coding.
    pub offset: f32,
}

impl NestedAbsmax {
    /// Codes scales around their mean (summed in double precision).
    ///
    /// ```
    /// use automodel_quant::table16::NestedAbsmax;
    /// let absmax = [0.5f32, 0.25, 0.75, 0.5];
    /// let nested = NestedAbsmax::quantize(&absmax);
    /// assert_eq!(nested.offset, 0.5);
    /// assert!(nested.dequantize().iter().zip(absmax).all(|(a, b)| (a - b).abs() < 2e-3));
    /// ```
    pub fn quantize(absmax: &[f32]) -> Self {
        let sum: f64 = absmax.iter().map(|&value| f64::from(value)).sum();
        Self::quantize_around(absmax, (sum / absmax.len().max(1) as f64) as f32)
    }

    /// Codes scales around an offset of the caller's, for instance a mean that was summed in another order.
    pub fn quantize_around(absmax: &[f32], offset: f32) -> Self {
        let mut codes = Vec::with_capacity(absmax.len());
        let mut scales = Vec::with_capacity(absmax.len().div_ceil(NESTED_BLOCKSIZE));
        for block in absmax.chunks(NESTED_BLOCKSIZE) {
            let scale = block.iter().fold(0.0f32, |scale, value| scale.max((value - offset).abs()));
            codes.extend(block.iter().map(|value| encode(value - offset, scale)));
            scales.push(scale);
        }
        Self { codes, absmax: scales, offset }
    }

    /// The scales in single precision, one for each code. Codes without a scale, which a checked value has not, are left out.
    pub fn dequantize(&self) -> Vec<f32> {
        let (map, offset) = (dynamic_map(), self.offset);
        let blocks = self.codes.chunks(NESTED_BLOCKSIZE).zip(&self.absmax);
        blocks
            .flat_map(|(codes, scale)| codes.iter().map(move |&code| map[usize::from(code)] * scale + offset))
            .collect()
    }
}

fn encode(value: f32, scale: f32) -> u8 {
    // Below 2^-128 the reciprocal is infinite and 0 * inf is NaN, whose cell is the first.
    let scaled = value * (1.0 / scale);
    if scale == 0.0 || scaled.is_nan() {
        return 0;
    }
    let cell = ((scaled.clamp(-1.0, 1.0) + 1.0) * 0.5).mul_add(65535.0, 0.5);
    cells()[usize::from(cell as u16)]
}

/// The code of each of 65536 equal cells of [-1, 1], found from the cell's lower edge.
fn cells() -> &'static [u8] {
    static CELLS: OnceLock<Vec<u8>> = OnceLock::new();
    CELLS.get_or_init(|| {
        let map = dynamic_map();
        let midpoints: Vec<f32> = map.windows(2).map(|pair| (pair[0] + pair[1]) * 0.5).collect();
        let mut code = 0;
        (0..=u16::MAX)
            .map(|cell| {
                let value = (2.0 * f32::from(cell)) / 65535.0 - 1.0;
                while code < 255 && value > midpoints[usize::from(code)] {
                    code += 1;
                }
                code
            })
            .collect()
    })
}

/// The table that bitsandbytes writes as `nested_quant_map`: `create_dynamic_map()`, whose resolution follows the magnitude.
pub fn dynamic_map() -> &'static [f32; 256] {
    static MAP: OnceLock<[f32; 256]> = OnceLock::new();
    MAP.get_or_init(|| {
        let mut map = [0.0; 256];
        // Seven decades, the n-th with 2^n means of neighbours on a line from 0.1 to 1, make 127 magnitudes.
        let mut place = 128;
        for decade in 0..7i32 {
            let items = 1usize << decade;
            let magnitude = 10f64.powi(decade - 6) as f32;
            for item in 0..items {
                let mean = (on_line(item, items) + on_line(item + 1, items)) / 2.0;
                map[place] = magnitude * mean;
                map[254 - place] = -(magnitude * mean);
                place += 1;
            }
        }
        map[255] = 1.0;
        map
    })
}

/// Point `index` of `torch.linspace(0.1, 1, intervals + 1)`, which counts from the nearer end.
fn on_line(index: usize, intervals: usize) -> f32 {
    let step = (1.0f32 - 0.1) / intervals as f32;
    if index < intervals.div_ceil(2) {
        step.mul_add(index as f32, 0.1)
    } else {
        (-step).mul_add((intervals - index) as f32, 1.0)
    }
}
