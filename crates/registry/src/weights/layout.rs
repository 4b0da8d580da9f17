//! How a family names and packs its parameters in checkpoints, as data; turned into a [`WeightMap`] for one spec.

use super::{IgnoredTensors, ParameterRole, ParameterSlot, SourcePiece, StackedExperts, Tie, ViewOp, WeightMap};
use crate::spec::{AttentionSpec, LayerSpec, Mixer, Mlp, MlpSpec, ModelSpec, MoeSpec, NormSpec, QkNormExtent};

/// How a family names and packs its parameters in checkpoints. The default is Llama's layout: every parameter under its
/// own path.
#[derive(Clone, Copy, Debug, Default)]
pub struct Layout {
    /// `(in the module, in the checkpoint)`: parts of paths, replaced in this order.
    pub renames: &'static [(&'static str, &'static str)],
    /// Parameters that checkpoints store as one tensor.
    pub fused: &'static [Fused],
    /// Projections inside layers are stored `[in_features, out_features]` (GPT-2's `Conv1D`).
    pub transposed_projections: bool,
    /// Own weights of query and key norms are one tensor per head, `{norm}.norms.{head}.weight` (StableLM).
    pub qk_norm_per_head_tensors: bool,
    /// Whole-checkpoint renamings besides those of every family; see [`WeightMap::prefixes`].
    pub prefixes: &'static [(&'static str, &'static str)],
    /// `(pattern, reason)` of tensors that are left unread.
    pub ignored: &'static [(&'static str, &'static str)],
}

/// Parameters that checkpoints store as one tensor.
#[derive(Clone, Copy, Debug)]
pub struct Fused {
    /// The parts, by module name within a layer, in the order they are stored: `["self_attn.q_proj", ...]`.
    pub parts: &'static [&'static str],
    /// Name within a layer in the checkpoint: `self_attn.qkv_proj`.
    pub name: &'static str,
    /// How the parts lie in it.
    pub order: FusedOrder,
}

/// How the parts lie in a fused tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FusedOrder {
    /// One part's rows after the other's.
    Rows,
    /// For each head, the parts' rows of this head: `[heads, parts, head_dim]` (GPT-NeoX).
    HeadMajor,
}

/// Queries, keys and values in `name`, in rows.
pub const fn fused_qkv(name: &'static str, order: FusedOrder) -> Fused {
    Fused { parts: &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], name, order }
}

