//! Keys that cannot change what a causal language model computes at inference, reviewed, with the reason.
//!
//! A key that carries mathematics must not be here, even if its usual value switches the mathematics off: the family
//! that knows it reads it.

use serde_json::Value;

/// Harmless keys and the reason.
struct Group {
    reason: &'static str,
    keys: &'static [&'static str],
}

#[rustfmt::skip]
const GROUPS: &[Group] = &[
    Group {
        reason: "dropout: the identity at inference",
        keys: &[
            "attention_dropout", "attn_dropout", "attn_pdrop", "classifier_dropout", "dropout", "embd_pdrop",
            "embed_dropout", "embedding_dropout", "ffn_dropout", "hidden_dropout", "residual_dropout", "resid_pdrop",
            "summary_first_dropout", "attention_probs_dropout_prob", "hidden_dropout_prob", "activation_dropout",
            "layerdrop", "resid_dropout",
        ],
    },
    Group {
        reason: "initial values of weights that are then loaded",
        keys: &["initializer_range", "initializer_factor", "init_std", "init_method", "rescale_prenorm_residual"],
    },
    Group {
        reason: "losses, noise and memory savings of training",
        keys: &[
            "router_aux_loss_coef", "aux_loss_alpha", "aux_loss_coef", "aux_loss_type", "seq_aux",
            "router_z_loss_coef", "router_jitter_noise", "output_router_logits", "gradient_checkpointing",
            "selective_checkpoint_enabled", "fcm_min_ratio", "fcm_max_ratio",
        ],
    },
    Group {
        reason: "parallelism of the training, ignored by transformers 5",
        keys: &["pretraining_tp", "sequence_parallel_enabled"],
    },
    Group {
        reason: "heads that predict several tokens ahead; the ordinary forward pass does not run them",
        keys: &[
            "num_nextn_predict_layers", "num_mtp_layers", "mtp_num_layers", "mtp_layer_types",
            "mtp_mlp_layer_types",
        ],
    },
    Group {
        reason: "bookkeeping: who wrote the file, with what, and where the code is",
        keys: &[
            "_name_or_path", "name_or_path", "_commit_hash", "transformers_version", "auto_map", "custom_pipelines",
            "unsloth_version", "unsloth_fixed", "tokenizer_class", "processor_class",
            "_diffusers_version", "_from_model_config", "transformers.js_config", "sentence_transformers",
            "internal_version", "author", "created_date", "license", "head_prefix",
        ],
    },
    Group {
        reason: "read by dedicated accessors, at other stages of loading",
        keys: &[
            "model_type", "architectures", "dtype", "torch_dtype", "quantization_config", "quantization",
            "compression_config",
        ],
    },
    Group {
        reason: "options for the outputs and caches of the forward pass, not for its computation",
        keys: &[
            "use_cache", "output_attentions", "output_hidden_states", "return_dict", "use_return_dict",
            "torchscript", "chunk_size_feed_forward", "cache_implementation", "return_dict_in_generate",
            "output_scores", "output_logits", "num_logits_to_keep", "keys_to_ignore_at_inference",
        ],
    },
    Group {
        reason: "which kernel computes attention or experts, and in which order it rounds; same mathematics",
        keys: &[
            "_attn_implementation", "attn_implementation", "_attn_implementation_autoset",
            "_attn_implementation_internal", "_experts_implementation", "experts_implementation",
            "_experts_implementation_internal", "_flash_attn_2_enabled", "use_flash_attn", "use_flash_attention",
            "use_flash_attention_2", "flash_attn", "use_xformers", "reorder_and_upcast_attn", "use_bfloat16",
            // Megatron divides scores by the number of the layer and multiplies them again before the softmax.
            "apply_query_key_layer_scaling", "neuron",
        ],
    },
    Group {
        reason: "special tokens: for text input and output, not for the model's computation",
        keys: &[
            "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "cls_token_id", "unk_token_id",
            "mask_token_id", "decoder_start_token_id", "bos_token", "eos_token", "pad_token", "prefix",
        ],
    },
    Group {
        reason: "maximum length in pre-training or of a tokenizer; no model reads it",
        keys: &["max_sequence_length", "model_max_length"],
    },
    Group {
        reason: "generation settings, which GenerationConfig reads",
        keys: &[
            "max_length", "max_new_tokens", "min_length", "min_new_tokens", "do_sample", "early_stopping",
            "num_beams", "num_beam_groups", "diversity_penalty", "temperature", "top_k", "top_p", "min_p",
            "typical_p", "repetition_penalty", "length_penalty", "no_repeat_ngram_size",
            "encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences", "forced_bos_token_id",
            "forced_eos_token_id", "remove_invalid_values", "exponential_decay_length_penalty", "suppress_tokens",
            "begin_suppress_tokens", "epsilon_cutoff", "eta_cutoff", "encoder_repetition_penalty",
            "num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold",
            "assistant_lookbehind", "target_lookbehind",
        ],
    },
    Group {
        reason: "classification heads and tasks other than causal language modelling",
        keys: &[
            "id2label", "label2id", "num_labels", "problem_type", "finetuning_task", "task_specific_params",
            "summary_activation", "summary_proj_to_labels", "summary_type", "summary_use_proj", "classifier_bias",
            "classifier_activation", "classifier_pooling",
            // Of a reward model's scores.
            "mean", "std",
        ],
    },
    Group {
        reason: "relics of encoder-decoder models and TensorFlow; a decoder does not read them",
        keys: &[
            "tie_encoder_decoder", "cross_attention_hidden_size", "tf_legacy_loss", "pruned_heads", "n_ctx",
            "is_decoder", "_num_labels", "output_past",
        ],
    },
];

