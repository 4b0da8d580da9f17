#![doc = include_str!("../README.md")]

mod config;
mod error;

pub use config::{BitsAndBytes4bit, CheckpointQuantization, QuantType};
pub use error::QuantError;
