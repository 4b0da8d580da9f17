//! Layers as lists of branches off the residual stream.

use super::{Declare, FeedForward, LayerEmbeddingSpec, Mixer, NormSpec, ParameterRole};
use serde::Serialize;

/// One layer: branches, each of which adds to the residual stream.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerSpec {
    /// The branches, in the order in which they are added.
    pub branches: Vec<Branch>,
    /// Whether what leaves the layer is multiplied by a number of its own, `layer_scalar` (Gemma 4).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub scalar: bool,
}

/// `post_add(residual + scale * post(operation(pre(input))))`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Branch {
    /// Name of the operation in the layer: `self_attn`.
    pub name: &'static str,
    /// What the branch reads.
    pub input: BranchInput,
    /// Norm on the input.
    pub pre: Option<NamedNorm>,
    /// What it computes.
    pub operation: Operation,
    /// Norm on the result.
    pub post: Option<NamedNorm>,
    /// Factor on the result (Granite).
    pub scale: Option<f64>,
    /// Norm on the residual stream with this branch and all earlier ones added (BERT).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub post_add: Option<NamedNorm>,
}

/// What a branch reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum BranchInput {
    /// The residual stream with all earlier branches added.
    Residual,
    /// The residual stream as it came into the layer.
    LayerInput,
    /// The input of an earlier branch of this layer, by index, after that branch's `pre` norm.
    SameAs(usize),
}

/// What a branch computes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(clippy::large_enum_variant, reason = "specifications are few and are not moved about")]
pub enum Operation {
    /// Positions exchange information.
    Mix(Mixer),
    /// Each position by itself.
    Feed(FeedForward),
    /// Each position takes up the embedding that its token has for this layer.
    LayerEmbedding(LayerEmbeddingSpec),
}

/// A norm over the residual stream with its name in the layer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct NamedNorm {
    /// `input_layernorm`
    pub name: &'static str,
    /// Kind and epsilon.
    pub norm: NormSpec,
}

/// Names of a layer's norms in Llama's and Gemma 2's spelling.
const INPUT: &str = "input_layernorm";
const POST_ATTENTION: &str = "post_attention_layernorm";
const PRE_FEED_FORWARD: &str = "pre_feedforward_layernorm";
const POST_FEED_FORWARD: &str = "post_feedforward_layernorm";

impl LayerSpec {
    /// A layer of these branches.
    pub fn new(branches: Vec<Branch>) -> Self {
        Self { branches, scalar: false }
    }

    /// `h = x + mixer(input_layernorm(x)); h + mlp(post_attention_layernorm(h))` (Llama).
    pub fn pre(mixer: Mixer, mlp: FeedForward, norm: NormSpec) -> Self {
        let mix = Branch::mix(mixer).with_pre(INPUT, norm);
        Self::new(vec![mix, Branch::feed(mlp).with_pre(POST_ATTENTION, norm)])
    }

    /// `h = x + post_attention_layernorm(mixer(x)); h + post_feedforward_layernorm(mlp(h))` (OLMo 2).
    pub fn post(mixer: Mixer, mlp: FeedForward, norm: NormSpec) -> Self {
        let mix = Branch::mix(mixer).with_post(POST_ATTENTION, norm);
        Self::new(vec![mix, Branch::feed(mlp).with_post(POST_FEED_FORWARD, norm)])
    }

    /// `h = post_attention_layernorm(x + mixer(x)); post_feedforward_layernorm(h + mlp(h))` (BERT).
    pub fn post_add(mixer: Mixer, mlp: FeedForward, norm: NormSpec) -> Self {
        let mix = Branch::mix(mixer).with_post_add(POST_ATTENTION, norm);
        Self::new(vec![mix, Branch::feed(mlp).with_post_add(POST_FEED_FORWARD, norm)])
    }

    /// Norms before and after each branch: `input_layernorm`, `post_attention_layernorm`, `pre_feedforward_layernorm`,
    /// `post_feedforward_layernorm` (Gemma 2).
    pub fn sandwich(mixer: Mixer, mlp: FeedForward, norm: NormSpec) -> Self {
        let mix = Branch::mix(mixer).with_pre(INPUT, norm).with_post(POST_ATTENTION, norm);
        let feed = Branch::feed(mlp).with_pre(PRE_FEED_FORWARD, norm).with_post(POST_FEED_FORWARD, norm);
        Self::new(vec![mix, feed])
    }

