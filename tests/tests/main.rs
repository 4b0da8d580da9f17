//! Whole journeys through the public API: from files to numbers, texts and messages.

mod bad_input;
mod behaviours;
mod chunks;
mod config_expected;
mod demo;
mod hostile_values;
mod mapped;
mod parity;
mod quantized;
mod render;
mod results;
mod save;
mod save_quantized;
mod snapshots;
mod sparse;
mod stacked_experts;
mod support;
