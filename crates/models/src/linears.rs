//! A walk over the projections whose weights may be quantised.

use crate::feed_forward::{FeedForwardModule, SparseMoe};
use crate::layer::{Layer, OperationModule};
use crate::mixer::MixerModule;
use crate::{Backbone, Linear, ModelError, Weight};
use automodel_quant::{Linear4bit, Precision};

/// Modules with projections. Implementations take their module apart field by field, so that a new field does not compile until
/// someone has said whether it is a projection.
pub(crate) trait Linears {
    /// Calls `visit` with the path of each projection below `path`, and the projection.
    fn for_each_linear(&mut self, path: &str, visit: &mut dyn FnMut(&str, &mut Linear));
}

/// Replaces the weight of every projection for which `provide` has a layer.
pub(crate) fn assign_quantized(
    module: &mut dyn Linears,
    precision: Precision,
    provide: &mut dyn FnMut(&str) -> Option<Linear4bit>,
) -> Result<(), ModelError> {
    let mut outcome = Ok(());
    module.for_each_linear("", &mut |path, linear| {
        let path = format!("{path}.weight");
        if outcome.is_ok()
            && let Some(weight) = provide(&path)
        {
            outcome = linear.set_quantized(&path, weight, precision);
        }
    });
    outcome
}

/// Calls `read` with the path and the layer of every quantised weight.
pub(crate) fn read_quantized(module: &mut dyn Linears, read: &mut dyn FnMut(&str, &Linear4bit)) {
    module.for_each_linear("", &mut |path, linear| {
        if let Weight::Quantized(layer) = &linear.weight {
            read(&format!("{path}.weight"), layer);
        }
    });
}

/// Takes a module apart: the fields in front are visited by name, those after `;` are not projections.
macro_rules! linears {
    ($module:ident { $($linear:ident),*; $($other:ident),* }) => {
        impl Linears for $module {
            fn for_each_linear(&mut self, path: &str, visit: &mut dyn FnMut(&str, &mut Linear)) {
                let Self { $($linear,)* $($other: _,)* } = self;
                $(visit(&[path, ".", stringify!($linear)].concat(), $linear);)*
            }
        }
    };
}
pub(crate) use linears;

impl Linears for SparseMoe {
    fn for_each_linear(&mut self, path: &str, visit: &mut dyn FnMut(&str, &mut Linear)) {
        for (index, expert) in self.experts_mut().iter_mut().enumerate() {
            expert.for_each_linear(&format!("{path}.experts.{index}"), visit);
        }
        if let Some(shared) = &mut self.shared_expert {
            shared.for_each_linear(&format!("{path}.shared_expert"), visit);
        }
        if let Some(gate) = &mut self.shared_expert_gate {
            visit(&format!("{path}.shared_expert_gate"), gate);
        }
    }
}

impl Linears for MixerModule {
    fn for_each_linear(&mut self, path: &str, visit: &mut dyn FnMut(&str, &mut Linear)) {
        match self {
            Self::Attention(attention) => attention.for_each_linear(path, visit),
        }
    }
}

impl Linears for FeedForwardModule {
    fn for_each_linear(&mut self, path: &str, visit: &mut dyn FnMut(&str, &mut Linear)) {
        match self {
            Self::Gated(mlp) => mlp.for_each_linear(path, visit),
            Self::Plain(mlp) => mlp.for_each_linear(path, visit),
            Self::Moe(moe) => moe.for_each_linear(path, visit),
        }
    }
}

impl Linears for Layer {
    fn for_each_linear(&mut self, path: &str, visit: &mut dyn FnMut(&str, &mut Linear)) {
        for (name, operation) in self.operations_mut() {
            let path = [path, ".", name].concat();
            match operation {
                OperationModule::Mix(mixer) => mixer.for_each_linear(&path, visit),
                OperationModule::Feed(feed) => feed.for_each_linear(&path, visit),
            }
        }
    }
}

impl Linears for Backbone {
    fn for_each_linear(&mut self, path: &str, visit: &mut dyn FnMut(&str, &mut Linear)) {
        for (index, layer) in self.layers.iter_mut().enumerate() {
            layer.for_each_linear(&format!("{path}.layers.{index}"), visit);
        }
    }
}
