//! The common ground of families: Llama's mathematics read from a config, from which families deviate.

use crate::rope::RopeByLayerType;
use crate::spec::*;
use crate::{FamilyConfig, RegistryError};
use automodel_config::RopeDefaults;

/// Names under which a family's config keeps common values.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    /// Epsilon of the norms.
    pub norm_eps: &'static str,
    /// Activation of the MLP; without such a key it is SiLU.
    pub activation: Option<&'static str>,
    /// Number of layers.
    pub num_hidden_layers: &'static str,
    /// Width of the MLP.
    pub intermediate_size: &'static str,
    /// Number of key-value heads, where the family has such a key.
    pub num_key_value_heads: Option<&'static str>,
    /// Width of a head, where the family has such a key.
    pub head_dim: Option<&'static str>,
    /// Longest sequence, where the family has such a key.
    pub max_position_embeddings: Option<&'static str>,
}

impl Keys {
    /// Llama's names.
    pub const LLAMA: Self = Self {
        norm_eps: "rms_norm_eps",
        activation: Some("hidden_act"),
        num_hidden_layers: "num_hidden_layers",
        intermediate_size: "intermediate_size",
        num_key_value_heads: Some("num_key_value_heads"),
        head_dim: Some("head_dim"),
        max_position_embeddings: Some("max_position_embeddings"),
    };
}

/// A model whose layers are all alike but for what [`build`](Self::build) changes.
#[derive(Clone, Debug)]
pub struct Template {
    /// `model_type`, for messages.
    pub model_type: String,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Longest sequence.
    pub max_position_embeddings: Option<usize>,
    /// What is done to embedded tokens.
    pub embedding: EmbeddingSpec,
    /// What makes logits.
    pub head: HeadSpec,
    /// All norms.
    pub norm: NormSpec,
    /// How mixer, MLP and norms make a layer: [`LayerSpec::pre`] and its like.
    pub layer: fn(Mixer, FeedForward, NormSpec) -> LayerSpec,
    /// The attention of every layer.
    pub attention: AttentionSpec,
    /// The MLP of every layer.
    pub mlp: FeedForward,
    /// Factor on both branches.
    pub residual_scale: Option<f64>,
}

impl Template {
    /// Reads sizes, activation, norm and head of a Llama-like config; no biases, full attention, no positions.
    ///
    /// # Errors
    /// A value that is missing, of the wrong kind, absurd, or contradicts another.
    pub fn read(config: &FamilyConfig<'_>, keys: &Keys) -> Result<Self, RegistryError> {
        Self::read_with_eps(config, keys, config.f64(keys.norm_eps)?)
    }

