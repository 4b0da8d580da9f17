//! Experts that lie side by side in two tensors.

use super::{SourcePiece, ViewOp};
use crate::spec::{ModelSpec, Operation};
use serde::Serialize;

/// A mixture whose gated experts checkpoints may have in two tensors: `experts.gate_up_proj`
/// `[experts, 2 * intermediate_size, hidden_size]` and `experts.down_proj` `[experts, hidden_size, intermediate_size]`. transformers 5
/// keeps them so in memory, and writes them so where nothing takes them apart again (Mixtral's, Qwen's and OLMoE's modules).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StackedExperts {
    /// Path of the mixture, in the module and in such checkpoints alike: `model.layers.0.mlp`.
    pub module: String,
    /// Number of experts.
    pub num_experts: usize,
    /// Width of one.
    pub intermediate_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Whether the last two axes of a tensor may be swapped, which its shape tells: so Qwen3-VL's published files have them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub may_be_swapped: bool,
}

impl StackedExperts {
    /// The mixtures of `spec` whose experts may be stacked. Such checkpoints have the names of the module, whatever the layout renames.
    pub(super) fn of(spec: &ModelSpec, may_be_swapped: bool) -> Vec<Self> {
        let mut found = Vec::new();
        for (index, layer) in spec.backbone.layers.iter().enumerate() {
            for branch in &layer.branches {
                let Operation::Feed(feed) = &branch.operation else { continue };
                if let Some(moe) = feed.moe().filter(|moe| !moe.expert.bias) {
                    found.push(Self {
                        module: format!("model.layers.{index}.{}", branch.name),
                        num_experts: moe.num_experts,
                        intermediate_size: moe.expert.intermediate_size,
                        hidden_size: spec.backbone.hidden_size,
                        may_be_swapped,
                    });
                }
            }
        }
        found
    }

    /// The module that a parameter's path would be below, were it one of a mixture.
    pub fn module_of(path: &str) -> Option<&str> {
        let (module, _) = path.split_once(".experts.").or_else(|| path.split_once(".gate."))?;
        Some(module)
    }

    /// The two tensors of the experts.
    pub fn tensors(&self) -> [String; 2] {
        ["gate_up_proj", "down_proj"].map(|name| [&self.module, ".experts.", name].concat())
    }

    /// Where the parameter at `path` is in such a checkpoint, whose tensors have the shapes that `shape_of` gives; `None` if it is
    /// neither the router's weight nor an expert's.
    pub fn piece<'s>(&self, path: &str, shape_of: impl Fn(&str) -> Option<&'s [usize]>) -> Option<SourcePiece> {
        let name = path.strip_prefix(&self.module)?.strip_prefix('.')?;
        if name == "gate.weight" {
            return Some(SourcePiece::whole(path, &[self.num_experts, self.hidden_size]));
        }
        let (expert, projection) = name.strip_prefix("experts.")?.split_once('.')?;
        let index: usize = expert.parse().ok().filter(|index| *index < self.num_experts)?;
        let [gate_up, down] = self.tensors();
        let rows = [self.num_experts, self.intermediate_size.checked_mul(2)?, self.hidden_size];
        let own = ViewOp::Select { axis: 0, index };
        let half = |start| Some(ViewOp::Narrow { axis: 0, start, length: self.intermediate_size });
        let columns = [self.num_experts, self.hidden_size, self.intermediate_size];
        let (tensor, shape, part) = match projection {
            "gate_proj.weight" => (gate_up, rows, half(0)),
            "up_proj.weight" => (gate_up, rows, half(self.intermediate_size)),
            "down_proj.weight" => (down, columns, None),
            _ => return None,
        };
        let [experts, outputs, inputs] = shape;
        // Square ones are taken as they are, as transformers does.
        let swapped = [experts, inputs, outputs];
        let is_swapped = self.may_be_swapped && shape != swapped && shape_of(&tensor) == Some(&swapped[..]);
        let turned = is_swapped.then_some(ViewOp::Transpose(0, 1));
        let ops = [Some(own), turned, part].into_iter().flatten().collect();
        Some(SourcePiece::view(tensor, if is_swapped { &swapped } else { &shape }, ops))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_expert_is_a_range_of_the_two_tensors() {
        let experts = StackedExperts {
            module: "model.layers.0.mlp".into(),
            num_experts: 3,
            intermediate_size: 2,
            hidden_size: 5,
            may_be_swapped: false,
        };
        let piece = |path: &str| experts.piece(path, |_| None);
        let range = |name: &str| {
            let piece = piece(&format!("model.layers.0.mlp.experts.{name}.weight"))?;
            Some((piece.tensor.rsplit('.').next()?.to_owned(), piece.strided().ok()?.contiguous_range()?))
        };
        assert_eq!(range("0.gate_proj"), Some(("gate_up_proj".to_owned(), 0..10)));
        assert_eq!(range("0.up_proj"), Some(("gate_up_proj".to_owned(), 10..20)));
        assert_eq!(range("2.up_proj"), Some(("gate_up_proj".to_owned(), 50..60)));
        assert_eq!(range("2.down_proj"), Some(("down_proj".to_owned(), 20..30)));
        for other in ["3.up_proj", "x.up_proj", "1.other"] {
            assert_eq!(range(other), None, "{other}");
        }
        assert_eq!(piece("model.layers.0.mlp.gate.weight").unwrap().tensor_shape, [3, 5]);
        assert_eq!(piece("model.layers.0.mlp.shared_expert.up_proj.weight"), None);
        assert_eq!(piece("model.layers.00.mlp.gate.weight"), None);
    }

    #[test]
    fn the_shape_tells_which_axes_are_swapped() {
        let experts = |may_be_swapped| StackedExperts {
            module: "model.layers.0.mlp".into(),
            num_experts: 3,
            intermediate_size: 2,
            hidden_size: 5,
            may_be_swapped,
        };
        let path = "model.layers.0.mlp.experts.2.up_proj.weight";
        let swapped: &[usize] = &[3, 5, 4];
        let turned = experts(true).piece(path, |_| Some(swapped)).unwrap();
        // Columns 2 and 3 of the last of three matrices of five rows.
        let view = turned.strided().unwrap();
        assert_eq!((view.offset, &view.shape[..], &view.strides[..]), (42, &[2, 5][..], &[1, 4][..]));
        for (may, shape) in [(false, swapped), (true, &[3, 4, 5][..])] {
            let as_they_are = experts(may).piece(path, |_| Some(shape)).unwrap();
            assert_eq!(as_they_are.tensor_shape, [3, 4, 5]);
        }
    }
}
