//! The layer between the final norm and the output head.

use crate::linears::{Linears, linears};
use crate::skeleton::Skeleton;
use crate::{Linear, ModelError, Norm, feed_forward};
use automodel_registry::spec::{self, Activation};
use burn::module::Module;
use burn::tensor::Tensor;

/// `norm(activation(dense(x)))`, activation and norm where the specification has them.
#[derive(Module, Debug)]
pub struct HeadTransform {
    /// `[width, hidden_size]`
    pub dense: Linear,
    /// The norm on the result.
    pub norm: Option<Norm>,
    #[module(skip)]
    activation: Option<Activation>,
}

linears!(HeadTransform { dense; norm, activation });

impl HeadTransform {
    pub(crate) fn of(spec: &spec::HeadTransform, parameters: &Skeleton<'_>) -> Result<Self, ModelError> {
        Ok(Self {
            dense: parameters.linear("dense")?,
            norm: spec.norm.map(|norm| parameters.norm("norm", norm)).transpose()?,
            activation: spec.activation,
        })
    }

    /// `[batch, length, hidden_size]` to `[batch, length, width]`.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let y = self.dense.forward_sequence(x);
        let y = match self.activation {
            Some(activation) => {
                let [batch, length, width] = y.dims();
                feed_forward::activate(activation, y.reshape([batch * length, width])).reshape([batch, length, width])
            }
            None => y,
        };
        Norm::apply(self.norm.as_ref(), y)
    }
}
