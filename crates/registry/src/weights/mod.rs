//! From checkpoint tensors to parameters: names, shapes and the operations between.

mod experts;
mod layout;
mod map;
mod piece;

pub use experts::StackedExperts;
pub use layout::{FUSED_GATE_UP, Fused, FusedOrder, Layout, fused_qkv};
pub use map::{IgnoredTensors, ParameterRole, ParameterSlot, Tie, WeightMap};
pub use piece::{SourcePiece, StridedView, ViewError, ViewOp};
