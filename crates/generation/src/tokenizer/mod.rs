//! Text to token ids and back.

mod bounds;
mod class;
mod decode;
mod files;
mod growth;
mod load;
mod normalize;
mod read;
mod rebuild;
mod saved;
mod settings;
mod special;
mod templates;

pub use special::SpecialTokens;

use crate::{ChatMessage, ChatOptions, ChatTemplate, GenerationError};
use bounds::Bounds;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use tokenizers::Tokenizer;

/// The tokenizer of a checkpoint, with its special tokens and chat templates.
///
/// Token ids are those of `AutoTokenizer.from_pretrained` of transformers 5.23. Depending on `tokenizer_class` and the model type it
/// uses `tokenizer.json` as it is, or a model's class rebuilds the tokenizer from the vocabulary in it. It does not read
/// `add_bos_token` and `add_eos_token` of `tokenizer_config.json`, because the post-processor in `tokenizer.json` adds those tokens.
///
/// A tokenizer is not trusted: a text is refused if a step would make more than 32 bytes of a byte of text (and 64 KiB of the whole),
/// which is more than any tokenizer in use makes.
#[derive(Clone, Debug)]
pub struct TextTokenizer {
    tokenizer: Tokenizer,
    /// Why the tokenizer cannot be used, if it cannot.
    bounds: Result<Bounds, String>,
    special_tokens: SpecialTokens,
    warnings: Vec<String>,
    chat_templates: BTreeMap<String, String>,
}

impl TextTokenizer {
    /// Reads `tokenizer.json` from `directory`, and if there are any `tokenizer_config.json`, `special_tokens_map.json`,
    /// `added_tokens.json`, `config.json`, `chat_template.jinja`, `additional_chat_templates/*.jinja` and
    /// `chat_template.json`. JSON is read as Python reads it, and nothing but regular files.
    ///
    /// # Errors
    /// [`GenerationError::MissingTokenizerFile`]; [`GenerationError::UnconvertedTokenizer`] where there is only a
    /// sentencepiece, tekken, tiktoken or `vocab.json` vocabulary; and what is wrong with a file.
    pub fn from_dir(directory: impl AsRef<Path>) -> Result<Self, GenerationError> {
        let directory = directory.as_ref();
        let tokenizer_json = files::read_tokenizer(directory)?;
        let settings = files::read_settings(directory)?;
        let model = files::read_model_config(directory)?;
        let chat_templates = templates::read(directory, &settings.config)?;
        let loaded = guard("be built", || load::load(&tokenizer_json, settings, &model));
        let loaded = loaded.map_err(|error| GenerationError::MalformedFile {
            path: directory.join("tokenizer.json"),
            expected: "tokenizer.json",
            source: match error {
                GenerationError::Tokenizer { source, .. } => source,
                other => Box::new(other),
            },
        })?;
        Ok(Self {
            tokenizer: loaded.tokenizer,
            bounds: Ok(loaded.bounds),
            special_tokens: loaded.special_tokens,
            warnings: loaded.warning.into_iter().collect(),
            chat_templates,
        })
    }

    /// Wraps a tokenizer. Its padding and truncation are turned off.
    pub fn new(mut tokenizer: Tokenizer, special_tokens: SpecialTokens) -> Self {
        tokenizer.with_padding(None);
        // Switching truncation off cannot fail: only a stride longer than the length can.
        let _ = tokenizer.with_truncation(None);
        let bounds = Bounds::new(&tokenizer).map_err(|error| error.to_string());
        Self { tokenizer, bounds, special_tokens, warnings: Vec::new(), chat_templates: BTreeMap::new() }
    }

    /// Reasons why token ids may differ from those of transformers; usually none.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// With one more chat template; the one named `default` is used unless the caller names another.
    #[must_use]
    pub fn with_chat_template(mut self, name: impl Into<String>, source: impl Into<String>) -> Self {
        self.chat_templates.insert(name.into(), source.into());
        self
    }