/// Gate and up projection in `mlp.gate_up_proj`.
pub const FUSED_GATE_UP: Fused =
    Fused { parts: &["mlp.gate_proj", "mlp.up_proj"], name: "mlp.gate_up_proj", order: FusedOrder::Rows };

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
    pub const LLAMA: Self = Self {
        renames: &[],
        fused: &[],
        transposed_projections: false,
        qk_norm_per_head_tensors: false,
        prefixes: &[],
        ignored: &[],
    };

    /// The weight map of a model with this layout.
    pub fn weight_map(&self, spec: &ModelSpec) -> WeightMap {
        let parameters = canonical_parameters(spec).into_iter().map(|slot| self.locate(spec, slot)).collect();
        let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|&(from, to)| (from.to_owned(), to.to_owned())).collect()
        };
        let mut prefixes = owned(self.prefixes);
        prefixes.extend(owned(COMMON_PREFIXES));
        let ignored = self.ignored.iter().chain(COMMON_IGNORED);
        WeightMap {
            parameters,
            ties: vec![Tie {
                parameter: "lm_head.weight".to_owned(),
                to: "model.embed_tokens.weight".to_owned(),
                requested: spec.head.tied,
            }],
            prefixes,
            ignored: ignored
                .map(|&(pattern, reason)| IgnoredTensors { pattern: pattern.to_owned(), reason: reason.to_owned() })
                .collect(),
            stacked_experts: stacked_experts(spec),
            transposed_projections: self.transposed_projections,
        }
    }

    /// How many parameters and pieces of them [`weight_map`](Self::weight_map) would list for `spec`, about, without listing them.
    pub fn parameter_count(&self, spec: &ModelSpec) -> usize {
        /// Of attention, a dense MLP, a router and norms, at most.
        const OF_A_LAYER: usize = 32;
        let of_layer = |layer: &LayerSpec| {
            let Mixer::Attention(attention) = &layer.mixer;
            let heads = match &attention.qk_norm {
                Some(norm) if norm.extent == QkNormExtent::HeadOwnWeight && self.qk_norm_per_head_tensors => {
                    attention.num_attention_heads.saturating_add(attention.num_key_value_heads)
                }
                _ => 0,
            };
            let experts = match &layer.mlp {
                Mlp::Moe(moe) => moe.num_experts.saturating_mul(if moe.expert.bias { 6 } else { 3 }),
                Mlp::Gated(_) | Mlp::Plain(_) => 0,
            };
            heads.saturating_mul(2).saturating_add(experts).saturating_add(OF_A_LAYER)
        };
        spec.layers.iter().map(of_layer).fold(OF_A_LAYER, usize::saturating_add)
    }

    fn locate(&self, spec: &ModelSpec, mut slot: Slot) -> ParameterSlot {
        slot.parameter.pieces = match self.fused.iter().find_map(|fused| Some((fused, fused.part(&slot.parameter)?))) {
            Some((fused, part)) => vec![self.fused_piece(spec, &slot, fused, part)],
            None if self.qk_norm_per_head_tensors && slot.per_head => self.per_head_pieces(&slot.parameter),
            None => vec![self.own_piece(&slot.parameter)],
        };
        slot.parameter
    }

    fn name(&self, path: &str) -> String {
        self.renames.iter().fold(path.to_owned(), |name, (from, to)| name.replacen(from, to, 1))
    }

    /// Whether `parameter` is stored transposed.
    fn transposes(&self, parameter: &ParameterSlot) -> bool {
        self.transposed_projections && parameter.role == ParameterRole::Projection && parameter.shape.len() == 2
    }

    fn own_piece(&self, parameter: &ParameterSlot) -> SourcePiece {
        let name = self.name(&parameter.path);
        if self.transposes(parameter) {
            let stored: Vec<usize> = parameter.shape.iter().rev().copied().collect();
            return SourcePiece::view(name, &stored, vec![ViewOp::Transpose(0, 1)]);
        }
        SourcePiece::whole(name, &parameter.shape)
    }

    fn per_head_pieces(&self, parameter: &ParameterSlot) -> Vec<SourcePiece> {
        let (module, field) = parameter.path.rsplit_once('.').unwrap_or(("", &parameter.path));
        let module = self.name(module);
        let (heads, width) = (parameter.shape[0], &parameter.shape[1..]);
        (0..heads).map(|head| SourcePiece::whole(format!("{module}.norms.{head}.{field}"), width)).collect()
    }

    fn fused_piece(&self, spec: &ModelSpec, slot: &Slot, fused: &Fused, part: usize) -> SourcePiece {
        let sizes: Vec<usize> = fused.parts.iter().map(|part| rows_of(spec, slot.layer, part)).collect();
        let rows: usize = sizes.iter().sum();
        let path = slot.parameter.path.replacen(fused.parts[part], fused.name, 1);
        let mut shape = slot.parameter.shape.clone();
        shape[0] = rows;
        let (axis, mut ops) = if self.transposes(&slot.parameter) {
            shape.reverse();
            (0, vec![ViewOp::Transpose(0, 1)])
        } else {
            (0, Vec::new())
        };
        match fused.order {
            FusedOrder::Rows => {
                ops.push(ViewOp::Narrow { axis, start: sizes[..part].iter().sum(), length: sizes[part] });
            }
            FusedOrder::HeadMajor => {
                let heads = slot.heads.max(1);
                ops.push(ViewOp::SplitAxis { axis, sizes: vec![heads, sizes.len(), rows / heads / sizes.len()] });
                ops.push(ViewOp::Select { axis: axis + 1, index: part });
            }
        }
        SourcePiece::view(self.name(&path), &shape, ops)
    }
}

