//! Which parameters share storage.

use super::{Fill, PlanRow, PlanSource, PlannedTie, TieDecision, names::Names};
use automodel_registry::weights::{ParameterSlot, WeightMap};
use std::collections::HashMap;

/// Heads of other tasks: classifiers and reward models of transformers, and the value heads of TRL.
const OTHER_HEADS: [&str; 7] = [
    "score.weight",
    "classifier.weight",
    "qa_outputs.weight",
    "v_head.summary.weight",
    "v_head.weight",
    "value_head.weight",
    "rm_head.weight",
];

/// The likely kind of a checkpoint that has embeddings but no head, although its config does not tie the two.
fn headless(embedding: &str, names: &Names<'_>) -> String {
    match OTHER_HEADS.iter().find(|head| names.exact(head).is_some()) {
        Some(head) => format!(
            "the checkpoint has `{head}` in its place, the head of a classifier or reward model, and so gives no logits of tokens"
        ),
        None => format!(
            "the checkpoint has no head, and its config does not tie one to `{embedding}`: it is an embedding model, or the base \
             of another model, and gives no logits of tokens (unless it was made tied, and its config lost \
             `tie_word_embeddings`)"
        ),
    }
}

/// Decisions on all ties of a map.
pub(crate) struct Ties {
    pub planned: Vec<PlannedTie>,
    /// Parameters without values of their own, and the parameter that they share.
    pub shared: HashMap<String, String>,
    /// Notes on heads that the files lack although nothing asks for a tie.
    notes: HashMap<String, String>,
}

impl Ties {
    /// Decides by what the files have: one of the two, then both share it, whichever it is; both, then their bytes decide;
    /// neither, then the tie holds and the followed one is reported missing.
    ///
    /// `slots` are the map's parameters by their path.
    pub fn decide(map: &WeightMap, slots: &HashMap<&str, &ParameterSlot>, names: &Names<'_>) -> Self {
        let present = |path: &str| {
            slots.get(path).is_some_and(|slot| slot.pieces.iter().any(|piece| names.resolve(&piece.tensor).is_some()))
        };
        let mut ties = Self { planned: Vec::new(), shared: HashMap::new(), notes: HashMap::new() };
        for tie in &map.ties {
            if !slots.contains_key(tie.parameter.as_str()) || !slots.contains_key(tie.to.as_str()) {
                continue;
            }
            let (parameter, to) = (tie.parameter.clone(), tie.to.clone());
            match (tie.requested, present(&parameter), present(&to)) {
                (true, true, true) => {
                    ties.planned.push(PlannedTie { parameter, to, decision: TieDecision::ToCompare });
                }
                (true, true, false) => ties.share(to, parameter),
                (true, false, true) => ties.share(parameter, to),
                (true, false, false) => {
                    ties.notes.insert(to.clone(), format!("`{parameter}`, which is tied to it, is missing too"));
                    ties.share(parameter, to);
                }
                (false, false, true) => {
                    ties.notes.insert(parameter, headless(&to, names));
                }
                (false, ..) => {}
            }
        }
        ties.flatten(map);
        ties
    }

    fn share(&mut self, parameter: String, to: String) {
        // A tie back to where one came from would leave both without values.
        if self.root(&to) != parameter && !self.shared.contains_key(&parameter) {
            self.shared.insert(parameter, to);
        }
    }

    /// The parameter at the end of a chain of ties.
    fn root<'a>(&'a self, mut path: &'a str) -> &'a str {
        while let Some(next) = self.shared.get(path) {
            path = next;
        }
        path
    }

    /// Lets every tied parameter point to the one that has values, in the order of the map's parameters.
    fn flatten(&mut self, map: &WeightMap) {
        if self.shared.is_empty() {
            return;
        }
        let roots: HashMap<String, String> =
            self.shared.keys().map(|parameter| (parameter.clone(), self.root(parameter).to_owned())).collect();
        for slot in &map.parameters {
            if let Some(to) = roots.get(&slot.path) {
                let (parameter, to) = (slot.path.clone(), to.clone());
                self.planned.push(PlannedTie { parameter, to, decision: TieDecision::Share });
            }
        }
        self.shared = roots;
    }

    pub fn note(&self, parameter: &str) -> Option<String> {
        self.notes.get(parameter).cloned()
    }

    /// The decisions, with the pairs that cannot be equal set apart.
    pub fn compared(&self, rows: &[PlanRow]) -> Vec<PlannedTie> {
        let row = |path: &str| rows.iter().find(|row| row.parameter == path);
        let comparable = |tie: &PlannedTie| match (row(&tie.parameter), row(&tie.to)) {
            (Some(a), Some(b)) => same_bytes_possible(a, b),
            _ => false,
        };
        let decided = |tie: &PlannedTie| match tie.decision {
            TieDecision::ToCompare if !comparable(tie) => PlannedTie { decision: TieDecision::Apart, ..tie.clone() },
            _ => tie.clone(),
        };
        self.planned.iter().map(decided).collect()
    }
}

/// Whether two parameters are read in the same way from tensors of the same size, so that equal bytes mean equal values.
pub(crate) fn same_bytes_possible(a: &PlanRow, b: &PlanRow) -> bool {
    let alike = |(a, b): (&PlanSource, &PlanSource)| {
        a.stored == b.stored && a.walk == b.walk && a.range.end - a.range.start == b.range.end - b.range.start
    };
    let dense = a.encoding().is_none() && b.encoding().is_none();
    let as_many = a.sources().count() == b.sources().count();
    dense && a.shape == b.shape && as_many && a.sources().zip(b.sources()).all(alike)
}

/// Adds the rows of parameters without values of their own, in module order.
pub(super) fn fill_shared(rows: Vec<PlanRow>, map: &WeightMap, ties: &Ties) -> Vec<PlanRow> {
    if ties.shared.is_empty() {
        return rows;
    }
    let dtypes: HashMap<String, _> =
        rows.iter().map(|row| (row.parameter.clone(), (row.stored(), row.target()))).collect();
    let mut own: HashMap<String, PlanRow> = rows.into_iter().map(|row| (row.parameter.clone(), row)).collect();
    let row = |slot: &ParameterSlot| match ties.shared.get(&slot.path) {
        None => own.remove(&slot.path),
        Some(to) => dtypes.get(to).map(|&(stored, dtype)| {
            let fill = Fill::Shared { to: to.clone(), stored, dtype };
            PlanRow::new(slot, fill, 0, "shares the storage of the parameter it is tied to")
        }),
    };
    map.parameters.iter().filter_map(row).collect()
}
