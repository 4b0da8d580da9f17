//! From checkpoint tensors to parameters: names, shapes and the operations between.

mod experts;
mod layout;
mod map;
mod piece;
mod rule;
#[cfg(test)]
mod tests;

pub use crate::spec::ParameterRole;
pub use experts::StackedExperts;
pub use layout::Layout;
pub use map::{IgnoredTensors, ParameterSlot, Tie, WeightMap};
pub use piece::{SourcePiece, StridedView, ViewError, ViewOp};
pub use rule::{PACKED_GATE_UP, PackOrder, Rule, packed_qkv};
