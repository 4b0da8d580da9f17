//! From checkpoint tensors to parameters: names, shapes and the operations between.

mod layout;
mod map;
mod piece;
mod rule;
#[cfg(test)]
mod tests;

pub use crate::spec::ParameterRole;
pub use layout::Layout;
pub use map::{IgnoredTensors, ParameterSlot, Tie, WeightMap};
pub use piece::{SourcePiece, StridedView, ViewError, ViewOp};
pub use rule::{PACKED_EXPERTS, PACKED_GATE_UP, PackOrder, Rule, STACKED_EXPERTS, packed_qkv};