    /// [`read`](Self::read) for classes whose norms have a fixed epsilon: `keys.norm_eps` is not read.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_with_eps(config: &FamilyConfig<'_>, keys: &Keys, eps: f64) -> Result<Self, RegistryError> {
        let model_type = config.model_type().to_owned();
        let hidden_size = config.usize("hidden_size")?;
        let heads = config.usize("num_attention_heads")?;
        let given = |key: Option<&str>| key.map_or(Ok(None), |key| config.usize_or_null(key));
        let key_value_heads = given(keys.num_key_value_heads)?.unwrap_or(heads);
        let head_dim = given(keys.head_dim)?;
        let head_dim = match head_dim {
            Some(head_dim) => head_dim,
            None if hidden_size % heads == 0 => hidden_size / heads,
            None => {
                return Err(config.inconsistent(format!(
                    "hidden_size {hidden_size} is not a multiple of num_attention_heads {heads}: correct one of them, \
                     or give head_dim"
                )));
            }
        };
        let activation = keys.activation.map_or(Ok(Activation::Silu), |key| activation(config, key))?;
        let mlp = MlpSpec::new(config.usize(keys.intermediate_size)?, activation);
        Ok(Self {
            num_hidden_layers: config.usize(keys.num_hidden_layers)?,
            vocab_size: config.usize("vocab_size")?,
            hidden_size,
            max_position_embeddings: given(keys.max_position_embeddings)?,
            embedding: EmbeddingSpec::default(),
            head: HeadSpec {
                transform: None,
                unit_rows: false,
                tied: config.bool("tie_word_embeddings")?,
                bias: false,
                logit_scale: None,
                logit_softcap: None,
            },
            norm: NormSpec { kind: NormKind::Rms, eps },
            layer: LayerSpec::pre,
            attention: AttentionSpec::new(heads, key_value_heads, head_dim),
            mlp: FeedForward::Gated(mlp),
            residual_scale: None,
            model_type,
        })
    }

    /// [`read`](Self::read) with Llama's names, and one rotary embedding for all layers.
    ///
    /// # Errors
    /// As [`read`](Self::read), and rope parameters that make no sense.
    pub fn llama(config: &FamilyConfig<'_>) -> Result<Self, RegistryError> {
        Self::read(config, &Keys::LLAMA)?.with_rope(config, RopeDefaults::default(), RopePairing::HalfSplit)
    }

    /// Gives all layers one rotary embedding.
    ///
    /// # Errors
    /// Rope parameters that make no sense, or that differ by layer type.
    pub fn with_rope(
        mut self,
        config: &FamilyConfig<'_>,
        defaults: RopeDefaults,
        pairing: RopePairing,
    ) -> Result<Self, RegistryError> {
        let rope = RopeByLayerType::read(config, defaults, self.attention.head_dim, pairing)?;
        self.attention.rope = Some(rope.uniform()?.clone());
        Ok(self)
    }

    /// The norm on queries and keys, of the kind of the other norms.
    pub fn with_qk_norm(mut self, extent: QkNormExtent) -> Self {
        self.attention.qk_norm = Some(QkNorm { norm: self.norm, extent, after_rope: false });
        self
    }

    /// The dense MLP, to change it.
    pub fn dense_mlp(&mut self) -> Option<&mut MlpSpec> {
        match &mut self.mlp {
            FeedForward::Gated(mlp) | FeedForward::Plain(mlp) => Some(mlp),
            FeedForward::Moe(_) => None,
        }
    }

    /// Makes the MLP `down(activation(up(x)))`.
    pub fn with_plain_mlp(mut self, bias: bool) -> Self {
        if let FeedForward::Gated(mlp) | FeedForward::Plain(mlp) = self.mlp.clone() {
            self.mlp = FeedForward::Plain(MlpSpec { bias, ..mlp });
        }
        self
    }

    /// The specification; `change` adapts attention and MLP of each layer.
    ///
    /// # Errors
    /// What `change` returns, and a specification that contradicts itself.
    pub fn build(
        self,
        mut change: impl FnMut(usize, &mut LayerParts) -> Result<(), RegistryError>,
    ) -> Result<ModelSpec, RegistryError> {
        self.build_layers(|index, template| {
            let mut parts = LayerParts { attention: template.attention.clone(), mlp: template.mlp.clone() };
            change(index, &mut parts)?;
            Ok(template.layer(Mixer::Attention(parts.attention), parts.mlp))
        })
    }

    /// [`build`](Self::build) with all layers alike.
    ///
    /// # Errors
    /// A specification that contradicts itself.
    pub fn build_uniform(self) -> Result<ModelSpec, RegistryError> {
        self.build(|_, _| Ok(()))
    }

    /// The specification with all layers alike, and another mixer than the template's attention.
    ///
    /// # Errors
    /// A specification that contradicts itself.
    pub fn build_mixer(self, mixer: Mixer) -> Result<ModelSpec, RegistryError> {
        self.build_layers(|_, template| Ok(template.layer(mixer.clone(), template.mlp.clone())))
    }

    /// The specification with the layers that `make` makes: for hybrids.
    ///
    /// # Errors
    /// What `make` returns, and a specification that contradicts itself.
    pub fn build_layers(
        self,
        make: impl FnMut(usize, &Self) -> Result<LayerSpec, RegistryError>,
    ) -> Result<ModelSpec, RegistryError> {
        let (model_type, task) = (self.model_type.clone(), Task::CausalLm(self.head.clone()));
        let spec = ModelSpec { backbone: self.build_backbone(make)?, task };
        spec.validate().map_err(|problem| RegistryError::InconsistentConfig { model_type, problem })?;
        Ok(spec)
    }

    /// The backbone alone, with the layers that `make` makes and a final norm: for models whose task is another than the next token.
    ///
    /// # Errors
    /// What `make` returns, and more layers than any model's.
    pub fn build_backbone(
        self,
        mut make: impl FnMut(usize, &Self) -> Result<LayerSpec, RegistryError>,
    ) -> Result<Backbone, RegistryError> {
        check_layer_count(&self.model_type, self.num_hidden_layers)?;
        let layers = (0..self.num_hidden_layers).map(|index| make(index, &self)).collect::<Result<_, _>>()?;
        Ok(Backbone {
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            max_position_embeddings: self.max_position_embeddings,
            embedding: self.embedding,
            layers,
            final_norm: Some(self.norm),
        })
    }

    /// A layer of this mixer and MLP, with the template's norms and factor.
    pub fn layer(&self, mixer: Mixer, mlp: FeedForward) -> LayerSpec {
        (self.layer)(mixer, mlp, self.norm).with_scale(self.residual_scale)
    }
}

