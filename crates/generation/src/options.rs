//! What the caller asks for.

/// What the caller asks for. Whatever is left open is taken from the checkpoint's
/// [`GenerationConfig`](automodel_config::GenerationConfig), and then from transformers.
///
/// ```
/// use automodel_generation::GenerationOptions;
///
/// let options = GenerationOptions { max_new_tokens: Some(64), seed: Some(1), ..GenerationOptions::default() };
/// assert!(options.add_special_tokens);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct GenerationOptions {
    /// Most tokens to generate for each prompt; at least 1. If nobody says: 20, as in transformers, or fewer where the
    /// model's positions end.
    pub max_new_tokens: Option<usize>,
    /// See [`SamplingOptions::do_sample`](crate::SamplingOptions::do_sample).
    pub do_sample: Option<bool>,
    /// See [`SamplingOptions::temperature`](crate::SamplingOptions::temperature). Like the next three an error where nothing is
    /// sampled, unless the value does nothing.
    pub temperature: Option<f64>,
    /// See [`SamplingOptions::top_k`](crate::SamplingOptions::top_k).
    pub top_k: Option<usize>,
    /// See [`SamplingOptions::top_p`](crate::SamplingOptions::top_p).
    pub top_p: Option<f64>,
    /// See [`SamplingOptions::min_p`](crate::SamplingOptions::min_p).
    pub min_p: Option<f64>,
    /// See [`SamplingOptions::repetition_penalty`](crate::SamplingOptions::repetition_penalty).
    pub repetition_penalty: Option<f64>,
    /// See [`SamplingOptions::seed`](crate::SamplingOptions::seed). `None` draws one, which the report names.
    pub seed: Option<u64>,
    /// Tokens that end a text, instead of the checkpoint's.
    pub eos_token_ids: Option<Vec<u32>>,
    /// Go on after the tokens that end a text, as benchmarks do.
    pub ignore_eos: bool,
    /// Strings that end a text, instead of the checkpoint's; they are cut from it. As in transformers they may be special
    /// tokens, which are not part of the text, and may begin in the prompt.
    pub stop_strings: Option<Vec<String>>,
    /// Let the tokenizer add its special tokens to text prompts. Turn it off for prompts of a chat template.
    pub add_special_tokens: bool,
    /// Leave special tokens out of the text.
    pub skip_special_tokens: bool,
    /// Most positions of the prompts to run at once, at least 1: bounds the memory that long ones need besides the cache. The
    /// result is that of a whole run but for the rounding of sums. `None` runs them whole, as does a custom model that takes no
    /// parts.
    pub prefill_chunk: Option<usize>,
    /// Allocate the cache for all positions at the start rather than as it grows.
    pub preallocate_cache: bool,
    /// On a GPU, record the launches of one step and replay them for each token, where the model has such steps: the host is what
    /// limits decoding otherwise. While a step is recorded, which happens a few times in a generation, nothing else in the process
    /// may use that GPU: work of other threads on it fails. Off by default.
    pub capture_graph: bool,
    /// Go beyond the positions that the model was made for.
    pub allow_long_sequences: bool,
    /// Go on without the settings of the checkpoint's generation config that are not implemented, such as beam search.
    pub allow_unsupported: bool,
}

impl GenerationOptions {
    /// Positions of the prompts that are run at once unless the caller says otherwise: enough that products of matrices are
    /// as fast as with more.
    pub const PREFILL_CHUNK: usize = 512;
}

impl Default for GenerationOptions {
    /// Everything left open, with special tokens added to prompts and left out of texts, and prompts run in chunks.
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
