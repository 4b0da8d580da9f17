//! One file for each command, with its arguments, `Args`, and `run`.

pub mod architectures;
pub mod bench;
pub mod cache;
pub mod chat;
pub mod doctor;
pub mod generate;
pub mod inspect;
pub mod logits;
pub mod plan;
pub mod pull;
pub mod quantize;
pub mod save;
