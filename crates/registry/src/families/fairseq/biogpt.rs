//! BioGPT: learned positions, scaled embeddings, norms before the branches.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "biogpt",
    architectures: &["BioGptForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    // In the class and in every file, but its norms are made without it.
    ignored_keys: &["layer_norm_eps"],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(42_384)),
        ("hidden_size", Int(1024)),
        ("num_hidden_layers", Int(24)),
        ("num_attention_heads", Int(16)),
        ("intermediate_size", Int(4096)),
        ("hidden_act", Str("gelu")),
        ("max_position_embeddings", Int(1024)),
        ("scale_embedding", Bool(true)),
        ("tie_word_embeddings", Bool(true)),
    ],
    aliases: &[],
};

const LAYOUT: Layout = Layout {
    rules: &[
        Rule::Rename("self_attn.o_proj", "self_attn.out_proj"),
        Rule::Rename("mlp.up_proj", "fc1"),
        Rule::Rename("mlp.down_proj", "fc2"),
        Rule::Rename("input_layernorm", "self_attn_layer_norm"),
        Rule::Rename("post_attention_layernorm", "final_layer_norm"),
        Rule::Rename("model.norm.", "model.layer_norm."),
        Rule::Rename("model.", "biogpt."),
        Rule::Rename("lm_head.", "output_projection."),
    ],
    prefixes: &[("biogpt.", "")],
    ignored: &[],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template =
        super::read(config, "hidden_act", "intermediate_size")?.with_learned_positions(config, super::OFFSET)?;
    if config.bool("scale_embedding")? {
        template.embedding.scale = Some((template.hidden_size as f64).sqrt());
    }
    template.build_uniform()
}
