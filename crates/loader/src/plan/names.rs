//! Names of the weight map to names of the files.

use crate::TensorInfo;
use automodel_registry::weights::WeightMap;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    ops::Bound,
};

/// Finds tensors under their own names or under a prefix that the whole checkpoint uses.
pub(crate) struct Names<'a> {
    tensors: &'a BTreeMap<String, TensorInfo>,
    /// The same without their order: names have long beginnings in common, which a tree compares again and again.
    by_name: HashMap<&'a str, &'a TensorInfo>,
    /// Renamings in force: `from` at the start of a name is `to` in this checkpoint.
    pub renamed: Vec<(String, String)>,
}

impl<'a> Names<'a> {
    /// Decides for each `from` among the map's prefixes, once, which spelling most names of the checkpoint have. Without a
    /// majority for another, names stay as they are.
    pub fn new(tensors: &'a BTreeMap<String, TensorInfo>, map: &WeightMap) -> Self {
        let mut spellings: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (from, to) in &map.prefixes {
            spellings.entry(from).or_default().push(to);
        }
        let mut renamed = Vec::new();
        for (from, spellings) in spellings {
            let suffixes = Suffixes::of(map, from);
            let spellings: Vec<&str> = spellings.into_iter().filter(|to| suffixes.may_follow(to, tensors)).collect();
            if spellings.is_empty() {
                continue;
            }
            let (mut best, mut most) = (from, suffixes.count(from, tensors));
            for to in spellings {
                let found = suffixes.count(to, tensors);
                if found > most {
                    (best, most) = (to, found);
                }
            }
            if best != from {
                renamed.push((from.to_owned(), best.to_owned()));
            }
        }
        // The longest prefix is the most specific one.
        renamed.sort_by_key(|(from, _)| std::cmp::Reverse(from.len()));
        let by_name = tensors.iter().map(|(name, info)| (name.as_str(), info)).collect();
        Self { tensors, by_name, renamed }
    }

    /// The name in this checkpoint of the tensor that the map calls `name`.
    pub fn resolve(&self, name: &str) -> Option<(&'a str, &'a TensorInfo)> {
        let renamed = self.renamed.iter().find_map(|(from, to)| {
            let rest = name.strip_prefix(from.as_str())?;
            self.exact(&[to, rest].concat())
        });
        renamed.or_else(|| self.exact(name))
    }

    /// Names that the tensor that the map calls `name` may have in this checkpoint.
    pub fn known_here_as(&self, name: &str) -> Vec<String> {
        let renamed =
            self.renamed.iter().filter_map(|(from, to)| Some(format!("{to}{}", name.strip_prefix(from.as_str())?)));
        renamed.chain([name.to_owned()]).collect()
    }

    /// The tensor of that name in this checkpoint.
    pub fn exact(&self, name: &str) -> Option<(&'a str, &'a TensorInfo)> {
        self.by_name.get_key_value(name).map(|(name, info)| (*name, *info))
    }

    /// All names in this checkpoint.
    pub fn all(&self) -> impl Iterator<Item = &'a str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Names in this checkpoint that begin so.
    pub fn beginning(&self, start: &str) -> impl Iterator<Item = &'a str> {
        let from = self.tensors.range::<str, _>((Bound::Included(start), Bound::Unbounded));
        from.map(|(name, _)| name.as_str()).take_while(move |name| name.starts_with(start))
    }

    /// Names that the map may have for the tensor that is called `stored` here.
    pub fn known_as(&self, stored: &str) -> Vec<String> {
        let renamed =
            self.renamed.iter().filter_map(|(from, to)| Some(format!("{from}{}", stored.strip_prefix(to.as_str())?)));
        std::iter::once(stored.to_owned()).chain(renamed).collect()
    }
}

/// The suffixes that follow a prefix in the names of a map.
struct Suffixes<'m> {
    names: Vec<&'m str>,
    /// Their parts before the first dot.
    starts: BTreeSet<&'m str>,
}

