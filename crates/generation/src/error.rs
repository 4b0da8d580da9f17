//! Errors.

use std::path::PathBuf;
use thiserror::Error;

/// The cause of an error, from another library.
pub type BoxedError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// An error of this crate.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GenerationError {
    /// A file that could not be read.
    #[error("cannot read `{}`: check that it exists and that you may read it", path.display())]
    UnreadableFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: BoxedError,
    },
    /// A file above the size limit for its kind.
    #[error("`{}` is larger than the limit of {limit} bytes for such a file: is it the right file?", path.display())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// Largest accepted size, in bytes.
        limit: u64,
    },
    /// A malformed file.
    #[error("`{}` is not a valid {expected}: download it again, or save the tokenizer again with transformers", path.display())]
    MalformedFile {
        /// The file.
        path: PathBuf,
        /// The expected content.
        expected: &'static str,
        /// The cause.
        #[source]
        source: BoxedError,
    },
    /// A directory without `tokenizer.json`, but with a vocabulary in another format.
    #[error(
        "`{}` has `{found}` but no `tokenizer.json`, the only supported format: convert it once with \
         `python -c \"from transformers import AutoTokenizer as A; A.from_pretrained('DIR').save_pretrained('DIR')\"`",
        directory.display()
    )]
    UnconvertedTokenizer {
        /// The directory.
        directory: PathBuf,
        /// The file that was found instead.
        found: &'static str,
    },
    /// A directory without any tokenizer.
    #[error("`{}` has no `tokenizer.json`: copy it from the checkpoint, or pass token ids instead of text", directory.display())]
    MissingTokenizerFile {
        /// The directory.
        directory: PathBuf,
    },
    /// The tokenizer failed on a text or on token ids.
    #[error("the tokenizer could not {action}: its `tokenizer.json` may be inconsistent")]
    Tokenizer {
        /// The action: `encode a text`, ...
        action: &'static str,
        /// The cause.
        #[source]
        source: BoxedError,
    },
    /// A text prompt or text output without a tokenizer.
    #[error("{purpose} needs a tokenizer, and this generator has none: add one, or pass token ids")]
    MissingTokenizer {
        /// The action that needs it.
        purpose: &'static str,
    },
    /// No chat template of the requested name.
    #[error(
        "the tokenizer has no chat template{}{}: pass one, or give a plain prompt",
        name.as_ref().map(|name| format!(" named `{name}`")).unwrap_or_default(),
        if available.is_empty() { String::new() } else { format!(" (it has {})", available.join(", ")) }
    )]
    MissingChatTemplate {
        /// The requested name; `None` for the default.
        name: Option<String>,
        /// The available names.
        available: Vec<String>,
    },
    /// A chat template that does not compile.
    #[error("the chat template cannot be parsed{}: correct it, or pass another one", at_line(*line))]
    MalformedChatTemplate {
        /// Line of the template, from 1.
        line: Option<usize>,
        /// The cause.
        #[source]
        source: BoxedError,
    },
    /// A chat template that rejected the messages (`raise_exception`).
    #[error("the chat template rejected the messages: {message}")]
    ChatRejected {
        /// The template's message.
        message: String,
    },
    /// A chat template that failed while it ran.
    #[error("the chat template failed{}: check the roles and the content of the messages", at_line(*line))]
    ChatTemplate {
        /// Line of the template, from 1.
        line: Option<usize>,
        /// The cause.
        #[source]
        source: BoxedError,
    },
    /// A chat template that exceeded its limit of steps, output or time.
    #[error(
        "the chat template exceeded its limit of {limit} {resource}: do you trust it? `ChatLimits` raises the limit"
    )]
    ChatTemplateLimit {
        /// The exhausted resource: `steps`, `bytes of output`, ...
        resource: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A conversation without messages.
    #[error("a chat template needs at least one message: the conversation is empty")]
    EmptyConversation,
    /// A last message that cannot be continued.
    #[error("the model cannot continue the last message: {reason}")]
    UncontinuedMessage {
        /// Why not.
        reason: &'static str,
    },
    /// An option out of its range.
    #[error("the option `{option}` is {value}, but must be {expected}")]
    InvalidOption {
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
        /// The accepted values.
        expected: &'static str,
    },
    /// A setting of the checkpoint that is needed and invalid.
    #[error("`{option}` is {value} in {location}, but must be {expected}: correct it there, or override it")]
    InvalidSetting {
        /// The setting.
        option: String,
        /// Its value.
        value: String,
        /// The accepted values.
        expected: &'static str,
        /// The file.
        location: String,
    },
    /// A sampling option with greedy decoding.
    #[error("`{option}` = {value} has no effect with greedy decoding: set `do_sample`, or leave it out")]
    IgnoredOption {
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
    },
    /// An option of `generation_config.json` that changes the text and that is not implemented.
    #[error(
        "`{option}` = {value} of the generation config is not implemented, and the text would differ without it: remove it, \
         or set `allow_unsupported`"
    )]
    UnsupportedOption {
        /// The option.
        option: String,
        /// Its value.
        value: String,
    },
    /// No prompts.
    #[error("there is no prompt: give at least one")]
    NoPrompts,
    /// A prompt without tokens.
    #[error("prompt {row} has no tokens: give it text, or start it with the tokenizer's beginning-of-sequence token")]
    EmptyPrompt {
        /// Index of the prompt.
        row: usize,
    },
    /// A token id outside the model's vocabulary.
    #[error(
        "token {token} at position {position} of prompt {row} is outside the vocabulary of {vocab_size}: \
         use the tokenizer of this checkpoint"
    )]
    TokenOutOfVocabulary {
        /// The token id.
        token: u32,
        /// Index of the prompt.
        row: usize,
        /// Position in the prompt.
        position: usize,
        /// Size of the vocabulary.
        vocab_size: usize,
    },
    /// A sequence beyond the positions that the model was trained for.
    #[error(
        "prompt {row} has {prompt_tokens} tokens, and with {max_new_tokens} new ones it is longer than the {limit} \
         positions of the model (`max_position_embeddings`): shorten it, ask for fewer tokens, or set `allow_long_sequences`"
    )]
    SequenceTooLong {
        /// Index of the prompt.
        row: usize,
        /// Its tokens.
        prompt_tokens: usize,
        /// Requested new tokens.
        max_new_tokens: usize,
        /// `max_position_embeddings`.
        limit: usize,
    },
    /// A prompt that is not shorter than the generation config's `max_length`.
    #[error(
        "prompt {row} has {prompt_tokens} tokens, and `max_length` = {max_length} of the generation config leaves no \
         room for new ones: set `max_new_tokens`"
    )]
    NoRoomBelowMaxLength {
        /// Index of the prompt.
        row: usize,
        /// Its tokens.
        prompt_tokens: usize,
        /// `max_length` of the generation config.
        max_length: usize,
    },
    /// Logits that are NaN or infinite.
    #[error(
        "the logit of token {token} is {value}, so no token can be sampled: the weights may be damaged, or the \
         dtype too narrow (try float32)"
    )]
    NonFiniteLogits {
        /// The first such token.
        token: usize,
        /// Its logit.
        value: f32,
    },
    /// Logits of an unexpected shape.
    #[error(
        "the model returned logits of shape {found:?} where {expected:?} was expected: its implementation is wrong"
    )]
    LogitsShape {
        /// `[batch, 1, vocab_size]`.
        expected: Vec<usize>,
        /// Their shape.
        found: Vec<usize>,
    },
    /// A device without a sampling kernel.
    #[error("{device} has no sampling kernel for this batch: read the logits back and use `Sampler`")]
    NoDeviceKernels {
        /// The device.
        device: String,
    },
    /// Logits or sampled tokens that could not be read back from the device.
    #[error("the logits could not be read from the device: it may be out of memory")]
    UnreadableLogits {
        /// The cause.
        #[source]
        source: BoxedError,
    },
    /// The model failed.
    #[error("the model failed at position {position}")]
    Model {
        /// Number of positions in the KV cache.
        position: usize,
        /// The cause.
        #[source]
        source: Box<automodel_models::ModelError>,
    },
}

fn at_line(line: Option<usize>) -> String {
    line.map(|line| format!(" (line {line})")).unwrap_or_default()
}
