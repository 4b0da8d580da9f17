//! Gated short convolutions.

use super::{Declare, ParameterRole, validate};
use serde::Serialize;

/// `out_proj(c * conv(b * x))` with `b`, `c` and `x` the thirds of `in_proj(input)`, and `conv` a causal convolution over
/// positions, each channel by itself (LFM2).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShortConvSpec {
    /// Positions that the convolution sees, the own one included.
    pub kernel_size: usize,
    /// Whether the projections and the convolution carry biases.
    pub bias: bool,
}

impl ShortConvSpec {
    /// Declares `in_proj`, the convolution `[hidden_size, 1, kernel_size]` and `out_proj`.
    pub fn declare(&self, hidden_size: usize, to: &mut Declare<'_>) {
        let role = ParameterRole::Projection;
        to.projection("in_proj", [hidden_size.saturating_mul(3), hidden_size], self.bias, role);
        to.inside("conv", |to| {
            to.parameter("weight", &[hidden_size, 1, self.kernel_size], ParameterRole::Other);
            if self.bias {
                to.parameter("bias", &[hidden_size], ParameterRole::Bias);
            }
        });
        to.projection("out_proj", [hidden_size, hidden_size], self.bias, role);
    }

    /// Elements of the state: the last `kernel_size - 1` inputs of the convolution.
    pub(super) fn state_elements(&self, hidden_size: usize) -> usize {
        self.kernel_size.saturating_sub(1).saturating_mul(hidden_size)
    }

    pub(super) fn validate(&self, hidden_size: usize) -> Result<(), String> {
        validate::check_elements("the convolution", &[self.kernel_size, hidden_size])?;
        validate::check_elements("the convolution's projection", &[3, hidden_size, hidden_size])
    }
}