impl<'m> Suffixes<'m> {
    fn of(map: &'m WeightMap, from: &str) -> Self {
        let names = map.parameters.iter().flat_map(|slot| &slot.pieces);
        let names: Vec<&str> = names.filter_map(|piece| piece.tensor.strip_prefix(from)).collect();
        let mut starts = BTreeSet::new();
        let mut last = None;
        for name in &names {
            let start = name.split('.').next().unwrap_or_default();
            // Neighbours mostly start alike.
            if last.replace(start) != Some(start) {
                starts.insert(start);
            }
        }
        Self { names, starts }
    }

    /// Whether any tensor can be one of these names behind `to`. Quick, because most checkpoints have none.
    fn may_follow(&self, to: &str, tensors: &BTreeMap<String, TensorInfo>) -> bool {
        self.starts.iter().any(|start| {
            let start = format!("{to}{start}");
            let mut from = tensors.range::<str, _>((Bound::Included(start.as_str()), Bound::Unbounded));
            from.next().is_some_and(|(name, _)| name.starts_with(&start))
        })
    }

    /// How many of these names, each counted once, the checkpoint has behind `to`.
    fn count(&self, to: &str, tensors: &BTreeMap<String, TensorInfo>) -> usize {
        let suffixes: HashSet<&str> = self.names.iter().copied().collect();
        suffixes.into_iter().filter(|suffix| tensors.contains_key(&[to, suffix].concat())).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StoredDtype;
    use automodel_registry::weights::{ParameterRole, ParameterSlot, SourcePiece};

    fn tensors(names: &[&str]) -> BTreeMap<String, TensorInfo> {
        let info = TensorInfo { dtype: StoredDtype::F32, shape: vec![1], shard: 0, range: 0..4 };
        names.iter().map(|name| (name.to_string(), info.clone())).collect()
    }

    fn map(names: &[&str], prefixes: &[(&str, &str)]) -> WeightMap {
        let slot = |name: &&str| ParameterSlot {
            path: name.to_string(),
            shape: vec![1],
            role: ParameterRole::Other,
            keep_float32: false,
            pieces: vec![SourcePiece::whole(*name, &[1])],
        };
        WeightMap {
            parameters: names.iter().map(slot).collect(),
            prefixes: prefixes.iter().map(|(from, to)| (from.to_string(), to.to_string())).collect(),
            ..WeightMap::default()
        }
    }

    #[test]
    fn a_bare_base_model_is_found_without_its_prefix() {
        let stored = tensors(&["h.0.w", "h.1.w", "wte.weight", "lm_head.weight"]);
        let names = ["transformer.h.0.w", "transformer.h.1.w", "transformer.wte.weight", "lm_head.weight"];
        let names = Names::new(&stored, &map(&names, &[("transformer.", "")]));
        assert_eq!(names.resolve("transformer.h.1.w").unwrap().0, "h.1.w");
        assert_eq!(names.resolve("lm_head.weight").unwrap().0, "lm_head.weight");
        assert!(names.resolve("transformer.h.2.w").is_none());
        assert!(names.known_as("h.0.attn.bias").contains(&"transformer.h.0.attn.bias".to_owned()));
    }

    #[test]
    fn one_stray_tensor_does_not_rename_the_checkpoint() {
        let stored = tensors(&["model.a", "model.b", "model.language_model.a"]);
        let names = Names::new(&stored, &map(&["model.a", "model.b"], &[("model.", "model.language_model.")]));
        assert!(names.renamed.is_empty());
        assert_eq!(names.resolve("model.a").unwrap().0, "model.a");
    }

    #[test]
    fn each_part_of_a_wrapper_may_have_its_own_prefix() {
        let stored = tensors(&["language_model.model.a", "language_model.lm_head.weight"]);
        let prefixes = [
            ("model.", "model.language_model."),
            ("model.", "language_model.model."),
            ("lm_head.", "language_model.lm_head."),
        ];
        let names = Names::new(&stored, &map(&["model.a", "lm_head.weight"], &prefixes));
        assert_eq!(names.resolve("model.a").unwrap().0, "language_model.model.a");
        assert_eq!(names.resolve("lm_head.weight").unwrap().0, "language_model.lm_head.weight");
    }
}
