//! What every implementation has: parameters on a device.

use crate::{ModelError, parameters::ParameterTensor};
use automodel_quant::QuantLinear;
use burn::tensor::Device;
use std::fmt::Debug;

/// A model whose parameters can be listed, filled and read. What it computes is another trait:
/// [`CausalLm`](crate::CausalLm), [`Encoder`](crate::Encoder).
///
/// Shared between threads: a pass over one token runs on the threads that compute its products.
pub trait Model: Debug + Send + Sync {
    /// Where the parameters are.
    fn device(&self) -> Device;

    /// Calls `visit` with the path and shape of every parameter, in module order; allocates nothing. These are the parameters that
    /// loading has to fill: values that the implementation makes itself are none.
    fn visit_parameters(&self, visit: &mut dyn FnMut(&str, &[usize]));

    /// Replaces every parameter for which `provide` has a value; the others stay as they are.
    ///
    /// # Errors
    /// [`ModelError::ParameterShape`] if a value has another shape than its parameter.
    fn assign_parameters(&mut self, provide: &mut dyn FnMut(&str) -> Option<ParameterTensor>)
    -> Result<(), ModelError>;

    /// Replaces the weight of every projection for which `provide` has a 4-bit layer; paths are those of the weights. `provide` is
    /// asked for every projection that may be in 4 bits: weights that are not asked for are not loaded so. Implementations
    /// without quantised projections keep the default, which never calls it.
    ///
    /// # Errors
    /// [`ModelError::ParameterShape`] if a weight has another shape.
    fn assign_quantized(&mut self, _provide: &mut dyn FnMut(&str) -> Option<QuantLinear>) -> Result<(), ModelError> {
        Ok(())
    }

    /// Packs the weights of experts where that helps their device, after all parameters were assigned. Values do not change. The
    /// default does nothing.
    fn pack_experts(&mut self) {}

    /// Calls `read` with the path and value of every dense parameter, in module order. Fails in the caller's closure, not here.
    fn read_parameters(&self, read: &mut dyn FnMut(&str, ParameterTensor));

    /// Calls `read` with the path and the layer of every 4-bit weight, in module order; paths are those that
    /// [`assign_quantized`](Self::assign_quantized) takes. Implementations without quantised projections keep the default,
    /// which reads none.
    fn read_quantized(&self, _read: &mut dyn FnMut(&str, &QuantLinear)) {}
}
