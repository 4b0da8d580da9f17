//! A walk over the projections whose weights may be quantised.

use crate::{Linear, ModelError, Weight};
use automodel_quant::{Precision, QuantLinear};

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
    provide: &mut dyn FnMut(&str) -> Option<QuantLinear>,
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
pub(crate) fn read_quantized(module: &mut dyn Linears, read: &mut dyn FnMut(&str, &QuantLinear)) {
    module.for_each_linear("", &mut |path, linear| {
        if let Weight::Quantized(layer) = &linear.weight {
            read(&format!("{path}.weight"), layer);
        }
    });
}

/// Takes a module apart: the fields in front are visited by name, those in brackets where they are there, those after `;` are not
/// projections.
macro_rules! linears {
    ($module:ident { $($linear:ident),* $([$($optional:ident),*])?; $($other:ident),* }) => {
        impl Linears for $module {
            fn for_each_linear(&mut self, path: &str, visit: &mut dyn FnMut(&str, &mut Linear)) {
                let Self { $($linear,)* $($($optional,)*)? $($other: _,)* } = self;
                $(visit(&[path, ".", stringify!($linear)].concat(), $linear);)*
                $($(if let Some(linear) = $optional {
                    visit(&[path, ".", stringify!($optional)].concat(), linear);
                })*)?
            }
        }
    };
}
pub(crate) use linears;
