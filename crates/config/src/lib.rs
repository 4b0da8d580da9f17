#![doc = include_str!("../README.md")]

#[cfg(test)]
mod auto_traits;
mod defaults;
mod dtype;
mod error;
pub mod files;
mod generation;
mod harmless;
mod json;
mod known;
mod merge;
mod object;
mod origin;
mod overrides;
mod ranges;
mod raw;
mod resolve;
mod resolved;
mod rope;
mod rope_overrides;
mod typed;
mod unread;
mod warning;

pub use defaults::{ClassDefaults, DefaultValue};
pub use dtype::FloatType;
pub use error::{ConfigError, UnreadKey};
pub use generation::{GenerationConfig, InvalidSetting};
pub use harmless::harmless_reason;
pub use object::{json_number, parse_json_object};
pub use origin::Origin;
pub use overrides::Overrides;
pub use raw::{FILE_SIZE_LIMIT, RawConfig, Wrapper};
pub use resolved::ResolvedConfig;
pub use rope::{ModelRope, RopeDefaults, RopeLayer, RopeOptions, RopeParameters, RopeType};
pub use warning::ConfigWarning;
