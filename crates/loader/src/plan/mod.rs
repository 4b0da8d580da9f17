//! What will be read, converted and kept, decided from headers alone.

mod alternatives;
mod build;
mod identity;
mod names;
mod packed;
mod peak;
mod policy;
mod quantize;
mod resolved;
mod row;
mod table;
mod ties;

pub(crate) use build::MAX_RANK;
pub use identity::identity_map;
pub(crate) use peak::{quantized_window_elements, window_elements};
pub use policy::DtypePolicy;
pub(crate) use resolved::Resolved;
pub(crate) use row::{Fill, FloatPart, JointPart, PackedFill, QuantizedFill};
pub use row::{PlanRow, PlanSource};
pub(crate) use table::device_label;
pub(crate) use ties::same_bytes_possible;

use crate::{CheckpointFiles, LoadError, MissingTensor, QuantizationConfig};
use automodel_quant::Declared;
use automodel_registry::weights::WeightMap;
use burn::tensor::Device;
use serde::Serialize;

/// Bytes in flight unless the caller says otherwise: large enough to keep a disk busy.
const DEFAULT_MAX_BYTES_IN_FLIGHT: u64 = 256 << 20;

/// How a checkpoint is to be loaded.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LoadOptions {
    /// Where the parameters go.
    pub device: Device,
    /// The dtype they get there.
    pub dtype: DtypePolicy,
    /// Bound in bytes on weights that are read but not yet dropped or uploaded. A parameter larger than this is still
    /// loaded, alone.
    pub max_bytes_in_flight: u64,
    /// Look for NaN and infinity also in parameters that stay in the mapped file, which reads them all.
    pub check_finite: bool,
    /// Leave parameters without a value, and list them, instead of refusing the checkpoint.
    pub allow_missing: bool,
    /// Let parameters on the CPU stay in the mapped file where nothing has to be changed. The file must then not be changed
    /// while they live, see [`crate::execute`].
    pub zero_copy: bool,
    /// The model multiplies float32 activations with weights in half precision, and looks vectors up in an embedding of
    /// half precision, as `automodel_quant::dense_product` does: under [`DtypePolicy::Auto`] such parameters then stay as they are
    /// stored on the CPU too, in the mapped file where they can.
    pub half_products: bool,
    /// Quantise projections while they are read. Parameters that are stored quantised, which their tensors tell, stay as they
    /// are, and nothing else is quantised then.
    pub quantization: Option<QuantizationConfig>,
    /// The config's declaration of quantised weights. The tensors decide; formats whose tensors do not tell enough need it.
    pub declared: Option<Declared>,
}

impl LoadOptions {
    /// Everything as usual, on `device`.
    pub fn new(device: &Device) -> Self {
        Self {
            device: device.clone(),
            dtype: DtypePolicy::Auto,
            max_bytes_in_flight: DEFAULT_MAX_BYTES_IN_FLIGHT,
            check_finite: false,
            allow_missing: false,
            zero_copy: true,
            half_products: false,
            quantization: None,
            declared: None,
        }
    }

    /// With another dtype policy.
    pub fn with_dtype(mut self, dtype: DtypePolicy) -> Self {
        self.dtype = dtype;
        self
    }

    /// With projections quantised while they are read.
    pub fn with_quantization(mut self, quantization: QuantizationConfig) -> Self {
        self.quantization = Some(quantization);
        self
    }
}

/// What will be read, converted and kept. `Display` prints it as a table.
#[derive(Clone, Debug, Serialize)]
pub struct LoadPlan {
    /// Where the parameters go.
    #[serde(serialize_with = "table::device_name")]
    pub device: Device,
    /// The policy that decided the target dtypes.
    pub dtype: DtypePolicy,
    /// Names of the shards; sources refer to them by number.
    pub shards: Vec<String>,
    /// Prefixes that this checkpoint spells in another way than the weight map: (map, files).
    pub renamed: Vec<(String, String)>,
    /// One row for each parameter, in module order.
    pub rows: Vec<PlanRow>,
    /// Ties that are in force or have to be decided by comparing bytes.
    pub ties: Vec<PlannedTie>,
    /// Parameters that will have no value, only with [`LoadOptions::allow_missing`].
    pub missing: Vec<MissingTensor>,
    /// Tensors that stay unread on purpose: (tensor, reason).
    pub ignored: Vec<(String, String)>,
    /// Tensors that nothing reads.
    pub unexpected: Vec<String>,
    /// Bytes of all sources in the files.
    pub stored_bytes: u64,
    /// Bytes of all parameters on the device. Parameters that will be compared before they are tied count in full.
    pub target_bytes: u64,
    /// Of these, bytes that stay in the mapped files.
    pub mapped_bytes: u64,
    /// Predicted peak of host memory in bytes: on the CPU all parameters and the largest window in flight, mapped parameters
    /// counted as if all their pages were in memory; on another device the bytes in flight and all quantised parameters, which
    /// are kept on the host.
    pub peak_bytes: u64,
    /// Bound on bytes in flight.
    pub max_bytes_in_flight: u64,
    /// Whether mapped parameters are searched for NaN and infinity.
    pub check_finite: bool,
    /// Oddities that are not errors.
    pub warnings: Vec<String>,
}

/// A tie between two parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedTie {
    /// The parameter that follows.
    pub parameter: String,
    /// The parameter whose storage it shares.
    pub to: String,
    /// What was decided.
    pub decision: TieDecision,
}

/// What can be said of a tie before weights are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TieDecision {
    /// The files have only one of the two: they share it.
    Share,
    /// The files have both: they share one if their bytes are equal.
    ToCompare,
    /// The files have both, in shapes or dtypes that cannot be equal: they stay apart.
    Apart,
}

impl LoadPlan {
    /// Plans the loading of `files` into the parameters of `map`. Reads no weight.
    ///
    /// # Errors
    /// [`LoadError::Mismatch`] with everything that is missing, of a wrong shape or of a dtype that cannot become floats;
    /// [`LoadError::DuplicateTensor`] if two shards have a needed tensor in different shapes or dtypes; [`LoadError::DeviceDtype`] if
    /// the device does not support the dtype asked for.
    pub fn new(files: &CheckpointFiles, map: &WeightMap, options: &LoadOptions) -> Result<Self, LoadError> {
        build::plan(files, map, options)
    }

    /// Of [`LoadPlan::target_bytes`], those of quantised parameters.
    pub fn quantized_bytes(&self) -> u64 {
        self.rows.iter().filter(|row| row.encoding().is_some()).map(|row| row.bytes).sum()
    }

    /// Calls `visit` with every name of tensors, shards and prefixes, and every text that may hold some, so that they can be
    /// escaped before the plan is printed. A plan with other names than the files have is refused by [`crate::execute`].
    pub fn for_each_name(&mut self, visit: &mut dyn FnMut(&mut String)) {
        let Self { rows, shards, unexpected, warnings, renamed, ignored, .. } = self;
        rows.iter_mut().flat_map(PlanRow::tensors_mut).for_each(|source| visit(&mut source.tensor));
        shards.iter_mut().chain(unexpected).chain(warnings).for_each(&mut *visit);
        renamed.iter_mut().chain(ignored).for_each(|(name, text)| {
            visit(name);
            visit(text);
        });
    }

    /// The row of a parameter.
    pub fn row(&self, parameter: &str) -> Option<&PlanRow> {
        self.rows.iter().find(|row| row.parameter == parameter)
    }
}
