//! The list of parameters: each block of a specification declares its own, and weight maps, sizes and modules follow from that.

use serde::Serialize;

/// One parameter of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterSpec<'a> {
    /// Path in the module: `model.layers.0.self_attn.q_proj.weight`.
    pub path: &'a str,
    /// Shape in the module. Projections are `[out_features, in_features]`.
    pub shape: &'a [usize],
    /// What the parameter is for.
    pub role: ParameterRole,
    /// Heads that the first axis consists of, one after another; 1 where it has none.
    pub heads: usize,
}

/// What a parameter is for; decides dtype and quantisation policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[non_exhaustive]
pub enum ParameterRole {
    /// Token embedding.
    Embedding,
    /// Learned positions.
    PositionEmbedding,
    /// A projection inside a mixer or MLP.
    Projection,
    /// A projection inside an expert.
    ExpertProjection,
    /// Router weights and biases.
    Router,
    /// Norm weights and biases.
    Norm,
    /// Bias of a projection.
    Bias,
    /// Output head.
    OutputHead,
    /// Anything else, sinks for instance.
    Other,
}

/// Collects declarations. Blocks call [`parameter`](Self::parameter) and [`projection`](Self::projection) with names below the
/// path that their parents have [entered](Self::inside).
///
/// ```
/// use automodel_registry::spec::{Activation, Declare, MlpSpec, ParameterRole};
///
/// let mlp = MlpSpec::new(8, Activation::Silu);
/// let mut shapes = Vec::new();
/// Declare::list(
///     |to| to.inside("mlp", |to| mlp.declare_gated(4, ParameterRole::Projection, to)),
///     &mut |parameter| shapes.push((parameter.path.to_owned(), parameter.shape.to_vec())),
/// );
/// assert_eq!(shapes[2], ("mlp.down_proj.weight".to_owned(), vec![4, 8]));
/// ```
pub struct Declare<'a> {
    path: String,
    sink: Sink<'a>,
    heads: usize,
}

enum Sink<'a> {
    /// Every parameter.
    List(&'a mut (dyn FnMut(ParameterSpec<'_>) + Send)),
    /// One of each repeated block, with the number of times that it is repeated.
    Count { times: usize, each: &'a mut (dyn FnMut(ParameterSpec<'_>, usize) + Send) },
}

impl std::fmt::Debug for Declare<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Declare").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Declare<'_> {
    /// Calls `each` with every parameter that `declare` declares, in module order.
    pub fn list(declare: impl FnOnce(&mut Declare<'_>), each: &mut (dyn FnMut(ParameterSpec<'_>) + Send)) {
        declare(&mut Declare { path: String::new(), sink: Sink::List(each), heads: 1 });
    }

    /// Calls `each` with the parameters of one of each [repeated](Self::repeat) block, and how many of it there are: takes time
    /// and memory by the size of the specification, not of the model.
    pub fn count(declare: impl FnOnce(&mut Declare<'_>), each: &mut (dyn FnMut(ParameterSpec<'_>, usize) + Send)) {
        declare(&mut Declare { path: String::new(), sink: Sink::Count { times: 1, each }, heads: 1 });
    }

    /// Declares a parameter below the current path.
    pub fn parameter(&mut self, name: &str, shape: &[usize], role: ParameterRole) {
        let outer = self.enter(name);
        let parameter = ParameterSpec { path: &self.path, shape, role, heads: self.heads };
        match &mut self.sink {
            Sink::List(each) => each(parameter),
            Sink::Count { times, each } => each(parameter, *times),
        }
        self.path.truncate(outer);
    }

    /// Declares `{name}.weight` `[output, input]`, and `{name}.bias` `[output]`.
    pub fn projection(&mut self, name: &str, [output, input]: [usize; 2], bias: bool, role: ParameterRole) {
        let bias_role = if role == ParameterRole::Router { role } else { ParameterRole::Bias };
        self.inside(name, |to| {
            to.parameter("weight", &[output, input], role);
            if bias {
                to.parameter("bias", &[output], bias_role);
            }
        });
    }

    /// [`projection`](Self::projection) to `heads` heads, one after another.
    pub fn head_projection(&mut self, name: &str, heads: usize, shape: [usize; 2], bias: bool) {
        self.with_heads(heads, |to| to.projection(name, shape, bias, ParameterRole::Projection));
    }

    /// Declares what belongs to heads: the first axis of each parameter consists of `heads` of them.
    pub fn with_heads(&mut self, heads: usize, declare: impl FnOnce(&mut Self)) {
        let outer = std::mem::replace(&mut self.heads, heads.max(1));
        declare(self);
        self.heads = outer;
    }

    /// Declares a block below `name`.
    pub fn inside(&mut self, name: &str, declare: impl FnOnce(&mut Self)) {
        let outer = self.enter(name);
        declare(self);
        self.path.truncate(outer);
    }

    /// Declares equal blocks below `name.0`, `name.1` and so on.
    pub fn repeat(&mut self, name: &str, count: usize, mut declare: impl FnMut(&mut Self)) {
        let before = match &mut self.sink {
            Sink::List(_) => {
                (0..count).for_each(|index| self.inside(&format!("{name}.{index}"), &mut declare));
                return;
            }
            Sink::Count { times, .. } => std::mem::replace(times, times.saturating_mul(count)),
        };
        self.inside(&format!("{name}.0"), declare);
        if let Sink::Count { times, .. } = &mut self.sink {
            *times = before;
        }
    }

    /// Appends a name to the path; returns its length before.
    fn enter(&mut self, name: &str) -> usize {
        let outer = self.path.len();
        if outer > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        outer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(to: &mut Declare<'_>) {
        to.repeat("experts", 3, |to| to.projection("up", [4, 2], true, ParameterRole::ExpertProjection));
        to.head_projection("q", 2, [6, 2], false);
        to.parameter("sinks", &[2], ParameterRole::Other);
    }

    #[test]
    fn lists_name_every_parameter_in_order() {
        let mut found = Vec::new();
        Declare::list(|to| to.inside("layer", block), &mut |p| {
            found.push(format!("{} {:?} {}", p.path, p.shape, p.heads))
        });
        let experts = (0..3).flat_map(|index| {
            [format!("layer.experts.{index}.up.weight [4, 2] 1"), format!("layer.experts.{index}.up.bias [4] 1")]
        });
        let rest = ["layer.q.weight [6, 2] 2".to_owned(), "layer.sinks [2] 1".to_owned()];
        assert_eq!(found, experts.chain(rest).collect::<Vec<_>>());
    }

    #[test]
    fn counts_equal_the_lists() {
        let nested = |to: &mut Declare<'_>| to.repeat("layers", 5, block);
        let (mut listed, mut counted, mut calls) = (0, 0, 0);
        Declare::list(nested, &mut |_| listed += 1);
        Declare::count(nested, &mut |_, times| {
            counted += times;
            calls += 1;
        });
        assert_eq!((listed, counted, calls), (5 * 8, 5 * 8, 4));
        // A number that nobody could list.
        let mut counted = 0_usize;
        let many = |to: &mut Declare<'_>| to.repeat("a", usize::MAX, |to| to.repeat("b", 2, block));
        Declare::count(many, &mut |_, times| counted = counted.saturating_add(times));
        assert_eq!(counted, usize::MAX);
    }
}
