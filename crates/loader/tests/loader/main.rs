//! Whole journeys through the crate, on small checkpoints that the tests write themselves.

mod bad_files;
mod common;
mod load;
mod plan;
mod save;
mod ties;