/// What [`Template::build`] may change of a layer.
#[derive(Clone, Debug)]
pub struct LayerParts {
    /// Its attention.
    pub attention: AttentionSpec,
    /// Its MLP.
    pub mlp: FeedForward,
}

/// More layers than this are a mistake, not a model; the table of ranges in `config` has the same bound for
/// `num_hidden_layers`.
pub(crate) const MOST_LAYERS: usize = 1 << 10;

fn check_layer_count(model_type: &str, layers: usize) -> Result<(), RegistryError> {
    if layers <= MOST_LAYERS {
        return Ok(());
    }
    let problem = format!("num_hidden_layers is {layers}, more than any model's ({MOST_LAYERS}): correct it");
    Err(RegistryError::InconsistentConfig { model_type: model_type.to_owned(), problem })
}

/// The activation that a config names under `key`, by transformers' names.
///
/// # Errors
/// A name that is not supported.
pub fn activation(config: &FamilyConfig<'_>, key: &str) -> Result<Activation, RegistryError> {
    let reason = "supported are silu, gelu, gelu_new, gelu_pytorch_tanh, quick_gelu, relu and relu2";
    activation_named(config.str(key)?).ok_or_else(|| config.unsupported(key, reason))
}

/// The activation that transformers calls `name`.
pub fn activation_named(name: &str) -> Option<Activation> {
    Some(match name {
        "silu" | "swish" => Activation::Silu,
        "gelu" | "gelu_python" => Activation::Gelu,
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" | "gelu_python_tanh" | "gelu_accurate" => Activation::GeluTanh,
        "quick_gelu" => Activation::QuickGelu,
        "relu" => Activation::Relu,
        "relu2" => Activation::Relu2,
        _ => return None,
    })
}

/// The mask of a layer type; `window` is what `sliding_window` says.
///
/// # Errors
/// An unknown layer type, or a sliding layer without a window.
pub fn mask_of(
    config: &FamilyConfig<'_>,
    layer_type: &str,
    window: Option<usize>,
) -> Result<AttentionMask, RegistryError> {
    match (layer_type, window) {
        ("full_attention", _) => Ok(AttentionMask::Full),
        ("sliding_attention", Some(window)) => Ok(AttentionMask::Sliding { window }),
        ("sliding_attention", None) => Err(RegistryError::InconsistentConfig {
            model_type: config.model_type().to_owned(),
            problem: "layer_types has sliding_attention but sliding_window is null: give a window".to_owned(),
        }),
        _ => Err(RegistryError::UnsupportedSetting {
            model_type: config.model_type().to_owned(),
            key: "layer_types".to_owned(),
            value: format!("\"{layer_type}\""),
            reason: "this family has full_attention and sliding_attention layers".to_owned(),
        }),
    }
}

/// The config's `layer_types`, or what `otherwise` says of each layer.
///
/// # Errors
/// Fewer types than layers.
pub fn layer_types(
    config: &FamilyConfig<'_>,
    layers: usize,
    otherwise: impl FnMut(usize) -> &'static str,
) -> Result<Vec<String>, RegistryError> {
    check_layer_count(config.model_type(), layers)?;
    let given = config.layer_types(layers)?;
    Ok(given.unwrap_or_else(|| (0..layers).map(otherwise).map(str::to_owned).collect()))
}
