//! A last message that the model continues (`continue_final_message` in transformers).

use crate::GenerationError;
use serde_json::{Map, Value};

/// Written after the last message, so that its end is found in the prompt; transformers writes the same.
const MARK: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

/// The content of the last message, marked.
pub(super) struct Continued {
    text: String,
}

impl Continued {
    /// Marks the end of the last message: of its text, or of the last text among its parts.
    pub(super) fn mark(messages: &mut [Value]) -> Result<Self, GenerationError> {
        let content = messages.last_mut().and_then(|message| message.get_mut("content"));
        let text = match content {
            Some(Value::String(text)) => Some(text),
            Some(Value::Array(parts)) => {
                let last = parts
                    .iter_mut()
                    .rev()
                    .find_map(|part| part.as_object_mut().filter(|part| part.contains_key("text")));
                last.and_then(text_of)
            }
            _ => None,
        };
        let Some(text) = text else { return Err(unusable("it has no text")) };
        let before = text.clone();
        text.push_str(MARK);
        Ok(Self { text: before })
    }

    /// The prompt up to the mark.
    pub(super) fn cut(&self, prompt: &str) -> Result<String, GenerationError> {
        let found = prompt.rfind(MARK.trim_end()).filter(|_| prompt.contains(self.text.trim()));
        let Some(end) = found else { return Err(unusable("the chat template leaves it out, or changes it")) };
        let kept = &prompt[..end];
        // A template that trims the message has trimmed the mark too.
        let kept = if prompt[end..].starts_with(MARK) { kept } else { kept.trim_end() };
        Ok(kept.to_owned())
    }
}

fn text_of(part: &mut Map<String, Value>) -> Option<&mut String> {
    match part.get_mut("text")? {
        Value::String(text) => Some(text),
        _ => None,
    }
}

fn unusable(reason: &'static str) -> GenerationError {
    GenerationError::UncontinuedMessage { reason }
}
