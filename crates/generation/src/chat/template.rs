//! A compiled chat template.

use super::continued::Continued;
use super::date::Clock;
use super::jinja::{Cause, Error, Limits, Template};
use super::{ChatMessage, stack};
use crate::{GenerationError, SpecialTokens};
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Maximum length of a source in bytes. The longest in use have some 30 KB.
const SOURCE_LIMIT: usize = 128 << 10;
/// Maximum of steps that are granted.
const FUEL_LIMIT: u64 = 4_000_000;

/// A chat template in Jinja, compiled as transformers does: `trim_blocks`, `lstrip_blocks`, loop controls, `tojson` as
/// Python writes JSON, `raise_exception`, `strftime_now`, the methods of Python's strings and dicts.
///
/// Templates come with checkpoints, so they are not trusted: they run within [`ChatLimits`] and cannot read files.
///
/// ```
/// use automodel_generation::{ChatMessage, ChatOptions, ChatTemplate, SpecialTokens};
///
/// let source = "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m['content'] | trim }}\n{% endfor %}\
///               {% if add_generation_prompt %}<|assistant|>{% endif %}";
/// let template = ChatTemplate::new(source, SpecialTokens::default().with("bos_token", "<s>"))?;
/// let prompt = template.render(&[ChatMessage::user(" 27+48? ")], &ChatOptions::default())?;
/// assert_eq!(prompt, "<s><|user|>27+48?\n<|assistant|>");
/// # Ok::<(), automodel_generation::GenerationError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    template: Arc<Template>,
    special_tokens: SpecialTokens,
}

/// The inputs of a template besides the messages.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatOptions {
    /// End with the generation prompt, which introduces the model's answer.
    pub add_generation_prompt: bool,
    /// End within the last message, so that the model continues it. No generation prompt is added.
    pub continue_final_message: bool,
    /// Tools that the model may call, each a JSON schema.
    pub tools: Option<Vec<Value>>,
    /// Documents to answer from, each an object with `title` and `text`.
    pub documents: Option<Vec<Value>>,
    /// Additional variables of the template, such as `enable_thinking`.
    pub variables: Map<String, Value>,
    /// The time of `strftime_now`; `None` for the clock.
    pub now: Option<SystemTime>,
    /// Seconds east of Greenwich in the dates of `strftime_now`; `None` for the time zone of the system.
    pub utc_offset: Option<i32>,
    /// Limits of the template.
    pub limits: ChatLimits,
}

impl Default for ChatOptions {
    /// With a generation prompt, and nothing else.
    fn default() -> Self {
        Self {
            add_generation_prompt: true,
            continue_final_message: false,
            tools: None,
            documents: None,
            variables: Map::new(),
            now: None,
            utc_offset: None,
            limits: ChatLimits::default(),
        }
    }
}

/// Limits of a template, which cover everything that it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChatLimits {
    /// Steps: about one for an instruction and one for 64 bytes of data. This bounds memory as well, since all allocations are
    /// charged before they are made. At most 4 million are granted.
    pub fuel: u64,
    /// Bytes of output.
    pub output_bytes: usize,
    /// Time.
    pub deadline: Duration,
}

impl Default for ChatLimits {
    /// Two million steps (at most some 128 MB of data), 16 MiB of output and 20 seconds.
    fn default() -> Self {
        Self { fuel: 2_000_000, output_bytes: 16 << 20, deadline: Duration::from_secs(20) }
    }
}

impl ChatTemplate {
    /// Compiles `source`, of at most 128 KiB.
    ///
    /// # Errors
    /// [`GenerationError::MalformedChatTemplate`], [`GenerationError::ChatTemplateLimit`].
    pub fn new(source: impl Into<String>, special_tokens: SpecialTokens) -> Result<Self, GenerationError> {
        let source = source.into();
        if source.len() > SOURCE_LIMIT {
            return Err(GenerationError::ChatTemplateLimit { resource: "bytes of source", limit: SOURCE_LIMIT as u64 });
        }
        let parsed = stack::run(|| Template::new(&source));
        let template = parsed.map_err(|source| GenerationError::ChatTemplate { line: None, source })?;
        let template = template.map_err(|error| match error.cause {
            Cause::Failed(failure) => {
                GenerationError::MalformedChatTemplate { line: line(error.line), source: Box::new(failure) }
            }
            cause => failure(Error { cause, ..error }, &ChatLimits::default()),
        })?;
        Ok(Self { template: Arc::new(template), special_tokens })
    }

    /// The prompt for `messages`. It includes the special tokens.
    ///
    /// # Errors
    /// [`GenerationError::EmptyConversation`]; [`GenerationError::UncontinuedMessage`];
    /// [`GenerationError::ChatRejected`] if the template raises an exception;
    /// [`GenerationError::ChatTemplateLimit`]; [`GenerationError::ChatTemplate`] for any other failure.
    pub fn render(&self, messages: &[ChatMessage], options: &ChatOptions) -> Result<String, GenerationError> {
        if messages.is_empty() {
            return Err(GenerationError::EmptyConversation);
        }
        let limits = ChatLimits { fuel: options.limits.fuel.min(FUEL_LIMIT), ..options.limits };
        let (steps, output_bytes, time) = (limits.fuel, limits.output_bytes, limits.deadline);
        let clock = Clock { now: options.now, utc_offset: options.utc_offset };
        let mut messages: Vec<Value> = messages.iter().map(ChatMessage::for_template).collect();
        let continued = options.continue_final_message.then(|| Continued::mark(&mut messages)).transpose()?;
        let variables = self.variables(messages, options);
        let prompt = stack::run(|| self.template.render(&variables, clock, &Limits { steps, output_bytes, time }))
            .map_err(|source| GenerationError::ChatTemplate { line: None, source })?
            .map_err(|error| failure(error, &limits))?;
        match continued {
            Some(continued) => continued.cut(&prompt),
            None => Ok(prompt),
        }
    }

    fn variables(&self, messages: Vec<Value>, options: &ChatOptions) -> Map<String, Value> {
        let list = |values: &Option<Vec<Value>>| values.clone().map_or(Value::Null, Value::Array);
        let tokens = self.special_tokens.iter().map(|(name, token)| (name.to_owned(), Value::from(token)));
        let mut variables: Map<String, Value> = tokens.collect();
        variables.extend(options.variables.clone());
        let generation = options.add_generation_prompt && !options.continue_final_message;
        variables.insert("messages".to_owned(), Value::Array(messages));
        variables.insert("tools".to_owned(), list(&options.tools));
        variables.insert("documents".to_owned(), list(&options.documents));
        variables.insert("add_generation_prompt".to_owned(), Value::Bool(generation));
        variables
    }
}

fn line(line: usize) -> Option<usize> {
    Some(line).filter(|line| *line > 0)
}

fn failure(error: Error, limits: &ChatLimits) -> GenerationError {
    let over = |resource, limit| GenerationError::ChatTemplateLimit { resource, limit };
    match error.cause {
        Cause::Raised(message) => GenerationError::ChatRejected { message },
        Cause::Steps => over("steps", limits.fuel),
        Cause::OutputBytes => over("bytes of output", limits.output_bytes as u64),
        Cause::Deadline => over("milliseconds", limits.deadline.as_millis() as u64),
        Cause::Failed(failure) => GenerationError::ChatTemplate { line: line(error.line), source: Box::new(failure) },
    }
}
