//! Chat templates: from messages to the prompt that a model was trained on.

mod date;
mod generation_tags;
mod json;
mod message;
mod methods;
mod python;
mod stack;
mod template;

pub use message::ChatMessage;
pub use template::{ChatLimits, ChatOptions, ChatTemplate};
