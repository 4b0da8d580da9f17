//! A linear projection with the weight as Hugging Face stores it.

use crate::{ModelError, kernels};
use automodel_quant::{Precision, QuantLinear, dense_product};
use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor};

/// `y = x W^T + b` with `W` of shape `[out_features, in_features]`.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[out_features, in_features]`
    pub weight: Weight,
    /// `[out_features]`
    pub bias: Option<Param<Tensor<1>>>,
}

/// The weight of a projection.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "modules hold it in place; Burn's derive takes no box")]
pub enum Weight {
    /// Floats.
    Dense(Param<Tensor<2>>),
    /// 4-bit codes with a scale per block.
    Quantized(QuantLinear),
}

impl Linear {
    /// A projection with a dense weight.
    pub(crate) fn of(weight: Param<Tensor<2>>, bias: Option<Param<Tensor<1>>>) -> Self {
        Self { weight: Weight::Dense(weight), bias }
    }

    /// Projects the rows of `x` `[rows, in_features]` to `[rows, out_features]`.
    ///
    /// Two-dimensional on purpose: Burn's CPU backend reads a transposed weight in place only there. The weight may be of
    /// another dtype than `x`, as where it stays in a mapped file.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        match &self.weight {
            Weight::Dense(weight) => project(x, weight.val(), self.bias.as_ref()),
            Weight::Quantized(weight) => add_bias(weight.forward(x), self.bias.as_ref()),
        }
    }

    /// Takes a 4-bit weight in place of the dense one. `path` names the weight in errors.
    ///
    /// # Errors
    /// [`ModelError::ParameterShape`] if it has another shape.
    pub fn set_quantized(&mut self, path: &str, layer: QuantLinear, precision: Precision) -> Result<(), ModelError> {
        let expected = match &self.weight {
            Weight::Dense(dense) => dense.lazy_shape().to_vec(),
            Weight::Quantized(before) => before.shape().to_vec(),
        };
        let found = layer.shape().to_vec();
        if expected != found {
            return Err(ModelError::ParameterShape { parameter: path.to_owned(), expected, found });
        }
        self.weight = Weight::Quantized(layer.with_precision(precision));
        Ok(())
    }

    /// `[out_features]`: the Euclidean length of each row of the weight, at least 1e-12, in float32. Reads the weight some rows at a time.
    pub fn row_lengths(&self) -> Tensor<1> {
        const ROWS: usize = 4096;
        let weight = match &self.weight {
            Weight::Dense(weight) => weight.val(),
            Weight::Quantized(weight) => weight.dequantize(DType::F32.into()),
        };
        let rows = weight.dims()[0];
        let of_part = |start: usize| {
            let part = weight.clone().slice_dim(0, start..(start + ROWS).min(rows)).cast(DType::F32);
            part.square().sum_dim(1).sqrt().clamp_min(1e-12).flatten(0, 1)
        };
        Tensor::cat((0..rows).step_by(ROWS).map(of_part).collect(), 0)
    }

    /// The weight in `dtype`, decoded where it is quantised.
    pub(crate) fn floats(&self, dtype: DType) -> Tensor<2> {
        match &self.weight {
            Weight::Dense(weight) => {
                let weight = weight.val();
                if weight.dtype() == dtype { weight } else { weight.cast(dtype) }
            }
            Weight::Quantized(weight) => weight.dequantize(dtype.into()),
        }
    }

    /// [`forward`](Self::forward) over the last axis of `[batch, length, in_features]`.
    pub fn forward_sequence(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, length, width] = x.dims();
        let y = self.forward(x.reshape([batch * length, width]));
        let out = y.dims()[1];
        y.reshape([batch, length, out])
    }
}

/// `x W^T + b` in the dtype of `x`, whatever that of `weight`.
pub(crate) fn project(x: Tensor<2>, weight: Tensor<2>, bias: Option<&Param<Tensor<1>>>) -> Tensor<2> {
    add_bias(dense_product(x, weight), bias)
}

fn add_bias(y: Tensor<2>, bias: Option<&Param<Tensor<1>>>) -> Tensor<2> {
    let Some(bias) = bias else { return y };
    let (bias, dtype) = (bias.val(), y.dtype());
    let bias = if bias.dtype() == dtype { bias } else { bias.cast(dtype) };
    kernels::add_to_rows(y, &bias).unwrap_or_else(|y| y + bias.unsqueeze::<2>())
}
