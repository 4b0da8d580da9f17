//! One step from the parameters of a module to the tensors of a checkpoint.

use super::{SourcePiece, ViewOp};
use crate::spec::{Declare, ModelSpec, ParameterRole, ParameterSpec};
use std::borrow::Cow;
use std::collections::HashMap;

/// One step from the parameters of a module to the tensors of a checkpoint. The rules of a layout are applied in order, each to
/// what the ones before it made of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The first occurrence of `0` in the name becomes `1`.
    Rename(&'static str, &'static str),
    /// Projections whose name contains the text are stored `[in_features, out_features]` (GPT-2's `Conv1D`).
    Transpose(&'static str),
    /// Rows of several parameters are one tensor.
    Pack {
        /// The ends of the parts' paths, in the order in which they are stored: `["self_attn.q_proj", ..]`. A `*` stands for a number, the
        /// same in all parts: `experts.*.gate_proj`.
        parts: &'static [&'static str],
        /// What stands there in the name of the tensor, a `*` for the parts' number.
        into: &'static str,
        /// How the parts lie in it.
        order: PackOrder,
    },
    /// Parameters of numbered modules `over.0`, `over.1` .. are one tensor with an axis more in front: experts.
    Stack {
        /// Path that the numbers follow: `mlp.experts`.
        over: &'static str,
        /// Number of them, which is `num_experts` of the layer.
        into: &'static str,
    },
    /// The rows of each head are a tensor of their own: `{module}.{into}.{head}.weight` (StableLM).
    SplitHeads {
        /// A part of the module's path.
        module: &'static str,
        /// What stands between the module's path and the number of the head.
        into: &'static str,
    },
    /// Parameters whose name contains the text have an axis of size one more in front.
    LeadingAxis(&'static str),
    /// Parameters of one element whose name contains the text have no axes.
    Scalar(&'static str),
    /// The first two axes of parameters whose name contains the text are one: the rows of all experts (DBRX).
    JoinedAxes(&'static str),
}

/// How the parts lie in a packed tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackOrder {
    /// One part's rows after the other's.
    Rows,
    /// For each head, the parts' rows of this head: `[heads, parts, head_dim]`; all parts have the same heads (GPT-NeoX).
    PerHead,
    /// For each key-value head, the rows of the queries that share it, then its keys and values:
    /// `[kv_heads, (heads / kv_heads + 2) * head_dim]` (Falcon).
    PerGroup,
    /// In this number of slices, one after another, and in each of them the parts' rows of it (CodeGen).
    Slices(usize),
    /// Rows take turns: the first of each part, then the second of each (gpt-oss).
    Interleaved,
}

/// Queries, keys and values in `into`.
pub const fn packed_qkv(into: &'static str, order: PackOrder) -> Rule {
    Rule::Pack { parts: &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], into, order }
}

/// Gate and up projection in `mlp.gate_up_proj`.
pub const PACKED_GATE_UP: Rule =
    Rule::Pack { parts: &["mlp.gate_proj", "mlp.up_proj"], into: "mlp.gate_up_proj", order: PackOrder::Rows };

/// Gate and up projection of each expert in one, one after the other.
pub const PACKED_EXPERTS: Rule = Rule::Pack {
    parts: &["mlp.experts.*.gate_proj", "mlp.experts.*.up_proj"],
    into: "mlp.experts.*.gate_up_proj",
    order: PackOrder::Rows,
};

/// Parameters of all experts in one tensor.
pub const STACKED_EXPERTS: Rule = Rule::Stack { over: "mlp.experts", into: "mlp.experts" };

/// What rules must know of other parameters than the one that they are applied to.
pub(super) struct Shapes {
    /// First axis and heads of each parameter that may be part of a pack.
    rows: HashMap<String, (usize, usize)>,
    /// Number of modules below each path that is stacked over.
    counts: HashMap<String, usize>,
}

impl Shapes {
    pub fn new(spec: &ModelSpec, rules: &[Rule]) -> Self {
        let parts: Vec<&str> = rules.iter().flat_map(Rule::parts).copied().collect();
        let stacked: Vec<&str> = rules.iter().filter_map(Rule::stacked_over).collect();
        let mut shapes = Self { rows: HashMap::new(), counts: HashMap::new() };
        if parts.is_empty() && stacked.is_empty() {
            return shapes;
        }
        Declare::list(|to| spec.declare(to), &mut |parameter| {
            if parts.iter().any(|part| part_of(parameter.path, part).is_some()) {
                let rows = parameter.shape.first().copied().unwrap_or(1);
                shapes.rows.insert(parameter.path.to_owned(), (rows, parameter.heads));
            }
            for over in &stacked {
                if let Some(numbered) = Numbered::parse(parameter.path, over) {
                    let count = shapes.counts.entry(numbered.before.to_owned()).or_default();
                    *count = (*count).max(numbered.index + 1);
                }
            }
        });
        shapes
    }

