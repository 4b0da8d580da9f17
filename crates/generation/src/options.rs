//! Options of a generation.

/// Options of a generation. `None` falls back to the checkpoint's [`GenerationConfig`](automodel_config::GenerationConfig), and then to
/// the defaults of transformers.
///
/// ```
/// use automodel_generation::GenerationOptions;
///
/// let options = GenerationOptions { max_new_tokens: Some(64), seed: Some(1), ..GenerationOptions::default() };
/// assert!(options.add_special_tokens);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct GenerationOptions {
    /// Maximum of tokens to generate for each prompt; at least 1. By default 20, as in transformers, or fewer if the model's
    /// positions end before.
    pub max_new_tokens: Option<usize>,
    /// See [`SamplingOptions::do_sample`](crate::SamplingOptions::do_sample).
    pub do_sample: Option<bool>,
    /// See [`SamplingOptions::temperature`](crate::SamplingOptions::temperature). Like the next three an error with greedy
    /// decoding, unless the value has no effect.
    pub temperature: Option<f64>,
    /// See [`SamplingOptions::top_k`](crate::SamplingOptions::top_k).
    pub top_k: Option<usize>,
    /// See [`SamplingOptions::top_p`](crate::SamplingOptions::top_p).
    pub top_p: Option<f64>,
    /// See [`SamplingOptions::min_p`](crate::SamplingOptions::min_p).
    pub min_p: Option<f64>,
    /// See [`SamplingOptions::repetition_penalty`](crate::SamplingOptions::repetition_penalty).
    pub repetition_penalty: Option<f64>,
    /// See [`SamplingOptions::seed`](crate::SamplingOptions::seed). `None` draws one; the report contains it.
    pub seed: Option<u64>,
    /// End-of-sequence tokens, instead of the checkpoint's.
    pub eos_token_ids: Option<Vec<u32>>,
    /// Continue after end-of-sequence tokens, as benchmarks do.
    pub ignore_eos: bool,
    /// Strings that end a text, instead of the checkpoint's; they are cut from it. As in transformers they may be special
    /// tokens, which are not part of the text, and may begin in the prompt.
    pub stop_strings: Option<Vec<String>>,
    /// Let the tokenizer add its special tokens to text prompts. Turn it off for prompts of a chat template.
    pub add_special_tokens: bool,
    /// Leave special tokens out of the text.
    pub skip_special_tokens: bool,
    /// Chunked prefill: the maximum of prompt positions in a pass, at least 1. Bounds the memory that long prompts need besides the
    /// KV cache. Results differ from a single pass only by the rounding of sums. `None` prefills in one pass, as does a custom model
    /// without support for chunks.
    pub prefill_chunk: Option<usize>,
    /// Allocate the KV cache for all positions at the start instead of growing it.
    pub preallocate_cache: bool,
    /// On a GPU, capture the launches of one decode step as a graph (a CUDA graph) and replay it for each token, if the model supports
    /// captured decode: otherwise the host's launch overhead limits decoding. During capture, which happens a few times in a
    /// generation, nothing else in the process may use that GPU: work of other threads on it fails. Off by default.
    pub capture_graph: bool,
    /// Allow sequences beyond `max_position_embeddings`.
    pub allow_long_sequences: bool,
    /// Ignore settings of the checkpoint's generation config that are not implemented, such as beam search.
    pub allow_unsupported: bool,
}

impl GenerationOptions {
    /// Default chunk of the prefill, in positions: matrix products are not faster with more.
    pub const PREFILL_CHUNK: usize = 512;
}

impl Default for GenerationOptions {
    /// All settings left to the checkpoint, with special tokens added to prompts and skipped in texts, and chunked prefill.
    fn default() -> Self {
        Self {
            max_new_tokens: None,
            do_sample: None,
            temperature: None,
            top_k: None,
            top_p: None,
            min_p: None,
            repetition_penalty: None,
            seed: None,
            eos_token_ids: None,
            ignore_eos: false,
            stop_strings: None,
            add_special_tokens: true,
            skip_special_tokens: true,
            prefill_chunk: Some(Self::PREFILL_CHUNK),
            preallocate_cache: false,
            capture_graph: false,
            allow_long_sequences: false,
            allow_unsupported: false,
        }
    }
}
