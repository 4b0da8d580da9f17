//! GLM-4-0414: norms around both branches.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "glm4",
    architectures: &["Glm4ForCausalLM"],
    defaults: &super::DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: LAYOUT,
};

pub(super) const LAYOUT: Layout = Layout {
    rules: &[
        PACKED_GATE_UP,
        Rule::Rename("post_attention_layernorm", "post_self_attn_layernorm"),
        Rule::Rename("pre_feedforward_layernorm", "post_attention_layernorm"),
        Rule::Rename("post_feedforward_layernorm", "post_mlp_layernorm"),
    ],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::glm(config)?;
    template.layer = LayerSpec::sandwich;
    template.build_uniform()
}
