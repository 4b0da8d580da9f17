//! The parameters that a specification declares, without values, for modules to take.

use crate::{Linear, ModelError, Norm, parameters};
use automodel_registry::spec::{Declare, NormSpec};
use burn::module::Param;
use burn::tensor::{Device, Tensor};
use std::cell::RefCell;
use std::collections::HashMap;

/// Declared parameters below a path. A module takes its own by their names; their shapes are those of the declaration.
pub(crate) struct Skeleton<'a> {
    /// Shapes of the parameters that no module has taken yet, by path.
    shapes: &'a RefCell<HashMap<String, Vec<usize>>>,
    path: String,
    device: &'a Device,
}

/// Makes a module of all parameters that `declare` declares.
///
/// # Errors
/// What `make` returns; [`ModelError::UnsupportedSpec`] for a declared parameter that no module takes.
pub(crate) fn build<M>(
    declare: impl FnOnce(&mut Declare<'_>),
    device: &Device,
    make: impl FnOnce(&Skeleton<'_>) -> Result<M, ModelError>,
) -> Result<M, ModelError> {
    let mut shapes = HashMap::new();
    Declare::list(declare, &mut |parameter| {
        shapes.insert(parameter.path.to_owned(), parameter.shape.to_vec());
    });
    let shapes = RefCell::new(shapes);
    let module = make(&Skeleton { shapes: &shapes, path: String::new(), device })?;
    match shapes.into_inner().into_keys().min() {
        None => Ok(module),
        Some(path) => Err(ModelError::UnsupportedSpec { reason: format!("no module takes its parameter `{path}`") }),
    }
}

impl Skeleton<'_> {
    /// The parameters below `name`.
    pub fn at(&self, name: &str) -> Skeleton<'_> {
        Skeleton { shapes: self.shapes, path: self.below(name), device: self.device }
    }

    /// Takes the parameter `name`, which must be declared.
    pub fn tensor<const D: usize>(&self, name: &str) -> Result<Param<Tensor<D>>, ModelError> {
        self.optional(name)?.ok_or_else(|| self.contradiction(name, "is not declared"))
    }

    /// Takes the parameter `name` if it is declared.
    pub fn optional<const D: usize>(&self, name: &str) -> Result<Option<Param<Tensor<D>>>, ModelError> {
        let Some(shape) = self.shapes.borrow_mut().remove(&self.below(name)) else { return Ok(None) };
        let shape: [usize; D] =
            shape.try_into().map_err(|_| self.contradiction(name, "is declared with another number of axes"))?;
        Ok(Some(parameters::empty(shape, self.device)))
    }

    /// Takes `{name}.weight`, and `{name}.bias` if it is declared.
    pub fn linear(&self, name: &str) -> Result<Linear, ModelError> {
        let own = self.at(name);
        Ok(Linear::of(own.tensor("weight")?, own.optional("bias")?))
    }

    /// Takes the parameters of the norm `name`.
    pub fn norm<const W: usize>(&self, name: &str, spec: NormSpec) -> Result<Norm<W>, ModelError> {
        let own = self.at(name);
        Ok(Norm::of(spec, own.optional("weight")?, own.optional("bias")?))
    }

    fn below(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { [&self.path, ".", name].concat() }
    }

    fn contradiction(&self, name: &str, problem: &str) -> ModelError {
        ModelError::UnsupportedSpec { reason: format!("its parameter `{}` {problem}", self.below(name)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use automodel_registry::spec::{NormKind, ParameterRole};

    fn declare(to: &mut Declare<'_>) {
        to.inside("block", |to| {
            to.projection("up_proj", [3, 2], true, ParameterRole::Projection);
            NormSpec { kind: NormKind::Rms, eps: 1e-6 }.declare("norm", &[2], to);
        });
    }

    fn reason<M>(made: Result<M, ModelError>) -> String {
        made.err().expect("a contradiction").to_string()
    }

    #[test]
    fn modules_take_what_is_declared_and_nothing_else() {
        let device = Device::flex();
        let norm = NormSpec { kind: NormKind::Rms, eps: 1e-6 };
        let both = |to: &Skeleton<'_>| Ok((to.at("block").linear("up_proj")?, to.at("block").norm::<1>("norm", norm)?));
        let (linear, norm_module) = build(declare, &device, both).unwrap();
        assert_eq!(linear.bias.unwrap().lazy_shape().to_vec(), [3]);
        assert!(norm_module.bias.is_none());

        let one = reason(build(declare, &device, |to| to.at("block").linear("up_proj")));
        assert!(one.contains("no module takes its parameter `block.norm.weight`"), "{one}");
        let other = reason(build(declare, &device, |to| to.at("block").linear("down_proj")));
        assert!(other.contains("`block.down_proj.weight` is not declared"), "{other}");
        let rank = reason(build(declare, &device, |to| to.at("block").tensor::<1>("up_proj.weight")));
        assert!(rank.contains("another number of axes"), "{rank}");
    }
}