    /// Rows and heads of what stands at `path`, or of the weight beside it.
    fn of(&self, module: &str, field: &str) -> Option<(usize, usize)> {
        let at = |field: &str| self.rows.get(&format!("{module}.{field}")).copied();
        at(field).or_else(|| at("weight"))
    }
}

/// Where a parameter is, after some rules.
pub(super) struct Located<'a> {
    /// Path in the module.
    path: &'a str,
    role: ParameterRole,
    heads: usize,
    name: String,
    shape: Vec<usize>,
    /// From the tensor `name` to the parameter.
    ops: Vec<ViewOp>,
    /// Names of one tensor for each head, which has the other axes.
    split: Option<Vec<String>>,
}

impl<'a> Located<'a> {
    pub fn new(parameter: ParameterSpec<'a>) -> Self {
        Self {
            path: parameter.path,
            role: parameter.role,
            heads: parameter.heads,
            name: parameter.path.to_owned(),
            shape: parameter.shape.to_vec(),
            ops: Vec::new(),
            split: None,
        }
    }

    pub fn pieces(self) -> Vec<SourcePiece> {
        match self.split {
            Some(names) => names.into_iter().map(|name| SourcePiece::whole(name, &self.shape)).collect(),
            None => vec![SourcePiece::view(self.name, &self.shape, self.ops)],
        }
    }

    /// The tensor is a part of a larger one: `ops` take it out.
    fn within(mut self, name: String, shape: Vec<usize>, mut ops: Vec<ViewOp>) -> Self {
        ops.append(&mut self.ops);
        Self { name, shape, ops, ..self }
    }
}

impl Rule {
    fn parts(&self) -> &'static [&'static str] {
        match self {
            Self::Pack { parts, .. } => parts,
            _ => &[],
        }
    }

    fn stacked_over(&self) -> Option<&'static str> {
        match self {
            Self::Stack { over, .. } => Some(over),
            _ => None,
        }
    }

    pub(super) fn apply<'a>(&self, located: Located<'a>, shapes: &Shapes) -> Located<'a> {
        match self {
            Self::Rename(from, to) => rename(located, from, to),
            Self::Transpose(text) => transpose(located, text),
            Self::Pack { parts, into, order } => pack(located, parts, into, *order, shapes),
            Self::Stack { over, into } => stack(located, over, into, shapes),
            Self::SplitHeads { module, into } => split_heads(located, module, into),
            Self::LeadingAxis(text) => leading_axis(located, text),
            Self::Scalar(text) => scalar(located, text),
            Self::JoinedAxes(text) => joined_axes(located, text),
        }
    }
}

fn rename<'a>(mut located: Located<'a>, from: &str, to: &str) -> Located<'a> {
    for name in located.split.iter_mut().flatten().chain([&mut located.name]) {
        *name = name.replacen(from, to, 1);
    }
    located
}

fn transpose<'a>(located: Located<'a>, text: &str) -> Located<'a> {
    let projects = matches!(located.role, ParameterRole::Projection | ParameterRole::ExpertProjection);
    let rank = located.shape.len();
    if !projects || rank < 2 || !located.name.contains(text) {
        return located;
    }
    let mut shape = located.shape.clone();
    shape.swap(rank - 2, rank - 1);
    let name = located.name.clone();
    located.within(name, shape, vec![ViewOp::Transpose(rank - 2, rank - 1)])
}

fn pack<'a>(located: Located<'a>, parts: &[&str], into: &str, order: PackOrder, shapes: &Shapes) -> Located<'a> {
    let found = parts.iter().enumerate().find_map(|(index, part)| Some((index, part_of(located.path, part)?)));
    let Some((index, part)) = found else { return located };
    let own = part.numbered(parts[index]);
    // Renamed or packed by an earlier rule.
    if !located.name.contains(own.as_ref()) {
        return located;
    }
    let sizes: Option<Vec<_>> =
        parts.iter().map(|name| shapes.of(&format!("{}{}", part.before, part.numbered(name)), part.field)).collect();
    // A layer that lacks one of the parts keeps the others under their own names.
    let Some(sizes) = sizes else { return located };
    let rows: Vec<usize> = sizes.iter().map(|(rows, _)| *rows).collect();
    let total = rows.iter().fold(0_usize, |sum, &rows| sum.saturating_add(rows));
    let name = located.name.replacen(own.as_ref(), &part.numbered(into), 1);
    let ops = match order {
        PackOrder::Rows => vec![narrow(0, &rows, index)],
        PackOrder::PerHead => {
            let heads = located.heads;
            vec![split(0, &[heads, rows.len(), total / heads / rows.len()]), ViewOp::Select { axis: 1, index }]
        }
        PackOrder::PerGroup => in_slices(sizes.iter().map(|(_, heads)| *heads).min().unwrap_or(1), &rows, index),
        PackOrder::Slices(slices) => in_slices(slices, &rows, index),
        PackOrder::Interleaved => {
            vec![split(0, &[total / rows.len(), rows.len()]), ViewOp::Select { axis: 1, index }]
        }
    };
    let mut shape = located.shape.clone();
    if let Some(first) = shape.first_mut() {
        *first = total;
    }
    located.within(name, shape, ops)
}

