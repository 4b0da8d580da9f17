//! Parameters that were loaded, of any rank.

use crate::{
    LoadError, PlanRow,
    plan::{MAX_RANK, device_label},
    windows::MappedFiles,
};
use automodel_quant::{QuantLinear, QuantWeight};
use burn::tensor::{Bytes, DType, Device, DispatchTensor, FloatDType, Tensor, TensorData};
use std::collections::BTreeMap;

/// Runs `$body` with `$d` being the rank, as far as ranks go here.
macro_rules! with_rank {
    ($rank:expr, $d:ident => $body:expr) => {
        with_rank!(@arms $rank, $d, $body, 1 2 3 4 5 6 7 8)
    };
    (@arms $rank:expr, $d:ident, $body:expr, $($known:literal)*) => {
        match $rank {
            $($known => {
                const $d: usize = $known;
                Some($body)
            })*
            _ => None,
        }
    };
}
const _: () = assert!(MAX_RANK == 8);

/// A loaded parameter. Clones share its storage.
#[derive(Clone, Debug)]
pub struct LoadedTensor {
    /// The float tensor, whatever its rank.
    pub tensor: DispatchTensor,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Its dtype.
    pub dtype: FloatDType,
}

impl LoadedTensor {
    /// Puts `bytes` on the device. `in_place`: the device computes in host memory and takes the bytes as they are.
    pub(super) fn new(row: &PlanRow, bytes: Bytes, device: &Device, in_place: bool) -> Result<Self, LoadError> {
        let dtype = DType::from(row.target());
        let failed = |source| LoadError::Device { device: device_label(device), source };
        let data = TensorData::try_from_bytes(bytes, row.shape().to_vec(), dtype)
            .map_err(|error| failed(error.to_string().into()))?;
        let create = |data: TensorData| from_data(data, device, dtype);
        // Weights live as long as the model: pools for short-lived tensors would round them up.
        let tensor = if in_place { create(data) } else { device.memory_persistent_allocations(data, create) };
        let tensor = tensor.ok_or_else(|| failed(format!("no tensor has the shape {:?}", row.shape()).into()))?;
        Ok(Self { tensor, shape: row.shape().to_vec(), dtype: row.target() })
    }

    /// As a tensor of rank `D`; `None` if it has another rank.
    pub fn tensor<const D: usize>(self) -> Option<Tensor<D>> {
        (self.shape.len() == D).then(|| Tensor::from_dispatch(self.tensor))
    }

    /// Its values in host memory.
    ///
    /// # Errors
    /// [`LoadError::Device`] if the device cannot deliver them.
    pub fn try_into_data(self) -> Result<TensorData, LoadError> {
        let Self { tensor, shape, .. } = self;
        let data = with_rank!(shape.len(), D => Tensor::<D>::from_dispatch(tensor).try_into_data());
        let failed = |source| LoadError::Device { device: "of a parameter".into(), source };
        data.ok_or_else(|| failed(format!("no tensor has the shape {shape:?}").into()))?
            .map_err(|source| failed(source.into()))
    }
}

/// Creates a tensor of the rank that the data has. The dtype is named because Burn converts to the device's default dtype
/// otherwise.
fn from_data(data: TensorData, device: &Device, dtype: DType) -> Option<DispatchTensor> {
    with_rank!(data.shape().num_dims(), D => Tensor::<D>::from_data(data, (device, dtype)).into_dispatch())
}

/// A quantised parameter.
#[derive(Clone, Debug)]
pub(super) enum LoadedWeight {
    /// For devices that compute in host memory.
    Host(QuantWeight),
    /// On the device.
    Device(Box<QuantLinear>),
}

/// Parameters by their path in the module, dense ones and quantised ones.
#[derive(Clone, Debug, Default)]
pub struct LoadedParameters {
    tensors: BTreeMap<String, LoadedTensor>,
    quantized: BTreeMap<String, LoadedWeight>,
    tied: Vec<(String, String)>,
    mapped_files: MappedFiles,
}

impl LoadedParameters {
    pub(super) fn watch(&mut self, mapped_files: MappedFiles) {
        self.mapped_files = mapped_files;
    }

    pub(super) fn insert(&mut self, path: &str, tensor: LoadedTensor) {
        self.tensors.insert(path.to_owned(), tensor);
    }

    pub(super) fn insert_quantized(&mut self, path: &str, weight: LoadedWeight) {
        self.quantized.insert(path.to_owned(), weight);
    }

    pub(super) fn share(&mut self, path: &str, to: &str) {
        if let Some(tensor) = self.tensors.get(to).cloned() {
            self.insert(path, tensor);
        } else if let Some(weight) = self.quantized.get(to).cloned() {
            self.insert_quantized(path, weight);
        } else {
            return;
        }
        self.tied.push((path.to_owned(), to.to_owned()));
    }

    /// Takes a dense parameter. Tied parameters are there under each of their paths and share storage.
    pub fn take(&mut self, path: &str) -> Option<LoadedTensor> {
        self.tensors.remove(path)
    }

    /// Takes a quantised parameter as a layer without bias on the device of the plan.
    pub fn take_linear(&mut self, path: &str) -> Option<QuantLinear> {
        Some(match self.quantized.remove(path)? {
            LoadedWeight::Host(weight) => QuantLinear::new(weight, None, &Device::flex()),
            LoadedWeight::Device(layer) => *layer,
        })
    }

    /// Takes a quantised parameter to the host. `None` also if the device that it is on fails.
    pub fn take_quantized(&mut self, path: &str) -> Option<QuantWeight> {
        match self.quantized.remove(path)? {
            LoadedWeight::Host(weight) => Some(weight),
            LoadedWeight::Device(layer) => layer.to_weight(),
        }
    }

    /// Paths of all quantised parameters that were not taken yet, sorted.
    pub fn quantized_paths(&self) -> impl Iterator<Item = &str> {
        self.quantized.keys().map(String::as_str)
    }

    /// Looks at a dense parameter.
    pub fn get(&self, path: &str) -> Option<&LoadedTensor> {
        self.tensors.get(path)
    }

    /// Paths of all dense parameters that were not taken yet, sorted.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// All dense parameters that were not taken yet, sorted by path. Quantised ones are dropped.
    pub fn into_dense(self) -> impl Iterator<Item = (String, LoadedTensor)> {
        self.tensors.into_iter()
    }

    /// Parameters that share the storage of another: (path, the path it shares).
    pub fn tied(&self) -> &[(String, String)] {
        &self.tied
    }

    /// The files that parameters stay in: [`MappedFiles::check`] them before parameters are used.
    pub fn mapped_files(&self) -> &MappedFiles {
        &self.mapped_files
    }

    /// How many parameters, dense and quantised, were not taken yet.
    pub fn len(&self) -> usize {
        self.tensors.len() + self.quantized.len()
    }

    /// Whether all parameters were taken.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty() && self.quantized.is_empty()
    }
}
