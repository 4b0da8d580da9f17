//! Falcon: parallel or sequential branches, fused projections by groups of heads, rotation or ALiBi.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "falcon",
    architectures: &["FalconForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    // The class has no such key.
    ignored_keys: &["apply_residual_connection_post_layernorm"],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(65_024)),
        ("hidden_size", Int(4544)),
        ("num_hidden_layers", Int(32)),
        ("num_attention_heads", Int(71)),
        ("num_ln_in_parallel_attn", Null),
        ("layer_norm_epsilon", Float(1e-05)),
        ("num_kv_heads", Null),
        ("alibi", Bool(false)),
        ("new_decoder_architecture", Bool(false)),
        ("multi_query", Bool(true)),
        ("parallel_attn", Bool(true)),
        ("bias", Bool(false)),
        ("max_position_embeddings", Int(2048)),
        ("ffn_hidden_size", Null),
        ("activation", Str("gelu")),
        ("tie_word_embeddings", Bool(true)),
    ],
    aliases: &[("n_embed", "hidden_size")],
};

const LAYOUT: Layout = Layout {
    rules: &[
        // With one key-value head, all queries, then keys, then values; with as many as queries, the three of each head.
        packed_qkv("self_attention.query_key_value", PackOrder::PerGroup),
        Rule::Rename("self_attn.o_proj", "self_attention.dense"),
        Rule::Rename("mlp.up_proj", "mlp.dense_h_to_4h"),
        Rule::Rename("mlp.down_proj", "mlp.dense_4h_to_h"),
        Rule::Rename("model.embed_tokens.", "transformer.word_embeddings."),
        Rule::Rename("model.layers.", "transformer.h."),
        Rule::Rename("model.norm.", "transformer.ln_f."),
    ],
    prefixes: &[("transformer.", "")],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let width = config.usize_or_null("ffn_hidden_size")?;
    let template = super::read(config, Some("activation"), width, Keys::LLAMA.max_position_embeddings)?;
    let mut template = template.with_rope(config, RopeDefaults::default(), RopePairing::HalfSplit)?;
    let bias = config.bool("bias")?;
    if let Some(mlp) = template.dense_mlp() {
        mlp.bias = bias;
    }
    template.layer = layer(config)?;
    let attention = &mut template.attention;
    attention.bias = AttentionBias::qkv_o(bias, bias);
    let (new, multi_query) = (config.bool("new_decoder_architecture")?, config.bool("multi_query")?);
    let key_value_heads = config.usize_or_null("num_kv_heads")?;
    attention.num_key_value_heads = match (new, multi_query) {
        (true, _) => key_value_heads.unwrap_or(attention.num_attention_heads),
        (false, true) => 1,
        (false, false) => attention.num_attention_heads,
    };
    if !new && !multi_query && key_value_heads.is_some_and(|heads| heads != attention.num_attention_heads) {
        return Err(config.inconsistent(
            "num_kv_heads is not num_attention_heads, but neither new_decoder_architecture nor multi_query is set: remove it"
                .to_owned(),
        ));
    }
    if config.bool("alibi")? {
        attention.rope = None;
        attention.alibi = Some(Alibi { before_scale: true, in_bfloat16: true });
    }
    template.build_uniform()
}

/// How the branches and their norms make a layer. What is refused here, transformers fails for.
fn layer(config: &FamilyConfig<'_>) -> Result<fn(Mixer, FeedForward, NormSpec) -> LayerSpec, RegistryError> {
    let new = config.bool("new_decoder_architecture")?;
    let norms = config.count_or_null("num_ln_in_parallel_attn")?.unwrap_or(if new { 2 } else { 1 });
    match (new, config.bool("parallel_attn")?, norms) {
        (true, true, 2) => Ok(two_norms),
        (true, true, 1) => Ok(LayerSpec::parallel_shared),
        (false, true, norms) if norms != 2 => Ok(LayerSpec::parallel_shared),
        (false, false, _) => Ok(LayerSpec::pre),
        (_, parallel, _) => Err(config.inconsistent(format!(
            "new_decoder_architecture {new}, parallel_attn {parallel} and num_ln_in_parallel_attn {norms} make no layer of this \
             family"
        ))),
    }
}

/// `x + mixer(ln_attn(x)) + mlp(ln_mlp(x))`
fn two_norms(mixer: Mixer, mlp: FeedForward, norm: NormSpec) -> LayerSpec {
    let mix = Branch::mix(mixer).with_pre("ln_attn", norm);
    let feed = Branch { input: BranchInput::LayerInput, ..Branch::feed(mlp) };
    LayerSpec::new(vec![mix, feed.with_pre("ln_mlp", norm)])
}
