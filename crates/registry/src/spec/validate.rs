//! Contradictions within a specification.

use super::{AttentionMask, BranchInput, Declare, LayerSpec, ModelSpec, Operation, Task};

impl ModelSpec {
    /// Checks that sizes fit each other and that no tensor's size overflows.
    ///
    /// # Errors
    /// The first contradiction, as a sentence that names the values.
    pub fn validate(&self) -> Result<(), String> {
        let hidden_size = self.backbone.hidden_size;
        if self.backbone.layers.is_empty() {
            return Err("there are no layers: num_hidden_layers must be at least 1".to_owned());
        }
        check_elements("the embedding", &[self.backbone.vocab_size, hidden_size])?;
        if let Some(width) = self.backbone.embedding.projected_from {
            check_elements("the embedding", &[self.backbone.vocab_size, width])?;
            check_elements("the projection of the embedding", &[hidden_size, width])?;
        }
        if self.backbone.embedding.sinusoids.is_some() && hidden_size < 4 {
            return Err(format!("hidden_size {hidden_size} is too small for sines and cosines of positions"));
        }
        if self.head().is_some_and(|head| head.unit_rows && head.bias) {
            return Err(
                "the output head has a bias, and rows of length one: which comes first is not defined".to_owned()
            );
        }
        if let Some(transform) = self.head().and_then(|head| head.transform.as_ref()) {
            check_elements("the projection before the output head", &[transform.width, hidden_size])?;
            check_elements("the output head", &[self.backbone.vocab_size, transform.width])?;
            if transform.activation.is_some_and(|activation| activation.has_parameters()) {
                return Err("the activation before the output head has parameters, which are not declared".to_owned());
            }
        }
        for (index, layer) in self.backbone.layers.iter().enumerate() {
            layer.validate(hidden_size).map_err(|problem| format!("layer {index}: {problem}"))?;
        }
        let sees_ahead =
            |layer: &LayerSpec| layer.mixers().any(|mixer| mixer.mask() == Some(AttentionMask::Bidirectional));
        let first = self.backbone.layers.iter().position(sees_ahead);
        if let (Task::CausalLm(_), Some(index)) = (&self.task, first) {
            return Err(format!("layer {index}: it sees later positions, but the model's task is to predict them"));
        }
        if self.total_elements().is_none() {
            return Err("the model has more parameters than can be addressed: a size in the config is wrong".to_owned());
        }
        Ok(())
    }

    /// Number of elements of all parameters if the head is not tied; `None` if they, at eight bytes each, cannot be addressed.
    fn total_elements(&self) -> Option<usize> {
        let mut total = Some(0_usize);
        Declare::count(|to| self.declare(to), &mut |parameter, times| {
            let elements = parameter.shape.iter().try_fold(times, |product, &size| product.checked_mul(size));
            total = total.and_then(|sum| sum.checked_add(elements?.checked_mul(8)?));
        });
        total.map(|bytes| bytes / 8)
    }
}

impl LayerSpec {
    fn validate(&self, hidden_size: usize) -> Result<(), String> {
        if self.branches.is_empty() {
            return Err("it has no branches".to_owned());
        }
        for (index, branch) in self.branches.iter().enumerate() {
            if let BranchInput::SameAs(other) = branch.input
                && other >= index
            {
                return Err(format!("branch {index} reads the input of branch {other}, which does not come before it"));
            }
            if branch.pre.is_some() && matches!(branch.input, BranchInput::SameAs(_)) {
                return Err(format!(
                    "branch {index} shares an input that is normalised already, and has a norm before it"
                ));
            }
            match &branch.operation {
                Operation::Mix(mixer) => mixer.validate(hidden_size),
                Operation::Feed(feed) => feed.validate(hidden_size),
            }?;
        }
        let mut names: Vec<&str> = self.branches.iter().map(|branch| branch.name).collect();
        names.extend(self.norms().map(|norm| norm.name));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        if names.len() < count { Err("two of its parts have one name".to_owned()) } else { Ok(()) }
    }
}

/// Checks that a tensor has elements, and no more than can be addressed at eight bytes each.
pub(super) fn check_elements(what: &str, sizes: &[usize]) -> Result<(), String> {
    let elements = sizes.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
    match elements.and_then(|elements| elements.checked_mul(8)) {
        Some(1..) => Ok(()),
        Some(0) => Err(format!("{what} has a size of zero: {sizes:?}")),
        None => Err(format!("{what} would be too large to address: {sizes:?}")),
    }
}
