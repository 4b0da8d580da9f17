//! What makes a module with a [`Backbone`](crate::Backbone) a [`Model`](crate::Model).

/// Implements [`Model`](crate::Model) for a module with a field `model` that is a backbone.
macro_rules! model {
    ($module:ty) => {
        impl $crate::Model for $module {
            fn device(&self) -> burn::tensor::Device {
                self.model.embed_tokens.weight.lazy_device()
            }

            fn visit_parameters(&self, visit: &mut dyn FnMut(&str, &[usize])) {
                $crate::parameters::visit(self, visit);
            }

            fn assign_parameters(
                &mut self,
                provide: &mut dyn FnMut(&str) -> Option<$crate::parameters::ParameterTensor>,
            ) -> Result<(), $crate::ModelError> {
                let (filled, outcome) = $crate::parameters::assign(self.clone(), provide);
                *self = filled;
                outcome
            }

            fn assign_quantized(
                &mut self,
                provide: &mut dyn FnMut(&str) -> Option<automodel_quant::QuantLinear>,
            ) -> Result<(), $crate::ModelError> {
                let precision = self.model.options().precision;
                $crate::linears::assign_quantized(self, precision, provide)
            }

            fn pack_experts(&mut self) {
                self.model.layers.iter_mut().for_each($crate::Layer::pack_experts);
            }

            fn read_parameters(&self, read: &mut dyn FnMut(&str, $crate::parameters::ParameterTensor)) {
                $crate::parameters::read(self, read);
            }

            fn read_quantized(&self, read: &mut dyn FnMut(&str, &automodel_quant::QuantLinear)) {
                // The walk borrows mutably; a clone shares all storage.
                $crate::linears::read_quantized(&mut self.clone(), read);
            }
        }
    };
}
pub(crate) use model;
