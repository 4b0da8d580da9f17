//! Gated short convolutions (LFM2).

use crate::linears::{Linears, linears};
use crate::pass::Pass;
use crate::skeleton::Skeleton;
use crate::{Linear, MixerState, ModelError};
use automodel_attention::Positions;
use automodel_registry::spec::ShortConvSpec;
use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorData};

/// `out_proj(c * conv(b * x))` with `b`, `c` and `x` the thirds of `in_proj(input)`.
#[derive(Module, Debug)]
pub struct ShortConv {
    /// `[3 * hidden_size, hidden_size]`
    pub in_proj: Linear,
    /// Over positions, each channel by itself.
    pub conv: DepthwiseConv,
    /// `[hidden_size, hidden_size]`
    pub out_proj: Linear,
}

/// A causal convolution over positions, each channel by itself.
#[derive(Module, Debug)]
pub struct DepthwiseConv {
    /// `[channels, 1, kernel_size]`; the last entry is for the own position.
    pub weight: Param<Tensor<3>>,
    /// `[channels]`
    pub bias: Option<Param<Tensor<1>>>,
}

/// The last inputs of a convolution, `[batch, kernel_size - 1, channels]`; nothing before the first pass.
#[derive(Debug, Default)]
pub struct ConvState(Option<Tensor<3>>);

linears!(ShortConv { in_proj, out_proj; conv });

impl ShortConv {
    pub(crate) fn new(_spec: &ShortConvSpec, parameters: &Skeleton<'_>) -> Result<Self, ModelError> {
        let conv = parameters.at("conv");
        Ok(Self {
            in_proj: parameters.linear("in_proj")?,
            conv: DepthwiseConv { weight: conv.tensor("weight")?, bias: conv.optional("bias")? },
            out_proj: parameters.linear("out_proj")?,
        })
    }

    /// `[batch, length, hidden_size]` to the same; the state then ends with these positions.
    pub(crate) fn forward(
        &self,
        x: Tensor<3>,
        layer: usize,
        state: &mut MixerState,
        pass: &Pass<'_>,
    ) -> Result<Tensor<3>, ModelError> {
        let (Pass::Tokens { positions, .. }, MixerState::Conv(state)) = (pass, state) else {
            return Err(ModelError::ForeignCache { layer });
        };
        let [_, _, width] = x.dims();
        let projected = self.in_proj.forward_sequence(x);
        let third = |number: usize| projected.clone().slice_dim(2, number * width..(number + 1) * width);
        let gated = without_padding(third(0) * third(2), positions);
        let y = third(1) * self.conv.forward(gated, state);
        Ok(self.out_proj.forward_sequence(y))
    }
}

impl DepthwiseConv {
    /// `[batch, length, channels]` to the same, after the positions that the state holds.
    pub fn forward(&self, x: Tensor<3>, state: &mut ConvState) -> Tensor<3> {
        let [batch, length, channels] = x.dims();
        let [_, _, kernel_size] = self.weight.dims();
        let past = kernel_size - 1;
        let before = state.0.take().unwrap_or_else(|| {
            let options = (&x.device(), x.dtype());
            Tensor::zeros([batch, past, channels], options)
        });
        let all = Tensor::cat(vec![before, x], 1);
        let weight = self.weight.val().cast(all.dtype());
        let tap = |number: usize| {
            let factors = weight.clone().slice_dim(2, number..number + 1).reshape([1, 1, channels]);
            all.clone().slice_dim(1, number..number + length) * factors
        };
        let sum = (1..kernel_size).fold(tap(0), |sum, number| sum + tap(number));
        state.0 = Some(all.slice_dim(1, length..length + past));
        match &self.bias {
            Some(bias) => sum.clone() + bias.val().cast(sum.dtype()).reshape([1, 1, channels]),
            None => sum,
        }
    }
}

impl ConvState {
    /// Bytes that it occupies.
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |inputs| inputs.shape().num_elements() * inputs.dtype().size())
    }
}

/// Padded positions count as zeros, as if the sequence began after them.
fn without_padding(x: Tensor<3>, positions: &Positions) -> Tensor<3> {
    let [batch, length, _] = x.dims();
    let padded = |row: usize| positions.row_padding(row).saturating_sub(positions.query_start).min(length);
    if (0..batch).all(|row| padded(row) == 0) {
        return x;
    }
    let kept = |row: usize| (0..length).map(move |index| f32::from(index >= padded(row)));
    let mask: Vec<f32> = (0..batch).flat_map(kept).collect();
    let options = (&x.device(), x.dtype());
    let mask = Tensor::<3>::from_data(TensorData::new(mask, [batch, length, 1]), options);
    x * mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::ParamId;
    use burn::tensor::{Device, Distribution};

    fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
        Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex())
    }

    fn conv(channels: usize, kernel_size: usize) -> DepthwiseConv {
        DepthwiseConv {
            weight: Param::initialized(ParamId::new(), random([channels, 1, kernel_size])),
            bias: Some(Param::initialized(ParamId::new(), random([channels]))),
        }
    }

    fn values(x: Tensor<3>) -> Vec<f32> {
        x.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn convolutions_equal_their_sum() {
        let (conv, x) = (conv(3, 4), random([2, 5, 3]));
        let found = values(conv.forward(x.clone(), &mut ConvState::default()));
        let x = values(x);
        let weight: Vec<f32> = conv.weight.val().into_data().try_to_vec().unwrap();
        let bias: Vec<f32> = conv.bias.as_ref().unwrap().val().into_data().try_to_vec().unwrap();
        for (place, found) in found.iter().enumerate() {
            let (row, position, channel) = (place / 15, place / 3 % 5, place % 3);
            let taps = (0..4).filter(|tap| position + tap >= 3);
            let sum: f32 =
                taps.map(|tap| weight[channel * 4 + tap] * x[row * 15 + (position + tap - 3) * 3 + channel]).sum();
            assert!((found - sum - bias[channel]).abs() < 1e-5, "{place}: {found}");
        }
    }

    #[test]
    fn parts_give_what_the_whole_gives() {
        let (conv, x) = (conv(3, 3), random([2, 7, 3]));
        let whole = values(conv.forward(x.clone(), &mut ConvState::default()));
        let mut state = ConvState::default();
        let parts = [0..1, 1..4, 4..5, 5..7].map(|part| conv.forward(x.clone().slice_dim(1, part), &mut state));
        assert_eq!(values(Tensor::cat(parts.to_vec(), 1)), whole);
        assert_eq!(state.bytes(), 2 * 2 * 3 * 4);
    }

    #[test]
    fn padding_counts_as_zeros() {
        let x = random([2, 4, 1]);
        let at = |query_start| Positions { query_start, key_start: 0, padding: vec![0, 6] };
        let masked = values(without_padding(x.clone(), &at(4)));
        let x = values(x);
        assert_eq!(masked, [&x[..4], &[0.0, 0.0], &x[6..]].concat());
    }
}
