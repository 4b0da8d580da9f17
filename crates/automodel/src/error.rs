//! What can go wrong on the way from a name to a model.

use crate::memory::{Bytes, DeviceMemory};
use crate::variants::SmallerLoad;
use automodel_registry::RegistryError;
use thiserror::Error;

/// What can go wrong on the way from a name to a model. The stages' own errors pass through unchanged.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AutoModelError {
    /// The checkpoint could not be found.
    #[error(transparent)]
    Hub(#[from] automodel_hub::HubError),
    /// The config could not be read or makes no sense.
    #[error(transparent)]
    Config(#[from] automodel_config::ConfigError),
    /// No implementation supports the config, or it contradicts itself.
    #[error(transparent)]
    Registry(#[from] automodel_registry::RegistryError),
    /// The weights are quantised in a way that cannot be read.
    #[error(transparent)]
    Quant(#[from] automodel_quant::QuantError),
    /// The attention that was asked for does not exist here.
    #[error(transparent)]
    Attention(#[from] automodel_attention::AttentionError),
    /// The model could not be built or run.
    #[error(transparent)]
    Model(#[from] automodel_models::ModelError),
    /// The weights could not be loaded or saved.
    #[error(transparent)]
    Load(#[from] automodel_loader::LoadError),
    /// Text could not be generated.
    #[error(transparent)]
    Generation(#[from] automodel_generation::GenerationError),
    /// The device cannot be had.
    #[error(transparent)]
    Device(#[from] crate::DeviceError),
    /// A dtype that is none.
    #[error("`{name}` is no dtype for weights: choose auto, float32, float16 or bfloat16")]
    UnknownDtype {
        /// What was given.
        name: String,
    },
    /// Text was asked for from a checkpoint that has no tokenizer.
    #[error("this checkpoint has no tokenizer: give token ids, or put its tokenizer.json into the directory")]
    NoTokenizer,
    /// File-to-file quantisation of a text model inside a larger one, whose other tensors would be left under names that no text
    /// model has.
    #[error(
        "the text model of a `{wrapper}` cannot be quantised from file to file: save the text model by itself and quantise that, or \
         quantise while loading"
    )]
    QuantizeWrapped {
        /// `model_type` of the larger model.
        wrapper: String,
    },
    /// An override that would tie or untie the weights of a checkpoint.
    #[error(
        "tie_word_embeddings is {in_checkpoint} in this checkpoint and cannot be overridden: its head and embedding were \
         trained that way; leave the override out"
    )]
    FlippedTie {
        /// What the checkpoint says.
        in_checkpoint: bool,
    },
    /// Weights in 4 bits for an implementation whose projections take none.
    #[error(
        "the implementation `{implementation}` has no quantised projections, so {} cannot be in 4 bits: load the model without \
         quantising it, skip these modules, or use the generic implementation",
        listed(parameters)
    )]
    NoQuantizedProjections {
        /// The implementation.
        implementation: String,
        /// Parameters that would be in 4 bits.
        parameters: Vec<String>,
    },
    /// Parameters of the weight map that the model has no place for.
    #[error(
        "the implementation `{implementation}` takes no value for {}: its weight map and the parameters of its module must be the \
         same",
        listed(parameters)
    )]
    UntakenParameters {
        /// The implementation.
        implementation: String,
        /// What it did not take.
        parameters: Vec<String>,
    },
    /// A parameter that the device does not hand back.
    #[error(
        "parameter `{parameter}` cannot be read from the device: its parts are not those of a weight, or the device failed"
    )]
    UnreadableParameter {
        /// Its path.
        parameter: String,
    },
    /// Weights that surely do not fit into the memory that is available.
    #[error(
        "the weights need {} of memory that the system cannot take back, with {memory}: nothing was loaded; {}; free memory, or \
         switch this check off to try all the same",
        Bytes(*needed_bytes),
        smaller_loads(smaller, memory)
    )]
    InsufficientMemory {
        /// Bytes that would be copied; those that stay in the mapped files do not count.
        needed_bytes: u64,
        /// What the device has.
        memory: DeviceMemory,
        /// Other ways to load the checkpoint, which fit; if none does, the one that needs least.
        smaller: Vec<SmallerLoad>,
    },
    /// The demo could not be unpacked.
    #[error("the demo cannot be unpacked in {}: set TMPDIR to a directory that can be written", directory.display())]
    UnwritableDemo {
        /// The directory for temporary files.
        directory: std::path::PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The generic implementation without a spec.
    #[error("the resolution chose the generic decoder without a specification: this is a mistake in the registry")]
    NoSpec,
    /// A family whose configs have no defaults.
    #[error(
        "configs of model type `{model_type}` have no default sizes, because its class is no part of transformers: inspect a checkpoint of it \
         instead"
    )]
    NoDefaults {
        /// The family.
        model_type: String,
    },
}

impl AutoModelError {
    /// Adds the name of the checkpoint where an error can carry it.
    pub(crate) fn of_checkpoint(self, name: &str) -> Self {
        match self {
            Self::Registry(RegistryError::UnsupportedArchitecture {
                model_type,
                architectures,
                missing,
                nearest,
                similar,
                ..
            }) => {
                let checkpoint = Some(name.into());
                Self::Registry(RegistryError::UnsupportedArchitecture {
                    model_type,
                    architectures,
                    checkpoint,
                    missing,
                    nearest,
                    similar,
                })
            }
            other => other,
        }
    }
}

/// `3 parameter(s): a, b, c`, the first of many.
fn listed(parameters: &[String]) -> String {
    const SHOWN: usize = 10;
    let shown: Vec<String> = parameters.iter().take(SHOWN).map(|path| format!("`{path}`")).collect();
    let more = match parameters.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    format!("{} parameter(s) ({}{more})", parameters.len(), shown.join(", "))
}

/// What other ways to load a checkpoint would need.
fn smaller_loads(loads: &[SmallerLoad], memory: &DeviceMemory) -> String {
    let need = |load: &SmallerLoad| match load.mapped_bytes {
        0 => format!("{} in {}", Bytes(load.needed_bytes), load.name),
        mapped => format!("{} in {} with {} left in the files", Bytes(load.needed_bytes), load.name, Bytes(mapped)),
    };
    match loads {
        [] => "there is no smaller way to load them".to_owned(),
        [load] if load.needed_bytes > memory.available_bytes => {
            format!("they do not fit in any encoding, the smallest needs {}", need(load))
        }
        loads => format!("they would need {}", loads.iter().map(need).collect::<Vec<_>>().join(", ")),
    }
}