    /// `n = input_layernorm(x); x + mixer(n) + mlp(n)` (Phi, Cohere).
    pub fn parallel_shared(mixer: Mixer, mlp: FeedForward, norm: NormSpec) -> Self {
        let mix = Branch::mix(mixer).with_pre(INPUT, norm);
        Self::new(vec![mix, Branch { input: BranchInput::SameAs(0), ..Branch::feed(mlp) }])
    }

    /// `x + mixer(input_layernorm(x)) + mlp(post_attention_layernorm(x))` (GPT-NeoX).
    pub fn parallel_split(mixer: Mixer, mlp: FeedForward, norm: NormSpec) -> Self {
        let mix = Branch::mix(mixer).with_pre(INPUT, norm);
        let feed = Branch { input: BranchInput::LayerInput, ..Branch::feed(mlp) };
        Self::new(vec![mix, feed.with_pre(POST_ATTENTION, norm)])
    }

    /// With a factor on every branch.
    pub fn with_scale(mut self, scale: Option<f64>) -> Self {
        self.branches.iter_mut().for_each(|branch| branch.scale = scale);
        self
    }

    /// Its mixers.
    pub fn mixers(&self) -> impl Iterator<Item = &Mixer> {
        self.branches.iter().filter_map(|branch| match &branch.operation {
            Operation::Mix(mixer) => Some(mixer),
            Operation::Feed(_) | Operation::LayerEmbedding(_) => None,
        })
    }

    /// What it computes at each position.
    pub fn feed_forwards(&self) -> impl Iterator<Item = &FeedForward> {
        self.branches.iter().filter_map(|branch| match &branch.operation {
            Operation::Mix(_) | Operation::LayerEmbedding(_) => None,
            Operation::Feed(feed) => Some(feed),
        })
    }

    /// The norms of its branches, in order: on the input, on the result, on the stream.
    pub fn norms(&self) -> impl Iterator<Item = &NamedNorm> {
        self.branches.iter().flat_map(|branch| branch.pre.iter().chain(&branch.post).chain(&branch.post_add))
    }

    /// Declares its parameters: those of each operation, then the norms.
    pub fn declare(&self, hidden_size: usize, to: &mut Declare<'_>) {
        for branch in &self.branches {
            to.inside(branch.name, |to| match &branch.operation {
                Operation::Mix(mixer) => mixer.declare(hidden_size, to),
                Operation::Feed(feed) => feed.declare(hidden_size, to),
                Operation::LayerEmbedding(embedding) => embedding.declare(hidden_size, to),
            });
        }
        for NamedNorm { name, norm } in self.norms() {
            norm.declare(name, &[hidden_size], to);
        }
        if self.scalar {
            to.parameter("layer_scalar", &[1], ParameterRole::Other);
        }
    }
}

impl Branch {
    /// `residual + mixer(residual)`, named after the kind of mixer.
    pub fn mix(mixer: Mixer) -> Self {
        Self::new(mixer.name(), Operation::Mix(mixer))
    }

    /// `residual + feed(residual)`, named `mlp`.
    pub fn feed(feed: FeedForward) -> Self {
        Self::new("mlp", Operation::Feed(feed))
    }

    /// `residual + operation(residual)`, named `name`.
    pub fn new(name: &'static str, operation: Operation) -> Self {
        Self { name, input: BranchInput::Residual, pre: None, operation, post: None, scale: None, post_add: None }
    }

    /// With a norm on the input.
    pub fn with_pre(self, name: &'static str, norm: NormSpec) -> Self {
        Self { pre: Some(NamedNorm { name, norm }), ..self }
    }

    /// With a norm on the result.
    pub fn with_post(self, name: &'static str, norm: NormSpec) -> Self {
        Self { post: Some(NamedNorm { name, norm }), ..self }
    }

    /// With a norm on the residual stream that the result was added to.
    pub fn with_post_add(self, name: &'static str, norm: NormSpec) -> Self {
        Self { post_add: Some(NamedNorm { name, norm }), ..self }
    }
}
