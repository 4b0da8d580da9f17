//! Families whose mathematics comes near to that of a checkpoint of an unsupported model type: by tensors and config keys, never by
//! names of models.

use crate::weights::SourcePiece;
use crate::{Lowered, Registry, ResolveOptions};
use automodel_config::{ConfigError, Overrides, RawConfig};
use std::collections::HashSet;
use std::fmt;

/// Groups of families that are told; those of a group differ from the checkpoint in the same.
const TOLD: usize = 3;

/// How near a family comes to a checkpoint of another model type.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SimilarFamily {
    /// The family.
    pub model_type: String,
    /// Tensors of the files that it has too, of the same name and shape.
    pub tensors: usize,
    /// All tensors of the files.
    pub of_tensors: usize,
    /// Tensors that it needs and the files lack.
    pub missing: usize,
    /// Keys of the config that it does not read.
    pub unread_keys: Vec<String>,
}

impl SimilarFamily {
    /// Tensors and keys that only one of the two has: nearest is least. A tensor counts more than all keys.
    fn distance(&self) -> [usize; 2] {
        [self.of_tensors - self.tensors + self.missing, self.unread_keys.len()]
    }
}

impl SimilarFamily {
    /// What is alike and what differs: `(28 of 30 tensors, all config keys)`.
    fn comparison(&self) -> String {
        Comparison(self).to_string()
    }
}

impl fmt::Display for SimilarFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.model_type, Comparison(self))
    }
}

/// Families with what is alike, those that share it together: `` `helium`, `llama` (all 30 tensors, all config keys) ``.
pub(crate) fn told(similar: &[SimilarFamily]) -> String {
    let groups = similar.chunk_by(|one, other| one.comparison() == other.comparison()).map(|group| {
        let names: Vec<String> = group.iter().map(|family| format!("`{}`", family.model_type)).collect();
        format!("{} {}", names.join(", "), Comparison(&group[0]))
    });
    groups.collect::<Vec<_>>().join("; ")
}

struct Comparison<'a>(&'a SimilarFamily);

impl fmt::Display for Comparison<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const KEYS: usize = 5;
        let Self(near) = self;
        write!(f, "(")?;
        match (near.of_tensors - near.tensors, near.missing) {
            (0, 0) => write!(f, "all {} tensors", near.of_tensors)?,
            (_, 0) => write!(f, "{} of {} tensors", near.tensors, near.of_tensors)?,
            (_, missing) => write!(f, "{} of {} tensors, and {missing} more", near.tensors, near.of_tensors)?,
        }
        match near.unread_keys.as_slice() {
            [] => write!(f, ", all config keys)"),
            keys => {
                let shown: Vec<String> = keys.iter().take(KEYS).map(|key| format!("`{key}`")).collect();
                let more = if keys.len() > KEYS { ", ..." } else { "" };
                write!(f, ", not the config keys {}{more})", shown.join(", "))
            }
        }
    }
}

impl Registry {
    /// The families that come nearest to a checkpoint, nearest first: `raw` is tried as the config of each, and its tensors are
    /// compared by name and shape with `tensors`. Families with less than half of them are not told.
    pub fn similar<'a>(
        &self,
        raw: &RawConfig,
        overrides: &Overrides,
        tensors: impl IntoIterator<Item = (&'a str, &'a [usize])>,
    ) -> Vec<SimilarFamily> {
        let files: HashSet<(&str, &[usize])> = tensors.into_iter().collect();
        let tried = self.families().filter_map(|family| self.compare(family.model_type, raw, overrides, &files));
        let mut near: Vec<SimilarFamily> = tried.filter(|near| 2 * near.tensors >= near.of_tensors.max(1)).collect();
        near.sort_by_cached_key(|near| (near.distance(), near.comparison(), near.model_type.clone()));
        let mut groups = near.chunk_by(|one, other| one.comparison() == other.comparison());
        let told: usize = groups.by_ref().take(TOLD).map(<[_]>::len).sum();
        near.truncate(told);
        near
    }

    fn compare(
        &self,
        family: &str,
        raw: &RawConfig,
        overrides: &Overrides,
        files: &HashSet<(&str, &[usize])>,
    ) -> Option<SimilarFamily> {
        let options = ResolveOptions { assume_model_type: Some(family.to_owned()), ..ResolveOptions::default() };
        let (config, resolution) = self.resolve_config(raw, overrides, &options).ok()?;
        let lowered = self.lower_for(&config, &resolution, files.len()).ok()?;
        let unread_keys = match config.check_all_read(&[]) {
            Ok(()) => Vec::new(),
            Err(ConfigError::UnreadKeys { keys, .. }) => keys.into_iter().map(|unread| unread.key).collect(),
            Err(_) => return None,
        };
        let (tensors, missing) = counts(&lowered, files);
        Some(SimilarFamily { model_type: family.to_owned(), tensors, of_tensors: files.len(), missing, unread_keys })
    }
}

/// Tensors of the files that fill parameters, and tensors that are missing.
fn counts(lowered: &Lowered, files: &HashSet<(&str, &[usize])>) -> (usize, usize) {
    let map = &lowered.weights;
    let tied: HashSet<&str> = map.ties.iter().map(|tie| tie.parameter.as_str()).collect();
    let find = |name: &str, shape: &[usize]| {
        let renamed =
            map.prefixes.iter().filter_map(|(from, to)| Some([to, name.strip_prefix(from.as_str())?].concat()));
        std::iter::once(name.to_owned()).chain(renamed).find(|name| files.contains(&(name.as_str(), shape)))
    };
    let find_piece = |piece: &SourcePiece| find(&piece.tensor, &piece.tensor_shape);
    let (mut found, mut missing) = (HashSet::new(), HashSet::new());
    for slot in &map.parameters {
        let others = map.alternatives.get(&slot.path);
        let pieces =
            others.filter(|pieces| pieces.iter().all(|piece| find_piece(piece).is_some())).unwrap_or(&slot.pieces);
        for piece in pieces {
            match find_piece(piece) {
                Some(name) => {
                    found.insert(name);
                }
                // A tied head need not be in the files.
                None if tied.contains(slot.path.as_str()) => {}
                None => {
                    missing.insert(piece.tensor.as_str());
                }
            }
        }
    }
    let ignored = |name: &&str| map.ignored.iter().any(|ignored| ignored.matches(name));
    found.extend(files.iter().map(|(name, _)| *name).filter(ignored).map(str::to_owned));
    (found.len(), missing.len())
}
