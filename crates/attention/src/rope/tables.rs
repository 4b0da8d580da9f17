//! Cosines and sines of one forward pass, and the rotation.

use super::RopePairing;
use burn::tensor::{DType, Device, Tensor, TensorData};

/// Cosines and sines at the positions of one forward pass.
///
/// Clones share their memory: make them once per forward pass and hand them to every layer.
#[derive(Clone, Debug)]
pub struct RopeTables {
    /// `[rows, 1, length, rotary_dim / 2]`, float32; `rows` is 1 or the batch size.
    cos: Tensor<4>,
    /// As `cos`.
    sin: Tensor<4>,
    pairing: RopePairing,
}

impl RopeTables {
    /// Tables of non-empty rows of equal length. The angle is the float32 product of position and frequency.
    pub(super) fn new(
        frequencies: &[f32],
        positions: &[Vec<usize>],
        attention_scaling: f64,
        pairing: RopePairing,
        device: &Device,
    ) -> Self {
        let length = positions.first().map_or(0, Vec::len);
        let shape = [positions.len(), 1, length, frequencies.len()];
        let scaling = attention_scaling as f32;
        let table = |function: fn(f64) -> f64| {
            let values: Vec<f32> = positions
                .iter()
                .flatten()
                .flat_map(|&position| frequencies.iter().map(move |&frequency| position as f32 * frequency))
                .map(|angle| function(f64::from(angle)) as f32 * scaling)
                .collect();
            Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
        };
        Self { cos: table(f64::cos), sin: table(f64::sin), pairing }
    }

    /// Cosines, `[rows, 1, length, rotary_dim / 2]` in float32, times the attention scaling.
    pub fn cos(&self) -> Tensor<4> {
        self.cos.clone()
    }

    /// Sines, as [`cos`](Self::cos).
    pub fn sin(&self) -> Tensor<4> {
        self.sin.clone()
    }

    /// Rotates queries or keys `[batch, heads, length, head_dim]`; elements beyond the rotating width stay as they
    /// are. Computed in float32, returned in the dtype of `x`.
    ///
    /// # Panics
    /// If `x` has another length than the tables, a narrower head than the rotating width, or another batch size than
    /// tables that have rows of their own.
    pub fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        let dtype = x.dtype();
        let [batch, heads, length, head_dim] = x.dims();
        let [_, _, _, half] = self.cos.dims();
        let rotated = match self.pairing {
            RopePairing::HalfSplit => {
                let x = x.clone().cast(DType::F32);
                let (first, second) = self.rotate(x.clone().narrow(3, 0, half), x.narrow(3, half, half));
                vec![first, second]
            }
            RopePairing::Interleaved => {
                let pairs = x.clone().cast(DType::F32).narrow(3, 0, 2 * half).reshape([batch, heads, length, half, 2]);
                let element = |i| pairs.clone().narrow(4, i, 1).reshape([batch, heads, length, half]);
                let (first, second) = self.rotate(element(0), element(1));
                vec![Tensor::stack::<5>(vec![first, second], 4).reshape([batch, heads, length, 2 * half])]
            }
        };
        let mut parts: Vec<Tensor<4>> = rotated.into_iter().map(|part| part.cast(dtype)).collect();
        if head_dim > 2 * half {
            parts.push(x.narrow(3, 2 * half, head_dim - 2 * half));
        }
        Tensor::cat(parts, 3)
    }

    /// The two elements of every pair, turned.
    fn rotate(&self, first: Tensor<4>, second: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let (cos, sin) = (self.cos.clone(), self.sin.clone());
        let turned_first = first.clone() * cos.clone() - second.clone() * sin.clone();
        let turned_second = second * cos + first * sin;
        (turned_first, turned_second)
    }
}