impl Fused {
    /// Which part `parameter` is.
    fn part(&self, parameter: &ParameterSlot) -> Option<usize> {
        let (module, _) = parameter.path.rsplit_once('.')?;
        self.parts.iter().position(|part| module.ends_with(part) && module.len() > part.len())
    }
}

/// The mixtures of `spec`. Such checkpoints have the names of the module, whatever the layout renames.
fn stacked_experts(spec: &ModelSpec) -> Vec<StackedExperts> {
    let mixture = |(index, layer): (usize, &LayerSpec)| match &layer.mlp {
        Mlp::Moe(moe) if !moe.expert.bias => Some(StackedExperts {
            module: format!("model.layers.{index}.mlp"),
            num_experts: moe.num_experts,
            intermediate_size: moe.expert.intermediate_size,
            hidden_size: spec.hidden_size,
        }),
        _ => None,
    };
    spec.layers.iter().enumerate().filter_map(mixture).collect()
}

/// Output rows of a projection that may be fused with others.
fn rows_of(spec: &ModelSpec, layer: usize, part: &str) -> usize {
    let layer = &spec.layers[layer];
    let Mixer::Attention(attention) = &layer.mixer;
    match part.rsplit('.').next() {
        Some("q_proj") => attention.num_attention_heads * attention.head_dim,
        Some("k_proj" | "v_proj") => attention.num_key_value_heads * attention.head_dim,
        _ => match &layer.mlp {
            Mlp::Gated(mlp) | Mlp::Plain(mlp) => mlp.intermediate_size,
            Mlp::Moe(moe) => moe.expert.intermediate_size,
        },
    }
}

/// A parameter under its canonical path, with what fused layouts must know of its surroundings.
struct Slot {
    parameter: ParameterSlot,
    layer: usize,
    heads: usize,
    per_head: bool,
}

/// Every parameter that the generic decoder has for `spec`, in module order, without pieces.
fn canonical_parameters(spec: &ModelSpec) -> Vec<Slot> {
    let mut list = List { slots: Vec::new(), layer: 0, heads: 0 };
    list.push("model.embed_tokens.weight".to_owned(), &[spec.vocab_size, spec.hidden_size], ParameterRole::Embedding);
    if let Some(positions) = &spec.embedding.learned_positions {
        let shape = [positions.rows, spec.hidden_size];
        list.push("model.embed_positions.weight".to_owned(), &shape, ParameterRole::PositionEmbedding);
    }
    for (index, layer) in spec.layers.iter().enumerate() {
        list.layer = index;
        let path = format!("model.layers.{index}");
        let Mixer::Attention(attention) = &layer.mixer;
        list.attention(&format!("{path}.self_attn"), spec.hidden_size, attention);
        match &layer.mlp {
            Mlp::Gated(mlp) => list.gated(&format!("{path}.mlp"), spec.hidden_size, mlp, ParameterRole::Projection),
            Mlp::Plain(mlp) => list.plain(&format!("{path}.mlp"), spec.hidden_size, mlp),
            Mlp::Moe(moe) => list.moe(&format!("{path}.mlp"), spec.hidden_size, moe),
        }
        for norm in layer.placement.norms() {
            list.norm(&format!("{path}.{norm}"), &[spec.hidden_size], &layer.norm);
        }
    }
    list.norm("model.norm", &[spec.hidden_size], &spec.final_norm);
    list.push("lm_head.weight".to_owned(), &[spec.vocab_size, spec.hidden_size], ParameterRole::OutputHead);
    if spec.head.bias {
        list.push("lm_head.bias".to_owned(), &[spec.vocab_size], ParameterRole::Bias);
    }
    list.slots
}

struct List {
    slots: Vec<Slot>,
    layer: usize,
    heads: usize,
}

impl List {
    fn push(&mut self, path: String, shape: &[usize], role: ParameterRole) {
        let parameter = ParameterSlot { path, shape: shape.to_vec(), role, keep_float32: false, pieces: Vec::new() };
        self.slots.push(Slot { parameter, layer: self.layer, heads: self.heads, per_head: false });
    }

