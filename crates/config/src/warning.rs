//! Warnings.

use std::fmt;

/// A warning about a config.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigWarning {
    /// A key occurs more than once; the last one counts.
    RepeatedKey {
        /// Dotted key.
        key: String,
    },
    /// A key and its alias both occur, with different values; the canonical one counts.
    AliasConflict {
        /// The alias, whose value is ignored.
        alias: String,
        /// The canonical key.
        canonical: String,
    },
    /// `layer_types` has more entries than there are layers; the rest is ignored.
    LayerTypesCut {
        /// Number of entries.
        given: usize,
        /// Layers of the model, and entries kept.
        num_hidden_layers: usize,
    },
    /// Both rope objects occur, with different values; `rope_scaling` counts, as in transformers.
    RopeScalingWins,
    /// A key that the rope type does not use.
    UnusedRopeKey {
        /// Dotted key.
        key: String,
        /// The rope type.
        rope_type: &'static str,
    },
    /// A rope key that transformers does not have; it stays unread.
    UnknownRopeKey {
        /// Dotted key.
        key: String,
    },
    /// A rope factor below 1, which shortens the context.
    SmallRopeFactor {
        /// Dotted key.
        key: String,
    },
    /// `dtype` and `torch_dtype` differ; `dtype` counts, as in transformers.
    DtypeConflict,
}

impl fmt::Display for ConfigWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigWarning::RepeatedKey { key } => write!(f, "`{key}` occurs more than once; the last value counts"),
            ConfigWarning::AliasConflict { alias, canonical } => {
                write!(f, "`{alias}` and `{canonical}` mean the same but differ; `{canonical}` counts")
            }
            ConfigWarning::LayerTypesCut { given, num_hidden_layers } => write!(
                f,
                "`layer_types` has {given} entries for {num_hidden_layers} layers; the first {num_hidden_layers} count"
            ),
            ConfigWarning::RopeScalingWins => {
                f.write_str("`rope_scaling` and `rope_parameters` differ; `rope_scaling` counts, as in transformers")
            }
            ConfigWarning::UnusedRopeKey { key, rope_type } => {
                write!(f, "`{key}` is not used by rope type \"{rope_type}\" and is ignored, as in transformers")
            }
            ConfigWarning::UnknownRopeKey { key } => {
                write!(f, "`{key}` is not a rope key of transformers and is not read")
            }
            ConfigWarning::SmallRopeFactor { key } => write!(f, "`{key}` is below 1, which shortens the context"),
            ConfigWarning::DtypeConflict => {
                f.write_str("`dtype` and `torch_dtype` differ; `dtype` counts, as in transformers")
            }
        }
    }
}
