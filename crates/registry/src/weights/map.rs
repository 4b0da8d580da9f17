//! The weight map of one model.

use super::{ParameterRole, SourcePiece, ViewOp};
use serde::Serialize;
use std::collections::BTreeMap;

/// For each parameter of a model: where in the checkpoint its values are.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct WeightMap {
    /// Every parameter, in module order.
    pub parameters: Vec<ParameterSlot>,
    /// Parameters that may share storage.
    pub ties: Vec<Tie>,
    /// Renamings of whole checkpoints: if a tensor is not found under its name, the name with `from` at its start replaced
    /// by `to` is looked up (`transformer.` -> `` for files saved from the bare base model,
    /// `model.` -> `model.language_model.` for text models inside a wrapper).
    pub prefixes: Vec<(String, String)>,
    /// Checkpoint tensors that are left unread on purpose.
    pub ignored: Vec<IgnoredTensors>,
    /// Ends of the paths of parameters that are zero where the checkpoint has no tensor for them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub zeros: Vec<String>,
    /// Where parameters, by path, are in checkpoints that do not have the tensors of their pieces: under the names that transformers
    /// gives its modules, experts in two tensors.
    #[serde(skip)]
    pub alternatives: BTreeMap<String, Vec<SourcePiece>>,
    /// Where a piece of a projection is a transposed matrix, the checkpoint has it as `[in_features, out_features]` (GPT-2's
    /// `Conv1D`). Without this it is the module that wants `[in_features, out_features]`, as Burn's own `Linear` does, and then
    /// the projection has no 4-bit form.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub transposed_projections: bool,
}

impl WeightMap {
    /// Why a parameter cannot be quantised: its pieces transpose a matrix of the checkpoint, so that rows of the weight would be
    /// taken for its columns.
    pub fn wrong_way_round(&self, slot: &ParameterSlot) -> Option<String> {
        let turned = |piece: &&SourcePiece| match piece.ops.as_slice() {
            [ViewOp::Transpose(0, 1) | ViewOp::Transpose(1, 0), rest @ ..] => {
                piece.tensor_shape.len() == 2 && !rest.iter().any(ViewOp::transposes)
            }
            _ => false,
        };
        let stored_so = self.transposed_projections && slot.role != ParameterRole::OutputHead;
        let piece = slot.pieces.iter().find(turned).filter(|_| !stored_so)?;
        Some(format!(
            "it is `{}` transposed, but weights in 4 bits are `[out_features, in_features]`: map the tensor as it is, leave the \
             parameter dense, or let the map say that projections are stored transposed",
            piece.tensor
        ))
    }
}

/// One parameter of a module.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ParameterSlot {
    /// Path in the module: `model.layers.0.self_attn.q_proj.weight`.
    pub path: String,
    /// Shape in the module. Projections are `[out_features, in_features]`.
    pub shape: Vec<usize>,
    /// What the parameter is for.
    pub role: ParameterRole,
    /// Stays float32 where the checkpoint stores it so, whatever dtype is requested.
    pub keep_float32: bool,
    /// Pieces that fill the parameter one after another in row-major order. One piece: a rename or a view; several: a
    /// concatenation along the first axis, or a stack.
    pub pieces: Vec<SourcePiece>,
}

/// Two parameters that share storage if config and checkpoint agree.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tie {
    /// The parameter that follows: `lm_head.weight`.
    pub parameter: String,
    /// The parameter it follows: `model.embed_tokens.weight`.
    pub to: String,
    /// Whether the config requests it. The architecture supports it, or there would be no `Tie`.
    pub requested: bool,
}

/// Checkpoint tensors that are left unread on purpose, matched by name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IgnoredTensors {
    /// `*` stands for any run of characters.
    pub pattern: String,
    /// Why they are not needed.
    pub reason: String,
}

impl IgnoredTensors {
    /// Whether `name` is one of them.
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.pattern.split('*');
        let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
        let mut open_end = false;
        for part in parts {
            open_end = part.is_empty();
            match rest.find(part) {
                Some(_) if part.is_empty() => {}
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.is_empty()
            || open_end
            || (self.pattern.contains('*') && name.ends_with(self.pattern.rsplit('*').next().unwrap_or("")))
    }
}