    /// `{path}.{name}.weight`, and its bias.
    fn projection(&mut self, [path, name]: [&str; 2], [output, input]: [usize; 2], bias: bool, role: ParameterRole) {
        // Joined in one allocation each: models with many experts have tens of thousands of them.
        self.push([path, ".", name, ".weight"].concat(), &[output, input], role);
        if bias {
            let role = if role == ParameterRole::Router { role } else { ParameterRole::Bias };
            self.push([path, ".", name, ".bias"].concat(), &[output], role);
        }
    }

    fn norm(&mut self, path: &str, shape: &[usize], norm: &NormSpec) {
        let fields = [("weight", norm.kind.has_weight()), ("bias", norm.kind.has_bias())];
        for (field, _) in fields.into_iter().filter(|&(_, present)| present) {
            self.push([path, ".", field].concat(), shape, ParameterRole::Norm);
        }
    }

    fn attention(&mut self, path: &str, hidden_size: usize, spec: &AttentionSpec) {
        let (q, kv) = (spec.num_attention_heads * spec.head_dim, spec.num_key_value_heads * spec.head_dim);
        let role = ParameterRole::Projection;
        self.heads = spec.num_attention_heads;
        self.projection([path, "q_proj"], [q, hidden_size], spec.bias.q, role);
        self.projection([path, "k_proj"], [kv, hidden_size], spec.bias.k, role);
        self.projection([path, "v_proj"], [kv, hidden_size], spec.bias.v, role);
        self.projection([path, "o_proj"], [hidden_size, q], spec.bias.o, role);
        if let Some(qk_norm) = &spec.qk_norm {
            for (name, heads) in [("q_norm", spec.num_attention_heads), ("k_norm", spec.num_key_value_heads)] {
                let shape = match qk_norm.extent {
                    QkNormExtent::Head => vec![spec.head_dim],
                    QkNormExtent::HeadOwnWeight => vec![heads, spec.head_dim],
                    QkNormExtent::Projection => vec![heads * spec.head_dim],
                };
                let first = self.slots.len();
                self.norm(&format!("{path}.{name}"), &shape, &qk_norm.norm);
                let own = qk_norm.extent == QkNormExtent::HeadOwnWeight;
                self.slots[first..].iter_mut().for_each(|slot| slot.per_head = own);
            }
        }
        if spec.sinks {
            self.push(format!("{path}.sinks"), &[spec.num_attention_heads], ParameterRole::Other);
        }
    }

    fn gated(&mut self, path: &str, hidden_size: usize, mlp: &MlpSpec, role: ParameterRole) {
        self.projection([path, "gate_proj"], [mlp.intermediate_size, hidden_size], mlp.bias, role);
        self.projection([path, "up_proj"], [mlp.intermediate_size, hidden_size], mlp.bias, role);
        self.projection([path, "down_proj"], [hidden_size, mlp.intermediate_size], mlp.bias, role);
    }

    fn plain(&mut self, path: &str, hidden_size: usize, mlp: &MlpSpec) {
        let role = ParameterRole::Projection;
        self.projection([path, "up_proj"], [mlp.intermediate_size, hidden_size], mlp.bias, role);
        self.projection([path, "down_proj"], [hidden_size, mlp.intermediate_size], mlp.bias, role);
    }

    fn moe(&mut self, path: &str, hidden_size: usize, moe: &MoeSpec) {
        let router = ParameterRole::Router;
        self.projection([path, "gate"], [moe.num_experts, hidden_size], moe.router.bias, router);
        for expert in 0..moe.num_experts {
            let path = [path, ".experts.", &expert.to_string()].concat();
            self.gated(&path, hidden_size, &moe.expert, ParameterRole::ExpertProjection);
        }
        if let Some(shared) = &moe.shared_expert {
            self.gated(&format!("{path}.shared_expert"), hidden_size, &shared.mlp, ParameterRole::Projection);
            if shared.gate {
                self.projection([path, "shared_expert_gate"], [1, hidden_size], false, router);
            }
        }
    }
}