/// A value at which a key is harmless.
#[derive(Clone, Copy)]
enum At {
    Flag(bool),
    Number(f64),
}

impl At {
    fn is(self, value: &Value) -> bool {
        match self {
            At::Flag(flag) => value.as_bool() == Some(flag),
            At::Number(number) => value.as_f64() == Some(number),
        }
    }
}

/// Keys that are harmless at one value only, and why.
const HARMLESS_AT: &[(&str, At, &str)] = &[
    ("add_cross_attention", At::Flag(false), "no cross-attention; true would add layers"),
    ("is_encoder_decoder", At::Flag(false), "no encoder; true would add one"),
    ("is_causal", At::Flag(true), "a decoder is causal; false would make attention bidirectional"),
    ("use_bidirectional_attention", At::Flag(false), "a decoder is causal; true would make attention bidirectional"),
    ("rope_interleaved", At::Flag(false), "weights are in the order of transformers (SmolLM)"),
    (
        "normalize_attention_scores",
        At::Flag(true),
        "scores are divided by the square root of the head's width, as always",
    ),
    ("moe_frequency", At::Number(1.0), "every layer of a mixture has experts, as the family assumes"),
    ("shared_experts_intermediate_size", At::Number(0.0), "no shared experts; more would add them"),
];

/// Values of another kind of model than a decoder, for any family, and why: [`forbidden_reason`].
const FORBIDDEN: &[(&str, At, &str)] = &[
    (
        "is_causal",
        At::Flag(false),
        "each position would attend to later ones (as in an embedding model), which changes the logits",
    ),
    (
        "use_bidirectional_attention",
        At::Flag(true),
        "each position would attend to later ones (as in an embedding model), which changes the logits",
    ),
    ("is_encoder_decoder", At::Flag(true), "it has an encoder, which a decoder alone lacks: its logits depend on both"),
    ("add_cross_attention", At::Flag(true), "its layers attend to an encoder, which a decoder alone lacks"),
];

/// Why a top-level key with this value cannot change the computation of a causal language model at inference; `None` if it can, or
/// if the key was not reviewed.
///
/// ```
/// use automodel_config::harmless_reason;
/// use serde_json::json;
///
/// assert!(harmless_reason("attention_dropout", &json!(0.1)).is_some());
/// assert!(harmless_reason("attention_bias", &json!(false)).is_none());
/// ```
pub fn harmless_reason(key: &str, value: &Value) -> Option<&'static str> {
    let listed = GROUPS.iter().find(|group| group.keys.contains(&key)).map(|group| group.reason);
    listed.or_else(|| at_value(HARMLESS_AT, key, value))
}

/// Why a config with this value is not a causal language model, so that allowing the unread key would only hide the mistake.
pub(crate) fn forbidden_reason(key: &str, value: &Value) -> Option<&'static str> {
    at_value(FORBIDDEN, key, value)
}

fn at_value(list: &[(&str, At, &'static str)], key: &str, value: &Value) -> Option<&'static str> {
    list.iter().find(|(name, at, _)| *name == key && at.is(value)).map(|(_, _, reason)| *reason)
}

/// All names of the list.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    let conditional = HARMLESS_AT.iter().chain(FORBIDDEN).map(|(name, _, _)| *name);
    GROUPS.iter().flat_map(|group| group.keys.iter().copied()).chain(conditional)
}
