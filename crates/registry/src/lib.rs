#![doc = include_str!("../README.md")]

#[cfg(test)]
mod auto_traits;
mod composite;
mod custom;
mod error;
mod families;
mod family;
mod family_config;
mod nearest;
mod options;
mod registry;
mod resolution;
pub mod rope;
mod similar;
pub mod spec;
mod standalone;
pub mod template;
mod unsupported;
pub mod weights;
mod wrapper;

pub use composite::{Composite, CompositePart};
pub use custom::{AcceptedOptions, BUILTIN_RULES, CompatibilityRule, CustomImplementation, SupportsConfig};
pub use error::RegistryError;
pub use family::Family;
pub use family_config::FamilyConfig;
pub use options::{SplitOptions, split_options};
pub use registry::{Lowered, MOST_PARAMETERS, Registration, Registry};
pub use resolution::{Considered, Implementation, Resolution, ResolveOptions};
pub use similar::SimilarFamily;
pub use standalone::standalone;
pub use wrapper::unwrap_text_model;
