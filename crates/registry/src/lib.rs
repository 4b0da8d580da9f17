#![doc = include_str!("../README.md")]

#[cfg(test)]
mod auto_traits;
mod custom;
mod error;
mod families;
mod family;
mod lineage;
mod nearest;
mod options;
mod registry;
mod resolution;
pub mod rope;
pub mod spec;
pub mod template;
pub mod weights;
mod wrapper;

pub use custom::{AcceptedOptions, BUILTIN_RULES, CompatibilityRule, CustomImplementation, SupportsConfig};
pub use error::RegistryError;
pub use family::Family;
pub use options::{SplitOptions, split_options};
pub use registry::{Lowered, MOST_PARAMETERS, Registration, Registry};
pub use resolution::{Considered, Implementation, Resolution, ResolveOptions};
pub use wrapper::unwrap_text_model;
