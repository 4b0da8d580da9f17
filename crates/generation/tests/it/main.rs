//! Tests through the public API, in one binary.

mod chat;
mod chat_limits;
mod generator;
mod sampling;
mod stream;
mod support;
mod token_ids;
mod tokenizer;
mod tokenizer_limits;
