//! How a family names and packs its parameters in checkpoints, as a list of rules; turned into a [`WeightMap`] for one spec.

use super::rule::{Located, PACKED_EXPERTS, Rule, STACKED_EXPERTS, Shapes};
use super::{IgnoredTensors, ParameterSlot, SourcePiece, Tie, WeightMap};
use crate::spec::{Declare, ModelSpec, ParameterSpec};
use std::collections::BTreeMap;

/// How a family names and packs its parameters in checkpoints. The default is Llama's layout: every parameter under its
/// own path.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// From the module's parameters to the checkpoint's tensors, applied in this order.
    pub rules: &'static [Rule],
    /// The same for checkpoints under the names of transformers' modules, which differ from those of published ones where
    /// `conversion_mapping.py` says: transformers 5 writes them with `save_original_format=False`. They are for parameters that a checkpoint
    /// lacks under the names of `rules`.
    pub module_rules: &'static [Rule],
    /// Whole-checkpoint renamings besides those of every family; see [`WeightMap::prefixes`].
    pub prefixes: &'static [(&'static str, &'static str)],
    /// `(pattern, reason)` of tensors that are left unread.
    pub ignored: &'static [(&'static str, &'static str)],
    /// Ends of the paths of parameters that stay float32 where the checkpoint stores them so; see [`ParameterSlot::keep_float32`].
    pub keep_float32: &'static [&'static str],
    /// Ends of the paths of parameters that are zero where the checkpoint lacks them; see [`WeightMap::zeros`].
    pub zeros: &'static [&'static str],
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

impl Default for Layout {
    fn default() -> Self {
        Self::LLAMA
    }
}

impl Layout {
    /// Every parameter under its own path; modules that have the experts of a mixture in two tensors.
    pub const LLAMA: Self = Self {
        rules: &[],
        module_rules: &[PACKED_EXPERTS, STACKED_EXPERTS],
        prefixes: &[],
        ignored: &[],
        keep_float32: &[],
        zeros: &[],
    };

    /// The weight map of a model with this layout.
    pub fn weight_map(&self, spec: &ModelSpec) -> WeightMap {
        let shapes = Shapes::new(spec, self.rules);
        let mut parameters = Vec::new();
        Declare::list(|to| spec.declare(to), &mut |parameter| parameters.push(self.locate(parameter, &shapes)));
        let alternatives = self.alternatives(spec, &parameters);
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
            zeros: self.zeros.iter().map(|&end| end.to_owned()).collect(),
            alternatives,
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

    /// Where the module rules put parameters, if elsewhere than the layout's own.
    fn alternatives(&self, spec: &ModelSpec, own: &[ParameterSlot]) -> BTreeMap<String, Vec<SourcePiece>> {
        let shapes = Shapes::new(spec, self.module_rules);
        let (mut alternatives, mut own) = (BTreeMap::new(), own.iter());
        Declare::list(|to| spec.declare(to), &mut |parameter| {
            let path = parameter.path.to_owned();
            let located = self.module_rules.iter().fold(Located::new(parameter), |it, rule| rule.apply(it, &shapes));
            let pieces = located.pieces();
            if own.next().is_none_or(|own| own.pieces != pieces) {
                alternatives.insert(path, pieces);
            }
        });
        alternatives
    }
}
