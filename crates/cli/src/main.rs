//! The `automodel` command.
fn main() {}
