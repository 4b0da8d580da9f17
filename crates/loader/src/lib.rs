//! Plan and execute the loading of safetensors checkpoints into Burn tensors, with bounded memory; save them again.
//!
//! Three steps, each of which can be looked at before the next one is taken:
//!
//! 1. [`CheckpointFiles::open`] reads the headers of all shards, each once, and checks them.
//! 2. [`LoadPlan::new`] says for each parameter which bytes it comes from, how they are converted, and how much memory it takes.
//!    No weight is read.
//! 3. [`execute`] moves the bytes. On the CPU a tensor that is stored as it is computed with stays in the mapped file.
//!
//! [`CheckpointWriter`] and [`save_pretrained`] are the way back.
//!
//! ```
//! use automodel_loader::{CheckpointFiles, LoadOptions, LoadPlan, execute, identity_map};
//! use burn::tensor::{Device, Tensor};
//!
//! # let scratch = tempfile::tempdir()?;
//! # let directory = scratch.path();
//! # let bytes: Vec<u8> = [1f32, 2.0, 3.0, 4.0].iter().flat_map(|value| value.to_le_bytes()).collect();
//! # let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2, 2], &bytes)?;
//! # safetensors::serialize_to_file([("weight", view)], None, &directory.join("model.safetensors"))?;
//! let files = CheckpointFiles::open(directory)?;
//! let device = Device::flex();
//! let plan = LoadPlan::new(&files, &identity_map(&files), &LoadOptions::new(&device))?;
//! println!("{plan}");
//! let (mut parameters, report) = execute(&plan, &files, &device, &mut |_| {})?;
//! let weight: Tensor<2> = parameters.take("weight").and_then(|weight| weight.tensor()).ok_or("no such matrix")?;
//! assert_eq!(weight.into_data().try_to_vec::<f32>()?, [1.0, 2.0, 3.0, 4.0]);
//! assert_eq!(report.mapped_bytes, 16);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(target_endian = "big")]
compile_error!("safetensors files are little-endian and are used in place: big-endian machines are not supported");

#[cfg(test)]
mod auto_traits;
mod dtype;
mod error;
mod execute;
mod files;
mod plan;
mod problems;
mod quantization;
mod report;
mod requantize;
mod save;
mod strided;
mod windows;

pub use dtype::{StoredDtype, float_name};
pub use error::LoadError;
pub use execute::{LoadedParameters, LoadedTensor, Progress, execute};
pub use files::{Adapter, CheckpointFiles, FileChange, Shard, TensorInfo};
pub use plan::{DtypePolicy, LoadOptions, LoadPlan, PlanRow, PlanSource, PlannedTie, TieDecision, identity_map};
pub use problems::{MissingTensor, Problems, QuantizationFault, ShapeMismatch, UnusableDtype, WeightMapFault};
pub use quantization::{Encoding, QuantizationConfig};
pub use report::{DeviceBytes, DtypeBytes, EncodingBytes, LoadReport, NonFinite, Overflow, TieOutcome, TieReport};
pub use requantize::{RequantizeOptions, RequantizeProgress, RequantizeReport, UnquantizedMatrix, quantize_checkpoint};
pub use save::{CheckpointWriter, SaveFiles, SaveOptions, SaveReport, check_output, save_pretrained};
pub use windows::MappedFiles;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
