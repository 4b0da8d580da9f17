//! Positions as sines and cosines that are added to embedded tokens.

use automodel_registry::spec::Sinusoids;
use burn::tensor::{Device, Tensor, TensorData};

/// `[rows, length, width]`: for each position of each row the sines, then the cosines, in float32. An odd width ends in a zero.
///
/// Rounded as the tables of tensor2tensor and fairseq are: frequencies and angles to float32.
pub(crate) fn at(spec: &Sinusoids, rows: &[Vec<usize>], width: usize, device: &Device) -> Tensor<3> {
    let frequencies = frequencies(width / 2);
    let length = rows.first().map_or(0, Vec::len);
    let mut values = Vec::with_capacity(rows.len() * length * width);
    for &position in rows.iter().flatten() {
        let end = values.len() + width;
        if spec.without != Some(position) {
            let angle = |frequency: &f32| position.saturating_add(spec.offset) as f32 * frequency;
            values.extend(frequencies.iter().map(|frequency| angle(frequency).sin()));
            values.extend(frequencies.iter().map(|frequency| angle(frequency).cos()));
        }
        values.resize(end, 0.0);
    }
    Tensor::from_data(TensorData::new(values, [rows.len(), length, width]), device)
}

/// A geometric series of `count` numbers, at least two, from 1 to 1/10000.
fn frequencies(count: usize) -> Vec<f32> {
    let step = -(10_000_f64.ln() / (count.max(2) - 1) as f64) as f32;
    (0..count).map(|index| (index as f32 * step).exp()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sines_come_before_cosines_and_one_position_may_have_none() {
        let spec = Sinusoids { offset: 2, without: Some(1) };
        let rows = [vec![0, 1], vec![3, 0]];
        let found = at(&spec, &rows, 5, &Device::flex());
        assert_eq!(found.dims(), [2, 2, 5]);
        let found = found.into_data().try_into_vec::<f32>().unwrap();
        let of = |angle: f32| [angle.sin(), (angle * 1e-4).sin(), angle.cos(), (angle * 1e-4).cos(), 0.0];
        let expected = [of(2.0), [0.0; 5], of(5.0), of(2.0)].concat();
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-6, "{found}, not {expected}");
        }
        assert_eq!(found.len(), expected.len());
    }
}
