//! What can go wrong between a prompt and its text.

use std::path::PathBuf;
use thiserror::Error;

/// An error of a library below, kept as the cause.
pub type BoxedError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What can go wrong between a prompt and its text.
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
    /// A file larger than anything of its kind.
    #[error("`{}` is larger than {limit} bytes, the most that is read of such a file: is it the right file?", path.display())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// Largest accepted size, in bytes.
        limit: u64,
    },
    /// A file that is not what its name says.
    #[error("`{}` is not a valid {expected}: download it again, or save the tokenizer anew with transformers", path.display())]
    MalformedFile {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// The cause.
        #[source]
        source: BoxedError,
    },
    /// A directory without `tokenizer.json`, but with a vocabulary in another format.
    #[error(
        "`{}` has `{found}` but no `tokenizer.json`, the only format that is read: convert it once with \
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
        /// What it was doing: `encode a text`, ...
        action: &'static str,
        /// The cause.
        #[source]
        source: BoxedError,
    },
    /// Text was given or asked for without a tokenizer.
    #[error("{purpose} needs a tokenizer, and this generator has none: add one, or pass token ids")]
    MissingTokenizer {
        /// What needs it.
        purpose: &'static str,
    },
    /// No chat template of the wanted name.
    #[error(
        "the tokenizer has no chat template{}{}: pass one, or give a plain prompt",
        name.as_ref().map(|name| format!(" named `{name}`")).unwrap_or_default(),
        if available.is_empty() { String::new() } else { format!(" (it has {})", available.join(", ")) }
    )]
    MissingChatTemplate {
        /// The name that was asked for; `None` for the default.
        name: Option<String>,
        /// The names there are.
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
        /// What the template said.
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
    /// A chat template that ran for too long, or wrote or created too much.
    #[error(
        "the chat template went over its limit of {limit} {resource}: do you trust it? `ChatLimits` raises the limit"
    )]
    ChatTemplateLimit {
        /// What it used up: `steps`, `bytes of output`, ...
        resource: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A conversation without messages.
    #[error("a chat template needs at least one message: the conversation is empty")]
    EmptyConversation,
    /// A last message that the prompt cannot end with.
    #[error("the model cannot go on with the last message: {reason}")]
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
        /// What is accepted.
        expected: &'static str,
    },
    /// A setting of the checkpoint that is needed, and makes no sense.
    #[error(
        "`{option}` is {value} in {location}, but must be {expected}: correct it there, or say what you want instead"
    )]
    UnusableSetting {
        /// The setting.
        option: String,
        /// Its value.
        value: String,
        /// What is accepted.
        expected: &'static str,
        /// The file.
        location: String,
    },
    /// An option for sampling, where nothing is sampled.
    #[error(
        "`{option}` = {value} has no effect while the most likely token is taken: set `do_sample`, or leave it out"
    )]
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
    /// No prompt at all.
    #[error("there is no prompt: give at least one")]
    NoPrompts,
    /// A prompt without tokens.
    #[error("prompt {row} has no tokens: give it text, or start it with the tokenizer's beginning-of-sequence token")]
    EmptyPrompt {
        /// Index of the prompt.
        row: usize,
    },
    /// A token id that the model has no embedding for.
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
    /// More tokens than the model was made for.
    #[error(
        "prompt {row} has {prompt_tokens} tokens, and with {max_new_tokens} new ones it is longer than the {limit} \
         positions that the model was made for: shorten it, ask for fewer tokens, or set `allow_long_sequences`"
    )]
    SequenceTooLong {
        /// Index of the prompt.
        row: usize,
        /// Its tokens.
        prompt_tokens: usize,
        /// Tokens that were asked for.
        max_new_tokens: usize,
        /// `max_position_embeddings`.
        limit: usize,
    },
    /// A prompt that leaves no room below the generation config's `max_length`.
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
    /// Logits that are not numbers.
    #[error(
        "the logit of token {token} is {value}, so no next token can be chosen: the weights may be damaged, or the \
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
    /// A device that cannot choose tokens.
    #[error("{device} has no kernel that chooses tokens for this batch: read its logits and choose with `Sampler`")]
    NoDeviceKernels {
        /// The device.
        device: String,
    },
    /// Logits, or tokens chosen from them, that could not be read back from the device.
    #[error("the logits could not be read from the device: it may be out of memory")]
    UnreadableLogits {
        /// The cause.
        #[source]
        source: BoxedError,
    },
    /// The model failed.
    #[error("the model failed at position {position}")]
    Model {
        /// Number of positions that were in the cache.
        position: usize,
        /// The cause.
        #[source]
        source: Box<automodel_models::ModelError>,
    },
}

fn at_line(line: Option<usize>) -> String {
    line.map(|line| format!(" (line {line})")).unwrap_or_default()
}
