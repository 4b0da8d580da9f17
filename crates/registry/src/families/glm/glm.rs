//! GLM-4 as it was published first, and GLM-Edge: norms before both branches.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "glm",
    architectures: &["GlmForCausalLM"],
    defaults: &super::DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: Layout { rules: &[PACKED_GATE_UP], ..Layout::LLAMA },
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    Template::glm(config)?.build_uniform()
}
