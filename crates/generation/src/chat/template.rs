//! A compiled chat template.

use super::stack::{self, FUEL_LIMIT, Interruption, SOURCE_LIMIT};
use super::{ChatMessage, date, generation_tags, json, methods, python};
use crate::{GenerationError, SpecialTokens};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, Value, escape_formatter};
use serde_json::Map;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

const NAME: &str = "chat_template";

/// A chat template in Jinja, compiled as transformers does: `trim_blocks`, `lstrip_blocks`, loop controls, `tojson` as
/// Python writes JSON, `raise_exception`, `strftime_now`, the methods of Python's strings and dicts.
///
/// Templates come with checkpoints, so they are not trusted: they run within [`ChatLimits`] and reach no file.
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
    environment: Environment<'static>,
    special_tokens: SpecialTokens,
}

/// What a template is given besides the messages.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatOptions {
    /// End with what the model's answer follows.
    pub add_generation_prompt: bool,
    /// Tools that the model may call, each a JSON schema.
    pub tools: Option<Vec<serde_json::Value>>,
    /// Documents to answer from, each an object with `title` and `text`.
    pub documents: Option<Vec<serde_json::Value>>,
    /// Variables of the template's own, such as `enable_thinking`.
    pub variables: Map<String, serde_json::Value>,
    /// What `strftime_now` takes for now; `None` for the clock. Dates are in UTC.
    pub now: Option<SystemTime>,
    /// How much the template may do.
    pub limits: ChatLimits,
}

impl Default for ChatOptions {
    /// With a generation prompt, and nothing else.
    fn default() -> Self {
        Self {
            add_generation_prompt: true,
            tools: None,
            documents: None,
            variables: Map::new(),
            now: None,
            limits: ChatLimits::default(),
        }
    }
}

/// How much a template may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChatLimits {
    /// Steps: about one for an instruction and one for 64 bytes of data, so this bounds memory as well. No more than 4
    /// million are granted.
    pub fuel: u64,
    /// Bytes of output.
    pub output_bytes: usize,
    /// Time. It takes a template that writes lists with shared parts to reach this without using up its steps; its
    /// thread is abandoned and goes on until the process ends.
    pub deadline: Duration,
}

impl Default for ChatLimits {
    /// Two million steps (at most some 128 MB of data) 16 MiB of output and 20 seconds.
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
        let deadline = ChatLimits::default().deadline;
        let compiled = stack::run(deadline, move || compile(&source)).map_err(|cause| interrupted(cause, deadline))?;
        let environment = compiled
            .map_err(|error| GenerationError::MalformedChatTemplate { line: error.line(), source: Box::new(error) })?;
        Ok(Self { environment, special_tokens })
    }

    /// The prompt for `messages`. It holds the special tokens already.
    ///
    /// # Errors
    /// [`GenerationError::EmptyConversation`]; [`GenerationError::ChatRejected`] if the template raises an exception;
    /// [`GenerationError::ChatTemplateLimit`]; [`GenerationError::ChatTemplate`] for any other failure.
    pub fn render(&self, messages: &[ChatMessage], options: &ChatOptions) -> Result<String, GenerationError> {
        if messages.is_empty() {
            return Err(GenerationError::EmptyConversation);
        }
        let fuel = options.limits.fuel.min(FUEL_LIMIT);
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(fuel));
        let context = self.context(messages, options);
        let output = LimitedOutput { bytes: Vec::new(), limit: options.limits.output_bytes, exceeded: false };
        let deadline = options.limits.deadline;
        stack::run(deadline, move || render(&environment, context, output, fuel))
            .map_err(|cause| interrupted(cause, deadline))?
    }

    fn context(&self, messages: &[ChatMessage], options: &ChatOptions) -> Value {
        let now = options.now;
        let strftime_now =
            Value::from_function(move |format: &str| date::strftime(now.unwrap_or_else(SystemTime::now), format));
        let messages: Vec<serde_json::Value> = messages.iter().map(ChatMessage::for_template).collect();
        let tokens = self.special_tokens.iter().map(|(name, token)| (name, Value::from(token)));
        let variables = options.variables.iter().map(|(name, value)| (name.as_str(), Value::from(Serde(value))));
        let given = [
            ("strftime_now", strftime_now),
            ("messages", Value::from(Serde(messages))),
            ("tools", Value::from(Serde(&options.tools))),
            ("documents", Value::from(Serde(&options.documents))),
            ("add_generation_prompt", Value::from(options.add_generation_prompt)),
        ];
        Value::from_pairs(tokens.chain(variables).chain(given))
    }
}

fn render(
    environment: &Environment<'_>,
    context: Value,
    mut output: LimitedOutput,
    fuel: u64,
) -> Result<String, GenerationError> {
    let rendered = environment
        .get_template(NAME)
        .and_then(|template| template.render_captured_to(context, &mut output).map(|_| ()));
    match rendered {
        Ok(()) => Ok(String::from_utf8_lossy(&output.bytes).into_owned()),
        Err(_) if output.exceeded => {
            Err(GenerationError::ChatTemplateLimit { resource: "bytes of output", limit: output.limit as u64 })
        }
        Err(error) => Err(failure(error, fuel)),
    }
}

fn interrupted(cause: Interruption, deadline: Duration) -> GenerationError {
    match cause {
        Interruption::Deadline => {
            GenerationError::ChatTemplateLimit { resource: "milliseconds", limit: deadline.as_millis() as u64 }
        }
        Interruption::Failure(source) => GenerationError::ChatTemplate { line: None, source },
    }
}

fn compile(source: &str) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_formatter(write_value);
    environment.set_unknown_method_callback(methods::call);
    environment.add_filter("tojson", json::tojson);
    environment.add_filter("string", |state: &State<'_, '_>, value: &Value| python::str(state, value));
    environment.add_function("raise_exception", raise_exception);
    // Debugging aids that show the context, and that errors would carry out of the thread with the large stack.
    environment.remove_global("debug");
    environment.remove_filter("pprint");
    environment.set_debug(false);
    environment.add_template_owned(NAME, generation_tags::replace(source))?;
    Ok(environment)
}

/// `{{ value }}`, as Python's `str` writes it.
fn write_value(out: &mut minijinja::Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Number | ValueKind::Seq | ValueKind::Map => {
            out.write_str(&python::str(state, value)?).map_err(|_| Error::new(ErrorKind::WriteFailure, "cannot write"))
        }
        _ => escape_formatter(out, state, value),
    }
}

fn raise_exception(state: &State<'_, '_>, message: &Value) -> Result<Value, Error> {
    let raised = Raised(python::str(state, message)?);
    Err(Error::new(ErrorKind::InvalidOperation, "the template raised an exception").with_source(raised))
}

/// Marks the errors of `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

fn failure(error: Error, fuel: u64) -> GenerationError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(current) = cause {
        if let Some(Raised(message)) = current.downcast_ref() {
            return GenerationError::ChatRejected { message: message.clone() };
        }
        if current.downcast_ref::<Error>().is_some_and(|error| error.kind() == ErrorKind::OutOfFuel) {
            return GenerationError::ChatTemplateLimit { resource: "steps", limit: fuel };
        }
        cause = current.source();
    }
    GenerationError::ChatTemplate { line: error.line(), source: Box::new(error) }
}

struct LimitedOutput {
    bytes: Vec<u8>,
    limit: usize,
    exceeded: bool,
}

impl Write for LimitedOutput {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if piece.len() > self.limit - self.bytes.len() {
            self.exceeded = true;
            return Err(io::Error::other("output limit"));
        }
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
