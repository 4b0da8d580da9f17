//! Whole journeys through the public API: from files to numbers, texts and messages.

mod config_expected;
mod parity;
mod render;
mod snapshots;
mod sparse;
mod support;
