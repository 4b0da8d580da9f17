//! A linear projection with the weight as Hugging Face stores it.

use crate::parameters;
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

/// `y = x W^T + b` with `W` of shape `[out_features, in_features]`.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[out_features, in_features]`
    pub weight: Param<Tensor<2>>,
    /// `[out_features]`
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// A projection without values.
    pub fn new(in_features: usize, out_features: usize, bias: bool, device: &Device) -> Self {
        Self {
            weight: parameters::empty([out_features, in_features], device),
            bias: bias.then(|| parameters::empty([out_features], device)),
        }
    }

    /// Projects the rows of `x` `[rows, in_features]` to `[rows, out_features]`.
    ///
    /// Two-dimensional on purpose: Burn's CPU backend reads a transposed weight in place only there. The product runs in the
    /// weight's dtype, because Burn does not multiply mixed dtypes.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let dtype = x.dtype();
        let weight = self.weight.val();
        let compute = weight.dtype();
        let x = if dtype == compute { x } else { x.cast(compute) };
        let y = x.matmul(weight.transpose());
        let y = match &self.bias {
            Some(bias) => {
                let bias = bias.val();
                y + if bias.dtype() == compute { bias } else { bias.cast(compute) }.unsqueeze::<2>()
            }
            None => y,
        };
        if dtype == compute { y } else { y.cast(dtype) }
    }

    /// [`forward`](Self::forward) over the last axis of `[batch, length, in_features]`.
    pub fn forward_sequence(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, length, width] = x.dims();
        let y = self.forward(x.reshape([batch * length, width]));
        let out = y.dims()[1];
        y.reshape([batch, length, out])
    }
}
