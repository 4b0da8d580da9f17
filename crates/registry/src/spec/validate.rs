//! Contradictions within a specification.

use super::{Mixer, Mlp, ModelSpec, RouterScore};

/// More experts in a layer than this are a mistake, not a model; the table of ranges in `config` has the same bound for the
/// keys that it knows.
const MOST_EXPERTS: usize = 1 << 13;

impl ModelSpec {
    /// Checks that sizes fit each other and that no tensor's size overflows.
    ///
    /// # Errors
    /// The first contradiction, as a sentence that names the values.
    pub fn validate(&self) -> Result<(), String> {
        if self.layers.is_empty() {
            return Err("there are no layers: num_hidden_layers must be at least 1".to_owned());
        }
        self.check_elements("the embedding", &[self.vocab_size, self.hidden_size])?;
        for (index, layer) in self.layers.iter().enumerate() {
            self.check_mixer(&layer.mixer).map_err(|problem| format!("layer {index}: {problem}"))?;
            self.check_mlp(&layer.mlp).map_err(|problem| format!("layer {index}: {problem}"))?;
        }
        if self.total_elements().is_none() {
            return Err("the model has more parameters than can be addressed: a size in the config is wrong".to_owned());
        }
        Ok(())
    }

    /// Number of parameters if the head is not tied; `None` if it overflows.
    fn total_elements(&self) -> Option<usize> {
        let embedding = self.vocab_size.checked_mul(self.hidden_size)?.checked_mul(2)?;
        self.layers.iter().try_fold(embedding, |sum, layer| {
            let Mixer::Attention(attention) = &layer.mixer;
            let projections = attention.num_attention_heads.checked_mul(attention.head_dim)?.checked_mul(4)?;
            let mlp = match &layer.mlp {
                Mlp::Gated(mlp) | Mlp::Plain(mlp) => mlp.intermediate_size,
                Mlp::Moe(moe) => moe.expert.intermediate_size.checked_mul(moe.num_experts)?,
            };
            let width = projections.checked_add(mlp.checked_mul(3)?)?;
            // Four bytes an element must be addressable too.
            width.checked_mul(self.hidden_size)?.checked_mul(4)?;
            sum.checked_add(width.checked_mul(self.hidden_size)?)
        })
    }

    fn check_mixer(&self, mixer: &Mixer) -> Result<(), String> {
        let Mixer::Attention(attention) = mixer;
        let (heads, key_value_heads) = (attention.num_attention_heads, attention.num_key_value_heads);
        if key_value_heads == 0 || !heads.is_multiple_of(key_value_heads) {
            return Err(format!(
                "num_attention_heads {heads} is not a multiple of num_key_value_heads {key_value_heads}: correct one of them"
            ));
        }
        self.check_elements("a projection", &[heads, attention.head_dim, self.hidden_size])?;
        if let Some(rope) = &attention.rope
            && (rope.rotary_dim == 0 || rope.rotary_dim % 2 == 1 || rope.rotary_dim > attention.head_dim)
        {
            return Err(format!(
                "the rotary embedding turns {} of the {} elements of a head: it must be an even number, at least 2 and at \
                 most the head's",
                rope.rotary_dim, attention.head_dim
            ));
        }
        Ok(())
    }

    fn check_mlp(&self, mlp: &Mlp) -> Result<(), String> {
        match mlp {
            Mlp::Gated(mlp) | Mlp::Plain(mlp) => {
                self.check_elements("the MLP", &[mlp.intermediate_size, self.hidden_size])
            }
            Mlp::Moe(moe) => {
                if moe.num_experts_per_tok == 0 || moe.num_experts_per_tok > moe.num_experts {
                    return Err(format!(
                        "num_experts_per_tok is {}, but there are {} experts: it must be between 1 and their number",
                        moe.num_experts_per_tok, moe.num_experts
                    ));
                }
                if moe.num_experts > MOST_EXPERTS {
                    return Err(format!("{} experts are more than any model's: correct the config", moe.num_experts));
                }
                if moe.router.score == RouterScore::TopkSoftmax && moe.router.normalize {
                    return Err("softmax over the chosen experts is normalised already".to_owned());
                }
                self.check_elements("an expert", &[moe.expert.intermediate_size, self.hidden_size])
            }
        }
    }

    fn check_elements(&self, what: &str, sizes: &[usize]) -> Result<(), String> {
        let elements = sizes.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
        match elements.and_then(|elements| elements.checked_mul(8)) {
            Some(1..) => Ok(()),
            Some(0) => Err(format!("{what} has a size of zero: {sizes:?}")),
            None => Err(format!("{what} would be too large to address: {sizes:?}")),
        }
    }
}