    /// Token ids of `text`; with `add_special_tokens` the beginning-of-sequence token and others that the
    /// post-processor adds.
    ///
    /// # Errors
    /// [`GenerationError::Tokenizer`].
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, GenerationError> {
        let encode = || self.bounds()?.encode(&self.tokenizer, text, add_special_tokens);
        let encoding = guard("encode a text", encode)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of `ids`. Ids that the tokenizer does not have are left out, and special tokens with
    /// `skip_special_tokens`.
    ///
    /// # Errors
    /// [`GenerationError::Tokenizer`].
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, GenerationError> {
        guard("decode token ids", || self.bounds()?.decode(&self.tokenizer, ids, skip_special_tokens))
    }

    /// The id of a token, written as in the vocabulary.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// The token of an id, written as in the vocabulary.
    pub fn token(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    /// Whether `skip_special_tokens` leaves `token` out of text.
    pub fn is_special(&self, token: &str) -> bool {
        self.tokenizer.get_added_vocabulary().is_special_token(token)
    }

    /// Number of tokens, added ones included. A model's vocabulary may be padded beyond it.
    pub fn vocab_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// `bos_token`, `eos_token` and other tokens with a role.
    pub fn special_tokens(&self) -> &SpecialTokens {
        &self.special_tokens
    }

    /// Names of the chat templates.
    pub fn chat_template_names(&self) -> impl Iterator<Item = &str> {
        self.chat_templates.keys().map(String::as_str)
    }

    /// Compiles the chat template `name`; without a name `tool_use` if `with_tools` and there is one, else `default`.
    ///
    /// # Errors
    /// [`GenerationError::MissingChatTemplate`], [`GenerationError::MalformedChatTemplate`].
    pub fn chat_template(&self, name: Option<&str>, with_tools: bool) -> Result<ChatTemplate, GenerationError> {
        let tool_use = with_tools && self.chat_templates.contains_key("tool_use");
        let chosen = name.unwrap_or(if tool_use { "tool_use" } else { "default" });
        let source = self.chat_templates.get(chosen).ok_or_else(|| GenerationError::MissingChatTemplate {
            name: name.map(str::to_owned),
            available: self.chat_templates.keys().cloned().collect(),
        })?;
        ChatTemplate::new(source.clone(), self.special_tokens.clone())
    }

    /// Compiles the chat template in a file, for these special tokens.
    ///
    /// # Errors
    /// [`GenerationError::UnreadableFile`], [`GenerationError::FileTooLarge`], [`GenerationError::MalformedFile`] and
    /// [`GenerationError::MalformedChatTemplate`].
    pub fn chat_template_from_file(&self, path: impl AsRef<Path>) -> Result<ChatTemplate, GenerationError> {
        ChatTemplate::new(templates::from_file(path.as_ref())?, self.special_tokens.clone())
    }

    /// The prompt for `messages` as the default chat template writes it. It includes the special tokens: encode it
    /// without adding any.
    ///
    /// # Errors
    /// As [`chat_template`](Self::chat_template) and [`ChatTemplate::render`].
    pub fn render_chat(&self, messages: &[ChatMessage], options: &ChatOptions) -> Result<String, GenerationError> {
        self.chat_template(None, options.tools.is_some())?.render(messages, options)
    }

    fn bounds(&self) -> tokenizers::Result<&Bounds> {
        self.bounds.as_ref().map_err(|problem| problem.clone().into())
    }
}

/// Runs a function of the tokenizers library. A hostile `tokenizer.json` can make it panic (vocabularies and regular
/// expressions that contradict each other), which is reported like its errors.
pub(crate) fn guard<T>(
    action: &'static str,
    run: impl FnOnce() -> tokenizers::Result<T>,
) -> Result<T, GenerationError> {
    let source = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => error,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            format!("the tokenizers library panicked: {}", text.as_deref().unwrap_or("for no stated reason")).into()
        }
    };
    Err(GenerationError::Tokenizer { action, source })
}
