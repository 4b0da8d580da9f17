//! How a family names and packs its parameters in checkpoints, as a list of rules; turned into a [`WeightMap`] for one spec.

use super::rule::{Located, Rule, Shapes};
use super::{IgnoredTensors, ParameterSlot, StackedExperts, Tie, WeightMap};
use crate::spec::{Declare, ModelSpec, ParameterSpec};

/// How a family names and packs its parameters in checkpoints. The default is Llama's layout: every parameter under its
/// own path.
#[derive(Clone, Copy, Debug, Default)]
pub struct Layout {
    /// From the module's parameters to the checkpoint's tensors, applied in this order.
    pub rules: &'static [Rule],
    /// Whole-checkpoint renamings besides those of every family; see [`WeightMap::prefixes`].
    pub prefixes: &'static [(&'static str, &'static str)],
    /// `(pattern, reason)` of tensors that are left unread.
    pub ignored: &'static [(&'static str, &'static str)],
    /// Ends of the paths of parameters that stay float32 where the checkpoint stores them so; see [`ParameterSlot::keep_float32`].
    pub keep_float32: &'static [&'static str],
    /// Whether [stacked experts](StackedExperts) may be stored with their last two axes swapped.
    pub swapped_experts: bool,
}

/// Parts of paths that are dropped or added freely between a base model and the model with a head, and around text models
/// that are part of something larger.
const COMMON_PREFIXES: &[(&str, &str)] = &[
    ("model.", "model.language_model."),
    ("model.", "language_model.model."),
    ("model.", ""),
    ("lm_head.", "language_model.lm_head."),
];

/// Tensors that old checkpoints of many families carry and nothing needs.
const COMMON_IGNORED: &[(&str, &str)] =
    &[("*.rotary_emb.inv_freq", "computed from the config"), ("*rotary_pos_emb.inv_freq", "computed from the config")];

impl Layout {
    /// Every parameter under its own path.
    pub const LLAMA: Self = Self { rules: &[], prefixes: &[], ignored: &[], keep_float32: &[], swapped_experts: false };

    /// The weight map of a model with this layout.
    pub fn weight_map(&self, spec: &ModelSpec) -> WeightMap {
        let shapes = Shapes::new(spec, self.rules);
        let mut parameters = Vec::new();
        Declare::list(|to| spec.declare(to), &mut |parameter| parameters.push(self.locate(parameter, &shapes)));
        let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|&(from, to)| (from.to_owned(), to.to_owned())).collect()
        };
        let mut prefixes = owned(self.prefixes);
        prefixes.extend(owned(COMMON_PREFIXES));
        let ignored = self.ignored.iter().chain(COMMON_IGNORED);
        let tie = spec.head().map(|head| Tie {
            parameter: "lm_head.weight".to_owned(),
            to: "model.embed_tokens.weight".to_owned(),
            requested: head.tied,
        });
        WeightMap {
            parameters,
            ties: tie.into_iter().collect(),
            prefixes,
            ignored: ignored
                .map(|&(pattern, reason)| IgnoredTensors { pattern: pattern.to_owned(), reason: reason.to_owned() })
                .collect(),
            stacked_experts: StackedExperts::of(spec, self.swapped_experts),
            transposed_projections: self.rules.iter().any(|rule| matches!(rule, Rule::Transpose(_))),
        }
    }

    /// How many parameters, counted by the pieces that fill them, [`weight_map`](Self::weight_map) would list for `spec`, without
    /// listing them.
    pub fn piece_count(&self, spec: &ModelSpec) -> usize {
        let mut count = 0_usize;
        Declare::count(|to| spec.declare(to), &mut |parameter, times| {
            let pieces = if self.splits(parameter.path) { parameter.heads } else { 1 };
            count = count.saturating_add(times.saturating_mul(pieces));
        });
        count
    }

    fn splits(&self, path: &str) -> bool {
        self.rules.iter().any(|rule| matches!(rule, Rule::SplitHeads { module, .. } if path.contains(module)))
    }

    fn locate(&self, parameter: ParameterSpec<'_>, shapes: &Shapes) -> ParameterSlot {
        let located = self.rules.iter().fold(Located::new(parameter), |located, rule| rule.apply(located, shapes));
        ParameterSlot {
            path: parameter.path.to_owned(),
            shape: parameter.shape.to_vec(),
            role: parameter.role,
            keep_float32: self.keep_float32.iter().any(|end| parameter.path.ends_with(end)),
            pieces: located.pieces(),
        }
    }
}