fn stack<'a>(located: Located<'a>, over: &str, into: &str, shapes: &Shapes) -> Located<'a> {
    let Some(numbered) = Numbered::parse(located.path, over) else { return located };
    let Some(&count) = shapes.counts.get(numbered.before) else { return located };
    let (index, from) = (numbered.index, format!("{over}.{}", numbered.index));
    let name = located.name.replacen(&from, into, 1);
    // Stacked tensors have no `.weight` at the end: `experts.gate_up_proj`, and biases are `experts.gate_up_proj_bias`.
    let name = match name.strip_suffix(".weight") {
        Some(name) => name.to_owned(),
        None => name.strip_suffix(".bias").map(|name| format!("{name}_bias")).unwrap_or(name),
    };
    let shape = [&[count][..], &located.shape].concat();
    located.within(name, shape, vec![ViewOp::Select { axis: 0, index }])
}

fn split_heads<'a>(mut located: Located<'a>, module: &str, into: &str) -> Located<'a> {
    if !located.path.contains(module) || located.shape.len() < 2 || located.shape.first() != Some(&located.heads) {
        return located;
    }
    let (before, field) = located.name.rsplit_once('.').unwrap_or(("", &located.name));
    located.split = Some((0..located.heads).map(|head| format!("{before}.{into}.{head}.{field}")).collect());
    located.shape.remove(0);
    located
}

/// The rows of `part` in each of `slices` equal slices, which hold the parts one after another.
fn in_slices(slices: usize, rows: &[usize], part: usize) -> Vec<ViewOp> {
    let of_slice: Vec<usize> = rows.iter().map(|rows| rows / slices).collect();
    vec![split(0, &[slices, of_slice.iter().sum()]), narrow(1, &of_slice, part)]
}

fn leading_axis<'a>(located: Located<'a>, text: &str) -> Located<'a> {
    if !located.name.contains(text) {
        return located;
    }
    let (name, shape) = (located.name.clone(), [&[1][..], &located.shape].concat());
    located.within(name, shape, vec![ViewOp::Select { axis: 0, index: 0 }])
}

fn scalar<'a>(mut located: Located<'a>, text: &str) -> Located<'a> {
    if located.name.contains(text) && located.shape == [1] && located.ops.is_empty() {
        located.shape.clear();
    }
    located
}

fn joined_axes<'a>(located: Located<'a>, text: &str) -> Located<'a> {
    let [first, second, rest @ ..] = located.shape.as_slice() else { return located };
    if !located.name.contains(text) {
        return located;
    }
    let (sizes, shape) = ([*first, *second], [&[first.saturating_mul(*second)][..], rest].concat());
    let name = located.name.clone();
    located.within(name, shape, vec![split(0, &sizes)])
}

fn narrow(axis: usize, sizes: &[usize], part: usize) -> ViewOp {
    ViewOp::Narrow { axis, start: sizes[..part].iter().sum(), length: sizes[part] }
}

fn split(axis: usize, sizes: &[usize]) -> ViewOp {
    ViewOp::SplitAxis { axis, sizes: sizes.to_vec() }
}

/// A path that ends in a part and a field: `{before}{part}.{field}`.
struct PartPath<'a> {
    before: &'a str,
    /// What stands for the `*` of the part, if it has one.
    number: &'a str,
    field: &'a str,
}

impl PartPath<'_> {
    /// The part, or another, with the number for its `*`.
    fn numbered<'p>(&self, part: &'p str) -> Cow<'p, str> {
        if part.contains('*') { part.replacen('*', self.number, 1).into() } else { part.into() }
    }
}

fn part_of<'a>(path: &'a str, part: &str) -> Option<PartPath<'a>> {
    let (module, field) = path.rsplit_once('.')?;
    let (before, number) = match part.split_once('*') {
        None => (module.strip_suffix(part)?, ""),
        Some((head, tail)) => {
            let numbered = module.strip_suffix(tail)?;
            let start = numbered.rfind('.')? + 1;
            let (before, number) = numbered.split_at(start);
            (before.strip_suffix(head).filter(|_| number.bytes().all(|byte| byte.is_ascii_digit()))?, number)
        }
    };
    before.ends_with('.').then_some(PartPath { before, number, field })
}

/// A path below a numbered module: `{before}.{index}.{rest}`, where `before` ends in `over`.
struct Numbered<'a> {
    before: &'a str,
    index: usize,
}

impl<'a> Numbered<'a> {
    fn parse(path: &'a str, over: &str) -> Option<Self> {
        let end = path.find(over)? + over.len();
        let (number, _) = path.get(end..)?.strip_prefix('.')?.split_once('.')?;
        Some(Self { before: &path[..end], index: number.parse().ok()? })
    }
}
