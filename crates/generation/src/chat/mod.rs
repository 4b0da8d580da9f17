//! Chat templates: from messages to the prompt that a model was trained on.

mod continued;
mod date;
mod jinja;
mod message;
mod stack;
mod template;

pub use message::ChatMessage;
pub use template::{ChatLimits, ChatOptions, ChatTemplate};
