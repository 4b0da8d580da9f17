#![doc = include_str!("../README.md")]

mod assign;
mod auto;
#[cfg(test)]
mod auto_traits;
mod cache;
pub mod cuda;
mod demo;
mod describe;
mod device;
mod error;
mod forecast;
mod from_config;
mod mathematics;
mod memory;
mod model;
mod options;
mod prepared;
mod refusal;
mod save;
mod summary;
mod variants;

pub use auto::{AutoModelForCausalLM, FromPretrained};
pub use demo::DEMO;
pub use device::{DeviceError, DeviceName, hardware_name};
pub use error::AutoModelError;
pub use forecast::{ContextForecast, Fit, ForecastOptions, LoadForecast, MemoryForecast};
pub use from_config::FromConfig;
pub use mathematics::FamilySummary;
pub use memory::{DeviceMemory, MemoryBound};
pub use model::AutoModel;
pub use options::Dtype;
pub use prepared::Prepared;
pub use summary::{LargerModel, LayerSummary, Summary, UnreadModule};
pub use variants::SmallerLoad;

pub use automodel_attention as attention;
pub use automodel_config as config;
pub use automodel_generation as generation;
pub use automodel_hub as hub;
pub use automodel_loader as loader;
pub use automodel_models as models;
pub use automodel_quant as quant;
pub use automodel_registry as registry;
pub use burn::tensor::Device;
