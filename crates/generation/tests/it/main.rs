//! Tests through the public API, in one binary.

mod chat;
mod chat_limits;
mod generator;
mod sampling;
mod stream;
mod support;
mod tokenizer;
