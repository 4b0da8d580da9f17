//! Renders a conversation with a chat template.
//!
//! ```text
//! cargo run -p automodel-generation --example chat_template
//! cargo run -p automodel-generation --example chat_template -- TEMPLATE.jinja
//! ```

use automodel_generation::{ChatMessage, ChatOptions, ChatTemplate, SpecialTokens};
use serde_json::json;
use std::error::Error;

const CHATML: &str = "\
{% for message in messages %}
<|im_start|>{{ message.role }}
{{ message.content | trim }}<|im_end|>
{% endfor %}
{% if tools %}{{ tools | tojson }}
{% endif %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}";

fn main() -> Result<(), Box<dyn Error>> {
    let source = std::env::args().nth(1).map_or(Ok(CHATML.to_owned()), std::fs::read_to_string)?;
    let special_tokens = SpecialTokens::default().with("bos_token", "<s>").with("eos_token", "</s>");
    let template = ChatTemplate::new(source, special_tokens)?;
    let messages = [
        ChatMessage::system("Add numbers."),
        ChatMessage::user("27+48?"),
        ChatMessage::assistant("75"),
        ChatMessage::user("And one more?"),
    ];
    let tool = json!({"type": "function", "function": {"name": "add", "description": "a + b"}});
    let options = ChatOptions { tools: Some(vec![tool]), ..ChatOptions::default() };
    println!("{}", template.render(&messages, &options)?);
    Ok(())
}
