//! GPT-BigCode (SantaCoder, StarCoder): GPT-2 with one key-value head for all queries.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "gpt_bigcode",
    architectures: &["GPTBigCodeForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[
        // Where half precision rounds; transformers 5 has the keys and no use of them.
        "attention_softmax_in_fp32",
        "scale_attention_softmax_in_fp32",
        // Follows from `multi_query`, whatever it says.
        "num_key_value_heads",
        // Left from an inference server.
        "inference_runner",
        "max_batch_size",
        "pad_key_length",
        "pre_allocate_kv_cache",
        "validate_runner_input",
    ],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(50_257)),
        ("max_position_embeddings", Int(1024)),
        ("hidden_size", Int(768)),
        ("num_hidden_layers", Int(12)),
        ("num_attention_heads", Int(12)),
        ("n_inner", Null),
        ("activation_function", Str("gelu_pytorch_tanh")),
        ("layer_norm_epsilon", Float(1e-05)),
        ("scale_attn_weights", Bool(true)),
        ("multi_query", Bool(true)),
        ("add_cross_attention", Bool(false)),
        ("tie_word_embeddings", Bool(true)),
    ],
    aliases: super::ALIASES,
};

const LAYOUT: Layout = Layout {
    rules: &[
        // With one key-value head, all queries, then keys, then values; otherwise the three of each head.
        packed_qkv("attn.c_attn", PackOrder::PerGroup),
        Rule::Rename("self_attn.o_proj", "attn.c_proj"),
        Rule::Rename("mlp.up_proj", "mlp.c_fc"),
        Rule::Rename("mlp.down_proj", "mlp.c_proj"),
        Rule::Rename("model.embed_tokens", "transformer.wte"),
        Rule::Rename("model.embed_positions", "transformer.wpe"),
        Rule::Rename("model.layers.", "transformer.h."),
        Rule::Rename("model.norm.", "transformer.ln_f."),
        Rule::Rename("input_layernorm", "ln_1"),
        Rule::Rename("post_attention_layernorm", "ln_2"),
    ],
    prefixes: &[("transformer.", "")],
    ignored: super::BUFFERS,
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = super::read(config, "n_inner")?.with_learned_positions(config, 0)?;
    super::no_cross_attention(config)?;
    template.attention.bias = AttentionBias::qkv_o(true, true);
    super::scale_of_scores(config, &mut template)?;
    if config.bool("multi_query")? {
        template.attention.num_key_value_heads = 1;
    }
    template.build_uniform()
}
