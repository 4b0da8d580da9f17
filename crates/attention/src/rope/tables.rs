//! Cosines and sines of one forward pass, and the rotation.

use super::{RopePairing, rotate};
use burn::tensor::{DType, Device, Tensor, TensorData};

/// Cosines and sines at the positions of one forward pass.
///
/// Clones share their memory: make the tables once per forward pass and pass them to every layer.
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
        // Pairs the other way round turn in the other direction.
        let (pairing, sign) = match pairing {
            RopePairing::HalfSplitSwapped => (RopePairing::HalfSplit, -1.0),
            RopePairing::HalfSplit | RopePairing::Interleaved => (pairing, 1.0),
        };
        let table = |function: fn(f64) -> f64, scaling: f32| {
            let values: Vec<f32> = positions
                .iter()
                .flatten()
                .flat_map(|&position| frequencies.iter().map(move |&frequency| position as f32 * frequency))
                .map(|angle| function(f64::from(angle)) as f32 * scaling)
                .collect();
            Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
        };
        Self { cos: table(f64::cos, scaling), sin: table(f64::sin, sign * scaling), pairing }
    }

    /// Cosines, `[rows, 1, length, rotary_dim / 2]` in float32, times the attention scaling.
    pub fn cos(&self) -> Tensor<4> {
        self.cos.clone()
    }

    /// Sines, as [`cos`](Self::cos).
    pub fn sin(&self) -> Tensor<4> {
        self.sin.clone()
    }

    /// Which elements rotate together; [`HalfSplitSwapped`](RopePairing::HalfSplitSwapped) is in the sines.
    pub fn pairing(&self) -> RopePairing {
        self.pairing
    }

    /// Rotates queries or keys `[batch, heads, length, head_dim]`; elements beyond `rotary_dim` are
    /// unchanged. Computed in float32, returned in the dtype of `x`.
    ///
    /// Float32 on the CPU is read through its strides and written once: pass a projection as
    /// `[batch, length, heads, head_dim]` with its axes swapped, and it is not copied otherwise.
    ///
    /// # Panics
    /// If `x` has another length than the tables, heads narrower than `rotary_dim`, or another batch size than tables with a row
    /// for each sequence.
    pub fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        rotate::rotate(x, &self.cos, &self.sin, self.pairing).unwrap_or_else(|x| self.apply_plainly(x))
    }

    /// [`apply`](Self::apply) in tensor operations: any device and dtype, differentiable.
    fn apply_plainly(&self, x: Tensor<4>) -> Tensor<4> {
        let dtype = x.dtype();
        let [batch, heads, length, head_dim] = x.dims();
        let [_, _, _, half] = self.cos.dims();
        let rotated = match self.pairing {
            RopePairing::HalfSplit | RopePairing::HalfSplitSwapped => {
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

    /// The two elements of every pair, rotated.
    fn rotate(&self, first: Tensor<4>, second: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let (cos, sin) = (self.cos.clone(), self.sin.clone());
        let turned_first = first.clone() * cos.clone() - second.clone() * sin.clone();
        let turned_second = second * cos + first * sin;
        (turned_first, turned_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pass_equals_tensor_operations() {
        let device = Device::flex();
        let sizes = [(1, 1, 1, 4, 2), (1, 4, 1, 64, 64), (2, 3, 7, 10, 6), (3, 5, 370, 24, 24), (2, 8, 70, 80, 32)];
        for (batch, heads, length, head_dim, rotary_dim) in sizes {
            for pairing in [RopePairing::HalfSplit, RopePairing::Interleaved] {
                for rows in [1, batch] {
                    let positions: Vec<Vec<usize>> = (0..rows).map(|row| (row..row + length).collect()).collect();
                    let frequencies: Vec<f32> = (0..rotary_dim / 2).map(|i| 0.9_f32.powi(i)).collect();
                    let tables = RopeTables::new(&frequencies, &positions, 1.25, pairing, &device);
                    let random = |shape| Tensor::<4>::random(shape, burn::tensor::Distribution::Default, &device);
                    let inputs = [
                        ("contiguous", random([batch, heads, length, head_dim])),
                        ("projected", random([batch, length, heads, head_dim]).swap_dims(1, 2)),
                        (
                            "a part",
                            random([batch, heads, length + 2, head_dim + 3]).slice([
                                0..batch,
                                0..heads,
                                1..length + 1,
                                2..head_dim + 2,
                            ]),
                        ),
                        ("heads last", random([batch, head_dim, length, heads]).swap_dims(1, 3)),
                        ("repeated", random([1, 1, length, head_dim]).expand([batch, heads, length, head_dim])),
                    ];
                    for (name, x) in inputs {
                        let found = tables.apply(x.clone()).into_data();
                        assert_eq!(found, tables.apply_plainly(x).into_data(), "{name}, {pairing:?}, {rotary_dim}");
                    }
                }
            }
        }
    }

    #[test]
    fn gradients_pass_through() {
        let device = Device::flex();
        let tables = RopeTables::new(&[0.5], &[vec![3]], 1.0, RopePairing::HalfSplit, &device.clone().autodiff());
        let x = Tensor::<4>::ones([1, 1, 1, 2], &device.autodiff()).require_grad();
        let gradients = tables.apply(x.clone()).sum().backward();
        let gradient: Vec<f32> = x.grad(&gradients).expect("tracked").into_data().try_to_vec().expect("float32");
        let (sin, cos) = 1.5_f32.sin_cos();
        assert!((gradient[0] - (cos + sin)).abs() < 1e-6 && (gradient[1] - (cos - sin)).abs() < 1e-6);
    }
}
