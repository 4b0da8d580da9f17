//! OPT and Galactica: learned positions, norms before the branches or on the stream after them, and perhaps an embedding of another
//! width than the layers.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "opt",
    architectures: &["OPTForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    // Galactica's: both as the class has it in any case.
    ignored_keys: &["learned_embeddings", "scale_embeddings"],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(50_272)),
        ("hidden_size", Int(768)),
        ("num_hidden_layers", Int(12)),
        ("ffn_dim", Int(3072)),
        ("max_position_embeddings", Int(2048)),
        ("do_layer_norm_before", Bool(true)),
        ("_remove_final_layer_norm", Bool(false)),
        ("word_embed_proj_dim", Null),
        ("num_attention_heads", Int(12)),
        ("activation_function", Str("relu")),
        ("enable_bias", Bool(true)),
        ("layer_norm_elementwise_affine", Bool(true)),
        ("tie_word_embeddings", Bool(true)),
    ],
    aliases: &[],
};

const LAYOUT: Layout = Layout {
    rules: &[
        Rule::Rename("self_attn.o_proj", "self_attn.out_proj"),
        Rule::Rename("mlp.up_proj", "fc1"),
        Rule::Rename("mlp.down_proj", "fc2"),
        Rule::Rename("input_layernorm", ATTENTION_NORM),
        Rule::Rename("post_attention_layernorm", MLP_NORM),
        Rule::Rename("model.norm.", "model.final_layer_norm."),
        Rule::Rename("model.", "model.decoder."),
        Rule::Rename("head_transform.dense", "model.decoder.project_out"),
    ],
    ..Layout::LLAMA
};

const ATTENTION_NORM: &str = "self_attn_layer_norm";
const MLP_NORM: &str = "final_layer_norm";

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template =
        super::read(config, "activation_function", "ffn_dim")?.with_learned_positions(config, super::OFFSET)?;
    let hidden_size = template.hidden_size;
    if let Some(width) = config.usize_or_null("word_embed_proj_dim")?.filter(|&width| width != hidden_size) {
        template.embedding.projected_from = Some(width);
        template.head.transform = Some(HeadTransform { width, bias: false, activation: None, norm: None });
    }
    let bias = config.bool("enable_bias")?;
    template.attention.bias = AttentionBias::qkv_o(bias, bias);
    template = template.with_plain_mlp(bias);
    if !config.bool("layer_norm_elementwise_affine")? {
        template.norm.kind = NormKind::LayerNormWithoutParameters;
    }
    let norms_before = config.bool("do_layer_norm_before")?;
    if !norms_before {
        template.layer = norms_after;
    }
    let has_final_norm = !config.bool("_remove_final_layer_norm")? && norms_before;
    let mut spec = template.build_uniform()?;
    spec.backbone.final_norm = spec.backbone.final_norm.filter(|_| has_final_norm);
    Ok(spec)
}

/// [`LayerSpec::post_add`] with the norms' names in OPT, which in its other layers are those before the branches.
fn norms_after(mixer: Mixer, mlp: FeedForward, norm: NormSpec) -> LayerSpec {
    let mix = Branch::mix(mixer).with_post_add(ATTENTION_NORM, norm);
    LayerSpec { branches: vec![mix, Branch::feed(mlp).with_post_add(MLP_NORM, norm)] }
}
