//! Contradictions within a specification.

use super::{
    AttentionSpec, BranchInput, Declare, FeedForward, LayerSpec, Mixer, ModelSpec, MoeSpec, Operation, RouterScore,
};

/// More experts in a layer than this are a mistake, not a model; the table of ranges in `config` has the same bound for the
/// keys that it knows.
const MOST_EXPERTS: usize = 1 << 13;

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
        for (index, layer) in self.backbone.layers.iter().enumerate() {
            layer.validate(hidden_size).map_err(|problem| format!("layer {index}: {problem}"))?;
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
                Operation::Mix(Mixer::Attention(attention)) => attention.validate(hidden_size),
                Operation::Feed(FeedForward::Gated(mlp) | FeedForward::Plain(mlp)) => {
                    check_elements("the MLP", &[mlp.intermediate_size, hidden_size])
                }
                Operation::Feed(FeedForward::Moe(moe)) => moe.validate(hidden_size),
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

impl AttentionSpec {
    fn validate(&self, hidden_size: usize) -> Result<(), String> {
        let (heads, key_value_heads) = (self.num_attention_heads, self.num_key_value_heads);
        if key_value_heads == 0 || !heads.is_multiple_of(key_value_heads) {
            return Err(format!(
                "num_attention_heads {heads} is not a multiple of num_key_value_heads {key_value_heads}: correct one of them"
            ));
        }
        check_elements("a projection", &[heads, self.head_dim, hidden_size])?;
        if let Some(rope) = &self.rope
            && (rope.rotary_dim == 0 || rope.rotary_dim % 2 == 1 || rope.rotary_dim > self.head_dim)
        {
            return Err(format!(
                "the rotary embedding turns {} of the {} elements of a head: it must be an even number, at least 2 and at \
                 most the head's",
                rope.rotary_dim, self.head_dim
            ));
        }
        Ok(())
    }
}

impl MoeSpec {
    fn validate(&self, hidden_size: usize) -> Result<(), String> {
        if self.num_experts_per_tok == 0 || self.num_experts_per_tok > self.num_experts {
            return Err(format!(
                "num_experts_per_tok is {}, but there are {} experts: it must be between 1 and their number",
                self.num_experts_per_tok, self.num_experts
            ));
        }
        if self.num_experts > MOST_EXPERTS {
            return Err(format!("{} experts are more than any model's: correct the config", self.num_experts));
        }
        if self.router.score == RouterScore::TopkSoftmax && self.router.normalize {
            return Err("softmax over the chosen experts is normalised already".to_owned());
        }
        check_elements("an expert", &[self.expert.intermediate_size, hidden_size])
    }
}

/// Checks that a tensor has elements, and no more than can be addressed at eight bytes each.
fn check_elements(what: &str, sizes: &[usize]) -> Result<(), String> {
    let elements = sizes.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
    match elements.and_then(|elements| elements.checked_mul(8)) {
        Some(1..) => Ok(()),
        Some(0) => Err(format!("{what} has a size of zero: {sizes:?}")),
        None => Err(format!("{what} would be too large to address: {sizes:?}")),
    }
}
