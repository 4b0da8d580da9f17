//! One message of a conversation.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Names under which a message's reasoning is passed, the standard one first
/// (`_REASONING_FIELDS` in transformers' `chat_template_utils.py`).
const REASONING_FIELDS: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// One message of a conversation: a mapping with a `role`, usually a `content`, and whatever else a template reads
/// (`tool_calls`, `reasoning_content`, ...).
///
/// ```
/// use automodel_generation::ChatMessage;
///
/// let message = ChatMessage::new("tool", "24 °C").with("name", "temperature");
/// assert_eq!(serde_json::to_string(&message)?, r#"{"role":"tool","content":"24 °C","name":"temperature"}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChatMessage {
    fields: Map<String, Value>,
}

impl ChatMessage {
    /// A message of `role` with `content`: a string, or a list of parts such as `{"type": "text", "text": ".."}`.
    pub fn new(role: impl Into<String>, content: impl Into<Value>) -> Self {
        let role = Value::String(role.into());
        Self { fields: Map::from_iter([("role".to_owned(), role), ("content".to_owned(), content.into())]) }
    }

    /// A message of the user.
    pub fn user(content: impl Into<Value>) -> Self {
        Self::new("user", content)
    }

    /// A message of the model.
    pub fn assistant(content: impl Into<Value>) -> Self {
        Self::new("assistant", content)
    }

    /// Instructions before the conversation.
    pub fn system(content: impl Into<Value>) -> Self {
        Self::new("system", content)
    }

    /// Sets a field.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.fields.insert(name.into(), value.into());
        self
    }

    /// The fields, in the order in which they were given.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    /// The message as templates read it: without null fields, and with reasoning under its standard name and under `thinking`, which comes first
    /// (`apply_chat_template` and `_alias_reasoning_fields` in transformers).
    pub(super) fn for_template(&self) -> Value {
        let given = self.fields.iter().filter(|(_, value)| !value.is_null());
        let reasoning =
            REASONING_FIELDS.iter().find_map(|name| self.fields.get(*name).filter(|value| !value.is_null()));
        let mut fields = Map::new();
        if let Some(reasoning) = reasoning {
            fields.insert("thinking".to_owned(), reasoning.clone());
        }
        fields.extend(given.map(|(name, value)| (name.clone(), value.clone())));
        if let Some(reasoning) = reasoning {
            fields.insert("reasoning_content".to_owned(), reasoning.clone());
        }
        Value::Object(fields)
    }
}

impl From<Map<String, Value>> for ChatMessage {
    fn from(fields: Map<String, Value>) -> Self {
        Self { fields }
    }
}
