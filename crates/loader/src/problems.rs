//! Everything that keeps a checkpoint from filling a model, collected in one report.

use crate::StoredDtype;
use serde::Serialize;
use std::{collections::BTreeMap, fmt};

/// How many entries of each kind a message spells out.
const SHOWN: usize = 10;

/// Everything that keeps a checkpoint from filling a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Problems {
    /// Tensors that no file has.
    pub missing: Vec<MissingTensor>,
    /// Tensors of another shape than the model needs.
    pub shapes: Vec<ShapeMismatch>,
    /// Tensors whose elements cannot become floats.
    pub dtypes: Vec<UnusableDtype>,
    /// Quantised parameters that cannot be read.
    pub quantization: Vec<QuantizationFault>,
    /// Entries of the weight map that contradict themselves.
    pub map: Vec<WeightMapFault>,
    /// Number of tensors in the files that nothing reads.
    pub unexpected: usize,
}

/// A tensor that no file has.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MissingTensor {
    /// Its name.
    pub tensor: String,
    /// The parameter it is for.
    pub parameter: String,
    /// Similar names among the tensors that nothing reads, best first; filled in for the first ten.
    pub nearest: Vec<String>,
    /// Further information, about ties for instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A tensor of another shape than the model needs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShapeMismatch {
    /// The tensor.
    pub tensor: String,
    /// A parameter that reads it.
    pub parameter: String,
    /// Shape that the model needs.
    pub expected: Vec<usize>,
    /// Shape in the file.
    pub found: Vec<usize>,
}

/// A tensor whose elements cannot become floats.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UnusableDtype {
    /// The tensor.
    pub tensor: String,
    /// A parameter that reads it.
    pub parameter: String,
    /// Dtype in the file.
    pub found: StoredDtype,
}

/// A quantised parameter that cannot be read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QuantizationFault {
    /// The parameter.
    pub parameter: String,
    /// What is wrong, with the tensor.
    pub reason: String,
}

/// An entry of the weight map that contradicts itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WeightMapFault {
    /// The parameter.
    pub parameter: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Problems {
    /// Whether nothing is wrong. Tensors that nothing reads are not wrong by themselves.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty()
            && self.shapes.is_empty()
            && self.dtypes.is_empty()
            && self.quantization.is_empty()
            && self.map.is_empty()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.missing.is_empty() {
            let what = format!("{} tensor(s) missing", self.missing.len());
            parts.push(list(&what, &self.missing, |entry| {
                let note = entry.note.as_ref().map_or(String::new(), |note| format!(" ({note})"));
                format!("`{}`{note}{}", entry.tensor, nearest_hint(&entry.nearest))
            }));
        }
        if !self.shapes.is_empty() {
            let what = format!("{} tensor(s) of another shape", self.shapes.len());
            parts.push(list(&what, &self.shapes, |entry| {
                format!("`{}` is {:?} and should be {:?}", entry.tensor, entry.found, entry.expected)
            }));
        }
        if !self.dtypes.is_empty() {
            let what = format!("{} tensor(s) that are not floats of 16 bits or more", self.dtypes.len());
            let listed = list(&what, &self.dtypes, |entry| format!("`{}` is {}", entry.tensor, entry.found));
            parts.push(format!("{listed}{}", self.dtype_advice()));
        }
        if !self.quantization.is_empty() {
            let what = format!("{} quantised parameter(s) that cannot be read", self.quantization.len());
            parts.push(list(&what, &self.quantization, |entry| format!("`{}`: {}", entry.parameter, entry.reason)));
        }
        if !self.map.is_empty() {
            let what = format!("{} fault(s) in the weight map of this family", self.map.len());
            parts.push(list(&what, &self.map, |entry| format!("`{}`: {}", entry.parameter, entry.reason)));
        }
        if self.unexpected > 0 {
            parts.push(format!("{} tensor(s) of the files are read by nothing", self.unexpected));
        }
        f.write_str(&parts.join("; "))
    }
}

impl Problems {
    fn dtype_advice(&self) -> &'static str {
        if self.dtypes.iter().any(|entry| entry.found.is_low_precision_float()) {
            ". Values of 8 bits or fewer need the scales that were stored with them, and this version reads no such format: \
             use the checkpoint's 16-bit edition"
        } else {
            ". Integers where weights belong mean a quantised checkpoint of a format that is not read here: use its 16-bit \
             edition"
        }
    }
}

/// `what: first, second, ... and 3 more`. Entries that read the same are written once.
fn list<T>(what: &str, entries: &[T], show: impl Fn(&T) -> String) -> String {
    let shown: Vec<String> = entries.iter().take(SHOWN).map(show).collect();
    let more = match entries.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    format!("{what}: {}{more}", shown.join(", "))
}

/// `, nearest: a, b`, or nothing.
pub(crate) fn nearest_hint(nearest: &[String]) -> String {
    match nearest {
        [] => String::new(),
        names => format!(" (similar: {})", names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
    }
}

/// Fills in similar names for the first missing tensors, out of the `unread` ones.
pub(crate) fn suggest_names(missing: &mut [MissingTensor], unread: &[&str]) {
    for entry in missing.iter_mut().take(SHOWN) {
        entry.nearest = nearest_names(&entry.tensor, unread);
    }
}

/// At most three names that resemble `name`, best first.
pub(crate) fn nearest_names(name: &str, known: &[&str]) -> Vec<String> {
    // Edit distances are too slow for all names of a large checkpoint: common prefixes and suffixes pick the candidates.
    let mut candidates: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    for other in known {
        candidates.entry(shared_ends(name, other)).or_default().push(other);
    }
    let best = candidates.into_values().rev().flatten().take(32);
    let mut scored: Vec<(f64, &str)> = best
        .map(|other| (strsim::normalized_levenshtein(name, other), other))
        .filter(|(score, _)| *score >= 0.6)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.into_iter().take(3).map(|(_, other)| other.to_owned()).collect()
}

/// Bytes that two names share at their start and at their end.
fn shared_ends(a: &str, b: &str) -> usize {
    let same = |(x, y): &(u8, u8)| x == y;
    a.bytes().zip(b.bytes()).take_while(same).count() + a.bytes().rev().zip(b.bytes().rev()).take_while(same).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_a_little_are_near() {
        let known =
            ["model.layers.0.self_attn.q_proj.weight", "model.layers.1.self_attn.q_proj.weight", "lm_head.weight"];
        assert_eq!(nearest_names("model.layers.0.attn.q_proj.weight", &known)[0], known[0]);
        assert!(nearest_names("completely.other", &known).is_empty());
    }

    #[test]
    fn long_lists_are_cut_and_counted() {
        let missing = |n: usize| MissingTensor {
            tensor: format!("t{n}"),
            parameter: format!("p{n}"),
            nearest: vec![],
            note: None,
        };
        let problems = Problems { missing: (0..25).map(missing).collect(), unexpected: 2, ..Problems::default() };
        let text = problems.to_string();
        assert!(text.starts_with("25 tensor(s) missing: `t0`, "), "{text}");
        assert!(text.contains("`t9`, and 15 more; 2 tensor(s) of the files are read by nothing"), "{text}");
        assert!(!text.contains("t10"), "{text}");
    }
}
