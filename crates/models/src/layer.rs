//! One decoder layer: a mixer and an MLP with their norms.

use crate::attention::PassContext;
use crate::{Attention, CacheOptions, GatedMlp, LayerState, ModelError, Norm, PlainMlp, SparseMoe, kernels};
use automodel_registry::spec::{LayerSpec, Mixer, Mlp, NormPlacement};
use burn::module::Module;
use burn::tensor::{Device, Tensor};

/// A mixer and an MLP with their norms. Which norms exist, and where they stand, is the placement's matter.
#[derive(Module, Debug)]
pub struct DecoderLayer {
    /// How positions exchange information.
    pub self_attn: MixerModule,
    /// What is computed at each position.
    pub mlp: FeedForward,
    /// Before the mixer.
    pub input_layernorm: Option<Norm>,
    /// After the mixer, or before the MLP where there is no norm after the mixer.
    pub post_attention_layernorm: Option<Norm>,
    /// Before the MLP.
    pub pre_feedforward_layernorm: Option<Norm>,
    /// After the MLP.
    pub post_feedforward_layernorm: Option<Norm>,
    #[module(skip)]
    placement: NormPlacement,
    #[module(skip)]
    residual_scale: Option<f64>,
    #[module(skip)]
    rope: Option<usize>,
}

/// How positions exchange information.
#[derive(Module, Debug)]
pub enum MixerModule {
    /// Softmax attention.
    Attention(Attention),
}

/// What is computed at each position.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "modules live in a list of layers; Burn's derive takes no box")]
pub enum FeedForward {
    /// A gated MLP.
    Gated(GatedMlp),
    /// A plain MLP.
    Plain(PlainMlp),
    /// A mixture of experts.
    Moe(SparseMoe),
}

impl FeedForward {
    fn new(hidden_size: usize, mlp: &Mlp, device: &Device) -> Self {
        match mlp {
            Mlp::Gated(spec) => Self::Gated(GatedMlp::new(hidden_size, spec, device)),
            Mlp::Plain(spec) => Self::Plain(PlainMlp::new(hidden_size, spec, device)),
            Mlp::Moe(spec) => Self::Moe(SparseMoe::new(hidden_size, spec, device)),
        }
    }

    /// `[batch, length, hidden_size]` to the same.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let shape = x.dims();
        let rows = x.reshape([shape[0] * shape[1], shape[2]]);
        let y = match self {
            Self::Gated(mlp) => mlp.forward(rows),
            Self::Plain(mlp) => mlp.forward(rows),
            Self::Moe(moe) => moe.forward(rows),
        };
        y.reshape(shape)
    }
}

impl DecoderLayer {
    /// A layer without values; `rope` is the index of its tables in the pass.
    pub(crate) fn new(hidden_size: usize, spec: &LayerSpec, rope: Option<usize>, device: &Device) -> Self {
        let Mixer::Attention(attention) = &spec.mixer;
        let norm =
            |name: &str| spec.placement.norms().contains(&name).then(|| Norm::new(spec.norm, [hidden_size], device));
        Self {
            self_attn: MixerModule::Attention(Attention::new(hidden_size, attention, device)),
            mlp: FeedForward::new(hidden_size, &spec.mlp, device),
            input_layernorm: norm("input_layernorm"),
            post_attention_layernorm: norm("post_attention_layernorm"),
            pre_feedforward_layernorm: norm("pre_feedforward_layernorm"),
            post_feedforward_layernorm: norm("post_feedforward_layernorm"),
            placement: spec.placement,
            residual_scale: spec.residual_scale,
            rope,
        }
    }

    /// Puts experts side by side, where that helps their device.
    pub(crate) fn pack_experts(&mut self) {
        if let FeedForward::Moe(moe) = &mut self.mlp {
            let device = moe.gate.weight.lazy_device();
            moe.stack_experts();
            // What the weights were copied from is given back before the next layer is copied.
            if device != Device::flex() && device.sync().is_ok() {
                device.memory_cleanup();
            }
        }
    }

    /// An empty state for this layer.
    pub(crate) fn new_cache(&self, options: &CacheOptions) -> LayerState {
        let MixerModule::Attention(attention) = &self.self_attn;
        attention.new_cache(options)
    }

    /// `[batch, length, hidden_size]` to the same. `layer` is this layer's index, for messages.
    pub(crate) fn forward(
        &self,
        x: Tensor<3>,
        layer: usize,
        state: &mut LayerState,
        context: &PassContext<'_>,
    ) -> Result<Tensor<3>, ModelError> {
        let rope = self.rope;
        self.run(x, &mut |attention, x| {
            let cache = Attention::cache_of(state, layer)?;
            attention
                .forward(x, rope, cache, context)
                .map_err(|source| ModelError::Attention { layer, source: Box::new(source) })
        })
    }

    /// The rotary embedding of this layer among those of the model.
    #[cfg(feature = "cube")]
    pub(crate) fn rope(&self) -> Option<usize> {
        self.rope
    }

    /// `[batch, length, hidden_size]` to the same, with `mix` for what the mixer does.
    pub(crate) fn run(
        &self,
        x: Tensor<3>,
        mix: &mut dyn FnMut(&Attention, Tensor<3>) -> Result<Tensor<3>, ModelError>,
    ) -> Result<Tensor<3>, ModelError> {
        let mut mix = |x: Tensor<3>| {
            let MixerModule::Attention(attention) = &self.self_attn;
            mix(attention, x)
        };
        let feed = |x: Tensor<3>| self.mlp.forward(x);
        Ok(match self.placement {
            NormPlacement::Pre => {
                let h = self.add(x.clone(), mix(norm(&self.input_layernorm, x))?);
                self.add(h.clone(), feed(norm(&self.post_attention_layernorm, h)))
            }
            NormPlacement::Post => {
                let h = self.add(x.clone(), norm(&self.post_attention_layernorm, mix(x)?));
                self.add(h.clone(), norm(&self.post_feedforward_layernorm, feed(h)))
            }
            NormPlacement::Sandwich => {
                let mixed = mix(norm(&self.input_layernorm, x.clone()))?;
                let h = self.add(x, norm(&self.post_attention_layernorm, mixed));
                let fed = feed(norm(&self.pre_feedforward_layernorm, h.clone()));
                self.add(h, norm(&self.post_feedforward_layernorm, fed))
            }
            NormPlacement::ParallelShared => {
                let n = norm(&self.input_layernorm, x.clone());
                let mixed = mix(n.clone())?;
                self.add(self.add(x, mixed), feed(n))
            }
            NormPlacement::ParallelSplit => {
                let fed = feed(norm(&self.post_attention_layernorm, x.clone()));
                let mixed = mix(norm(&self.input_layernorm, x.clone()))?;
                self.add(self.add(x, mixed), fed)
            }
        })
    }

    fn add(&self, residual: Tensor<3>, branch: Tensor<3>) -> Tensor<3> {
        kernels::add_scaled(residual, &branch, self.residual_scale).unwrap_or_else(|residual| {
            match self.residual_scale {
                Some(scale) => residual + branch * scale,
                None => residual + branch,
            }
        })
    }
}

fn norm(norm: &Option<Norm>, x: Tensor<3>) -> Tensor<3> {
    match norm {
        Some(norm) => norm.forward(x),
        None => x,
    }
}
