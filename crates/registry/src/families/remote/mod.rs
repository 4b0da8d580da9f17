//! Checkpoints whose code is published beside them (`auto_map`) and is no part of transformers. That code is never run: these families
//! compute what is known of it, refuse what is not, and the resolution says so ([`REMARK`]). Sizes have no defaults here: the classes of
//! one name differ in them from checkpoint to checkpoint.

mod baichuan;
mod bailing_moe;
mod chatglm;
mod deepseek;
mod exaone;
mod internlm2;
mod kimi_k2;
mod minicpm;
mod orion;
mod qwen;
#[cfg(test)]
mod tests;
mod xverse;

use super::prelude::*;

/// The families, by model type.
pub(crate) static FAMILIES: &[&Family] = &[
    &bailing_moe::FAMILY,
    &baichuan::FAMILY,
    &chatglm::FAMILY,
    &deepseek::FAMILY,
    &exaone::FAMILY,
    &internlm2::FAMILY,
    &kimi_k2::FAMILY,
    &minicpm::FAMILY,
    &orion::FAMILY,
    &qwen::FAMILY,
    &xverse::FAMILY,
];

/// What a resolution says of them.
pub(crate) const REMARK: &str = "transformers has no class for this model type: such checkpoints come with code of their own, which was \
                                 neither read nor run; this family computes what that code is known to compute";

impl Template {
    /// One rotary embedding for whole heads, without scaling, or with one that code after the Llama of transformers 4.31 has.
    fn with_older_rope(self, config: &FamilyConfig<'_>) -> Result<Self, RegistryError> {
        let template = self.with_rope(config, RopeDefaults::default(), RopePairing::HalfSplit)?;
        match template.attention.rope.as_ref().map(|rope| &rope.scaling) {
            None | Some(RopeScaling::Default | RopeScaling::Linear { .. } | RopeScaling::Dynamic { .. }) => {
                Ok(template)
            }
            Some(_) => {
                Err(config.unsupported("rope_scaling", "the published code is known to have linear and dynamic"))
            }
        }
    }
}

/// Refuses any value of `key` but `expected`, the one that the published checkpoints have.
fn must_be(config: &FamilyConfig<'_>, key: &str, expected: bool) -> Result<(), RegistryError> {
    if config.bool_or_null(key)?.unwrap_or(expected) == expected {
        return Ok(());
    }
    Err(config.unsupported(key, format!("only {expected} is implemented")))
}
