//! Whole journeys through the crate, on small checkpoints that the tests write themselves.

mod bad_files;
mod common;
mod convert;
mod interrupted;
mod load;
mod mapped_files;
mod output;
mod plan;
mod prequantized;
mod quantize;
mod save;
mod save_quantized;
mod three_ways;
mod ties;
